"""What goes between a browser and the console beside the pages: cookies, the forms' token, and where a form came from.

A browser gets a random cookie with its first page. While nobody is signed in it stands for nothing; at each step of a
sign-in it is replaced. The token in a form is made from it, so that no other site can know it, and nothing is stored.

Forms for signing in may be older than the cookie: of two tabs that were opened at once one has the other's, and the
second of two clicks brings the cookie that came of the first. So cookies from before somebody was signed in are kept
for an hour, each under a name of its own. They open nothing; forms for signing in, and no others, may have their token
from one.
"""

from __future__ import annotations

import hmac
import re
import secrets
from hashlib import sha256
from typing import cast
from urllib.parse import urlsplit

from flask import Response, g, request
from werkzeug.exceptions import UnsupportedMediaType

from wallet_app import service
from wallet_app.config import current_settings
from wallet_app.errors import ForeignFormError
from wallet_app.service import Session, SignedIn, Visitor
from wallet_app.web import request_id

COOKIE = "__Host-wallet_session"
DEVICE_COOKIE = "__Host-wallet_browser"
NOTE_COOKIE = "__Host-wallet_note"
DRAFT_COOKIE = "__Host-wallet_draft"
EARLIER_COOKIE = "__Host-wallet_form_"
"""What the names of cookies begin with that have been the session's, or would have been; the hash of it follows."""
TOKEN_FIELD = "form_token"  # noqa: S105 - the name of it
TOKEN_HEADER = "X-Form-Token"  # noqa: S105 - the name of it

_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}")
_FORM_TYPE = "application/x-www-form-urlencoded"
_UPLOAD_TYPE = "multipart/form-data"
_FIELDS_BYTES_MAX = 256 * 1024
"""Of a form with a file. Werkzeug counts a block of the file with it, so it may not be as little as of other forms."""
_PARTS_MAX = 20
_NOTE_SECONDS_MAX = 60
_DEVICE_MAX = 200
_EARLIER_SECONDS_MAX = 3_600
_EARLIER_MAX = 6
"""Of them a browser keeps no more: a head of a request has a bound, too."""
# No part of the path begins with a dot, so none leads out of the console.
_NEXT = re.compile(r"/console(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*(?:\?[A-Za-z0-9._~%=&+:,/-]*)?")


def read_cookie() -> str | None:
    """Return the session's cookie if the browser sent one that looks like ours."""
    value = request.cookies.get(COOKIE, "")
    return value if _COOKIE.fullmatch(value) else None


def own_cookie() -> str:
    """Return the cookie that this browser has, or gets with this answer."""
    if g.get("cookie") is None:
        # Asked for anew, because an error's page is also made where nobody has looked yet.
        g.cookie = read_cookie()
    if g.cookie is None:
        g.cookie = g.new_cookie = secrets.token_urlsafe(32)
    return cast(str, g.cookie)


def form_token() -> str:
    """Return what a form of this page must bring back."""
    return _token_of(own_cookie())


def visitor() -> Visitor:
    """Return who is at the other end of this request."""
    device = request.cookies.get(DEVICE_COOKIE)
    return Visitor(
        address=request.remote_addr or "unknown",
        browser=request.headers.get("User-Agent", ""),
        request_id=request_id(),
        device=device if device is not None and len(device) <= _DEVICE_MAX else None,
    )


def session() -> Session:
    """Return the session of this request, on a screen that nobody opens without one."""
    return cast(Session, g.session)


def origin() -> str:
    """Return where the console's pages are, as browsers say it.

    The setting says so. Without one, which development alone may be, it is this machine by its own name, on whatever
    port was asked: a Host header is anybody's word, and a page elsewhere could have its name lead to us.
    """
    settings = current_settings()
    if settings.console_origin is not None:
        return settings.console_origin
    is_this_machine = urlsplit(request.host_url).hostname == "localhost"
    return request.host_url.rstrip("/") if is_this_machine else f"http://localhost:{settings.port}"


