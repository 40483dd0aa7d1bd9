"""What the books raise when a rule would break them."""

from __future__ import annotations


class BookkeepingError(Exception):
    """A plan would break the books: a fault in a rule, never the caller's. Nothing was changed."""
