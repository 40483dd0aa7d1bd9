"""Rows of a table that a narrow screen shows as cards: each cell is told the head of its column; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

_TAG = re.compile(r"<(tr|td|th)\b([^>]*)>")
_SPAN = re.compile(r'\b(colspan|rowspan)="([0-9]+)"')


def labelled(rows: Markup, heads: Sequence[str | tuple[str, str]]) -> Markup:
    """Return the rows with the head of its column as `data-label` at each cell; heads as the macro `table` has them.

    The rows are ours, with every text in them escaped, so that whatever looks like a tag is one.
    """
    names = [head if isinstance(head, str) else head[0] for head in heads]
    free_from = [0] * len(names)
    row, column = -1, 0

    def label(found: re.Match[str]) -> str:
        nonlocal row, column
        tag, attributes = found.groups()
        if tag == "tr":
            row, column = row + 1, 0
            return found[0]
        while column < len(names) and free_from[column] > row:
            column += 1
        spans = {name: int(count) for name, count in _SPAN.findall(attributes)}
        own = range(column, min(column + spans.get("colspan", 1), len(names)))
        for each in own:
            free_from[each] = row + spans.get("rowspan", 1)
        column = own.stop
        # A row's own head is what its card is called.
        name = names[own.start] if own and tag == "td" else ""
        return f'<{tag}{attributes} data-label="{escape(name)}">' if name else found[0]

    return Markup(_TAG.sub(label, rows))  # noqa: S704 - it was markup before
