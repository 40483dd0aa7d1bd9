"""Who asks for the pages: an operator of each role, people on their way in, nobody, and a program with a key."""

from __future__ import annotations

import http.client
import itertools
import time
from dataclasses import dataclass
from urllib.parse import quote

from sqlalchemy import text

from bench.database import Database
from bench.keys import HEADERS
from wallet_app import service
from wallet_app.db import unit_of_work
from wallet_app.service import sessions

COOKIE = "__Host-wallet_session"
KEY, NOBODY = "key", "nobody"
STAGES = {"half way": "second_factor", "setting up": "set_up"}
"""People on their way in, by how their session calls that."""

_VISITOR = service.Visitor(address="127.0.0.1", browser="bench")
_SECONDS_MAX = 120


@dataclass(frozen=True)
class Answer:
    """What came back: the log knows the request by its id."""

    request_id: str
    status: int
    seconds: float
    size: int
    location: str


class Visitors:
    """All of them, each with a connection of its own. Needs the application."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cookies: dict[str, str] = {}
        self._connections: dict[str, http.client.HTTPConnection] = {}
        self._numbers = itertools.count(1)
        for role in service.ROLES:
            email = f"{role}@bench.example"
            service.ensure_development_operator(
                email=email, name=f"Bench {role}", role=role, password=f"a password of {role}"
            )
            self._cookies[role] = _begin(email, "signed_in")
        for who, stage in STAGES.items():
            self._cookies[who] = _begin("viewer@bench.example", stage)

    def session(self, role: str) -> service.Session:
        """Return the session of the operator of this role, for what they do through the service."""
        found = service.find_session(self._cookies[role])
        if found is None:
            raise LookupError(f"The session of {role} has ended.")
        return found

    def ask(self, who: str, path: str) -> Answer:
        """GET the path to its end."""
        request_id = f"page-{next(self._numbers)}"
        headers = {"X-Request-Id": request_id} | (HEADERS if who == KEY else {})
        if who in self._cookies:
            headers["Cookie"] = f"{COOKIE}={self._cookies[who]}"
        connection = self._connections.setdefault(
            who, http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS_MAX)
        )
        began = time.perf_counter()
        try:
            connection.request("GET", quote(path, safe="/?&=%:,"), headers=headers)
            answer = connection.getresponse()
            size = len(answer.read())
        except (http.client.HTTPException, OSError):
            # Between two rounds the service may have closed a connection that was idle.
            connection.close()
            connection.request("GET", quote(path, safe="/?&=%:,"), headers=headers)
            answer = connection.getresponse()
            size = len(answer.read())
        seconds = time.perf_counter() - began
        return Answer(request_id, answer.status, seconds, size, answer.headers.get("Location", ""))


def renew(database: Database) -> None:
    """Have all sessions go on as if their operators had just shown who they are."""
    with database.connect() as connection:
        connection.execute("UPDATE sessions SET began_at = now(), last_seen_at = now()")
        connection.execute("UPDATE sessions SET authenticated_at = now() WHERE authenticated_at IS NOT NULL")


def _begin(email: str, stage: str) -> str:
    with unit_of_work() as connection:
        found = connection.execute(text("SELECT id, epoch FROM operators WHERE email = :email"), {"email": email}).one()
        return sessions.begin(connection, operator_id=found.id, epoch=found.epoch, stage=stage, visitor=_VISITOR)
