"""What `make` says before there is a virtual environment, and when it does nothing because there is one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.platform.conftest import REPOSITORY, clean_environment

OTHER_PYTHON = next(
    (found for found in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(found).exists()), sys.executable
)
MAKE = shutil.which("make") or "make"
SENTENCE = "Dino Wallet cannot be set up: "


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout as far as setting up goes, with nothing to install."""
    checkout = tmp_path / "check out"
    (checkout / "scripts").mkdir(parents=True)
    for name in ("Makefile", "scripts/setup_venv.py"):
        shutil.copy(REPOSITORY / name, checkout / name)
    (checkout / "requirements.txt").write_text("")
    return checkout


def make(checkout: Path, *targets: str, **environment: str) -> tuple[int, list[str]]:
    """Return the exit code and what was said, without make's own line about the failed recipe."""
    # `make test` runs us too: without these, make would take itself for a part of that one.
    inherited = {name: value for name, value in clean_environment().items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        [MAKE, *targets],
        cwd=checkout,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = (done.stdout + done.stderr).splitlines()
    return done.returncode, [line for line in said if not line.startswith("make: ***")]


def program(folder: Path, name: str, script: str) -> str:
    """Put a program into a folder and return a PATH that has only this folder and the system's own."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return str(folder)


@pytest.mark.parametrize("target", ["run", "test", "test-all", "check"])
def test_without_python_every_target_says_what_to_install(checkout: Path, tmp_path: Path, target: str) -> None:
    path = program(tmp_path / "bin", "sh", 'exec /bin/sh "$@"')
    code, said = make(checkout, target, PATH=path)
    assert code != 0
    assert said == [
        f"{SENTENCE}there is no python3. Install Python 3.11 or later "
        "(on Debian or Ubuntu: apt install python3 python3-venv)."
    ]


def test_an_old_python_is_one_sentence(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.version_info = (3, 10, 13)\n")
    path = program(tmp_path / "bin", "python3", f'exec "{sys.executable}" "$@"')
    code, said = make(checkout, "run", PATH=f"{path}:/usr/bin:/bin", PYTHONPATH=str(tmp_path))
    assert code != 0
    assert said == [
        f"{SENTENCE}python3 is older than Python 3.11. Install a later one and name it, "
        "as in: make run PYTHON=python3.12"
    ]


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_is_one_sentence(checkout: Path, tmp_path: Path, missing: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    path = program(tmp_path / "bin", "python3", f'exec "{sys.executable}" "$@"')
    code, said = make(checkout, "run", PATH=f"{path}:/usr/bin:/bin", PYTHONPATH=str(tmp_path))
    assert code != 0
    assert len(said) == 1
    assert said[0].startswith(SENTENCE)
    assert said[0].endswith("cannot make virtual environments: on Debian or Ubuntu, `apt install python3-venv`.")
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_environment_is_made_once_and_again_when_what_it_is_made_of_changes(checkout: Path) -> None:
    making, installing = "Making .venv (only once).", "Installing requirements.txt (only once, about a minute)."

    def said(place: Path, **environment: str) -> list[str]:
        code, lines = make(place, "setup", **{"PYTHON": sys.executable} | environment)
        assert code == 0, lines
        return [line for line in lines if line in {making, installing}]

    assert said(checkout) == [making, installing]
    assert said(checkout) == []
    (checkout / "requirements.txt").write_text("# Another line.\n")
    assert said(checkout) == [installing]
    moved = checkout.rename(checkout.with_name("moved"))
    assert said(moved) == [making, installing]
    # Whoever has another python3 in front uses what is there; a Python that was changed below it does not work.
    other = program(moved.parent / "bin", "python3", f'exec "{OTHER_PYTHON}" "$@"')
    assert said(moved, PATH=f"{other}:/usr/bin:/bin", PYTHON="python3") == []
    (moved / ".venv" / "bin" / "python").unlink()
    assert said(moved) == [making, installing]
    # An unknown package: the step fails, and is not taken for done the next time.
    (moved / "requirements.txt").write_text("./no-such-package\n")
    for _ in range(2):
        code, lines = make(moved, "setup", PYTHON=sys.executable)
        assert code != 0
        assert lines[-1].startswith(f"{SENTENCE}the step '{installing}' failed for the reason above")
