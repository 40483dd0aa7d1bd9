"""`flask wallet import`: what comes of every row, how a run goes on, and that nothing is ever posted twice."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.engine import URL

from tests.conftest import conninfo, run_sql
from tests.every_case import every
from wallet_app import service
from wallet_app.db import READS, close_connections, db
from wallet_app.imports import running

JOHN, JOHN_DIAMOND, DOE = 3, 4, 5
HEADER = "type,walletId,amount,referenceId,note"
OURS = ("row", "status", "code", "message", "transactionId", "balanceAfter", "version")
PACKAGE = Path(__file__).resolve().parent.parent


def run(app: Flask, *arguments: object, stdin: str | None = None) -> tuple[int, str, str]:
    result = app.test_cli_runner().invoke(args=["wallet", "import", *map(str, arguments)], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def write(folder: Path, *lines: str, name: str = "rows.csv", header: str | None = HEADER) -> Path:
    file = folder / name
    file.write_text("".join(f"{line}\n" for line in ([header] if header else []) + list(lines)), newline="")
    return file


def write_rows(file: Path, rows: list[dict[str, str]]) -> Path:
    """Write the rows in the format that the file's name tells."""
    if file.suffix == ".csv":
        with file.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, HEADER.split(","))
            writer.writeheader()
            writer.writerows(rows)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def results(file: Path, kind: str = "result") -> list[dict[str, Any]]:
    """Return the lines of the input's result file."""
    written = file.with_name(f"{file.name}.{kind}{file.suffix}")
    if file.suffix == ".ndjson":
        return [json.loads(line) for line in written.read_text().splitlines()]
    with written.open(newline="") as lines:
        return list(csv.DictReader(lines, strict=True))


def statuses(file: Path, kind: str = "result") -> list[str]:
    return [line["status"] for line in results(file, kind)]


def messages(file: Path) -> list[str]:
    return [line["message"] for line in results(file)]


def balance(wallet_id: int) -> int:
    return service.get_wallet(wallet_id).balance


def count(database: URL, table: str) -> int:
    with psycopg.connect(conninfo(database)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]


# --- what comes of the rows ---


def test_every_row_is_decided_on_its_own_and_has_a_line(app: Flask, tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "topup,3,100,abc-1,Weekly prize",
        "spend,3,700,abc-2,",
        "bonus,4,5,abc-3,",
        "topup,3,100,abc-1,",
        "topup,3,101,abc-1,",
        "spend,99,1,abc-4,",
        "spend,3,0,abc-5,",
        "burn,3,1,abc-6,",
        "spend,3,600,abc-7,",
    )

    code, out, err = run(app, file)

    assert (code, err) == (1, "")
    assert [
        (line["row"], line["status"], line["code"], line["balanceAfter"], line["version"]) for line in results(file)
    ] == [
        ("2", "done", "", "600", "2"),
        ("3", "refused", "insufficient_balance", "", ""),
        ("4", "done", "", "15", "2"),
        ("5", "replayed", "", "600", "2"),
        ("6", "invalid", "reference_mismatch", "", ""),
        ("7", "refused", "wallet_not_found", "", ""),
        ("8", "invalid", "validation_error", "", ""),
        ("9", "invalid", "validation_error", "", ""),
        ("10", "done", "", "0", "3"),
    ]
    first = results(file)[0]
    assert first["transactionId"] == results(file)[3]["transactionId"]
    assert [first[name] for name in HEADER.split(",")] == ["topup", "3", "100", "abc-1", "Weekly prize"]
    assert results(file)[1]["message"] == "Wallet 3 has 600 GOLD, 700 needed."
    assert "insufficient_balance" in out
    assert f"Results: {file}.result.csv" in out
    (made,) = [entry for entry in service.list_entries(JOHN, before_seq=3, limit=1) if entry.entry.seq == 2]
    assert (made.actor, made.note) == ("import rows.csv", "Weekly prize")


