"""`flask wallet freeze | unfreeze | close | switches`: for the people who run the service."""

from __future__ import annotations

import csv
import re
import uuid
from pathlib import Path

import pytest
from flask import Flask

from wallet_app import service

JOHN, DOE_DIAMOND = 3, 6
SPEND = service.Origin(client="tests", actor="tests")


def run(app: Flask, *arguments: str) -> tuple[int, str, str]:
    result = app.test_cli_runner().invoke(args=["wallet", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_wallet_is_frozen_and_unfrozen(app: Flask) -> None:
    code, out, err = run(
        app, "freeze", "3", "--side", "debits", "--until", "2999-01-01T00:00:00", "--reason", "Case 17"
    )
    assert (code, err) == (0, "")
    found = re.fullmatch(
        r"Wallet 3 is frozen: debits until 2999-01-01 00:00:00 UTC\. Transaction ([0-9a-f-]{36})\.\n", out
    )
    assert found is not None, out
    assert run(app, "freeze", "3", "--side", "credits", "--reason", "Case 17")[1].startswith(
        "Wallet 3 is frozen: debits until 2999-01-01 00:00:00 UTC, credits. "
    )
    assert service.get_wallet(JOHN).status == "FROZEN"
    assert run(app, "unfreeze", "3", "--reason", "Over")[1].startswith("Wallet 3 is active. ")
    code, _, err = run(app, "unfreeze", "3", "--reason", "Over")
    assert (code, err) == (1, "Wallet 3 is not frozen: neither its debits nor its credits are. If they are stopped all "
                              "the same, a switch does that.\n")  # fmt: skip


def test_the_ledger_tells_who_froze_it_and_why(app: Flask) -> None:
    for again in ("", " This reference was accepted before."):
        code, out, _ = run(app, "freeze", "3", "--reason", " Case 17 ", "--reference", "case-17")
        assert (code, out.endswith(f".{again}\n")) == (0, True)
    found = re.search(r"Transaction ([0-9a-f-]{36})", out)
    assert found is not None
    view = service.get_transaction(uuid.UUID(found[1]))
    made = view.transaction
    assert (made.requested["reason"], made.client, made.actor[:4]) == (
        "Case 17",
        "cli",
        "cli:",
    )


def test_only_an_empty_wallet_is_closed(app: Flask) -> None:
    code, _, err = run(app, "close", "3", "--reason", "Asked for")
    assert (code, err) == (1, "Wallet 3 has 500 GOLD, and 0 held: only an empty one can be closed.\n")
    assert run(app, "close", "6", "--reason", "Asked for")[1].startswith("Wallet 6 is closed. ")
    assert service.get_wallet(DOE_DIAMOND).status == "CLOSED"


def test_switches_are_set_listed_and_lifted(app: Flask) -> None:
    assert run(app, "switches", "list")[2].startswith("No switch is set.")
    code, out, err = run(app, "switches", "set", "--user", "2", "--side", "debits", "--reason", "Stolen?")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"\d+  debits of user 2\n    Stolen\?; set \d{4}-\d\d-\d\d [0-9:]{8} UTC by cli:\w+\n", out), (
        out
    )
    assert run(app, "switches", "set", "--user", "2", "--side", "debits", "--reason", "Stolen?")[1] == out, "the same"
    run(app, "switches", "set", "--asset", "GOLD", "--reason", "Prices", "--until", "2999-01-01T00:00:00")
    run(app, "switches", "set", "--everything", "--reason", "Moving", "--ticket", "OPS-1")
    listed = run(app, "switches", "list")[1]
    assert "debits and credits of GOLD until 2999-01-01 00:00:00 UTC\n" in listed
    assert "debits and credits of everything\n" in listed
    for switch in service.list_switches():
        code, out, _ = run(app, "switches", "lift", str(switch.switch_id), "--reason", "Found")
        assert (code, out.splitlines()[0].endswith("  NOT SET")) == (0, True)
        assert "Found; lifted" in out
    assert run(app, "switches", "list")[2].startswith("No switch is set.")
    assert run(app, "switches", "list", "--all")[1].count("NOT SET") == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("freeze", "3"), "Missing option '--reason'"),
        (("freeze", "0", "--reason", "x"), "Invalid value for 'WALLET_ID'"),
        (("freeze", "3", "--reason", " "), "must have 1 to 500 characters"),
        (("freeze", "3", "--side", "some", "--reason", "x"), "Invalid value for '--side'"),
        (("switches", "set", "--reason", "x"), "Name one of --user, --asset and --everything."),
        (("switches", "set", "--user", "2", "--everything", "--reason", "x"), "Name one of"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(app: Flask, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = run(app, *arguments)
    assert (code, out) == (2, "")
    assert words in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("freeze", "99", "--reason", "x"), "There is no wallet 99."),
        (("freeze", "3", "--until", "2001-01-01T00:00:00", "--reason", "x"), "has passed: name an end that is ahead"),
        (("switches", "set", "--user", "99", "--reason", "x"), "There is no user 99."),
        (("switches", "set", "--asset", "SILVER", "--reason", "x"), "There is no asset SILVER."),
        (("switches", "lift", "99", "--reason", "x"), "There is no switch 99."),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(app: Flask, arguments: tuple[str, ...], sentence: str) -> None:
    code, out, err = run(app, *arguments)
    assert (code, out) == (1, "")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_file_freezes_and_closes_and_has_holds(app: Flask, tmp_path: Path, dry_run: bool) -> None:
    rows = [
        "type,walletId,amount,expiresIn,side,until,reason,referenceId",
        "freeze,3,,,debits,2999-01-01T00:00:00Z,Case 17,row-1",
        "spend,3,1,,,,,row-2",
        "hold,5,1,60,,,,row-3",
        "unfreeze,3,,,,,Over,row-4",
        "spend,3,1,,,,,row-5",
        "close,6,,,,,Asked for,row-6",
        "topup,6,1,,,,,row-7",
        "freeze,3,,,neither,,Case 18,row-8",
    ]
    file = tmp_path / "rows.csv"
    file.write_text("".join(f"{row}\n" for row in rows))
    code, _, err = run(app, "import", str(file), *(["--dry-run"] if dry_run else []))
    assert (code, err) == (1, "")
    written = file.with_name(f"rows.csv.{'dry-run' if dry_run else 'result'}.csv")
    with written.open(newline="") as lines:
        told = [(line["status"], line["code"]) for line in csv.DictReader(lines, strict=True)]
    assert told == [
        ("done", ""),
        ("refused", "wallet_not_active"),
        ("done", ""),
        ("done", ""),
        ("done", ""),
        ("done", ""),
        ("refused", "wallet_closed"),
        ("invalid", "validation_error"),
    ]
    assert service.get_wallet(DOE_DIAMOND).status == ("ACTIVE" if dry_run else "CLOSED")
