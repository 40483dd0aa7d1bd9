"""The search of the console: one text, looked for in all places where it may be a name, an id, a reference or a ticket.

The number of statements is the same for any text, and each looks at a bounded number of rows or goes by an index. What
the operator's role may not read is not looked for.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Connection, text

from wallet_app.db import reads
from wallet_app.service import key_views, walks
from wallet_app.service.approvals import RequestFilters, RequestView, list_requests
from wallet_app.service.filters import Filters
from wallet_app.service.key_views import KeyView
from wallet_app.service.queries import WALLET_VIEW, WalletView, wallet_view
from wallet_app.service.sessions import Session
from wallet_app.text import folded

HITS_MAX = 20
"""How many hits of each kind are shown."""

SEARCH_CHARACTERS_MAX = 200

NEWEST_REQUESTS = 10_000
"""A request's id is looked for in so many transactions, and in the audit log; there is no index by it."""

T = TypeVar("T")

_WORDS_MAX = 6
_NUMBER = re.compile(r"(?:(user|wallet)[ :#]{0,3})?([0-9]{1,19})", re.IGNORECASE | re.ASCII)
_ID_MAX = 2**63 - 1
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{6,64}")
_KEY_ID = re.compile(r"(?:key:)?([a-z2-7]{12})")


class UserHit(NamedTuple):
    """A user, and what of it was looked for: "id", "externalId" or "name"."""

    user_id: int
    name: str
    external_id: str | None
    found_by: str


class TransactionHit(NamedTuple):
    """A transaction by its anchor; `amount` is that of its one entry, None if it has none or several."""

    transaction_id: uuid.UUID
    kind: str
    reference: str
    created_at: dt.datetime
    actor: str
    wallet_id: int
    user_id: int
    user_name: str
    asset_code: str
    asset_scale: int
    amount: int | None
    found_by: str


class RecordHit(NamedTuple):
    """A record of the audit log."""

    id: int
    occurred_at: dt.datetime
    actor: str
    action: str
    subject: str | None
    outcome: str
    found_by: str


