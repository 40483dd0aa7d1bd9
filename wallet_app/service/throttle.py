"""Slows down who guesses, without locking out whose account it is.

Attempts are counted before they are looked at, in a unit of work of their own, so that a thousand at once are a
thousand. Each counts for its account and for its address; but one from a browser in which this operator has signed in
before (it holds a signed cookie) counts for that browser alone. So whoever guesses from elsewhere can make the account
slow for strangers, and its owner does not notice.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from hashlib import sha256

from sqlalchemy import Connection, text

from wallet_app.db import unit_of_work
from wallet_app.errors import TooManyAttemptsError
from wallet_app.service import audit

DELAY_MAX = 900
"""Seconds, after which the delay grows no more: some hundred guesses a day."""

FORGOTTEN_AFTER = dt.timedelta(days=1)
"""How long after its last attempt a count starts at zero again."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What attempts are counted for. The first `free` may come as they like, then each failure doubles the wait."""

    name: str
    free: int = 5
    is_shared: bool = False

    @property
    def key(self) -> bytes:
        """The SHA-256 of the name: the table says nothing of who tried."""
        return sha256(self.name.encode()).digest()


def address_bucket(address: str, *, purpose: str = "sign-in") -> Bucket:
    """Return the address's bucket: roomier, because many people may share one; for IPv6 its /64, which one has."""
    return Bucket(f"{purpose} from {_network(address)}", free=20, is_shared=True)


def take(buckets: Collection[Bucket], attempt: audit.Act) -> None:
    """Count an attempt as failed for each of the buckets, or raise TooManyAttemptsError and count nothing.

    `attempt` is what is then recorded, as denied.
    """
    by_key = {bucket.key: bucket for bucket in buckets}
    with unit_of_work() as connection:
        rows = connection.execute(_LOCK, {"keys": sorted(by_key)}).all()
        wait = max((row.wait for row in rows), default=0.0)
        if wait <= 0:
            counts = {row.bucket: row.failures + 1 for row in rows}
            delays = {key: delay(count, by_key[key].free) for key, count in counts.items()}
            connection.execute(_COUNT, [{"key": key, "count": counts[key], "delay": delays[key]} for key in counts])
    if wait > 0:
        audit.record_alone(replace(attempt, outcome="denied", by=replace(attempt.by, reason=TooManyAttemptsError.code)))
        raise TooManyAttemptsError(math.ceil(wait))


def succeeded(connection: Connection, buckets: Collection[Bucket]) -> None:
    """Take back what `take` counted, since the attempt succeeded: all that the account's owner now knows is forgotten.

    Of an address only this attempt: who has an account of their own must not be able to wipe out what they tried on
    others. To be called last in the unit of work: nothing else is locked after it.
    """
    for bucket in sorted(buckets, key=lambda bucket: bucket.key):
        connection.execute(_TAKE_BACK if bucket.is_shared else _FORGET, {"key": bucket.key})


def delay(failures: int, free: int) -> int:
    """Return the seconds that must pass after this many failures in a row."""
    return 0 if failures < free else min(DELAY_MAX, 2 ** min(failures - free, 20))


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(ipaddress.ip_network((parsed, 64 if parsed.version == 6 else 32), strict=False))


# The rows in sorted order, made where they are missing: who writes them first has them until the end, and no two wait
# for each other.
_LOCK = text(f"""
INSERT INTO sign_in_attempts AS attempts (bucket, failures, last_at, free_at)
SELECT key, 0, clock_timestamp(), clock_timestamp() FROM unnest(CAST(:keys AS bytea[])) AS keys (key) ORDER BY key
    ON CONFLICT (bucket) DO UPDATE
   SET failures = CASE WHEN attempts.last_at < clock_timestamp() - interval '{FORGOTTEN_AFTER.days} days' THEN 0
                       ELSE attempts.failures END
RETURNING bucket, failures, CAST(EXTRACT(epoch FROM free_at - clock_timestamp()) AS float8) AS wait
""")  # noqa: S608 - constants
_COUNT = text("""
UPDATE sign_in_attempts
   SET failures = :count, last_at = clock_timestamp(), free_at = clock_timestamp() + make_interval(secs => :delay)
 WHERE bucket = :key
""")
_TAKE_BACK = text("""
UPDATE sign_in_attempts SET failures = greatest(failures - 1, 0), free_at = clock_timestamp() WHERE bucket = :key
""")
_FORGET = text("DELETE FROM sign_in_attempts WHERE bucket = :key")
