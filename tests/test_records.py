"""A record is read as the same command's own route would read it, and refused in the same words."""

from __future__ import annotations

from typing import Any

import pytest

from wallet_app import service
from wallet_app.errors import WalletNotFoundError, WalletServiceError
from wallet_app.fields import ID_MAX, ValidationFailedError
from wallet_app.records import read_commands

ORIGIN = service.Origin(client="tests", actor="tests")
SPEND: dict[str, Any] = {"type": "spend", "walletId": 3, "amount": 100, "referenceId": "order-1"}


def read_command(record: object) -> service.Command:
    (found,) = read_commands([record], origin=ORIGIN)
    if isinstance(found, WalletServiceError):
        raise found
    return found


def errors(record: object) -> list[tuple[str, str]]:
    with pytest.raises(ValidationFailedError) as refused:
        read_command(record)
    return [(error["pointer"], error["code"]) for error in refused.value.details["errors"]]


@pytest.mark.parametrize(
    ("name", "kind"), [("topup", service.TopUp), ("bonus", service.Bonus), ("spend", service.Spend)]
)
def test_each_type_is_its_command(name: str, kind: type[service.Movement]) -> None:
    command = read_command({**SPEND, "type": name, "note": " Sword "})
    assert command == kind(wallet_id=3, amount=100, reference="order-1", note="Sword", origin=ORIGIN)


def test_a_row_of_strings_is_the_same_command() -> None:
    row = {"type": "spend", "walletId": "3", "amount": "100", "referenceId": "order-1", "note": ""}
    assert read_command(row) == read_command(SPEND)


@pytest.mark.parametrize("record", [None, [], "spend", 7, True, [SPEND]])
def test_what_is_no_object_is_refused_as_a_whole(record: object) -> None:
    assert errors(record) == [("", "invalid")]


@pytest.mark.parametrize("name", ["SPEND", "seed", "adjustment", "", None, 7, True, ["spend"], {"spend": 1}, "x\ud800"])
def test_an_unknown_type_is_refused(name: object) -> None:
    assert errors({**SPEND, "type": name}) == [("/type", "invalid")]


def test_a_missing_type_is_said_to_be_missing() -> None:
    assert errors({"walletId": 3}) == [("/type", "missing")]


@pytest.mark.parametrize("wallet", [0, -1, 3.0, True, None, "", " 3", "0", "1_000", "\u0663", "9" * 101, [3]])
def test_an_id_that_is_no_positive_whole_number_is_refused(wallet: object) -> None:
    assert errors({**SPEND, "walletId": wallet}) == [("/walletId", "invalid")]


@pytest.mark.parametrize("wallet", [ID_MAX + 1, str(ID_MAX + 1), "9" * 100])
def test_an_id_beyond_every_wallet_is_an_unknown_wallet(wallet: object) -> None:
    with pytest.raises(WalletNotFoundError):
        read_command({**SPEND, "walletId": wallet})


def test_all_that_is_wrong_is_told_at_once() -> None:
    record = {"type": "topup", "walletId": "x", "amount": 1.5, "referenceId": " sys:1", "note": "\x00", "a/b": 1}
    assert errors(record) == [
        ("/walletId", "invalid"),
        ("/amount", "invalid"),
        ("/referenceId", "reserved"),
        ("/note", "invalid"),
        ("/a~1b", "unknown_field"),
    ]


def test_a_record_needs_a_reference_of_its_own() -> None:
    assert errors({"type": "bonus", "walletId": 3, "amount": 1}) == [("/referenceId", "missing")]
    assert errors({**SPEND, "referenceId": None}) == [("/referenceId", "invalid")]


def test_a_lone_surrogate_as_a_name_is_refused() -> None:
    assert errors({**SPEND, "\ud800": 1}) == [("", "invalid")]
