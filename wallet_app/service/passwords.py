"""Passwords: hashed with argon2id, a few at a time, and never on the thread that serves the others."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Callable
from typing import Any, TypeVar

import gevent
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from zxcvbn import zxcvbn

from wallet_app import greenlets
from wallet_app.errors import OverloadedError, WeakPasswordError

T = TypeVar("T")

LENGTH_MIN, LENGTH_MAX = 12, 128
"""Characters of a new password. A longer one is refused unread: hashing and judging it would cost time."""

AT_ONCE = 2
"""How many passwords a process hashes at once: each takes 19 MiB and a core for some 30 ms."""

WAIT_SECONDS_MAX = 5.0
_SCORE_MIN = 3
"""Of zxcvbn's 0 to 4: it withstands some 10^8 guesses, however those who make them go about it."""
_JUDGED = 72
"""Characters that are judged, because judging takes time that grows faster than the length."""

_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_slots = threading.BoundedSemaphore(AT_ONCE)


def make_hash(password: str) -> str:
    """Return the password's hash with its parameters. Raises OverloadedError."""
    return _work(_HASHER.hash, _normal(password))


def matches(password: str, password_hash: str | None) -> bool:
    """Tell whether the password is the one, in the same time whether there is one (`None`) or not.

    Raises OverloadedError.
    """
    is_right = _work(_verify, password_hash or _DUMMY, _normal(password))
    return is_right and password_hash is not None


def needs_new_hash(password_hash: str) -> bool:
    """Tell whether the hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(password_hash)


def require_strength(password: str, *, about: tuple[str, ...]) -> None:
    """Raise WeakPasswordError for a password that is short, long or easily guessed.

    `about` is what a guesser knows of the operator. There are no rules for kinds of characters: they make people
    choose what is guessed first.
    """
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        raise WeakPasswordError(f"The password must have {LENGTH_MIN} to {LENGTH_MAX} characters.")
    words = [word for text in about for word in (text, *text.replace("@", " ").replace(".", " ").split())]
    found = zxcvbn(password[:_JUDGED], user_inputs=[*words, "dino", "wallet", "dinowallet"])
    if found["score"] < _SCORE_MIN:
        hint = found["feedback"]["warning"] or "Use several words that do not belong together"
        raise WeakPasswordError(f"The password is too easily guessed. {hint.rstrip('.')}.")


def _normal(password: str) -> str:
    """Return the one form of text that can be typed in several."""
    return unicodedata.normalize("NFKC", password[: LENGTH_MAX + 1])


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (VerifyMismatchError, InvalidHashError):
        return False


def _work(function: Callable[..., T], *args: Any) -> T:
    """Do the hashing when it is its turn; as greenlets, in a thread of its own, so that the others go on."""
    if not _slots.acquire(timeout=WAIT_SECONDS_MAX):
        raise OverloadedError("Too many people are signing in at this moment. Try again in a few seconds.")
    try:
        if greenlets.is_patched():
            result: T = gevent.get_hub().threadpool.apply(function, args)
            return result
        return function(*args)
    finally:
        _slots.release()


_DUMMY = _HASHER.hash("nobody's password")
"""What is worked on when there is no such operator."""
