"""Bad input to every endpoint and every field: 4xx problem JSON, never 5xx, nothing written, and quickly.

The corpus is that of the safety notes: each line is something that a parser, a driver or a database once took.
"""
# ruff: noqa: RUF001

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests import every_case
from tests.api.support import DOE_GOLD, JOHN_DIAMOND, JOHN_GOLD, MOVEMENTS, assert_problem, books
from wallet_app.api import cursor
from wallet_app.money import AMOUNT_MAX
from wallet_app.strict_json import DEPTH_MAX

SECONDS_MAX = 3.0
"""Of work, of which a busy machine makes no more. Who waited for a lock or a statement would get another answer."""
WAIT_SECONDS_MAX = 30.0
READS = ["/wallets/{}", "/wallets/{}/balance", "/wallets/{}/entries", "/wallets/{}/holds"]
CREATIONS = {
    "/users": {"name": "Ada", "externalId": "ada"},
    "/wallets": {"userId": 2, "asset": "GOLD"},
    "/keys": {"client": "shop", "scopes": ["wallets:read"]},
}
"""Where users, wallets and keys are made, and with what."""

BETWEEN = {
    "/transfers": {"from": JOHN_GOLD, "to": DOE_GOLD, "amount": 1, "referenceId": "abc"},
    "/exchanges": {"from": JOHN_GOLD, "to": JOHN_DIAMOND, "amount": 1, "rate": "1", "referenceId": "abc"},
    "/purchases": {
        "walletId": JOHN_GOLD,
        "legs": [{"walletId": JOHN_GOLD, "type": "spend", "amount": 1}],
        "referenceId": "abc",
    },
}
"""What moves several wallets, and with what."""

