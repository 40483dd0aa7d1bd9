"""Money has one writer: which words of the source may stand where, and why."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from wallet_app import service

PACKAGE = Path(__file__).resolve().parents[2] / "wallet_app"

LEDGER = (
    r"(ledger_entries|transactions|transaction_details|wallet_balances|system_balances|reversed_entries|lots"
    r"|lot_movements)"
)
LEDGER_MODELS = {"LedgerEntry", "Transaction", "TransactionDetail", "WalletBalance", "SystemBalance"}


def test_only_locks_py_locks_rows() -> None:
    reason = "A row lock outside of locks.py is taken in no known order: it can deadlock, and waits while others wait."
    assert calls_of("with_for_update") == {"service/locks.py"}, reason
    assert texts_with(r"\bFOR\s+(NO\s+KEY\s+)?(UPDATE|SHARE)\b|\bFOR\s+KEY\s+SHARE\b|\bLOCK\s+TABLE\b") == set(), reason


def test_only_locks_py_takes_advisory_locks_within_a_posting() -> None:
    reason = "An advisory lock is a lock too: within a posting only locks.py takes one, after the wallets."
    allowed = {
        "service/locks.py",
        "service/seeding.py",  # Two that seed at once; a unit of work that posts nothing.
        "service/verification/marks.py",  # Two verifications at once; it does not wait, and posts nothing.
    }
    called = calls_of("pg_advisory_xact_lock") | calls_of("pg_try_advisory_xact_lock")
    assert called | texts_with("pg_(try_)?advisory") <= allowed, reason


def test_only_posting_py_writes_the_ledger_and_the_balances() -> None:
    reason = "Ledger, then balance, in one unit of work under the lock: whoever writes elsewhere breaks that silently."
    written = texts_with(rf"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM|TRUNCATE|MERGE\s+INTO|COPY)\s+(ONLY\s+)?{LEDGER}\b")
    assert written == {"service/posting.py"}, reason
    assert calls_of("copy", of={"cursor", "driver", "connection"}) == set(), reason
    assert builders_of({"insert", "update", "delete"}) == set(), reason


def test_the_console_does_nothing_to_wallets_past_four_eyes() -> None:
    reason = "What an operator does is weighed, counted and recorded by carry_out and approve: there is no other way."
    verbs = {"execute", "execute_batch", "execute_each", "execute_atomic"}
    found = files_with(lambda node: isinstance(node, ast.Call) and last_name(node.func) in verbs)
    assert {file for file in found if file.startswith("console/")} == set(), reason
    assert not {"Adjust", "ApprovedAdjust", "ApprovedReversal", "ApprovedRevocation"} & set(service.__all__), reason


def test_only_db_py_commits() -> None:
    reason = "A unit of work ends in unit_of_work() alone: a commit in the middle would let half a posting be seen."
    # The embedded server's own folder makes roles and is no part of the service.
    assert {file for file in calls_of("commit") if not file.startswith("devdb/")} == {"db.py"}, reason
    assert calls_of("begin", of={"db", "engine", "connection", "session"}) | calls_of("begin_nested") == {"db.py"}, (
        reason
    )
    assert texts_with(r"^\s*(COMMIT|ROLLBACK|SAVEPOINT)\b") == {"db.py"}, reason
    assert texts_with("^AUTOCOMMIT$") == {"db.py"}, reason


def test_only_db_py_lets_statements_take_longer() -> None:
    reason = (
        "Whoever takes longer than others says so by take_time: else the process gives up the connection meanwhile."
    )
    assert texts_with(r"set_config\('statement_timeout'") == {"db.py"}, reason


def test_only_config_py_reads_the_environment() -> None:
    reason = "A setting that is read elsewhere is not checked at start, and cannot be told from the settings."
    # devdb hands PostgreSQL's programs an environment without what would lead them astray; it reads no setting.
    assert files_with(is_environment) == {"config.py", "devdb/programs.py"}, reason


def test_only_db_py_makes_connections() -> None:
    reason = "A connection from outside db.py acts without the role, the timeouts and the notice of a lost standby."
    # devdb makes roles before there is a service; run.py looks whether the database is there; what preview.py opens is
    # a private SQLite database, in which it remembers.
    found = {file for file in calls_of("connect") | calls_of("create_engine") if not file.startswith("devdb/")}
    assert found == {"db.py", "run.py", "service/preview.py"}, reason


def test_nobody_uses_what_a_request_does_not_have() -> None:
    reason = (
        "A request has no session of Flask's (application.py) and none of SQLAlchemy's (db.py), and an answer in JSON "
        "calls nobody at its end (web.py), because every spend would pay for it: what is kept there is lost, or left."
    )
    of_flask = {"session", "flash", "get_flashed_messages"}
    assert files_with(lambda node: imported_from(node, "flask") & of_flask) == set(), reason
    assert files_with(is_session_of_db) == set(), reason
    assert calls_of("call_on_close") == set(), reason


@cache
def sources() -> list[tuple[str, list[ast.AST]]]:
    """All nodes of each file of the package."""
    return [
        (file.relative_to(PACKAGE).as_posix(), list(ast.walk(ast.parse(file.read_text(), str(file)))))
        for file in sorted(PACKAGE.rglob("*.py"))
    ]


def files_with(is_wanted: object) -> set[str]:
    return {file for file, nodes in sources() if any(is_wanted(node) for node in nodes)}  # type: ignore[operator]


def calls_of(name: str, *, of: set[str] | None = None) -> set[str]:
    """Return the files that call a function or method of this name; with `of`, a method of one of these only."""

    def is_wanted(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call) or last_name(node.func) != name:
            return False
        return of is None or (isinstance(node.func, ast.Attribute) and last_name(node.func.value) in of)

    return files_with(is_wanted)


def last_name(node: ast.AST) -> str | None:
    """Return `c` of `a.b.c`, and `a` of `a`."""
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", None)


def texts_with(pattern: str) -> set[str]:
    """Return the files in which a text (SQL, not a docstring) has the pattern."""
    wanted = re.compile(pattern, re.IGNORECASE)
    found = set()
    for file, nodes in sources():
        prose = {node.value for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose
            if is_text and wanted.search(node.value):
                found.add(file)
    return found


def builders_of(verbs: set[str]) -> set[str]:
    """Return the files that build an INSERT, UPDATE or DELETE of a ledger table with SQLAlchemy, or make such a row."""

    def is_wanted(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call):
            return False
        target = node.args[0] if node.args else None
        target = target.value if isinstance(target, ast.Attribute) else target  # LedgerEntry.__table__
        names_ledger = target is not None and last_name(target) in LEDGER_MODELS
        return last_name(node.func) in LEDGER_MODELS or (last_name(node.func) in verbs and names_ledger)

    return files_with(is_wanted)


def is_environment(node: ast.AST) -> bool:
    names = {"environ", "environb", "getenv", "getenvb", "putenv"}
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and bool({alias.name for alias in node.names} & names)
    return isinstance(node, ast.Attribute) and node.attr in names and last_name(node.value) == "os"


def is_session_of_db(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "session" and last_name(node.value) == "db"


def imported_from(node: ast.AST, module: str) -> set[str]:
    is_it = isinstance(node, ast.ImportFrom) and node.module == module
    return {alias.name for alias in node.names} if is_it else set()  # type: ignore[attr-defined]
