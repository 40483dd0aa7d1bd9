"""While a password is hashed, the other requests of the process go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The hashing waits, on a lock of the real kind, for what only another greenlet can do meanwhile.
_PROCESS = """
from gevent import monkey
monkey.patch_all(os=False, signal=False, subprocess=False)
import gevent, sys
from wallet_app.service import passwords
allocate = monkey.get_original("_thread", "allocate_lock")
may_end = allocate()
may_end.acquire()
def hashing(*_):
    return may_end.acquire(True, 20)
passwords._verify = hashing
waiting = gevent.spawn(passwords.matches, "x", None)
gevent.sleep(0)
gevent.sleep(0)
may_end.release()
waiting.get(timeout=30)
passwords._verify = lambda *_: may_end.locked()
print("went on" if passwords.matches("x", "y") else "stood still")
"""


def test_a_greenlet_that_hashes_lets_the_others_run() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