def test_a_row_has_its_metadata_as_json_in_a_cell(app: Flask, tmp_path: Path) -> None:
    file = write(
        tmp_path,
        'bonus,3,1,abc-1,"{""quest"": 7}",2026-01-31T12:00:00Z',
        "bonus,3,1,abc-2,,",
        "bonus,3,1,abc-3,quest 7,",
        'bonus,3,1,abc-4,"{""quest"": 1, ""quest"": 2}",',
        'bonus,3,1,abc-5,"{""quest"": []}",yesterday',
        header="type,walletId,amount,referenceId,metadata,occurredAt",
    )
    assert run(app, file)[0] == 1
    assert statuses(file) == ["done", "done", "invalid", "invalid", "invalid"]
    assert messages(file)[2].startswith("The metadata is not JSON")
    assert messages(file)[3] == "The metadata is not JSON: a key stands twice in one object."
    assert messages(file)[4] == "metadata: must be flat: its values are texts, numbers, true, false or null."
    last, first = service.list_entries(JOHN, before_seq=4, limit=2)[:2]
    assert (first.metadata, first.occurred_at.isoformat()) == ({"quest": 7}, "2026-01-31T12:00:00+00:00")
    assert (last.metadata, last.occurred_at) == (None, last.entry.created_at)


def test_ndjson_is_read_as_strictly_as_a_body(app: Flask, tmp_path: Path) -> None:
    good = '{"type": "topup", "walletId": 3, "amount": "7", "referenceId": "abc-1", "note": "\\ud83c\\udf81"}'
    file = write(
        tmp_path,
        "\ufeff" + good,
        "",
        '{"type": "topup", "walletId": 3, "amount": 7, "amount": 8, "referenceId": "abc-2"}',
        '{"type": "topup", "walletId": 3, "amount": NaN, "referenceId": "abc-3"}',
        "not json",
        '{"type": "topup", "walletId": 3, "amount": 7, "referenceId": "\\ud800abc"}',
        "[]",
        name="rows.ndjson",
        header=None,
    )

    assert run(app, file)[0] == 1

    lines = results(file)
    assert [(line["row"], line["status"], line["code"]) for line in lines] == [
        (1, "done", None),
        (3, "invalid", "unreadable_row"),
        (4, "invalid", "unreadable_row"),
        (5, "invalid", "unreadable_row"),
        (6, "invalid", "validation_error"),
        (7, "invalid", "validation_error"),
    ]
    assert lines[0]["record"] == json.loads(good)
    assert (lines[0]["balanceAfter"], lines[0]["version"]) == (507, 2)
    assert lines[3]["line"] == "not json"
    assert run(app, file) == run(app, file), "the lines are understood again"
    assert len(results(file)) == 6


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
@given(data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_dry_run_tells_what_the_run_then_does(app: Flask, tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    fields = {
        "type": st.sampled_from(["topup", "bonus", "spend", "spend", "burn", ""]),
        "walletId": st.sampled_from(["3", "3", "4", "5", "1", "99", "x", "9" * 30]),
        "amount": st.sampled_from(["1", "150", "400", str(2**53 - 1), "0", "-1", "", "1.5"]),
        "referenceId": st.sampled_from([f"ref-{n}" for n in range(12)] + ["sys:x", "a"]),
        "note": st.sampled_from(["", "a note", "=1+1", "x" * 501]),
    }
    rows = data.draw(st.lists(st.fixed_dictionaries(fields), max_size=25))
    file = write_rows(tmp_path / f"rows.{suffix}", rows)

    told = run(app, file, "--dry-run")[0]
    assert run(app, file, "--restart")[0] == told

    def without_ids(kind: str) -> list[dict[str, Any]]:
        return [{name: line[name] for name in line if name != "transactionId"} for line in results(file, kind)]

    assert without_ids("result") == without_ids("dry-run")


def test_in_a_dry_run_what_row_5_takes_is_missing_in_row_1900(app: Flask, database: URL, tmp_path: Path) -> None:
    rows = [f"topup,{DOE},1,ref-{n}," for n in range(2_000)]
    rows[3] = f"spend,{JOHN},450,row-5,"
    rows[1_898] = f"spend,{JOHN},51,row-1900,"
    rows[1_899] = f"spend,{JOHN},450,row-5,"
    file = write(tmp_path, *rows)

    code, out, _ = run(app, file, "--dry-run")

    assert code == 1
    assert "Nothing was posted." in out
    lines = results(file, "dry-run")
    assert (lines[1_898]["row"], lines[1_898]["message"]) == ("1900", "Wallet 3 has 50 GOLD, 51 needed.")
    assert (lines[1_899]["status"], lines[1_899]["balanceAfter"]) == ("replayed", "50")
    assert Counter(statuses(file, "dry-run")) == {"done": 1_998, "refused": 1, "replayed": 1}
    assert (count(database, "transactions"), balance(JOHN), balance(DOE)) == (3, 500, 300)


def test_another_clients_references_are_not_ours(app: Flask, tmp_path: Path) -> None:
    file = write(tmp_path, "topup,3,100,abc-1,")
    assert run(app, file, "--client", "shop")[0] == 0
    assert "--restart to begin anew" in run(app, file, "--client", "other")[2]

    assert run(app, file, "--client", "other", "--restart")[0] == 1

    assert results(file)[0]["code"] == "reference_mismatch"
    assert balance(JOHN) == 600


def test_a_wallet_that_others_hold_makes_its_own_rows_busy_and_no_others(
    app: Flask, database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "BUSY_ATTEMPTS_MAX", 1)
    run_sql(database, f"ALTER DATABASE {database.database} SET lock_timeout = '200ms'")
    close_connections()
    file = write(tmp_path, "topup,3,1,abc-1,", "topup,5,1,abc-2,", "topup,3,1,abc-3,", "topup,4,1,abc-4,")
    with psycopg.connect(conninfo(database)) as holder:
        holder.execute("SELECT FROM wallet_balances WHERE wallet_id = 3 FOR UPDATE")
        assert run(app, file)[0] == 1
    assert [(line["status"], line["code"]) for line in results(file)] == [
        ("busy", "wallet_busy"),
        ("done", ""),
        ("busy", "wallet_busy"),
        ("done", ""),
    ]
    assert run(app, file, "--restart")[0] == 0
    assert statuses(file) == ["done", "replayed", "done", "replayed"]


# --- files as people make them ---


def test_columns_may_stand_in_any_order_between_semicolons_and_after_a_bom(app: Flask, tmp_path: Path) -> None:
    file = write(tmp_path, '"ref;1";3; 5 ;topup', header="\ufeffreferenceId;walletId; amount ;type")
    assert run(app, file)[0] == 0
    assert file.with_name("rows.csv.result.csv").read_text().splitlines()[0] == ";".join(
        [*OURS, "referenceId", "walletId", "amount", "type"]
    )
    assert service.list_entries(JOHN, before_seq=None, limit=1)[0].reference == "ref;1"


def test_a_quoted_line_break_belongs_to_its_row_and_rows_are_numbered_as_a_spreadsheet_does(
    app: Flask, tmp_path: Path
) -> None:
    file = write(tmp_path, 'topup,3,1,abc-1,"two\nlines"', "", 'topup,3,1,abc-2,"a ""quoted"" word, and more"')
    assert run(app, file)[0] == 1
    lines = results(file)
    assert [(line["row"], line["status"]) for line in lines] == [("2", "invalid"), ("4", "done")]
    assert [line["note"] for line in lines] == ["two\nlines", 'a "quoted" word, and more']
    before = file.with_name("rows.csv.result.csv").read_bytes()
    assert run(app, file)[0] == 1
    assert file.with_name("rows.csv.result.csv").read_bytes() == before


def test_a_row_with_too_few_or_too_many_cells_is_that_rows_error(app: Flask, tmp_path: Path) -> None:
    file = write(tmp_path, "topup,3,1", "topup,3,1,abc-1,", "topup,3,1,abc-2,a,b", "topup,3,1" + "," * 37)
    assert run(app, file)[0] == 1
    assert statuses(file) == ["invalid", "done", "invalid", "invalid"]
    assert [line[:18] for line in messages(file)] == [
        "The row has 3 cell",
        "",
        "The row has 6 cell",
        "The row has 40 cel",
    ]


def test_bytes_that_are_no_utf8_are_their_rows_error(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(
        f"{HEADER}\n".encode()
        + "topup,3,1,abc-1,Grüße\n".encode("latin-1")
        + b"topup,3,1,abc-2,\x00\ntopup,3,1,\xff\xfe\xfd,x\n"
        + "topup,3,1,Grüße,東京\n".encode()
    )
    assert run(app, file)[0] == 1
    assert messages(file) == [
        "The row is not UTF-8.",
        "note: must not contain control characters or lone surrogates.",
        "The row is not UTF-8.",
        "",
    ]
    assert [line["note"] for line in results(file)] == ["Gr\\udcfc\\udcdfe", "\x00", "x", "東京"]


def test_an_open_quote_is_told_with_the_lines_that_it_swallowed(app: Flask, tmp_path: Path) -> None:
    file = write(tmp_path, "topup,3,1,abc-1,", 'topup,3,1,abc-2,"open', "topup,3,1,abc-3,", "topup,3,1,abc-4,")
    assert run(app, file)[0] == 1
    assert statuses(file) == ["done", "invalid"]
    assert messages(file)[1].endswith("not closed as it should be; lines 3 to 5 were read as one row.")
    file = write(
        tmp_path, 'topup,3,1,abc-2,"open', *[f"topup,3,1,ref-{n},{'x' * 400}" for n in range(400)], name="2.csv"
    )
    assert run(app, file)[0] == 1
    assert statuses(file)[0] == "invalid"
    assert Counter(statuses(file))["done"] > 50, "the csv module gives up such a field at 128 KiB"


def test_a_line_that_is_too_long_is_refused_and_never_cut(app: Flask, tmp_path: Path) -> None:
    header = "note,type,amount,referenceId,walletId"
    file = write(tmp_path, " " * 65_518 + ",topup,1,abc-1,333", ",topup,1,abc-2,3", header=header)
    assert run(app, file)[0] == 1
    assert messages(file) == ["The line is longer than 65536 bytes.", ""]
    file = write(tmp_path, '{"a": "' + "x" * 70_000 + '"}', "{}", name="rows.ndjson", header=None)
    assert run(app, file)[0] == 1
    assert [line["row"] for line in results(file)] == [1, 2]


@every(
    ("content", "sentence"),
    [
        (
            b"",
            "The file is empty: its first line must name columns: type, walletId, amount, referenceId, expiresAt, "
            "from, to, rate, expiresIn, holdId, final, reason, onShortfall, onExpired, graceDays, transactionId, "
            "lotId, side, until, note, metadata, occurredAt, ifVersion.",
        ),
        (b"type,walletId,amount\n", "The first line lacks the column referenceId."),
        (b"type,walletId\n", "The first line lacks the columns amount, referenceId."),
        (b"type,amount,referenceId\n", "The first line lacks the column walletId."),
        (b"type,from,amount,referenceId\n", "The first line lacks the column walletId."),
        (b"walletId,walletId,type,amount,referenceId\n", "The first line names a column twice."),
        (b"topup,3,1,abc-1,x\n", "columns that are not known: 'topup', '3', '1', 'abc-1', 'x'."),
        (",".join(f"c{n}" for n in range(40)).encode(), "not known: 'c0', 'c1', 'c2', 'c3', 'c4', ..."),
        (HEADER.encode("utf-16"), "The file is UTF-16: save it as UTF-8."),
        (b"\xe4,b", "The first line is not UTF-8: save the file as CSV in UTF-8."),
        (b'"type,walletId', "The first line is not CSV"),
        (b"x" * 70_000, "is longer than 65536 bytes."),
    ],
)
def test_a_file_that_is_no_import_is_refused_with_a_sentence(
    app: Flask, tmp_path: Path, content: bytes, sentence: str
) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(content)
    code, out, err = run(app, file)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(("name", "header"), [("rows.csv", HEADER), ("rows.ndjson", None)])
def test_a_file_without_rows_is_done_at_once(app: Flask, tmp_path: Path, name: str, header: str | None) -> None:
    file = write(tmp_path, name=name, header=header)
    assert run(app, file)[0] == 0
    assert results(file) == []
    assert run(app, file)[0] == 0


def test_no_cell_of_the_results_is_a_formula(app: Flask, tmp_path: Path) -> None:
    notes = ["=1+1", "+cmd", "-2+3", "@sum", "\t=1", "-5", "+5.0", "plain", "\uff1d1"]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(["topup", "3", "1", f"ref-{at}", note] for at, note in enumerate(notes))
    file = write(tmp_path, *text.getvalue().splitlines(), '=cmd|,3,-1,=A1," "')
    run(app, file)
    lines = results(file)
    assert [line["note"] for line in lines[:-1]] == [
        *("'=1+1", "'+cmd", "'-2+3", "'@sum", "'\t=1", "-5", "+5.0", "plain", "'\uff1d1")
    ]
    assert [lines[-1][name] for name in ("type", "amount", "referenceId")] == ["'=cmd|", "-1", "'=A1"]


def test_what_the_command_cannot_use_is_said_in_a_sentence(app: Flask, tmp_path: Path) -> None:
    assert "No such file or directory" in run(app, tmp_path / "none.csv")[2]
    assert "--format csv or --format ndjson" in run(app, write(tmp_path, name="rows.txt"))[2]
    assert "Standard input needs a --result" in run(app, "-", "--format", "csv")[2]
    file = write(tmp_path, "topup,3,1,abc-1,")
    assert "cannot be written: No such file or directory" in run(app, file, "--result", tmp_path / "no" / "x.csv")[2]
    run_sql(db.engine.url, "ALTER TABLE ledger_entries RENAME TO gone")
    code, _, err = run(app, file)
    run_sql(db.engine.url, "ALTER TABLE gone RENAME TO ledger_entries")
    assert (code, err) == (2, "The database has no tables of this version: run `flask db upgrade` first.\n")
    assert not file.with_name("rows.csv.result.csv").exists()


def test_standard_input_can_be_imported_but_cannot_go_on(app: Flask, tmp_path: Path) -> None:
    result = tmp_path / "out.csv"
    text = f"{HEADER}\ntopup,3,1,abc-1,\n"
    assert run(app, "-", "--format", "csv", "--result", result, stdin=text)[0] == 0
    code, _, err = run(app, "-", "--format", "csv", "--result", result, stdin=text)
    assert (code, "standard input cannot go on: name another --result" in err) == (2, True)
    assert run(app, "-", "--format", "csv", "--result", result, "--restart", stdin=text)[0] == 0
    assert "replayed" in result.read_text()
    assert balance(JOHN) == 501


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_pipe_with_a_name_is_refused_with_a_sentence(app: Flask, tmp_path: Path, options: list[str]) -> None:
    fifo = tmp_path / "rows.csv"
    os.mkfifo(fifo)
    end = os.open(fifo, os.O_RDWR)  # Both ends: nobody waits for the other one.
    os.write(end, f"{HEADER}\ntopup,3,1,abc-1,\n".encode())
    try:
        code, out, err = run(app, fifo, *options)
    finally:
        os.close(end)
    assert (code, out) == (2, "")
    assert err == "This is a stream and no file: give it as - on standard input, with a --result.\n"
    assert list(tmp_path.iterdir()) == [fifo]
    assert balance(JOHN) == 500


# --- how a run goes on ---


def test_the_same_file_again_has_its_results_already_and_anew_it_is_all_replayed(
    app: Flask, database: URL, tmp_path: Path
) -> None:
    file = write(tmp_path, *[f"topup,{JOHN},1,ref-{n}," for n in range(1_500)])
    assert run(app, file)[0] == 0
    before = results(file)

    code, out, _ = run(app, file)
    assert code == 0
    assert "Rows that had a result from an earlier run: 1,500." in out
    assert results(file) == before

    assert run(app, file, "--restart")[0] == 0
    assert set(statuses(file)) == {"replayed"}
    assert [line | {"status": "done"} for line in results(file)] == before
    assert (balance(JOHN), count(database, "transactions")) == (2_000, 1_503)


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_a_torn_last_line_is_made_again(app: Flask, tmp_path: Path, suffix: str) -> None:
    notes = ["plain", 'a "quote"', "comma, and ; more", "东京", "last"]
    rows = [
        {"type": "bonus", "walletId": "3", "amount": "1", "referenceId": f"ref-{n}", "note": note}
        for n, note in enumerate(notes)
    ]
    rows.insert(3, {"type": "bonus", "walletId": "3", "amount": "1", "referenceId": "ref-x", "note": 'two "\n lines'})
    file = write_rows(tmp_path / f"rows.{suffix}", rows)
    run(app, file)
    complete = results(file)
    written = file.with_name(f"{file.name}.result.{suffix}")
    whole = written.read_bytes()
    for size in range(0, len(whole), 7):
        written.write_bytes(whole[:size])
        run(app, file)
        again = results(file)
        redone = [line["status"] == "replayed" for line in again if line["status"] != "invalid"]
        assert redone == sorted(redone), f"cut at {size}: what was complete stays"
        assert [line | {"status": ""} for line in again] == [line | {"status": ""} for line in complete]
    for tail in (b"\x00" * 5_000, whole.splitlines(keepends=True)[-1]):
        written.write_bytes(whole + tail)
        run(app, file)
        assert written.read_bytes() == whole, "what makes no sense after the last row is cut off"


def test_results_of_another_input_are_left_alone(app: Flask, tmp_path: Path) -> None:
    file = write(tmp_path, "topup,3,1,abc-1,")
    assert run(app, file)[0] == 0
    before = file.with_name("rows.csv.result.csv").read_bytes()
    write(tmp_path, "topup,3,1,abc-1,", "topup,3,1,abc-2,")

    code, _, err = run(app, file)
    assert (code, "another input, of this one before it was changed" in err) == (2, True)
    assert file.with_name("rows.csv.result.csv").read_bytes() == before

    assert run(app, file, "--restart")[0] == 0
    assert statuses(file) == ["replayed", "done"]


def test_a_file_that_is_no_result_is_never_overwritten(app: Flask, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("my work of a year\n")
    file = write(tmp_path, "topup,3,1,abc-1,")
    for more in ([], ["--restart"], ["--dry-run"]):
        code, _, err = run(app, file, "--result", mine, *more)
        assert (code, "holds no import's results" in err) == (2, True)
    assert run(app, file, "--result", file)[0] == 2
    assert mine.read_text() == "my work of a year\n"
    assert balance(JOHN) == 500


def test_a_dry_runs_results_are_not_taken_for_the_runs(app: Flask, tmp_path: Path) -> None:
    file, result = write(tmp_path, "topup,3,1,abc-1,"), tmp_path / "out.csv"
    assert run(app, file, "--result", result, "--dry-run")[0] == 0
    assert run(app, file, "--result", result)[0] == 2
    assert run(app, file, "--result", result, "--restart")[0] == 0
    assert balance(JOHN) == 501


def test_two_imports_of_a_file_at_once_are_one_and_a_sentence(app: Flask, tmp_path: Path) -> None:
    file = write(tmp_path, "topup,3,1,abc-1,")
    with file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, _, err = run(app, file)
    assert (code, err) == (2, f"Another import of {file} is running: wait for its end.\n")
    assert run(app, file)[0] == 0
    other = write(tmp_path, "topup,3,1,abc-2,", name="other.csv")
    result = file.with_name("rows.csv.result.csv")
    with result.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert run(app, other, "--result", result)[2] == f"Another import is writing {result}: wait for its end.\n"


def test_it_stops_at_the_first_row_that_is_not_accepted_and_goes_on_there(
    app: Flask, database: URL, tmp_path: Path
) -> None:
    rows = [f"topup,{DOE},1,ref-{n}," for n in range(1_200)]
    rows[5] = f"spend,{JOHN},501,too-much,"
    rows[9] = "topup,x,1,wrong,"
    file = write(tmp_path, *rows)

    assert run(app, file, "--stop-on-error")[0] == 1
    assert statuses(file) == ["done"] * 5 + ["refused"]
    assert balance(DOE) == 305, "what follows is not posted"

    assert run(app, file, "--stop-on-error")[0] == 1
    assert len(results(file)) == 6
    assert run(app, write(tmp_path, "topup,3,1,mended,", name="mend.csv"))[0] == 0
    assert run(app, file, "--stop-on-error")[0] == 1
    assert statuses(file)[5:] == ["done"] * 4 + ["invalid"]
    assert run(app, file, "--dry-run", "--stop-on-error")[0] == 1
    assert statuses(file, "dry-run") == ["replayed"] * 9 + ["invalid"]
    assert run(app, file)[0] == 1
    assert Counter(statuses(file)) == {"done": 1_199, "invalid": 1}
    assert count(database, "transactions") == 3 + 1_199 + 1


def test_ctrl_c_ends_after_the_rows_on_their_way_and_the_next_run_goes_on(
    app: Flask, database: URL, tmp_path: Path
) -> None:
    file = write(tmp_path, *[f"topup,{JOHN},1,ref-{n}," for n in range(2_500)])
    handler = signal.getsignal(signal.SIGINT)
    with psycopg.connect(conninfo(database)) as holder:
        holder.execute("SELECT FROM wallet_balances WHERE wallet_id = 3 FOR UPDATE")

        def interrupt() -> None:
            wait_for_waiting(database)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            holder.rollback()

        thread = threading.Thread(target=interrupt)
        thread.start()
        code, _, err = run(app, file)
        thread.join()

    assert code == 2
    assert err.endswith("Stopped. The same command goes on after the last row that has a result.\n")
    assert statuses(file) == ["done"] * 1_000
    assert signal.getsignal(signal.SIGINT) is handler
    assert run(app, file)[0] == 0
    assert statuses(file) == ["done"] * 2_500
    assert balance(JOHN) == 3_000


def wait_for_waiting(database: URL) -> None:
    """Return once a session of the database waits for a lock."""
    with psycopg.connect(conninfo(database), autocommit=True) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while connection.execute(query).fetchall()[0][0] == 0:
            time.sleep(0.01)


def test_a_database_that_goes_away_is_waited_for(
    app: Flask, server: URL, database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes while the import waits for a wallet: a COMMIT in doubt would be repeated without a word."""
    file = write(tmp_path, *[f"topup,{JOHN},1,ref-{n}," for n in range(2_000)])
    name = database.database
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
    is_away, bear = threading.Event(), running._Patience._bear_absence

    def bear_and_tell(patience: Any) -> None:
        bear(patience)
        is_away.set()

    monkeypatch.setattr(running._Patience, "_bear_absence", bear_and_tell)

    def take_away() -> None:
        wait_for_waiting(database)
        run_sql(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        with psycopg.connect(conninfo(server), autocommit=True) as connection:
            while not connection.execute(terminate, [name]).fetchall():
                time.sleep(0.01)
        assert is_away.wait(60)
        other.rollback()
        run_sql(server, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    other = psycopg.connect(conninfo(database))
    other.execute("SELECT FROM wallet_balances WHERE wallet_id = %s FOR UPDATE", (JOHN,))
    thread = threading.Thread(target=take_away)
    thread.start()
    code, _, err = run(app, file)
    thread.join()
    other.close()

    assert code == 0
    assert "The database does not answer: waiting for it, for 10 minutes at most.\nThe database answers again." in err
    assert set(statuses(file)) <= {"done", "replayed"}
    assert (balance(JOHN), count(database, "transactions")) == (2_500, 2_003)


@pytest.mark.slow
def test_a_run_that_is_killed_five_times_has_a_line_per_row_and_doubles_nothing(
    app: Flask, database: URL, tmp_path: Path
) -> None:
    dice = random.Random(7)
    kinds = {"topup": 1, "bonus": 1, "spend": -1}
    rows = [
        (dice.choice(list(kinds)), dice.choice([3, 4, 5, 6]), dice.randint(1, 40), f"ref-{n}") for n in range(25_000)
    ]
    file = write(
        tmp_path, *[f"{kind},{wallet_id},{amount},{reference}," for kind, wallet_id, amount, reference in rows]
    )
    result = file.with_name("rows.csv.result.csv")
    before = {wallet_id: balance(wallet_id) for wallet_id in (3, 4, 5, 6)}
    kills = 0
    while kills < 5:
        size = result.stat().st_size if result.exists() else 0
        process = start(database, file)
        while process.poll() is None and (not result.exists() or result.stat().st_size <= size):
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.3))
        if process.poll() is None:
            process.kill()
            kills += 1
        assert process.wait() in {-signal.SIGKILL, 1}, "it did not come to the end before it was killed five times"
    assert start(database, file).wait() in {0, 1}

    lines = results(file)
    assert [line["row"] for line in lines] == [str(n) for n in range(2, len(rows) + 2)]
    accepted = [line["status"] in {"done", "replayed"} for line in lines]
    assert accepted.count(True) > 10_000
    for wallet_id, start_balance in before.items():
        moved = sum(
            kinds[kind] * amount
            for (kind, of, amount, _), is_accepted in zip(rows, accepted, strict=True)
            if is_accepted and of == wallet_id
        )
        assert balance(wallet_id) == start_balance + moved
    assert count(database, "transactions") == 3 + accepted.count(True)


def start(database: URL, file: Path) -> subprocess.Popen[bytes]:
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "wsgi", "wallet", "import", str(file)],
        cwd=PACKAGE,
        env={**os.environ, "DATABASE_URL": conninfo(database)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_file_may_hold_captures_and_reversals(app: Flask, tmp_path: Path) -> None:
    origin = service.Origin(client="shop", actor="shop")
    spent = service.execute(service.Spend(wallet_id=JOHN, amount=100, reference="spent", origin=origin)).transaction
    hold = service.execute(
        service.PlaceHold(wallet_id=JOHN, amount=50, expires_in=600, reference="held", origin=origin)
    ).transaction
    header = "type,transactionId,holdId,amount,reason,onShortfall,referenceId"
    rows = [
        f"reversal,{spent.transaction_id},,30,Broken,,ref-1",
        f"reversal,{spent.transaction_id},,80,Broken,,ref-2",
        f"reversal,{hold.transaction_id},,,Broken,debt,ref-3",
        f"reversal,{spent.transaction_id},,,,,ref-4",
        f"capture,,{hold.transaction_id},20,,,ref-5",
        f"reversal,{spent.transaction_id},,,Broken,debt,ref-6",
    ]
    file = write(tmp_path, *rows, header=header)
    run(app, file, "--dry-run")
    asked: list[str] = []
    event.listen(db.engines[READS], "before_cursor_execute", lambda *told: asked.append(told[2]))
    assert run(app, file)[0] == 1
    # All that the rows name is looked up together: once for the holds, once for the transactions.
    assert len([statement for statement in asked if "(hold_ids)" in statement or "(transaction_ids)" in statement]) == 2
    assert statuses(file, "dry-run") == statuses(file) == ["done", "refused", "refused", "invalid", "done", "done"]
    assert balance(JOHN) == 450
    assert [line["balanceAfter"] for line in results(file)] == ["380", "", "", "", "380", "450"]
    told = [(line["transactionId"], line["asked.transactionId"]) for line in results(file)]
    assert [asked for _, asked in told] == [row.split(",")[1] for row in rows]
    assert len({made for made, _ in told if made} - {asked for _, asked in told}) == 3