@dataclass(frozen=True, slots=True)
class Hits(Generic[T]):
    """Up to HITS_MAX of a kind, the closest or newest first; and whether there are more."""

    items: Sequence[T] = ()
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found, by what it is. `is_behind`: references were looked for in the newest transactions alone."""

    users: Hits[UserHit]
    wallets: Hits[WalletView]
    transactions: Hits[TransactionHit]
    requests: Hits[RequestView]
    records: Hits[RecordHit]
    keys: Hits[KeyView]
    is_behind: bool

    @property
    def count(self) -> int:
        """How many hits there are, as far as they are shown."""
        all_hits = (self.users, self.wallets, self.transactions, self.requests, self.records, self.keys)
        return sum(len(hits.items) for hits in all_hits)


def search(asked: str, *, session: Session) -> SearchResult:
    """Return what the text may mean: at most SEARCH_CHARACTERS_MAX characters, without blanks around it."""
    requests: Hits[RequestView] = Hits()
    if session.may("approvals:read"):
        page = list_requests(RequestFilters(ticket=asked), limit=HITS_MAX)
        requests = Hits(page.items, page.following is not None)
    return _search(asked, session, requests)


@reads
def _search(connection: Connection, asked: str, session: Session, requests: Hits[RequestView]) -> SearchResult:
    reads_wallets = session.may("wallets:read")
    transactions, is_behind = _transactions(connection, asked) if reads_wallets else ((), False)
    return SearchResult(
        users=_cut(_users(connection, asked) if reads_wallets else ()),
        wallets=_cut(_wallets(connection, asked) if reads_wallets else ()),
        transactions=_cut(transactions),
        requests=requests,
        records=_cut(_records(connection, asked) if session.may("audit:read") else ()),
        keys=_cut(_keys(connection, asked) if session.may("keys:manage") else ()),
        is_behind=is_behind,
    )


def _cut(found: Sequence[T]) -> Hits[T]:
    return Hits(found[:HITS_MAX], len(found) > HITS_MAX)


def _users(connection: Connection, asked: str) -> Sequence[UserHit]:
    """Return users by id, external id or name, these first; of names the whole, then the beginning, then any part."""
    name = folded(asked)
    words = name.split()[:_WORDS_MAX]
    conditions = " AND ".join(f"({_has_word(word, place)})" for place, word in enumerate(words)) or "false"
    values: dict[str, Any] = {"number": _number(asked, "user"), "whole": _as_pattern(name)}
    # An external id is kept in its normal form.
    values["asked"] = unicodedata.normalize("NFC", asked)
    values |= {f"word_{place}": _as_pattern(word) for place, word in enumerate(words)}
    return [UserHit(*row) for row in connection.execute(text(_USERS.format(words=conditions)), values)]


def _has_word(word: str, place: int) -> str:
    """Return the condition that the name has the word in it; a short one must be the beginning of a word.

    Three letters are what the trigram index goes by. Not so in scripts in which a word is a letter or two.
    """
    if len(word) >= 3 or not word.isascii():
        return f"name_folded LIKE '%' || CAST(:word_{place} AS text) || '%'"
    return (
        f"name_folded LIKE CAST(:word_{place} AS text) || '%' OR name_folded LIKE '% ' || CAST(:word_{place} AS text) "
        "|| '%'"
    )


def _as_pattern(value: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", value)


def _number(asked: str, of: str) -> int | None:
    """Return the id of a user or a wallet (`of`), unless the text says that it is of the other: "wallet 3"."""
    match = _NUMBER.fullmatch(asked)
    if match is None or (match[1] or of).lower() != of:
        return None
    number = int(match[2])
    return number if 0 < number <= _ID_MAX else None


def _wallets(connection: Connection, asked: str) -> Sequence[WalletView]:
    return [wallet_view(row) for row in connection.execute(_WALLETS, {"number": _number(asked, "wallet")})]


def _transactions(connection: Connection, asked: str) -> tuple[Sequence[TransactionHit], bool]:
    """Return transactions by id (a hold has its transaction's), reference, request or ticket; is the index behind?

    Then it tells of the newest alone, as it does for a request.
    """
    known = _uuid(asked)
    found = {} if known is None else {known: "id"}
    walk = walks.walk_reference(
        connection, Filters(reference=asked), before=walks.BEGINNING, limit=HITS_MAX, permit=None
    )
    found |= {one.transaction_id: "reference" for one in walk.found} if walk is not None else {}
    rows = connection.execute(
        _TRANSACTIONS,
        {
            "ids": list(found),
            "found_by": list(found.values()),
            "asked": asked,
            "request": asked if _REQUEST_ID.fullmatch(asked) else None,
            "reads_references": walk is None,
            "newest": NEWEST_REQUESTS,
            "limit": HITS_MAX + 1,
        },
    )
    return [TransactionHit(*row) for row in rows], walk is None


def _uuid(asked: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(asked) if len(asked) in {32, 36} else None
    except ValueError:
        return None


def _records(connection: Connection, asked: str) -> Sequence[RecordHit]:
    return [RecordHit(*row) for row in connection.execute(_RECORDS, {"asked": asked, "limit": HITS_MAX + 1})]


def _keys(connection: Connection, asked: str) -> Sequence[KeyView]:
    match = _KEY_ID.fullmatch(asked)
    row = key_views.find_row(connection, match[1] if match else "")
    return [] if row is None else [key_views.view_of(row)]


def search_terms() -> Iterator[tuple[str, str]]:
    """Yield what can be searched for, and the permission that it takes."""
    yield "a user by name, id or externalId", "wallets:read"
    yield "a wallet by id", "wallets:read"
    yield "a transaction or a hold by id, reference or request, or by the ticket of an operator", "wallets:read"
    yield "what operators asked for, by ticket", "approvals:read"
    yield "what the audit log has under a ticket or a request", "audit:read"
    yield "an API key by id", "keys:manage"


_USERS = f"""
SELECT id, name, external_id, found_by FROM (
       SELECT DISTINCT ON (id) id, name, external_id, found_by, place, name_folded FROM (
              SELECT id, name, external_id, name_folded, 'id' AS found_by, 0 AS place
                FROM users WHERE id = :number AND user_type = 'USER'
               UNION ALL
              SELECT id, name, external_id, name_folded, 'externalId', 1 FROM users WHERE external_id = :asked
               UNION ALL
              (SELECT id, name, external_id, name_folded, 'name', 2 FROM users
                WHERE name_folded LIKE :whole AND :whole <> '' AND user_type = 'USER' LIMIT {HITS_MAX} + 1)
               UNION ALL
              (SELECT id, name, external_id, name_folded, 'name', 3 FROM users
                WHERE name_folded LIKE :whole || '%' AND :whole <> '' AND user_type = 'USER' LIMIT {HITS_MAX} + 1)
               UNION ALL
              (SELECT id, name, external_id, name_folded, 'name', 4 FROM users
                WHERE {{words}} AND user_type = 'USER' LIMIT {HITS_MAX} + 1)
              ) AS either
        ORDER BY id, place
       ) AS found
 ORDER BY place, name_folded, id LIMIT {HITS_MAX} + 1
"""  # noqa: S608 - constants

_WALLETS = text(WALLET_VIEW.format(wallets="wallets") + " WHERE wallets.id = CAST(:number AS bigint)")

_TRANSACTIONS = text("""
WITH newest AS MATERIALIZED (
    SELECT transaction_id, reference_id, request_id FROM transactions
     WHERE CAST(:request AS text) IS NOT NULL OR :reads_references
     ORDER BY transaction_id DESC LIMIT :newest
), asked AS (
    SELECT transaction_id, found_by FROM unnest(CAST(:ids AS uuid[]), CAST(:found_by AS text[]))
        AS given (transaction_id, found_by)
     UNION ALL
    SELECT transaction_id, CASE WHEN request_id = :request THEN 'request' ELSE 'reference' END FROM newest
     WHERE request_id = :request OR (:reads_references AND reference_id = :asked)
     UNION ALL
    (SELECT transaction_id, 'ticket' FROM operator_postings WHERE ticket = :asked
      ORDER BY posted_at DESC LIMIT 2 * :limit)
)
SELECT * FROM (
       SELECT DISTINCT ON (transactions.transaction_id)
              transactions.transaction_id, transactions.kind, transactions.reference_id, transactions.created_at,
              transactions.actor, transactions.wallet_id, users.id AS user_id, users.name AS user_name,
              asset_types.code, asset_types.scale, entry.amount, asked.found_by
         FROM asked
        CROSS JOIN LATERAL (
              SELECT * FROM transactions WHERE transaction_id = asked.transaction_id OFFSET 0
              ) AS transactions
         JOIN wallets ON wallets.id = transactions.wallet_id
         JOIN users ON users.id = wallets.user_id
         JOIN asset_types ON asset_types.id = wallets.asset_type_id
         LEFT JOIN ledger_entries AS entry ON entry.wallet_id = transactions.wallet_id
                                          AND entry.seq = transactions.seq
        ORDER BY transactions.transaction_id DESC
       ) AS found
 ORDER BY transaction_id DESC LIMIT :limit
""")

_RECORDS = text("""
SELECT id, occurred_at, actor, action, subject, outcome, found_by FROM (
       SELECT DISTINCT ON (id) * FROM (
              (SELECT *, 'ticket' AS found_by FROM audit_log WHERE ticket = :asked ORDER BY id DESC LIMIT :limit)
               UNION ALL
              (SELECT *, 'request' FROM audit_log WHERE request_id = :asked ORDER BY id DESC LIMIT :limit)
              ) AS either
        ORDER BY id DESC
       ) AS found
 ORDER BY id DESC LIMIT :limit
""")
