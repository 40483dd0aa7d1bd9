"""Applications are made in milliseconds: a thousand tests make one each, and all have the same routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from werkzeug.routing import Rule

_Builder = Callable[..., tuple[str, str]]


def compile_each_rule_once() -> None:
    """Let a rule take over the functions that write its addresses from an equal rule that an earlier application had.

    Werkzeug compiles them from source, which is most of what it costs to make an application. They find converters and
    map in the rule that they are given, so rules that were parsed to the same share them.
    """
    compiled: dict[object, _Builder] = {}
    compile_builder = Rule._compile_builder

    def once(rule: Rule, append_unknown: bool = True) -> _Builder:
        key = (rule.rule, tuple(rule._trace), append_unknown)
        if rule.defaults:
            return compile_builder(rule, append_unknown)
        if key not in compiled:
            compiled[key] = compile_builder(rule, append_unknown)
        return compiled[key]

    changed: Any = Rule
    changed._compile_builder = once
