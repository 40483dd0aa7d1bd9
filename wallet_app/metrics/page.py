"""GET /metrics: the figures of all processes of this server, added up, and of the workers, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from flask import Flask, Response, current_app
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from wallet_app import access
from wallet_app.metrics.families import FAMILIES, Family, Kind, rows
from wallet_app.metrics.work import Work


def init_app(app: Flask) -> None:
    """Register the page."""
    app.extensions["wallet_work_figures"] = Work(app)
    app.add_url_rule("/metrics", view_func=metrics)
    access.declare("metrics", "metrics:read")


def metrics() -> Response:
    """Tell what was counted. It needs no database, so that it answers when nothing else does."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures())
    registry.register(current_app.extensions["wallet_work_figures"])
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class _Figures(Collector):
    def collect(self) -> Iterator[Metric]:
        rows.own()
        found = list(rows.all())
        every = [row for _, row, _ in found]
        living = [row for _, row, process_id in found if process_id is not None]
        for family in FAMILIES:
            is_gauge = family.kind in {Kind.SUM, Kind.LARGEST}
            yield _metric(family, living if is_gauge else every)
        processes = {str(at): process_id for at, _, process_id in found if process_id is not None}
        yield GaugeMetricFamily("wallet_processes", "Processes of this server.", value=len(processes))
        yield from _process_metrics(processes)


def _metric(family: Family, among: Sequence[memoryview[float]]) -> Metric:
    names = [name for name, _ in family.labels]
    if family.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.says, labels=names)
        for values, place in family.places.items():
            *buckets, total = _sums(among, range(place, place + family.width))
            bounds = [*(f"{bound:g}" for bound in family.bounds), "+Inf"]
            histogram.add_metric(values, list(zip(bounds, accumulate(buckets), strict=True)), total)
        return histogram
    metric = (CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily)(
        family.name, family.says, labels=names
    )
    for values, place in family.places.items():
        if family.kind is Kind.LARGEST:
            number = max((row[place] for row in among), default=0.0)
        else:
            (number,) = _sums(among, [place])
        metric.add_metric(values, number)
    return metric


def _sums(among: Sequence[memoryview[float]], places: Iterable[int]) -> list[float]:
    return [sum(row[place] for row in among) for place in places]


def _process_metrics(processes: dict[str, int]) -> Iterator[Metric]:
    """Return memory, CPU and open files of each process; a successor has its predecessor's number."""
    merged: dict[str, Metric] = {}
    for number, process_id in processes.items():
        of_one = ProcessCollector(pid=lambda process_id=process_id: process_id, registry=None)  # type: ignore[misc]
        for found in of_one.collect():
            metric = merged.setdefault(found.name, Metric(found.name, found.documentation, found.type))
            for sample in found.samples:
                metric.add_sample(sample.name, {"process": number}, sample.value)
    yield from merged.values()