# As they stand in a JSON document, because no serializer would write some of them.
AMOUNTS = {
    "zero": "0",
    "minus zero": "-0",
    "negative": "-1",
    "whole float": "1.0",
    "float": "1.5",
    "exponent": "1e2",
    "exponent without sign": "1E+2",
    "tiny": "1e-400",
    "overflows to infinity": "1e999",
    "above the bound": str(AMOUNT_MAX + 1),
    "2^53 + 1": str(2**53 + 1),
    "2^63 - 1": str(2**63 - 1),
    "2^63": str(2**63),
    "2^64": str(2**64),
    "2^64 + 1": str(2**64 + 1),
    "thousands of digits": "9" * 5_000,
    "a body full of digits": "9" * 60_000,
    "a float of thousands of digits": "0." + "9" * 5_000,
    "true": "true",
    "false": "false",
    "null": "null",
    "list": "[1]",
    "object": '{"value": 1}',
    "empty string": '""',
    "blank": '" "',
    "blanks around": '" 12 "',
    "line feed behind": '"12\\n"',
    "plus": '"+5"',
    "minus": '"-5"',
    "underscore": '"1_000"',
    "comma": '"1,000"',
    "string float": '"1.0"',
    "string exponent": '"1e2"',
    "hexadecimal": '"0x10"',
    "string zero": '"0"',
    "string zeros": '"0000"',
    "arabic digits": '"١٢٣"',
    "fullwidth digits": '"１２"',
    "superscript": '"²"',
    "string above the bound": f'"{AMOUNT_MAX + 1}"',
    "string 2^64": f'"{2**64}"',
    "string of thousands of digits": f'"{"9" * 5_000}"',
    "string of zeros and one": f'"{"0" * 5_000}1"',
    "NaN string": '"NaN"',
    "Infinity string": '"Infinity"',
    "NUL behind": '"1\\u0000"',
    "injection": '"1; DROP TABLE wallets"',
}
TEXTS = {
    "number": "7",
    "true": "true",
    "list": '["abc"]',
    "object": '{"a": "abc"}',
    "NUL": r'"abc\u0000def"',
    "NUL at the end": r'"abc\u0000"',
    "C0 control": r'"abc\u0001"',
    "line feed": r'"abc\ndef"',
    "escape": r'"abc\u001bdef"',
    "delete": r'"abc\u007f"',
    "C1 control": r'"abc\u0085def"',
    "lone high surrogate": r'"abc\ud800"',
    "lone low surrogate": r'"abc\udc00def"',
    "surrogates in the wrong order": r'"abc\udc00\ud800"',
}
REFERENCES = TEXTS | {
    "null": "null",
    "empty": '""',
    "blank": '"     "',
    "too short": '"ab"',
    "too short when trimmed": '"   ab   "',
    "too long": json.dumps("x" * 201),
    "far too long": json.dumps("x" * 60_000),
    "many blanks inside": json.dumps("a" + " " * 60_000 + "b"),
    "many blanks of all kinds inside": json.dumps("a" + "\u2003\ufeff" * 10_000 + "b", ensure_ascii=False),
    "the service's own": '"sys:1"',
    "the service's own after blanks": '"  sys:expire:7"',
}
NOTES = TEXTS | {
    "too long": json.dumps("x" * 501),
    "far too long": json.dumps("x" * 60_000),
    "many blanks inside": json.dumps("a" + " " * 60_000 + "b"),
    "500 astral characters and one": json.dumps("\U0001f995" * 501, ensure_ascii=False),
}
METADATA = {
    "text": '"a"',
    "text of an object": json.dumps('{"a": 1}'),
    "number": "7",
    "true": "true",
    "list": '[{"a": 1}]',
    "object inside": '{"a": {}}',
    "list inside": '{"a": [1]}',
    "empty key": '{"": 1}',
    "blank key": '{" ": 1}',
    "blank before a key": '{" a": 1}',
    "blank behind a key": '{"a\u00a0": 1}',
    "long key": json.dumps({"k" * 65: 1}),
    "NUL in a key": r'{"a\u0000": 1}',
    "line feed in a key": r'{"a\nb": 1}',
    "lone surrogate in a key": r'{"a\ud800": 1}',
    "long text": json.dumps({"a": "x" * 501}),
    "NUL in a text": r'{"a": "b\u0000"}',
    "tab in a text": r'{"a": "b\tc"}',
    "C1 control in a text": r'{"a": "b\u0085c"}',
    "lone surrogate in a text": r'{"a": "\udc00"}',
    "too large a number": '{"a": 9007199254740992}',
    "too small a number": '{"a": -9007199254740992}',
    "2^64": '{"a": 18446744073709551616}',
    "thousands of digits": f'{{"a": {"9" * 5_000}}}',
    "infinity": '{"a": 1e999}',
    "large float": '{"a": 1e16}',
    "51 keys": json.dumps({f"k{number}": 1 for number in range(51)}),
    "thousands of keys": json.dumps({f"k{number}": 1 for number in range(5_000)}),
    "too many bytes": json.dumps({f"k{number}": "x" * 500 for number in range(5)}),
    "too many bytes of astral characters": json.dumps({f"k{number}": "\U0001f995" * 110 for number in range(5)}),
}
INSTANTS = TEXTS | {
    "empty": '""',
    "blanks around": '" 2026-01-31T12:00:00Z "',
    "line feed behind": '"2026-01-31T12:00:00Z\\n"',
    "without offset": '"2026-01-31T12:00:00"',
    "date": '"2026-01-31"',
    "blank instead of T": '"2026-01-31 12:00:00Z"',
    "small letters": '"2026-01-31t12:00:00z"',
    "basic form": '"20260131T120000Z"',
    "week": '"2026-W05-6T12:00:00Z"',
    "without seconds": '"2026-01-31T12:00Z"',
    "nanoseconds": '"2026-01-31T12:00:00.123456789Z"',
    "comma": '"2026-01-31T12:00:00,5Z"',
    "offset without colon": '"2026-01-31T12:00:00+0200"',
    "offset of a day": '"2026-01-31T12:00:00+24:00"',
    "offset with seconds": '"2026-01-31T12:00:00+02:00:30"',
    "hour 24": '"2026-01-31T24:00:00Z"',
    "leap second": '"2016-12-31T23:59:60Z"',
    "month 13": '"2026-13-01T00:00:00Z"',
    "30 February": '"2026-02-30T00:00:00Z"',
    "29 February of no leap year": '"2026-02-29T00:00:00Z"',
    "31 April": '"2026-04-31T00:00:00Z"',
    "1970": '"1970-01-01T00:00:00Z"',
    "before 2000": '"1999-12-31T23:59:59.999999Z"',
    "before 2000 by its offset": '"2000-01-01T00:00:00+00:01"',
    "far future": '"2099-01-01T00:00:00Z"',
    "year 10000": '"10000-01-01T00:00:00Z"',
    "year 0": '"0000-01-01T00:00:00Z"',
    "infinity": '"infinity"',
    "now": '"now"',
    "milliseconds": "1769860800000",
    "arabic digits": '"٢٠٢٦-01-31T12:00:00Z"',
}
NAMES = TEXTS | {
    "null": "null",
    "empty": '""',
    "blank": '"  \u2003\ufeff "',
    "too long": json.dumps("x" * 201),
    "far too long": json.dumps("x" * 60_000),
    "200 astral characters and one": json.dumps("\U0001f995" * 201, ensure_ascii=False),
    "many blanks inside": json.dumps("a" + " " * 60_000 + "b"),
}
# As they stand in a JSON document; a string of digits is an id.
USER_IDS = {
    name: value
    for name, value in AMOUNTS.items()
    if name not in {"above the bound", "2^53 + 1", "2^63 - 1", "2^63", "2^64", "2^64 + 1", "thousands of digits"}
    and name not in {"a body full of digits", "string above the bound", "string 2^64"}
}
ASSET_CODES = TEXTS | {
    "null": "null",
    "empty": '""',
    "one letter": '"G"',
    "small letters": '"gold"',
    "blanks around": '" GOLD "',
    "line feed behind": '"GOLD\\n"',
    "digit first": '"1GOLD"',
    "33 letters": json.dumps("G" * 33),
    "far too long": json.dumps("G" * 60_000),
    "fullwidth": '"ＧＯＬＤ"',
    "cyrillic": '"GОLD"',
    "dash": '"GOLD-2"',
    "injection": json.dumps("GOLD'; DROP TABLE wallets"),
}
UNKNOWN_FIELDS = {
    "another field": ('"colour": 1', "/colour"),
    "snake case": ('"reference_id": "abc"', "/reference_id"),
    "other case": ('"Note": "abc"', "/Note"),
    "empty name": ('"": 1', "/"),
    "pointer characters": ('"a/b~c": 1', "/a~1b~0c"),
    "NUL name": ('"\\u0000": 1', "/\0"),
    "prototype": ('"__proto__": {}', "/__proto__"),
    "long name": (f'"{"n" * 5_000}": 1', "/" + "n" * 100),
    "wallet id": ('"walletId": 4', "/walletId"),
}
UNREADABLE = {
    "empty": b"",
    "blank": b"   ",
    "half": b'{"amount": 1, "referenceId": "abc"',
    "trailing comma": b'{"amount": 1, "referenceId": "abc",}',
    "two documents": b'{"amount": 1, "referenceId": "abc"}{}',
    "single quotes": b"{'amount': 1, 'referenceId': 'abc'}",
    "comment": b'{"amount": 1, /* one */ "referenceId": "abc"}',
    "NaN": b'{"amount": NaN, "referenceId": "abc"}',
    "Infinity": b'{"amount": Infinity, "referenceId": "abc"}',
    "minus Infinity": b'{"amount": -Infinity, "referenceId": "abc"}',
    "leading zero": b'{"amount": 01, "referenceId": "abc"}',
    "plus sign": b'{"amount": +1, "referenceId": "abc"}',
    "underscore": b'{"amount": 1_000, "referenceId": "abc"}',
    "raw control character": b'{"amount": 1, "referenceId": "ab\x01c"}',
    "raw NUL": b'{"amount": 1, "referenceId": "ab\x00c"}',
    "duplicate key": b'{"amount": 1, "amount": 2, "referenceId": "abc"}',
    "duplicate key with the same value": b'{"amount": 1, "amount": 1, "referenceId": "abc"}',
    "duplicate key, escaped": b'{"amount": 1, "\\u0061mount": 2, "referenceId": "abc"}',
    "duplicate key inside": b'{"amount": 1, "referenceId": "abc", "note": {"a": 1, "a": 2}}',
    "BOM": b'\xef\xbb\xbf{"amount": 1, "referenceId": "abc"}',
    "UTF-16": '{"amount": 1, "referenceId": "abc"}'.encode("utf-16"),
    "UTF-16 without BOM": '{"amount": 1, "referenceId": "abc"}'.encode("utf-16-le"),
    "UTF-32": '{"amount": 1, "referenceId": "abc"}'.encode("utf-32"),
    "Latin-1": '{"amount": 1, "referenceId": "schlüssel"}'.encode("latin-1"),
    "overlong UTF-8": b'{"amount": 1, "referenceId": "ab\xc0\xafc"}',
    "surrogate as UTF-8": b'{"amount": 1, "referenceId": "ab\xed\xa0\x80c"}',
    "cut UTF-8": b'{"amount": 1, "referenceId": "ab\xc3"}',
    "form": b"amount=1&referenceId=abc",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "deep lists": b"[" * 30_000,
    "deep objects": b'{"a":' * 10_000,
    "deep and closed": b"[" * 30_000 + b"]" * 30_000,
    "one level too deep": b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1),
    "one level too deep in a field": b'{"amount": ' + b"[" * DEPTH_MAX + b"]" * DEPTH_MAX + b"}",
}
NO_OBJECTS = {
    "null": b"null",
    "true": b"true",
    "number": b"1",
    "string": b'"abc"',
    "list": b"[]",
    "list of a request": b'[{"amount": 1, "referenceId": "abc"}]',
    "a surrogate as a field's name": b'{"amount": 1, "referenceId": "abc", "\\ud800": 1}',
    "as deep as allowed": b"[" * DEPTH_MAX + b"]" * DEPTH_MAX,
}
WALLET_IDS = [
    "0", "00", "-1", "+1", "1.0", "1e1", "0x3", "3;", "3,4", "abc", "null", "true", "NaN", " 3", "3 ", "3%20",
    "%203", "3%0a", "3%00", "%00", "%0d%0aX:1", "٣", "３", "²", "1_0", "--", "'", "3'--", '"', "<script>",
    "{walletId}", "%ff", "%ed%a0%80", "9" * 101, "9" * 3_000, "-" + "9" * 30, "..", "3%2f..%2f4", "..;", "*", "3\\",
]  # fmt: skip
TRANSACTION_IDS = [
    "0", "abc", "%00", "%ff", "%ed%a0%80", "01a202ea-16a9-7b16-a647-a13ad9a0d7d",
    "01a202ea-16a9-7b16-a647-a13ad9a0d7dbb", "01a202ea16a97b16a647a13ad9a0d7db",
    "{01a202ea-16a9-7b16-a647-a13ad9a0d7db}", "01a202ea-16a9-7b16-a647-a13ad9a0d7db%0a",
    "urn:uuid:01a202ea-16a9-7b16-a647-a13ad9a0d7db", "01a202ea-16a9-7b16-a647-a13ad9a0d7dg",
    "٠1a202ea-16a9-7b16-a647-a13ad9a0d7db", "x" * 3_000, "'", "<script>", "00000000-0000-0000-0000-000000000000",
]  # fmt: skip
CURSORS = [
    "", "0", "abc", "AAAA", "A" * 22 + "==", "A" * 24, "=" * 24, "%00", "%ff", "%ed%a0%80", "A" * 3_000, "-1",
    "\U0001f995", str(2**63), "//////////////////////==", "__________________-_==", "' OR 1=1",
    "AAAAAAAAAAAAAAAAAAAAAA%3D%3D%0A",
]  # fmt: skip
LIMITS = [
    "", "0", "-1", "101", "1000", "1.0", "1e1", "abc", "null", "+1", " 1", "1 ", "1\n", "\0", "٣", "1_0", "0x1",
    "9" * 3_000, str(2**31), str(2**63), str(2**64), "NaN", "1,2", "1;2", "'", "\udcff",
]  # fmt: skip


