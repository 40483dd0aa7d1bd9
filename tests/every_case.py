"""Many cases in one test: for those that share a database because none of them changes it.

Each is run whatever the others do, and a failure names every case that failed.
"""

from __future__ import annotations

import inspect
import itertools
import traceback
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

SHOWN_MAX = 5
"""How many of the failures are shown in full."""

_Test = Callable[..., None]
_Parameter = tuple[tuple[str, ...], list[tuple[str, tuple[Any, ...]]]]
"""The names of some arguments, and their cases: each with its name and the values."""


def every(
    names: str | tuple[str, ...],
    values: Iterable[Any],
    *,
    ids: Iterable[Any] | Callable[[Any], str] | None = None,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Callable[[_Test], _Test]:
    """Call the test with every one of the values, as `pytest.mark.parametrize` does, but in one test.

    Above one another they make a test of all combinations; the uppermost `around` is entered for each of them.
    """
    named = tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else names
    given = list(values)
    shown = [ids(one) for one in given] if callable(ids) else [str(one) for one in ids or map(_short, given)]
    cases = [(name, tuple(one) if len(named) > 1 else (one,)) for name, one in zip(shown, given, strict=True)]

    def decorate(test: _Test) -> _Test:
        return _looped(getattr(test, "_case", test), [(named, cases), *getattr(test, "_parameters", [])], around)

    return decorate


def is_looped(test: Callable[..., object]) -> bool:
    """Tell whether the test calls itself with every case."""
    return hasattr(test, "_case")


def _looped(case: _Test, parameters: list[_Parameter], around: Callable[[], AbstractContextManager[None]]) -> _Test:
    def test(**fixtures: Any) -> None:
        failures = []
        for combination in itertools.product(*(cases for _, cases in parameters)):
            arguments: dict[str, Any] = {}
            for (names, _), (_, values) in zip(parameters, combination, strict=True):
                arguments |= zip(names, values, strict=True)
            try:
                with around():
                    case(**fixtures, **arguments)
            except (Exception, pytest.fail.Exception) as failed:
                name = "-".join(name for name, _ in combination)
                failures.append((name, "".join(traceback.format_exception(failed))))
        if failures:
            shown = [f"--- {name}\n{text}" for name, text in failures[:SHOWN_MAX]]
            total = f"{len(failures)} cases failed: {', '.join(name for name, _ in failures)}"
            pytest.fail("\n".join([*shown, total]), pytrace=False)

    taken = {name for names, _ in parameters for name in names}
    signature = inspect.signature(case)
    kept = [one for name, one in signature.parameters.items() if name not in taken]
    looped: Any = test
    looped.__name__, looped.__qualname__, looped.__doc__ = case.__name__, case.__qualname__, case.__doc__
    looped.__module__, looped.pytestmark = case.__module__, list(getattr(case, "pytestmark", []))
    looped.__signature__ = signature.replace(parameters=kept)
    looped._case, looped._parameters = case, parameters
    return looped


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
