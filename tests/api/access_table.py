"""The table of who may use which route. `python -m tests.api.access_table > docs/access.md` writes it anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from flask import Flask
from sqlalchemy.engine import make_url

from tests.api.conftest import ROOT
from tests.conftest import settings_for
from wallet_app import access, create_app
from wallet_app.service import SCOPES

FILE = ROOT / "docs" / "access.md"
HEAD = """# Access

Which scope each route needs. Written by `python -m tests.api.access_table` from the declarations that guard the
routes, and held against the running service by `tests/api/test_access.py`: every route with every scope, and without.

`public` needs no key. `each item's own`: any key may ask, and each item needs the scope of its own route.
`each leg's own`: the key needs the scopes of all the legs, each that of its type's route.
`guards itself`: the console's screens, which know operators by their sessions; `tests/console/access.txt` has who may
open which.

| method | path | scope |
|---|---|---|
"""
SCOPES_HEAD = """
| scope | for |
|---|---|
"""


class Row(NamedTuple):
    """A line of the table."""

    method: str
    path: str
    scope: str


def rows_of(app: Flask) -> Iterator[Row]:
    """Yield what the application's routes declare."""
    declared = access.declared()
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            yield Row(method, path, declared[rule.endpoint])


def written(app: Flask) -> str:
    """Return the file as it should be."""
    lines = [
        f"| {row.method} | `{row.path}` | {row.scope} |" for row in sorted(rows_of(app), key=lambda row: row[1::-1])
    ]
    scopes = [f"| `{name}` | {says} |" for name, says in SCOPES.items()]
    return HEAD + "\n".join(lines) + "\n" + SCOPES_HEAD + "\n".join(scopes) + "\n"


def read(file: Path = FILE) -> list[Row]:
    """Return what the file says."""
    found = re.findall(r"^\| ([A-Z]+) \| `([^`]+)` \| (.+) \|$", file.read_text(), re.MULTILINE)
    return [Row(*row) for row in found]


if __name__ == "__main__":
    print(written(create_app(settings_for(make_url("postgresql://nobody@localhost/nothing")))), end="")
