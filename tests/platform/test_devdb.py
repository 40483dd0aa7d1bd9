"""The embedded PostgreSQL keeps its data and starts again, whatever was killed and wherever it lives."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from wallet_app import devdb

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
HOLD_A_SERVER = """
import pathlib, sys, time
from wallet_app import devdb
database = devdb.start(pathlib.Path(sys.argv[1]), log=lambda line: None)
print(database.process.pid, flush=True)
time.sleep(600)
"""


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    libpq_url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(libpq_url, autocommit=True, connect_timeout=30)


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    with connect(url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def remember(database: devdb.DevDatabase, number: int) -> None:
    execute(database.owner_url, "CREATE TABLE IF NOT EXISTS remembered (number int)")
    execute(database.owner_url, f"INSERT INTO remembered VALUES ({number})")


def remembered(database: devdb.DevDatabase) -> list[object]:
    return [number for (number,) in execute(database.owner_url, "SELECT number FROM remembered ORDER BY number")]


@contextmanager
def killed_holder(data_dir: Path) -> Iterator[int]:
    """Another process that starts the server and is killed without a chance to stop it; yields the server's pid."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_SERVER, str(data_dir)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert holder.stdout is not None
    pid = int(holder.stdout.readline())
    holder.kill()
    holder.communicate()
    try:
        yield pid
    finally:
        if lives(pid):
            os.kill(pid, signal.SIGQUIT)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Nobody may be there to take note of an orphan's end; and it may end just now.
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self/stat").exists()


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while lives(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not lives(pid)


def test_what_was_committed_is_there_after_a_restart_and_a_second_start_makes_nothing_anew(data_dir: Path) -> None:
    with devdb.start(data_dir) as database:
        remember(database, 1)
        pid = database.process.pid
    assert not lives(pid)
    said: list[str] = []
    with devdb.start(data_dir, log=said.append) as database:
        assert remembered(database) == [1]
    assert said == [], "nothing is made anew, and nobody was waited for"


def test_each_role_has_its_rights_and_no_more(data_dir: Path) -> None:
    with devdb.start(data_dir) as database:
        remember(database, 1)
        execute(database.owner_url, "GRANT SELECT ON remembered TO wallet_app")
        service = database.service_url
        assert execute(service, "SELECT number FROM remembered") == [(1,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(service, "INSERT INTO remembered VALUES (2)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(service, "CREATE TABLE mine (number int)")
        assert execute(service, "SHOW lock_timeout") == [("2s",)]
        assert execute(service, "SHOW statement_timeout") == [("4s",)]
        assert execute(service, "SHOW idle_in_transaction_session_timeout") == [("5s",)]
        assert execute(service, "SHOW jit") == [("off",)]
        execute(database.owner_url, "CREATE DATABASE another")
        assert execute(database.superuser_url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [
            (True,)
        ]


def test_the_server_is_as_durable_and_as_private_as_it_should_be(data_dir: Path) -> None:
    with devdb.start(data_dir) as database:
        settings = dict(execute(database.superuser_url, "SELECT name, setting FROM pg_settings"))
        wanted = {"fsync": "on", "synchronous_commit": "on", "data_checksums": "on", "listen_addresses": ""}
        assert {name: settings[name] for name in wanted} == wanted
        locale = (
            "SELECT datlocprovider, datlocale, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'wallet'"
        )
        assert execute(database.superuser_url, locale) == [("b", "C.UTF-8", "UTF8")]
        assert stat.S_IMODE((data_dir / "secrets").stat().st_mode) == 0o700
        assert stat.S_IMODE((data_dir / "secrets" / "database").stat().st_mode) == 0o600
        assert stat.S_IMODE((data_dir / "postgres").stat().st_mode) == 0o700
        wrong = make_url(database.superuser_url).set(password="wrong").render_as_string(hide_password=False)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(wrong)


def test_a_killed_server_recovers_at_the_next_start(data_dir: Path) -> None:
    database = devdb.start(data_dir)
    remember(database, 1)
    os.kill(database.process.pid, signal.SIGKILL)
    database.process.wait()
    assert not database.alive()
    database.stop()
    with devdb.start(data_dir) as database:
        assert remembered(database) == [1]


def test_a_server_that_its_killed_parent_left_behind_is_stopped_and_started_anew(data_dir: Path) -> None:
    with devdb.start(data_dir) as database:
        remember(database, 1)
    with killed_holder(data_dir) as orphan:
        assert lives(orphan)
        said: list[str] = []
        with devdb.start(data_dir, log=said.append) as database:
            assert remembered(database) == [1]
            assert database.process.pid != orphan
            assert said == ["Stopping the PostgreSQL that the last run left behind."]
        wait_until_gone(orphan)


@pytest.mark.slow
def test_parent_and_server_killed_together_leave_a_folder_that_starts(data_dir: Path) -> None:
    with devdb.start(data_dir) as database:
        remember(database, 1)
    with killed_holder(data_dir) as orphan:
        os.kill(orphan, signal.SIGKILL)
    with devdb.start(data_dir) as database:
        assert remembered(database) == [1]
        remember(database, 2)


@pytest.mark.slow
def test_a_stale_pid_that_now_belongs_to_another_program_does_not_stop_the_start(data_dir: Path) -> None:
    database = devdb.start(data_dir)
    remember(database, 1)
    os.kill(database.process.pid, signal.SIGKILL)
    database.process.wait()
    database.stop()
    user = (data_dir / "postgres").stat()
    as_server = {"user": user.st_uid, "group": user.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    stranger = subprocess.Popen(["sleep", "600"], **as_server)
    try:
        note = data_dir / "postgres" / "postmaster.pid"
        note.write_text(f"{stranger.pid}\n{note.read_text().split(chr(10), 1)[1]}")
        with devdb.start(data_dir) as database:
            assert remembered(database) == [1]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_copied_data_folder_leaves_the_first_ones_server_alone(data_dir: Path) -> None:
    copy = data_dir.with_name("copy")
    with devdb.start(data_dir) as first:
        remember(first, 1)
        # A running server's files are no backup; what counts here is that its notes and secrets come along.
        subprocess.run(["cp", "-a", str(data_dir), str(copy)], check=True)
        with devdb.start(copy) as second:
            remember(second, 2)
            assert remembered(first) == [1]
        assert first.alive()


def test_a_second_process_is_refused_and_told_who_holds_the_folder(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wallet_app.devdb.home.LOCK_SECONDS_MAX", 0.2)
    with devdb.start(data_dir) as database:
        with pytest.raises(devdb.DevDatabaseError) as refusal:
            devdb.start(data_dir)
        assert str(refusal.value) == (
            f"Another Dino Wallet runs on {data_dir} (process {os.getpid()}): stop it or set WALLET_DATA_DIR."
        )
        assert database.alive()
    devdb.start(data_dir).stop()


@pytest.mark.slow
def test_two_folders_are_served_side_by_side(data_dir: Path) -> None:
    with devdb.start(data_dir) as one, devdb.start(data_dir.with_name("other")) as other:
        remember(one, 1)
        remember(other, 2)
        assert remembered(one) == [1]
        assert remembered(other) == [2]


@pytest.mark.slow
def test_a_half_finished_initdb_is_thrown_away(data_dir: Path) -> None:
    unfinished = data_dir / "postgres.new"
    (unfinished / "base").mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    (data_dir / "postgres.new.password").write_text("old")
    with devdb.start(data_dir) as database:
        remember(database, 1)
    assert not unfinished.exists()
    assert not (data_dir / "postgres.new.password").exists()


@pytest.mark.slow
def test_a_start_killed_before_the_roles_were_made_is_finished_by_the_next(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(server: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(devdb, "ensure_roles_and_database", killed)
        with pytest.raises(KeyboardInterrupt):
            devdb.start(data_dir)
    with devdb.start(data_dir) as database:
        remember(database, 1)


@pytest.mark.slow
def test_a_folder_too_deep_for_a_socket_gets_one_in_a_short_private_folder(data_dir: Path) -> None:
    deep = data_dir / ("d" * 60) / ("e, 'f' \"g\" %h" * 4) / "data"
    with devdb.start(deep) as database:
        remember(database, 1)
        folder = Path(str(make_url(database.owner_url).query["host"]))
        assert len(str(folder)) < 80
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()
    with devdb.start(deep) as database:
        assert remembered(database) == [1]


@pytest.mark.slow
def test_lost_passwords_are_a_sentence_and_not_a_new_empty_database(data_dir: Path) -> None:
    devdb.start(data_dir).stop()
    (data_dir / "secrets" / "database").unlink()
    with pytest.raises(devdb.DevDatabaseError, match="with the passwords is gone: bring it back"):
        devdb.start(data_dir)
    assert not (data_dir / "secrets" / "database").exists()


def test_passwords_that_were_a_file_beside_the_data_move_into_the_folder(data_dir: Path) -> None:
    with devdb.start(data_dir) as database:
        remember(database, 1)
        as_it_was_at_first(data_dir)
        assert devdb.running(data_dir) is not None
    with devdb.start(data_dir) as database:
        assert remembered(database) == [1]
    assert [file.name for file in (data_dir / "secrets").iterdir()] == ["database"]


def as_it_was_at_first(data_dir: Path) -> None:
    (data_dir / "secrets").rename(data_dir / "folder")
    (data_dir / "folder" / "database").rename(data_dir / "secrets")
    (data_dir / "folder").rmdir()


@pytest.mark.slow
def test_a_server_that_cannot_start_ends_in_a_sentence_that_names_its_log(data_dir: Path) -> None:
    devdb.start(data_dir).stop()
    (data_dir / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(devdb.DevDatabaseError, match=r"PostgreSQL did not start \(.+\): see .*postgres.log"):
        devdb.start(data_dir)


def test_a_data_dir_that_is_a_file_ends_in_a_sentence(data_dir: Path) -> None:
    data_dir.write_text("")
    with pytest.raises(devdb.DevDatabaseError, match="cannot be used for the data"):
        devdb.start(data_dir)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_root_may_keep_its_data_where_the_servers_user_cannot_look(data_dir: Path) -> None:
    data_dir.parent.chmod(0o700)
    said: list[str] = []
    with devdb.start(data_dir, log=said.append) as database:
        remember(database, 1)
        home = database.home
        assert home != data_dir
        assert str(home) in said[0]
        assert (home / "postgres").stat().st_uid in {pwd.getpwnam(name).pw_uid for name in ("postgres", "nobody")}
    try:
        with devdb.start(data_dir) as database:
            assert remembered(database) == [1]
            assert database.home == home
        copy = data_dir.with_name("copy")
        shutil.copytree(data_dir, copy, symlinks=True)
        with devdb.start(data_dir), pytest.raises(devdb.DevDatabaseError, match="Another Dino Wallet runs"):
            devdb.start(copy)
    finally:
        shutil.rmtree(home)
    with pytest.raises(devdb.DevDatabaseError, match="which is gone: bring it back"):
        devdb.start(data_dir)


def test_others_find_the_server_that_runs_and_only_that(data_dir: Path) -> None:
    assert devdb.running(data_dir) is None
    assert not data_dir.exists()
    with devdb.start(data_dir) as database:
        found = devdb.running(data_dir)
        assert found == devdb.Running(database.service_url, database.owner_url)
        assert execute(found.service_url, "SELECT session_user") == [("wallet_service",)]
        assert execute(found.owner_url, "SELECT current_user") == [("wallet_owner",)]
        # The copy's notes name the first one's server, which lets its passwords in, but serves another folder.
        copy = data_dir.with_name("copy")
        subprocess.run(["cp", "-a", str(data_dir), str(copy)], check=True)
        assert devdb.running(copy) is None
    assert (data_dir / "postgres").exists()
    assert devdb.running(data_dir) is None


@pytest.mark.slow
def test_a_killed_servers_notes_are_not_taken_for_a_server(data_dir: Path) -> None:
    with killed_holder(data_dir) as orphan:
        assert devdb.running(data_dir) is not None
        os.kill(orphan, signal.SIGKILL)
        wait_until_gone(orphan)
        assert (data_dir / "postgres" / "postmaster.pid").exists()
        assert devdb.running(data_dir) is None
    devdb.start(data_dir).stop()


def test_damaged_passwords_end_in_a_sentence_for_others_too(data_dir: Path) -> None:
    (data_dir / "secrets").mkdir(parents=True)
    (data_dir / "secrets" / "database").write_text("{}")
    with pytest.raises(devdb.DevDatabaseError, match="is damaged: bring it back"):
        devdb.running(data_dir)
