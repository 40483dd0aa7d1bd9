"""Makes .venv hold what the given requirements files pin; does nothing when it already does."""

# ruff: noqa: T201
from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

VENV = Path(".venv")


def main(requirements: list[Path]) -> None:
    """Make what is missing; of two that start at once on a fresh checkout, the second waits and finds it made."""
    with Path(__file__).open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        ensure("python", whose, make_venv)
        for file in requirements:
            ensure(file.name, partial(digest, file), partial(install, file))


def ensure(name: str, wanted: Callable[[], str], make: Callable[[], None]) -> None:
    """Call `make`, unless the stamp of that name says that what is `wanted` has been made; then say so in the stamp."""
    stamp = VENV / f"stamp-{name}"
    if stamp.exists() and stamp.read_text() == wanted():
        return
    make()
    stamp.write_text(wanted())


def whose() -> str:
    """Return the Python that the environment has, while it works, and the folder: a moved one is made anew.

    Not the Python that runs us: of two on one machine, neither takes away what the other has made and may be using.
    """
    try:
        done = subprocess.run([VENV / "bin/python", "-VV"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return f"{done.stdout.strip()} in {Path.cwd()}"


def digest(file: Path) -> str:
    """Return what changes when the pinned packages do."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def make_venv() -> None:
    """Make an empty environment."""
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        fail(f"{sys.executable} cannot make virtual environments: on Debian or Ubuntu, `apt install python3-venv`.")
    run("Making .venv (only once).", sys.executable, "-m", "venv", "--clear", VENV)


def install(file: Path) -> None:
    """Install exactly the pinned files, checked by their hashes."""
    pip = (VENV / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(f"Installing {file} (only once, about a minute).", *pip, "--require-hashes", "-r", file)


def run(what: str, *command: str | Path) -> None:
    """Say what is done and do it."""
    print(what, flush=True)
    if subprocess.run(command, check=False).returncode != 0:
        fail(f"the step '{what}' failed for the reason above: mend that, then say the same again.")


def fail(why: str) -> None:
    """End with one sentence."""
    sys.exit(f"Dino Wallet cannot be set up: {why}")


if __name__ == "__main__":
    try:
        main([Path(name) for name in sys.argv[1:]])
    except KeyboardInterrupt:
        sys.exit(130)
