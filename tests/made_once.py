"""A thousand tests make an application each, all with the same routes and templates: each is compiled once."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any

from flask import Flask
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from werkzeug.routing import Rule

_Builder = Callable[..., tuple[str, str]]


def compile_once() -> None:
    """Let applications have what an earlier one compiled of the same routes and templates."""
    _share_builders()
    Flask.jinja_options = {**Flask.jinja_options, "bytecode_cache": _Compiled()}


def _share_builders() -> None:
    """Share the functions that write a rule's addresses among equal rules.

    Werkzeug compiles them from source, which is most of what it costs to make an application. They find converters and
    map in the rule that they are given, so rules that were parsed to the same can have the same ones.
    """
    compiled: dict[object, _Builder] = {}
    compile_builder = Rule._compile_builder

    def once(rule: Rule, append_unknown: bool = True) -> _Builder:
        if rule.defaults:
            return compile_builder(rule, append_unknown)
        key = (rule.rule, tuple(rule._trace), append_unknown)
        if key not in compiled:
            compiled[key] = compile_builder(rule, append_unknown)
        return compiled[key]

    changed: Any = Rule
    changed._compile_builder = once


class _Compiled(BytecodeCache):
    """The templates of this process, by their names and what they say."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        assert bucket.code is not None
        self._codes[bucket.key, bucket.checksum] = bucket.code
