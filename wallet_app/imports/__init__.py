"""Imports: a file of commands, however long, becomes postings and a file with their results.

`source` reads the commands, `running` has them posted or previewed, `results` says what came of them, `result_file`
keeps that and knows where a run that was cut off goes on. Nothing here knows the ledger: the service decides.
"""

from __future__ import annotations


class ImportFileError(Exception):
    """A file cannot be used for the import; the message is one sentence that says what to do."""
