"""The canonical bytes of `chain.py`, said a second time in SQL.

Nothing here is shared with the Python that made the hashes, so that a mistake in one of the two shows as a fault.
"""

from __future__ import annotations

_FORMAT = r"'\x01'::bytea"
_FORMAT_WITH_JSON = r"'\x02'::bytea"
_ABSENT = r"'\xffffffff'::bytea"


def _bytes(value: str) -> str:
    return f"int4send(octet_length({value})) || {value}"


def _text(value: str) -> str:
    # The prefix counts bytes of UTF-8, whatever the database's own encoding is.
    return _bytes(f"convert_to({value}, 'UTF8')")


def _or_absent(column: str, value: str) -> str:
    return f"CASE WHEN {column} IS NULL THEN {_ABSENT} ELSE {value} END"


_HAS_NO_JSON = "transactions.request IS NULL AND transactions.result IS NULL"

DIGEST = f"""sha256(CASE WHEN {_HAS_NO_JSON} THEN {_FORMAT} ELSE {_FORMAT_WITH_JSON} END
       || uuid_send(transactions.transaction_id)
       || int8send(transactions.wallet_id)
       || {_text("transactions.reference_id")}
       || {_text("transactions.kind")}
       || {_text("transactions.client")}
       || {_text("transactions.actor")}
       || {_or_absent("transactions.request_id", _text("transactions.request_id"))}
       || timestamptz_send(transactions.occurred_at)
       || {_or_absent("transactions.reverses", _bytes("uuid_send(transactions.reverses)"))}
       || {_or_absent("transactions.details_hash", _bytes("transactions.details_hash"))}
       || CASE WHEN {_HAS_NO_JSON} THEN ''::bytea
               ELSE {_or_absent("transactions.request", _text("transactions.request::text"))}
                    || {_or_absent("transactions.result", _text("transactions.result::text"))} END)"""
"""The digest of the row of `transactions`, from its columns alone."""

ENTRY_HASH = f"""sha256({_FORMAT}
       || entries.previous_hash
       || int8send(entries.wallet_id)
       || int8send(entries.seq)
       || uuid_send(entries.transaction_id)
       || {_text("entries.entry_type")}
       || int8send(entries.amount)
       || int8send(entries.balance_after)
       || int8send(entries.contra_wallet_id)
       || timestamptz_send(entries.created_at)
       || {DIGEST})"""
"""The hash of a row of `entries`, which has the previous hash beside it, joined to its row of `transactions`."""

DETAILS_HASH = f"""sha256({_FORMAT}
       || transaction_details.salt
       || {_or_absent("transaction_details.note", _text("transaction_details.note"))}
       || {_or_absent("transaction_details.metadata", _text("transaction_details.metadata::text"))})"""
"""The hash of the row of `transaction_details`."""

_AUDIT_TEXTS = ("actor", "action", "subject", "before", "after", "reason", "ticket", "request_id", "address", "outcome")

AUDIT_HASH = f"""sha256({_FORMAT}
       || links.previous_hash
       || int8send(links.seq)
       || int8send(links.horizon)
       || int8send(links.ceiling)
       || int8send(record.id)
       || int8send(record.xid::text::bigint)
       || timestamptz_send(record.occurred_at)
       || {" || ".join(_or_absent(f"record.{name}", _text(f"record.{name}::text")) for name in _AUDIT_TEXTS)})"""
"""The hash of a row of `links`, which has the previous hash beside it, joined to its `record` of the audit log."""
