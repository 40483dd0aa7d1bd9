"""How things are said on the pages: template filters."""

from __future__ import annotations

import re

_BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = ("Android", "iPhone", "iPad", "Windows", "Mac OS X", "Linux")


def browser(user_agent: str) -> str:
    """Return a browser's long name of itself in two words, as far as it is one that most people have."""
    for token, name in _BROWSERS:
        found = re.search(rf"{token}[A-Za-z]*/([0-9]+)", user_agent)
        if found is not None:
            system = next((each for each in _SYSTEMS if each in user_agent), None)
            return f"{name} {found[1]}" + (f" on {system.removesuffix(' X')}" if system else "")
    return user_agent[:40] or "unknown"