@contextmanager
def nothing_is_written_and_nobody_waits() -> Iterator[None]:
    before, started, worked = books(), time.monotonic(), time.process_time()
    yield
    assert time.process_time() - worked < SECONDS_MAX
    assert time.monotonic() - started < WAIT_SECONDS_MAX
    assert books() == before


every = partial(every_case.every, around=nothing_is_written_and_nobody_waits)


@pytest.fixture(autouse=True)
def in_tests_of_one_case_too(shared: FlaskClient, request: pytest.FixtureRequest) -> Iterator[None]:
    with nullcontext() if every_case.is_looped(request.function) else nothing_is_written_and_nobody_waits():
        yield


def post(client: FlaskClient, verb: str, data: str | bytes, **more: Any) -> Any:
    data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return client.post(f"/wallets/{JOHN_GOLD}/{verb}", data=data, content_type="application/json", **more)


@every("verb", MOVEMENTS)
@every("amount", AMOUNTS.values(), ids=AMOUNTS)
def test_amounts(shared: FlaskClient, verb: str, amount: str) -> None:
    answer = post(shared, verb, f'{{"amount": {amount}, "referenceId": "abc"}}')
    assert_problem(answer, 422, "validation_error", "/amount")


@every("verb", MOVEMENTS)
@every("reference", REFERENCES.values(), ids=REFERENCES)
def test_references(shared: FlaskClient, verb: str, reference: str) -> None:
    answer = post(shared, verb, f'{{"amount": 1, "referenceId": {reference}}}')
    assert_problem(answer, 422, "validation_error", "/referenceId")


@every("verb", MOVEMENTS)
@every("note", NOTES.values(), ids=NOTES)
def test_notes(shared: FlaskClient, verb: str, note: str) -> None:
    answer = post(shared, verb, f'{{"amount": 1, "referenceId": "abc", "note": {note}}}')
    assert_problem(answer, 422, "validation_error", "/note")


@every("metadata", METADATA.values(), ids=METADATA)
def test_metadata(shared: FlaskClient, metadata: str) -> None:
    answer = post(shared, "topup", f'{{"amount": 1, "referenceId": "abc", "metadata": {metadata}}}')
    assert_problem(answer, 422, "validation_error", "/metadata")


def test_metadata_with_a_key_twice(shared: FlaskClient) -> None:
    answer = post(shared, "topup", '{"amount": 1, "referenceId": "abc", "metadata": {"a": 1, "a": 1}}')
    assert_problem(answer, 400, "bad_request")


@every("instant", INSTANTS.values(), ids=INSTANTS)
def test_instants(shared: FlaskClient, instant: str) -> None:
    answer = post(shared, "topup", f'{{"amount": 1, "referenceId": "abc", "occurredAt": {instant}}}')
    assert_problem(answer, 422, "validation_error", "/occurredAt")


@every("verb", MOVEMENTS)
@every(("field", "pointer"), UNKNOWN_FIELDS.values(), ids=UNKNOWN_FIELDS)
def test_unknown_fields(shared: FlaskClient, verb: str, field: str, pointer: str) -> None:
    answer = post(shared, verb, f'{{"amount": 1, "referenceId": "abc", {field}}}')
    assert assert_problem(answer, 422, "validation_error", pointer)["errors"][0]["code"] == "unknown_field"


@every("verb", MOVEMENTS)
def test_thousands_of_unknown_fields(shared: FlaskClient, verb: str) -> None:
    answer = post(shared, verb, "{" + ",".join(f'"f{number}": 1' for number in range(5_000)) + "}")
    problem = assert_problem(answer, 422, "validation_error")
    assert len(problem["errors"]) == 20
    assert len(answer.get_data()) < 4 * 1024


