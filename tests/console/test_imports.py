"""Files that were imported at the command line, on the home page of who looks after that, until one was seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from tests.console.conftest import Browser, Sql, audited, text_of
from tests.test_import import run, write
from wallet_app import service
from wallet_app.imports import running

GOOD = "topup,3,5,ref-1,"


def states(sql: Sql) -> list[tuple[object, ...]]:
    return sql("SELECT file_name, state, rows, accepted, problem IS NULL FROM file_imports ORDER BY id")


def never(*_: object, **__: object) -> None:
    raise OperationalError("", {}, Exception())


def test_an_import_that_left_rows_undone_waits_until_somebody_has_seen_it(
    app: Flask, browsers: Callable[..., Browser], sql: Sql, tmp_path: Path
) -> None:
    finance, support = browsers().sign_in("finance"), browsers().sign_in("support")
    assert run(app, write(tmp_path, GOOD), "--dry-run")[0] == 0
    assert states(sql) == [], "of a dry run nobody is told"
    assert run(app, write(tmp_path, GOOD, name="good.csv"))[0] == 0
    assert run(app, write(tmp_path, GOOD, "spend,3,100000,ref-2,", name="bad.csv"))[0] == 1
    assert run(app, write(tmp_path, GOOD, name="odd.csv", header="colour"))[0] == 2
    assert states(sql) == [
        ("good.csv", "completed", 1, 1, True),
        ("bad.csv", "completed", 2, 1, True),
        ("odd.csv", "failed", 0, 0, False),
    ]
    home = text_of(finance.get("/console"))
    assert "The import of bad.csv left rows undone" in home
    assert "1 of its 2 rows was not accepted." in home
    assert "The import of odd.csv went wrong" in home
    assert "good.csv" not in home
    assert "bad.csv" not in text_of(support.get("/console"))
    assert support.post("/console/imports/2/seen").status_code == 403
    for _ in range(2):
        assert finance.post("/console/imports/2/seen").location == "/console/imports?note=import-seen"
    assert [act[1:] for act in audited(sql) if act[1] == "import:see"] == [("import:see", "done")]
    assert "bad.csv" not in text_of(finance.get("/console"))
    listed = text_of(finance.get("/console/imports"))
    assert listed.index("odd.csv") < listed.index("bad.csv") < listed.index("good.csv")
    assert listed.count("Mark as seen") == 1
    assert finance.post("/console/imports/9/seen").status_code == 404


def test_who_imports_the_same_file_again_deals_with_it(
    app: Flask, browsers: Callable[..., Browser], sql: Sql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finance = browsers().sign_in("finance")
    file = write(tmp_path, GOOD)
    with monkeypatch.context() as broken:
        broken.setattr(running, "run", lambda *_, **__: (_ for _ in ()).throw(running.CutOffError("It was cut off.")))
        assert run(app, file)[0] == 2
    assert "It was cut off." in text_of(finance.get("/console"))
    # One that was killed says nothing more: after a while that is told.
    with monkeypatch.context() as killed:
        killed.setattr(service, "end_import", never)
        assert run(app, file)[0] == 0
    assert "rows.csv" not in text_of(finance.get("/console")), "it goes on, as far as anybody knows"
    sql("UPDATE file_imports SET beat_at = beat_at - interval '16 minutes'")
    assert "It broke off." in text_of(finance.get("/console"))
    assert run(app, file)[0] == 0
    assert [state[1] for state in states(sql)] == ["failed", "running", "completed"]
    assert "rows.csv" not in text_of(finance.get("/console"))
