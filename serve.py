"""`make run`: patches Python for greenlets before anything else is imported, and runs the service."""

from __future__ import annotations

import sys

from gevent import monkey

# As in gunicorn.conf.py, which says why.
monkey.patch_all(os=False, signal=False, subprocess=False)

from wallet_app.run import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