@every("verb", MOVEMENTS)
@every("data", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_bodies(shared: FlaskClient, verb: str, data: bytes) -> None:
    assert_problem(post(shared, verb, data), 400, "bad_request")


@every("verb", MOVEMENTS)
@every("data", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_bodies_that_are_no_object(shared: FlaskClient, verb: str, data: bytes) -> None:
    assert_problem(post(shared, verb, data), 422, "validation_error", "")


@every("verb", MOVEMENTS)
@every("size", [64 * 1024 + 1, 1024 * 1024])
def test_large_bodies(shared: FlaskClient, verb: str, size: int) -> None:
    assert_problem(post(shared, verb, b" " * size), 413, "request_entity_too_large")


@every("verb", MOVEMENTS)
@every(
    "content_type",
    [
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application/json, text/plain",
        "application/json;",
        "application/jsonx",
        "application/merge-patch+json",
        "text/json",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "x" * 5_000,
    ],
)
def test_content_types(shared: FlaskClient, verb: str, content_type: str) -> None:
    answer = shared.post(
        f"/wallets/{JOHN_GOLD}/{verb}", data=b'{"amount": 1, "referenceId": "abc"}', content_type=content_type
    )
    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "utf-8", "identity, gzip"])
def test_a_body_that_is_said_to_be_packed(shared: FlaskClient, coding: str) -> None:
    """Whether it is or not: nobody unpacks it."""
    body, headers = b'{"amount": 1, "referenceId": "packed"}', {"Content-Encoding": coding}
    for data in (body, gzip.compress(body)):
        for path, content_type in (
            (f"/wallets/{JOHN_GOLD}/topup", "application/json"),
            ("/batches", "application/json"),
            ("/batches", "application/x-ndjson"),
        ):
            answer = shared.post(path, data=data, content_type=content_type, headers=headers)
            assert_problem(answer, 415, "unsupported_media_type")


@every("wallet", WALLET_IDS)
def test_wallet_ids(shared: FlaskClient, wallet: str) -> None:
    body = {"amount": 1, "referenceId": "abc"}
    answers = [shared.get(path.format(wallet)) for path in READS]
    answers += [shared.post(f"/wallets/{wallet}/{verb}", json=body) for verb in MOVEMENTS]
    for answer in answers:
        if answer.status_code == 404:  # A slash in it makes it another path.
            assert_problem(answer, 404, "not_found")
        else:
            assert_problem(answer, 422, "validation_error", "/walletId")


@every("transaction", TRANSACTION_IDS)
def test_transaction_ids(shared: FlaskClient, transaction: str) -> None:
    assert_problem(shared.get(f"/transactions/{transaction}"), 404, "transaction_not_found")


@every("cursor", CURSORS)
def test_cursors(shared: FlaskClient, cursor: str) -> None:
    assert_problem(shared.get(f"/wallets/{JOHN_GOLD}/entries?cursor={cursor}"), 400, "bad_cursor")


@every("limit", LIMITS)
def test_limits(shared: FlaskClient, limit: str) -> None:
    answer = shared.get(
        f"/wallets/{JOHN_GOLD}/entries", query_string={"limit": limit.encode("utf-8", "surrogateescape")}
    )
    assert_problem(answer, 422, "validation_error", "/limit")


@every("path", [path.format(JOHN_GOLD) for path in READS] + ["/transactions/abc", "/transactions", "/rates"])
@every(
    ("query", "pointer"),
    [
        ("colour=red", "/colour"),
        ("%00=1", "/\0"),
        ("%ff=1", None),
        ("a%2Fb~=1", "/a~1b~0"),
        ("=1", "/"),
        ("x" * 3_000, None),
        ("&".join(f"p{number}=1" for number in range(500)), None),
        ("Limit=1", "/Limit"),
        ("limit[]=1", "/limit[]"),
    ],
)
def test_unknown_parameters(shared: FlaskClient, path: str, query: str, pointer: str | None) -> None:
    answer = shared.get(f"{path}?{query}")
    assert_problem(answer, 422, "validation_error", *([pointer] if pointer else []))


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/transactions?reference=%ff", "/reference"),
        ("/transactions?kind=SPEND&reference=a%C3%A9%ed%a0%80", "/reference"),
        ("/transactions?%72eference=%C3", "/reference"),
        ("/users?externalId=caf%e9", "/externalId"),
    ],
)
def test_a_parameter_that_is_not_utf_8(shared: FlaskClient, path: str, pointer: str) -> None:
    """It is nothing that anybody could have meant, and is not taken for the text that it is written with."""
    assert_problem(shared.get(path), 422, "validation_error", pointer)


@every("path", ["/%00", "/%ff%fe", "/..;/wallets/3", "/wallets/3/topup;x", "/" + "a" * 5_000, "/%2e%2e/etc"])
def test_paths(shared: FlaskClient, path: str) -> None:
    assert_problem(shared.get(path), 404, "not_found")


# --- users, wallets and assets ---


def create(client: FlaskClient, path: str, /, **fields: str) -> Any:
    """Ask for what a path makes or moves; `fields` replace its own, as they stand in a JSON document."""
    body = {name: json.dumps(value) for name, value in (CREATIONS | BETWEEN)[path].items()} | fields
    data = "{" + ", ".join(f'"{name}": {value}' for name, value in body.items()) + "}"
    return client.post(path, data=data.encode("utf-8", "surrogatepass"), content_type="application/json")


@every("field", ["name", "externalId"])
@every("value", NAMES.values(), ids=NAMES)
def test_names_and_external_ids(shared: FlaskClient, field: str, value: str) -> None:
    assert_problem(create(shared, "/users", **{field: value}), 422, "validation_error", f"/{field}")


@every("value", [value for name, value in NAMES.items() if name not in {"number", "true", "null"}])
def test_external_ids_to_look_for(shared: FlaskClient, value: str) -> None:
    given = json.loads(value)
    if not isinstance(given, str) or len(given) > 10_000:
        return
    # A surrogate's bytes are no UTF-8.
    query = {"externalId": given.encode("utf-8", "surrogatepass")}
    assert_problem(shared.get("/users", query_string=query), 422, "validation_error", "/externalId")


@every("value", USER_IDS.values(), ids=USER_IDS)
def test_user_ids_of_a_wallet(shared: FlaskClient, value: str) -> None:
    assert_problem(create(shared, "/wallets", userId=value), 422, "validation_error", "/userId")


@every(
    "value",
    ["999999999", str(2**53 + 1), str(2**63 - 1), str(2**63), str(2**64), f'"{2**64}"', "9" * 5_000, "9" * 60_000],
)
def test_user_ids_that_nobody_has(shared: FlaskClient, value: str) -> None:
    assert_problem(create(shared, "/wallets", userId=value), 404, "user_not_found")


@every("value", ASSET_CODES.values(), ids=ASSET_CODES)
def test_asset_codes(shared: FlaskClient, value: str) -> None:
    assert_problem(create(shared, "/wallets", asset=value), 422, "validation_error", "/asset")
    given = json.loads(value)
    if isinstance(given, str) and len(given) < 10_000:
        query = {"asset": given.encode("utf-8", "surrogatepass")}
        assert_problem(shared.get("/wallets", query_string=query), 422, "validation_error", "/asset")


