"""Charts as SVG, drawn here: a picture for who would rather look, with the same numbers in a table beside it.

The picture is stretched to its place, so it has no text in it: the labels of both axes are ordinary text around it, and
keep their size on a phone. Colours are classes, because the content policy allows no style attribute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flask import render_template
from markupsafe import Markup

from wallet_app.console import words

WIDTH, HEIGHT = 720, 200
SERIES_MAX = 6
_TICKS = 4
_BAR_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Series:
    """Values by a name, one for each label of the chart; None where there is none."""

    name: str
    values: Sequence[int | None]


@dataclass(frozen=True, slots=True)
class Shape:
    """What is drawn of one series: the points of its line, or its bars as x, y, width, height and what they say."""

    name: str
    points: str = ""
    bars: Sequence[tuple[float, float, float, float, str]] = ()


def line_chart(
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    scale: int = 0,
    unit: str = "",
    places: Sequence[float] | None = None,
    below: Sequence[str] | None = None,
    is_step: bool = False,
) -> Markup:
    """Return a chart of lines. `places` are the labels' positions from 0 to 1 if they are not evenly spaced.

    `below` is what stands under the picture, from its left end to its right one, if not some of the labels. With
    `is_step` a value holds until the next one, as a balance does. `scale` is the asset's decimal places.
    """
    at = list(places) if places is not None else [_even(index, len(labels)) for index in range(len(labels))]
    axis = _Axis.over(series)
    shapes = [Shape(each.name, _line(at, each.values, axis, is_step=is_step)) for each in series]
    return _render(title, labels, series, shapes, axis, scale, unit, below)


def bar_chart(title: str, labels: Sequence[str], series: Sequence[Series], *, scale: int = 0, unit: str = "") -> Markup:
    """Return a chart of bars: for each label one for each series, side by side, from zero up or down."""
    axis = _Axis.over(series)
    shapes = [
        Shape(each.name, bars=_bars(labels, each, place, len(series), axis, scale)) for place, each in enumerate(series)
    ]
    return _render(title, labels, series, shapes, axis, scale, unit)


@dataclass(frozen=True, slots=True)
class _Axis:
    """The values from bottom to top: round ones, with zero among them."""

    low: int
    step: int
    count: int

    @classmethod
    def over(cls, series: Sequence[Series]) -> _Axis:
        values = [value for each in series for value in each.values if value is not None]
        low, high = min([0, *values]), max([0, *values])
        step = _round_step(high - low)
        first = math.floor(low / step) if low else 0
        return cls(first * step, step, max(-(-high // step) - first, 1))

    @property
    def ticks(self) -> list[int]:
        """From the top down, as they stand on the page."""
        return [self.low + self.step * index for index in range(self.count, -1, -1)]

    def y(self, value: int) -> float:
        return round(HEIGHT - (value - self.low) * HEIGHT / (self.step * self.count), 1)


def _round_step(span: int) -> int:
    """Return 1, 2 or 5 with zeros behind, so that about _TICKS of them make the span."""
    least = max(-(-span // _TICKS), 1)
    power = int(10 ** (len(str(least)) - 1))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def _even(index: int, count: int) -> float:
    return 0.5 if count < 2 else index / (count - 1)


def _line(places: Sequence[float], values: Sequence[int | None], axis: _Axis, *, is_step: bool) -> str:
    found = [
        (round(at * WIDTH, 1), axis.y(value)) for at, value in zip(places, values, strict=True) if value is not None
    ]
    points: list[tuple[float, float]] = []
    for x, y in found:
        if is_step and points:
            points.append((x, points[-1][1]))
        points.append((x, y))
    if is_step and points and points[-1][0] < WIDTH:
        points.append((WIDTH, points[-1][1]))
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _bars(
    labels: Sequence[str], series: Series, place: int, count: int, axis: _Axis, scale: int
) -> list[tuple[float, float, float, float, str]]:
    slot = WIDTH / max(len(labels), 1)
    width = slot * _BAR_SHARE / count
    zero, bars = axis.y(0), []
    for index, (label, value) in enumerate(zip(labels, series.values, strict=True)):
        if value is None:
            continue
        x = index * slot + slot * (1 - _BAR_SHARE) / 2 + place * width
        y = axis.y(value)
        said = f"{label}, {series.name}: {words.amount(value, scale)}"
        bars.append((round(x, 1), min(y, zero), round(width, 1), round(abs(zero - y), 1), said))
    return bars


def _render(
    title: str,
    labels: Sequence[str],
    series: Sequence[Series],
    shapes: Sequence[Shape],
    axis: _Axis,
    scale: int,
    unit: str,
    below: Sequence[str] | None = None,
) -> Markup:
    if len(series) > SERIES_MAX:
        raise ValueError(f"{len(series)} series cannot be told apart; {SERIES_MAX} can.")
    body = render_template(
        "console/_chart.html",
        title=title,
        said=_said(labels, series, scale, unit),
        labels=labels,
        below=_below(labels) if below is None else below,
        series=series,
        shapes=shapes,
        ticks=[(axis.y(value), label) for value, label in zip(axis.ticks, _tick_labels(axis, scale), strict=True)],
        zero=axis.y(0),
        scale=scale,
        unit=unit,
        width=WIDTH,
        height=HEIGHT,
        chart_id=f"chart-{abs(hash((title, *labels))) % 10**8}",
    )
    return Markup(body)  # noqa: S704 - a template of ours, which escapes what it is given


def _tick_labels(axis: _Axis, scale: int) -> list[str]:
    """Return the labels of the ticks, without decimal places where none of them needs any."""
    whole = 10**scale
    if all(value % whole == 0 for value in axis.ticks):
        return [words.amount(value // whole) for value in axis.ticks]
    return [words.amount(value, scale) for value in axis.ticks]


def _said(labels: Sequence[str], series: Sequence[Series], scale: int, unit: str) -> str:
    """Return the chart in words, for who hears the page: where each series begins, ends, and how far it goes."""
    told = []
    for each in series:
        found = [(label, value) for label, value in zip(labels, each.values, strict=True) if value is not None]
        if not found:
            told.append(f"{each.name}: nothing.")
            continue
        least, most = min(found, key=lambda pair: pair[1]), max(found, key=lambda pair: pair[1])
        (first, began), (last, ended) = found[0], found[-1]
        told.append(
            f"{each.name}: {words.amount(began, scale)} at {first}, {words.amount(ended, scale)} at {last}; "
            f"least {words.amount(least[1], scale)}, most {words.amount(most[1], scale)}{f' {unit}' if unit else ''}."
        )
    return " ".join(told)


def _below(labels: Sequence[str]) -> list[str]:
    """Return the labels that stand under the picture: the first, one in the middle, and the last."""
    if len(labels) < 3:
        return list(labels)
    return [labels[0], labels[len(labels) // 2], labels[-1]]