def require_own_page() -> None:
    """Raise ForeignFormError unless the browser says that one of our own pages sent the request; reads no body."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise ForeignFormError
    if request.headers.get("Origin") != origin():
        raise ForeignFormError


def is_upload() -> bool:
    """Tell whether the request says that it is a form with files."""
    return request.mimetype == _UPLOAD_TYPE


def require_own_form(cookie: str | None, *, upload_bytes_max: int | None = None, may_be_earlier: bool = False) -> None:
    """Raise ForeignFormError unless one of our own pages, in this very browser, sent the request.

    Three guards, because each has failed somewhere: what the browser says of the page that sent it, the page's origin,
    and the token. Given `upload_bytes_max`, the form may have a file, and is that large at most; its other fields are
    bounded as in any form. With `may_be_earlier` the token may be that of a cookie that this browser had before.
    """
    require_own_page()
    if upload_bytes_max is not None and is_upload():
        request.max_content_length = upload_bytes_max
        request.max_form_memory_size = _FIELDS_BYTES_MAX
        request.max_form_parts = _PARTS_MAX
    elif request.content_length and request.mimetype != _FORM_TYPE:
        raise UnsupportedMediaType(f"A form must be sent as {_FORM_TYPE}.")
    given = request.headers.get(TOKEN_HEADER) or request.form.get(TOKEN_FIELD, "")
    known = ([] if cookie is None else [cookie]) + (_earlier_cookies() if may_be_earlier else [])
    # All of them, so that the time does not tell which one it was.
    if not sum(hmac.compare_digest(given.encode(), _token_of(one).encode()) for one in known):
        raise ForeignFormError


def set_first(response: Response, cookie: str) -> Response:
    """Give a browser that had none its cookie, which stands for nothing yet, so that its forms have a token."""
    _keep_earlier(response, cookie)
    return _set_cookie(response, cookie)


def set_session(response: Response, cookie: str) -> Response:
    """Give the browser the session's cookie; it forgets it when it is closed."""
    session: Session | None = g.get("session")
    if g.get("cookie") is not None and (session is None or session.stage != "signed_in"):
        _keep_earlier(response, g.cookie)
    return _set_cookie(response, cookie)


def _set_cookie(response: Response, cookie: str) -> Response:
    g.new_cookie = None
    response.set_cookie(COOKIE, cookie, secure=True, httponly=True, samesite="Lax", path="/")
    return response


def _keep_earlier(response: Response, cookie: str) -> None:
    """Let the forms that have their token from this cookie be sent after another has taken its place."""
    names = [name for name in request.cookies if name.startswith(EARLIER_COOKIE)]
    for name in names if len(names) >= _EARLIER_MAX else ():
        response.delete_cookie(name, secure=True, httponly=True, samesite="Lax", path="/")
    response.set_cookie(
        EARLIER_COOKIE + sha256(cookie.encode()).hexdigest()[:8],
        cookie,
        max_age=_EARLIER_SECONDS_MAX,
        secure=True,
        httponly=True,
        samesite="Lax",
        path="/",
    )


def _earlier_cookies() -> list[str]:
    found = [value for name, value in request.cookies.items() if name.startswith(EARLIER_COOKIE)]
    return [value for value in found if _COOKIE.fullmatch(value)][: _EARLIER_MAX + 2]


def set_signed_in(response: Response, done: SignedIn | service.SetUp) -> Response:
    """Give the browser the session's cookie, and the one by which it is known from now on."""
    response.set_cookie(
        DEVICE_COOKIE,
        done.device,
        max_age=service.DEVICE_SECONDS_MAX,
        secure=True,
        httponly=True,
        samesite="Lax",
        path="/",
    )
    return set_session(response, done.cookie)


def drop_session(response: Response) -> Response:
    """Take the session's cookie from the browser, and what was entered while it lasted."""
    g.new_cookie = None
    for name in {COOKIE, DRAFT_COOKIE} & {COOKIE, *request.cookies}:
        drop_cookie(response, name)
    return response


def drop_cookie(response: Response, name: str) -> None:
    """Take a cookie of ours from the browser."""
    response.delete_cookie(name, secure=True, httponly=True, samesite="Lax", path="/")


def set_note(response: Response, note: str) -> Response:
    """Let the next page say the note: an address alone says nothing, because anybody can send one to an operator."""
    response.set_cookie(
        NOTE_COOKIE, note, max_age=_NOTE_SECONDS_MAX, secure=True, httponly=True, samesite="Lax", path="/"
    )
    return response


def own_note() -> str | None:
    """Return the note in the address, if an answer of ours gave it to this browser just before."""
    note = request.args.get("note")
    return note if note is not None and note == request.cookies.get(NOTE_COOKIE) else None


def next_path(given: str | None) -> str:
    """Return the page of the console to go on to: the one that is asked for if it is one, else the home page."""
    return given if given is not None and _NEXT.fullmatch(given) else "/console"


def path_of_sender() -> str:
    """Return the page of the console that the request came from, as far as the browser tells."""
    sender = urlsplit(request.headers.get("Referer", ""))
    is_ours = f"{sender.scheme}://{sender.netloc}" == origin()
    return next_path(sender.path + (f"?{sender.query}" if sender.query else "")) if is_ours else "/console"


def _token_of(cookie: str) -> str:
    return hmac.new(cookie.encode(), b"dino-wallet form", sha256).hexdigest()