@every("user", WALLET_IDS)
def test_user_ids(shared: FlaskClient, user: str) -> None:
    answer = shared.get(f"/users/{user}")
    if answer.status_code == 404:  # A slash in it makes it another path.
        assert_problem(answer, 404, "not_found")
    else:
        assert_problem(answer, 422, "validation_error", "/userId")
    if not {"#", "&"} & set(user):
        assert_problem(shared.get(f"/wallets?userId={user}"), 422, "validation_error", "/userId")


@every(
    "path",
    [
        "/wallets",
        "/wallets?userId=2",
        "/wallets?asset=GOLD",
        "/assets",
        "/keys",
        "/rates",
        "/transactions",
        "/transactions?walletId=3",
        "/transactions?kind=SPEND",
        "/wallets/3/entries?type=SPEND",
    ],
)
@every("cursor", CURSORS)
def test_cursors_of_lists(shared: FlaskClient, path: str, cursor: str) -> None:
    answer = shared.get(f"{path}{'&' if '?' in path else '?'}cursor={cursor}")
    assert_problem(answer, 400, "bad_cursor")


@every("path", ["/wallets", "/assets", "/keys", "/rates", "/transactions"])
@every("limit", LIMITS)
def test_limits_of_lists(shared: FlaskClient, path: str, limit: str) -> None:
    answer = shared.get(path, query_string={"limit": limit.encode("utf-8", "surrogateescape")})
    assert_problem(answer, 422, "validation_error", "/limit")


@every("path", [*CREATIONS, *BETWEEN])
@every(("field", "pointer"), UNKNOWN_FIELDS.values(), ids=UNKNOWN_FIELDS)
def test_unknown_fields_of_creations(shared: FlaskClient, path: str, field: str, pointer: str) -> None:
    name, _, value = field.partition(": ")
    if name[1:-1] in BETWEEN.get(path, {}):
        return  # Here it is a known one.
    answer = create(shared, path, **{name[1:-1]: value})
    assert assert_problem(answer, 422, "validation_error", pointer)["errors"][0]["code"] == "unknown_field"


