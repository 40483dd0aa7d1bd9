"""Imports: a file of commands, however long, becomes postings and a file with their results.

`source` reads the commands, `results` keeps what came of them and where a run that was cut off goes on, and `running`
has them posted or previewed. Nothing here knows the ledger: the service decides.
"""

from __future__ import annotations


class ImportFileError(Exception):
    """A file cannot be used for the import; the message is one sentence that says what to do."""