@every("path", [*CREATIONS, *BETWEEN])
@every("data", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_creations(shared: FlaskClient, path: str, data: bytes) -> None:
    assert_problem(shared.post(path, data=data, content_type="application/json"), 400, "bad_request")


@every("path", [*CREATIONS, *BETWEEN])
@every("data", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_creations_that_are_no_object(shared: FlaskClient, path: str, data: bytes) -> None:
    assert_problem(shared.post(path, data=data, content_type="application/json"), 422, "validation_error", "")


@every("path", [*CREATIONS, *BETWEEN])
def test_creations_that_are_too_large_or_of_another_type(shared: FlaskClient, path: str) -> None:
    large = shared.post(path, data=b" " * (64 * 1024 + 1), content_type="application/json")
    assert_problem(large, 413, "request_entity_too_large")
    for content_type in ("", "text/plain", "application/x-www-form-urlencoded", "application/x-ndjson"):
        answer = shared.post(path, data=json.dumps((CREATIONS | BETWEEN)[path]), content_type=content_type)
        assert_problem(answer, 415, "unsupported_media_type")
    assert_problem(shared.post(f"{path}?a=1", json=(CREATIONS | BETWEEN)[path]), 422, "validation_error", "/a")


CLIENT_NAMES = TEXTS | {
    "null": "null",
    "empty": '""',
    "blank": '" "',
    "blanks around": '" shop "',
    "line feed behind": '"shop\\n"',
    "dot first": '".shop"',
    "65 letters": json.dumps("s" * 65),
    "far too long": json.dumps("s" * 60_000),
    "fullwidth": '"ｓｈｏｐ"',
    "slash": '"shop/../admin"',
    "injection": json.dumps("shop'; DROP TABLE clients"),
}
NO_LISTS = {
    "null": "null",
    "true": "true",
    "number": "1",
    "text": '"GOLD"',
    "object": '{"0": "GOLD"}',
    "empty": "[]",
    "of null": "[null]",
    "of numbers": "[1]",
    "of lists": '[["GOLD"]]',
    "of empty texts": '[""]',
    "of surrogates": '["\\ud800"]',
    "of NUL": '["\\u0000"]',
    "thousands": json.dumps([f"A{number}" for number in range(5_000)]),
}
KEY_LISTS = {
    "scopes": {
        "unknown": '["wallets:steal"]',
        "twice": '["wallets:read", "wallets:read"]',
        "with a comma": '["wallets:read,wallets:spend"]',
        "other case": '["Wallets:read"]',
        "everything": '["*"]',
    },
    "assets": {
        "small letters": '["gold"]',
        "twice": '["GOLD", "GOLD"]',
        "a comma": '["GOLD,DIAMOND"]',
        "line feed behind": '["GOLD\\n"]',
        "101": json.dumps([f"A{number}" for number in range(101)]),
    },
    "networks": {
        "an address": '["10.0.0.1"]',
        "twice": '["10.0.0.0/8", "10.0.0.0/8"]',
        "a netmask": '["10.0.0.0/255.0.0.0"]',
        "a name": '["localhost/8"]',
        "a zone": '["fe80::%eth0/64"]',
        "other digits": '["１０.0.0.0/8"]',
        "a blank": '["10.0.0.0/8 "]',
        "101": json.dumps([f"10.0.{number}.0/24" for number in range(101)]),
    },
}
RATES = {
    "null": "null",
    "number": "600",
    "empty": '""',
    "no unit": '"600"',
    "zero": '"0 per minute"',
    "negative": '"-1 per minute"',
    "float": '"1.5 per minute"',
    "several": '"1 per second; 100 per hour"',
    "two minutes": '"10 per 2 minutes"',
    "arabic digits": '"٣ per minute"',
    "huge": json.dumps("9" * 5_000 + " per minute"),
    "line feed behind": '"600 per minute\\n"',
}


@every("value", CLIENT_NAMES.values(), ids=CLIENT_NAMES)
def test_clients_of_keys(shared: FlaskClient, value: str) -> None:
    assert_problem(create(shared, "/keys", client=value), 422, "validation_error", "/client")


@every("name", ["system", "cli", "console"])
def test_names_that_are_the_services_own(shared: FlaskClient, name: str) -> None:
    for answer in (create(shared, "/keys", client=json.dumps(name)), shared.get(f"/keys?client={name}")):
        assert assert_problem(answer, 422, "validation_error", "/client")["errors"][0]["code"] == "reserved"


@every("name", ["System", "anonymous", "bootstrap", "development", "import", "operator", "user", "Worker"])
def test_names_that_are_not_for_new_keys(shared: FlaskClient, name: str) -> None:
    answer = create(shared, "/keys", client=json.dumps(name))
    assert assert_problem(answer, 422, "validation_error", "/client")["errors"][0]["code"] == "reserved"
    assert shared.get(f"/keys?client={name}").status_code == 200, "those that were there before are found"


LISTS_OF_KEYS = {
    f"{field} {name}": (field, value)
    for field, more in KEY_LISTS.items()
    for name, value in {**NO_LISTS, **more}.items()
}


@every(("field", "value"), LISTS_OF_KEYS.values(), ids=LISTS_OF_KEYS)
def test_lists_of_keys(shared: FlaskClient, field: str, value: str) -> None:
    assert_problem(create(shared, "/keys", **{field: value}), 422, "validation_error", f"/{field}")


@every("amount", AMOUNTS.values(), ids=AMOUNTS)
def test_largest_amounts_of_keys(shared: FlaskClient, amount: str) -> None:
    assert_problem(create(shared, "/keys", amountMax=amount), 422, "validation_error", "/amountMax")


@every("rate", RATES.values(), ids=RATES)
def test_rates_of_keys(shared: FlaskClient, rate: str) -> None:
    assert_problem(create(shared, "/keys", rateLimit=rate), 422, "validation_error", "/rateLimit")


@every("seconds", [value for name, value in AMOUNTS.items() if name != "list"])
def test_seconds_of_keys(shared: FlaskClient, seconds: str) -> None:
    assert_problem(create(shared, "/keys", expiresIn=seconds), 422, "validation_error", "/expiresIn")


@every(
    ("field", "value"),
    [
        ("assets", '["SILVER"]'),
        ("networks", '["10.0.0.1/8"]'),
        ("networks", '["300.0.0.0/8"]'),
        ("networks", '["::/129"]'),
    ],
)
def test_what_no_key_can_be_limited_to(shared: FlaskClient, field: str, value: str) -> None:
    assert_problem(create(shared, "/keys", **{field: value}), 422, "bad_key_settings")


@every("key", [*TRANSACTION_IDS, "a" * 11, "a" * 13, "A" * 12, "aaaaaaaaaaa1", "aaaaaaaaaaa%0a"])
def test_key_ids(shared: FlaskClient, key: str) -> None:
    for answer in (shared.get(f"/keys/{key}"), shared.post(f"/keys/{key}/rotate"), shared.delete(f"/keys/{key}")):
        assert_problem(answer, 404, "key_not_found")


def test_what_takes_no_body_refuses_one(shared: FlaskClient) -> None:
    for data in (b"{}", b" ", b'{"scopes": ["wallets:read"]}'):
        for ask in (shared.post, shared.delete):
            path = f"/keys/{'a' * 12}" + ("/rotate" if ask == shared.post else "")
            assert_problem(ask(path, data=data, content_type="application/json"), 422, "validation_error", "")


@every("value", ["", "1", "True", "yes", "true,false", "\0", "true "])
def test_whether_with_revoked_keys(shared: FlaskClient, value: str) -> None:
    answer = shared.get("/keys", query_string={"withRevoked": value})
    assert_problem(answer, 422, "validation_error", "/withRevoked")


@every("position", [32**12, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_cursor_at_the_place_of_no_key(shared: FlaskClient, position: int) -> None:
    made = cursor.make(position, "keys", None, False)
    assert_problem(shared.get("/keys", query_string={"cursor": made}), 400, "bad_cursor")


# --- holds ---


HOLD = {"walletId": 3, "amount": 1, "expiresIn": 60, "referenceId": "abc"}
HOLD_ID = "01a202ea-16a9-7b16-a647-a13ad9a0d7db"
ON_HOLD = {f"/holds/{HOLD_ID}/capture": {"amount": 1}, f"/holds/{HOLD_ID}/release": {}}
HOLD_BODIES = {"/holds": HOLD} | {path: {"referenceId": "abc"} | body for path, body in ON_HOLD.items()}
SECONDS = AMOUNTS | {"a second too many": "2592001", "a year": '"31536000"'}
SECONDS = {name: value for name, value in SECONDS.items() if not name.startswith("string zero")}
FINALS = {
    name: value for name, value in AMOUNTS.items() if name not in {"true", "false"}
} | {"yes": '"yes"', "True": '"True"', "blank behind": '"true "'}  # fmt: skip


def post_hold(client: FlaskClient, path: str, **fields: str) -> Any:
    """Post the path's body; `fields` replace its own, as they stand in a JSON document."""
    body = {name: json.dumps(value) for name, value in HOLD_BODIES[path].items()} | fields
    data = "{" + ", ".join(f'"{name}": {value}' for name, value in body.items()) + "}"
    return client.post(path, data=data.encode("utf-8", "surrogatepass"), content_type="application/json")


@every("amount", AMOUNTS.values(), ids=AMOUNTS)
def test_amounts_of_holds(shared: FlaskClient, amount: str) -> None:
    for path in ("/holds", f"/holds/{HOLD_ID}/capture"):
        assert_problem(post_hold(shared, path, amount=amount), 422, "validation_error", "/amount")


@every("seconds", SECONDS.values(), ids=SECONDS)
def test_seconds_of_holds(shared: FlaskClient, seconds: str) -> None:
    assert_problem(post_hold(shared, "/holds", expiresIn=seconds), 422, "validation_error", "/expiresIn")


@every("final", FINALS.values(), ids=FINALS)
def test_finals_of_captures(shared: FlaskClient, final: str) -> None:
    answer = post_hold(shared, f"/holds/{HOLD_ID}/capture", final=final)
    assert_problem(answer, 422, "validation_error", "/final")


def test_a_capture_of_all_that_is_not_final(shared: FlaskClient) -> None:
    answer = shared.post(f"/holds/{HOLD_ID}/capture", json={"final": False, "referenceId": "abc"})
    assert_problem(answer, 422, "validation_error", "/final")


@every("path", HOLD_BODIES)
@every("reference", REFERENCES.values(), ids=REFERENCES)
def test_references_of_holds(shared: FlaskClient, path: str, reference: str) -> None:
    assert_problem(post_hold(shared, path, referenceId=reference), 422, "validation_error", "/referenceId")


@every("path", HOLD_BODIES)
@every("note", NOTES.values(), ids=NOTES)
def test_notes_of_holds(shared: FlaskClient, path: str, note: str) -> None:
    assert_problem(post_hold(shared, path, note=note), 422, "validation_error", "/note")


@every("path", HOLD_BODIES)
@every(("field", "pointer"), [one for name, one in UNKNOWN_FIELDS.items() if name != "wallet id"])
def test_unknown_fields_of_holds(shared: FlaskClient, path: str, field: str, pointer: str) -> None:
    name, _, value = field.partition(": ")
    answer = post_hold(shared, path, **{name[1:-1]: value})
    assert assert_problem(answer, 422, "validation_error", pointer)["errors"][0]["code"] == "unknown_field"


@every("path", HOLD_BODIES)
@every("data", [*UNREADABLE.values(), *NO_OBJECTS.values()], ids=[*UNREADABLE, *NO_OBJECTS])
def test_unreadable_holds(shared: FlaskClient, path: str, data: bytes) -> None:
    answer = shared.post(path, data=data, content_type="application/json")
    if data in NO_OBJECTS.values():
        assert_problem(answer, 422, "validation_error", "")
    else:
        assert_problem(answer, 400, "bad_request")


@every("hold", [*TRANSACTION_IDS, HOLD_ID])
def test_hold_ids(shared: FlaskClient, hold: str) -> None:
    assert_problem(shared.get(f"/holds/{hold}"), 404, "hold_not_found")
    for verb in ("capture", "release"):
        answer = shared.post(f"/holds/{hold}/{verb}", json={"referenceId": "abc"})
        assert_problem(answer, 404, "hold_not_found")


@every("state", ["", "OPEN", "open ", "voided", "open,captured", "\0", "x" * 3_000])
def test_states_of_holds(shared: FlaskClient, state: str) -> None:
    answer = shared.get(f"/wallets/{JOHN_GOLD}/holds", query_string={"state": state})
    assert_problem(answer, 422, "validation_error", "/state")


@every("cursor", CURSORS)
def test_cursors_of_holds(shared: FlaskClient, cursor: str) -> None:
    assert_problem(shared.get(f"/wallets/{JOHN_GOLD}/holds?cursor={cursor}"), 400, "bad_cursor")


# --- between wallets ---

FIELDS = [(path, field) for path, body in BETWEEN.items() for field in body]


@every(("path", "field"), [one for one in FIELDS if one[1] == "amount"])
@every("value", AMOUNTS.values(), ids=AMOUNTS)
def test_amounts_between_wallets(shared: FlaskClient, path: str, field: str, value: str) -> None:
    assert_problem(create(shared, path, **{field: value}), 422, "validation_error", f"/{field}")


@every("value", AMOUNTS.values(), ids=AMOUNTS)
def test_amounts_of_up_to(shared: FlaskClient, value: str) -> None:
    assert_problem(create(shared, "/transfers", amount=f'{{"upTo": {value}}}'), 422, "validation_error", "/amount")


@every(("path", "field"), [one for one in FIELDS if one[1] in {"from", "to", "walletId"}])
@every("value", USER_IDS.values(), ids=USER_IDS)
def test_wallet_ids_between_wallets(shared: FlaskClient, path: str, field: str, value: str) -> None:
    assert_problem(create(shared, path, **{field: value}), 422, "validation_error", f"/{field}")


@every("path", BETWEEN)
@every("value", REFERENCES.values(), ids=REFERENCES)
def test_references_between_wallets(shared: FlaskClient, path: str, value: str) -> None:
    assert_problem(create(shared, path, referenceId=value), 422, "validation_error", "/referenceId")


@every("path", BETWEEN)
@every("value", NOTES.values(), ids=NOTES)
def test_notes_between_wallets(shared: FlaskClient, path: str, value: str) -> None:
    assert_problem(create(shared, path, note=value), 422, "validation_error", "/note")


@every(
    "value",
    ["0", "1", "0.1", "true", "null", "[1, 2]", '{"a": 1}', '""', '"0"', '"0.0"', '"1/0"', '"0/1"', '"-1"', '"+1"',
     '"1e3"', '".5"', '"1."', '"1/2/3"', '" 1"', '"1\\n"', '"1,5"', '"NaN"', '"Infinity"', '"٣"', '"1/٣"',
     '"1234567890"', f'"{"9" * 5_000}"', f'"1/{"9" * 5_000}"', '"1\\u0000"', '"1; DROP TABLE wallets"'],
)  # fmt: skip
def test_rates(shared: FlaskClient, value: str) -> None:
    assert_problem(create(shared, "/exchanges", rate=value), 422, "validation_error", "/rate")


LEG = '{"walletId": 3, "type": "spend", "amount": 1}'
LEGS = {
    "none": ("[]", "/legs"),
    "too many": (f"[{', '.join([LEG] * 21)}]", "/legs"),
    "null": ("null", "/legs"),
    "object": (LEG, "/legs"),
    "string": ('"legs"', "/legs"),
    "a leg that is none": (f"[{LEG}, 1]", "/legs/1"),
    "a leg's type": ('[{"walletId": 3, "type": "seed", "amount": 1}]', "/legs/0/type"),
    "a leg's type in capitals": ('[{"walletId": 3, "type": "SPEND", "amount": 1}]', "/legs/0/type"),
    "a leg's wallet": ('[{"walletId": 0, "type": "spend", "amount": 1}]', "/legs/0/walletId"),
    "a leg without a wallet": ('[{"type": "spend", "amount": 1}]', "/legs/0/walletId"),
    "a leg's reference": (f'[{LEG[:-1]}, "referenceId": "abc"}}]', "/legs/0/referenceId"),
}


@every(("value", "pointer"), LEGS.values(), ids=LEGS)
def test_legs(shared: FlaskClient, value: str, pointer: str) -> None:
    assert_problem(create(shared, "/purchases", legs=value), 422, "validation_error", pointer)


@every("value", AMOUNTS.values(), ids=AMOUNTS)
def test_amounts_of_legs(shared: FlaskClient, value: str) -> None:
    legs = f'[{{"walletId": 3, "type": "spend", "amount": {value}}}]'
    assert_problem(create(shared, "/purchases", legs=legs), 422, "validation_error", "/legs/0/amount")


# --- freezes, closings and switches ---

STATES = {
    f"/wallets/{JOHN_GOLD}/freeze": {"side": "both", "reason": "why", "referenceId": "abc"},
    f"/wallets/{JOHN_GOLD}/unfreeze": {"side": "both", "reason": "why", "referenceId": "abc"},
    f"/wallets/{JOHN_GOLD}/close": {"reason": "why", "referenceId": "abc"},
}
SWITCH = {"target": "user", "userId": 2, "side": "both", "reason": "why"}
STOPS = {**STATES, "/switches": SWITCH}
SIDES = TEXTS | {"null": "null", "empty": '""', "capitals": '"BOTH"', "blank behind": '"both "', "three": '"all"'}
REASONS = NOTES | {"null": "null", "empty": '""', "blank": '"  \u2003\ufeff "'}
UNTILS = TEXTS | {
    "empty": '""',
    "a day": '"2999-01-01"',
    "no offset": '"2999-01-01T00:00:00"',
    "a blank in between": '"2999-01-01 00:00:00Z"',
    "small letters": '"2999-01-01t00:00:00z"',
    "no seconds": '"2999-01-01T00:00Z"',
    "seven digits of a second": '"2999-01-01T00:00:00.1234567Z"',
    "a comma": '"2999-01-01T00:00:00,5Z"',
    "a leap second": '"2999-12-31T23:59:60Z"',
    "hour 24": '"2999-01-01T24:00:00Z"',
    "no such day": '"2999-02-29T00:00:00Z"',
    "no leap day in 2100": '"2100-02-29T00:00:00Z"',
    "month 13": '"2999-13-01T00:00:00Z"',
    "an offset of a day": '"2999-01-01T00:00:00+24:00"',
    "a short offset": '"2999-01-01T00:00:00+01"',
    "a zone": '"2999-01-01T00:00:00[Europe/Berlin]"',
    "the year 10000": '"10000-01-01T00:00:00Z"',
    "the year 9999": '"9999-12-31T23:59:59Z"',
    "the year 3000": '"3000-01-01T00:00:00Z"',
    "the year 1999": '"1999-12-31T23:59:59Z"',
    "a week": '"2999-W01-1T00:00:00Z"',
    "infinity": '"infinity"',
    "now": '"now"',
    "other digits": '"２９99-01-01T00:00:00Z"',
    "line feed behind": '"2999-01-01T00:00:00Z\\n"',
    "blanks around": '" 2999-01-01T00:00:00Z "',
    "seconds since 1970": "32472144000",
    "injection": json.dumps("2999-01-01T00:00:00Z'; DROP TABLE wallets"),
}


def post_stop(client: FlaskClient, path: str, **fields: str) -> Any:
    """Post the path's body; `fields` replace its own, as they stand in a JSON document."""
    body = {name: json.dumps(value) for name, value in STOPS[path].items()} | fields
    data = "{" + ", ".join(f'"{name}": {value}' for name, value in body.items()) + "}"
    return client.post(path, data=data.encode("utf-8", "surrogatepass"), content_type="application/json")


@every("path", [path for path, body in STOPS.items() if "side" in body])
@every("side", SIDES.values(), ids=SIDES)
def test_sides(shared: FlaskClient, path: str, side: str) -> None:
    assert_problem(post_stop(shared, path, side=side), 422, "validation_error", "/side")


@every("path", STOPS)
@every("reason", REASONS.values(), ids=REASONS)
def test_reasons(shared: FlaskClient, path: str, reason: str) -> None:
    assert_problem(post_stop(shared, path, reason=reason), 422, "validation_error", "/reason")


@every("path", [f"/wallets/{JOHN_GOLD}/freeze", "/switches"])
@every("until", UNTILS.values(), ids=UNTILS)
def test_ends(shared: FlaskClient, path: str, until: str) -> None:
    assert_problem(post_stop(shared, path, until=until), 422, "validation_error", "/until")


@every("path", STATES)
@every("reference", REFERENCES.values(), ids=REFERENCES)
def test_references_of_freezes(shared: FlaskClient, path: str, reference: str) -> None:
    assert_problem(post_stop(shared, path, referenceId=reference), 422, "validation_error", "/referenceId")


@every("path", STOPS)
@every(("field", "pointer"), UNKNOWN_FIELDS.values(), ids=UNKNOWN_FIELDS)
def test_unknown_fields_of_freezes(shared: FlaskClient, path: str, field: str, pointer: str) -> None:
    name, _, value = field.partition(": ")
    answer = post_stop(shared, path, **{name[1:-1]: value})
    assert assert_problem(answer, 422, "validation_error", pointer)["errors"][0]["code"] == "unknown_field"


@every("path", STOPS)
@every("data", [*UNREADABLE.values(), *NO_OBJECTS.values()], ids=[*UNREADABLE, *NO_OBJECTS])
def test_unreadable_freezes(shared: FlaskClient, path: str, data: bytes) -> None:
    answer = shared.post(path, data=data, content_type="application/json")
    if data in NO_OBJECTS.values():
        pointer = "/target" if path == "/switches" and data.startswith(b"{") else ""
        assert_problem(answer, 422, "validation_error", pointer)
    else:
        assert_problem(answer, 400, "bad_request")


@every("value", USER_IDS.values(), ids=USER_IDS)
def test_users_of_switches(shared: FlaskClient, value: str) -> None:
    assert_problem(post_stop(shared, "/switches", userId=value), 422, "validation_error", "/userId")


@every("value", ASSET_CODES.values(), ids=ASSET_CODES)
def test_assets_of_switches(shared: FlaskClient, value: str) -> None:
    data = f'{{"target": "asset", "asset": {value}, "side": "both", "reason": "x"}}'.encode("utf-8", "surrogatepass")
    answer = shared.post("/switches", data=data, content_type="application/json")
    assert_problem(answer, 422, "validation_error", "/asset")


@every("value", [*TEXTS.values(), "null", '""', '"USER"', '"user "', '"wallet"'])
def test_targets_of_switches(shared: FlaskClient, value: str) -> None:
    assert_problem(post_stop(shared, "/switches", target=value), 422, "validation_error", "/target")


@every("switch", WALLET_IDS)
def test_switch_ids(shared: FlaskClient, switch: str) -> None:
    for answer in (shared.get(f"/switches/{switch}"), shared.delete(f"/switches/{switch}?reason=why")):
        if answer.status_code == 404:  # A slash in it makes it another path.
            assert_problem(answer, 404, "not_found")
        else:
            assert_problem(answer, 422, "validation_error", "/switchId")


@every("switch", ["1", "0001", str(2**63 - 1), str(2**63), str(2**64), "9" * 100])
def test_switches_that_are_not_there(shared: FlaskClient, switch: str) -> None:
    for answer in (shared.get(f"/switches/{switch}"), shared.delete(f"/switches/{switch}?reason=why")):
        assert_problem(answer, 404, "switch_not_found")


@every("reason", ["", " ", "x" * 501, "a\0b", "a\nb", "a\x85b"])
def test_reasons_of_liftings(shared: FlaskClient, reason: str) -> None:
    answer = shared.delete("/switches/1", query_string={"reason": reason})
    assert_problem(answer, 422, "validation_error", "/reason")


def test_a_lifting_takes_no_body_and_no_other_parameter(shared: FlaskClient) -> None:
    answer = shared.delete("/switches/1?reason=x", data=b"{}", content_type="application/json")
    assert_problem(answer, 422, "validation_error", "")
    assert_problem(shared.delete("/switches/1?reason=x&colour=red"), 422, "validation_error", "/colour")
    assert_problem(shared.delete("/switches/1?reason=x&reason=y"), 422, "validation_error", "/reason")


@every("value", ["", "1", "True", "yes", "true,false", "\0", "true "])
def test_whether_with_lifted_switches(shared: FlaskClient, value: str) -> None:
    answer = shared.get("/switches", query_string={"withLifted": value})
    assert_problem(answer, 422, "validation_error", "/withLifted")


@every("cursor", CURSORS)
def test_cursors_of_switches(shared: FlaskClient, cursor: str) -> None:
    assert_problem(shared.get(f"/switches?cursor={cursor}"), 400, "bad_cursor")
