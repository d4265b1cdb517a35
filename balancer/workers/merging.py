"""The reports of several workers as one: what they did is added up, what they know is taken from who knows it last.

Counters must never fall, or whoever computes rates from them sees bursts that never were. So what a worker had
counted when it ended is kept and goes on being added (`Departed`), while its gauges end with it.
"""

import resource
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric

from balancer.admin.metrics import GAUGES, NODE_GAUGES, Numbers, OfAll, OfNode

ROW_COUNTERS = frozenset({"requests", "failures", "retries", "latency"})
ROW_GAUGES = frozenset({"active", "idle", "queue"})
"""What of a node's row is a worker's own; the rest is knowledge of the node."""

TOTALS_GAUGES = frozenset({"active_connections", "tunnels"})

FIGURES = ("counters", "answers", "durations")
"""What of a node's numbers only grows."""

FACTS_OF_PROCESS = frozenset({"process_start_time_seconds", "process_max_fds"})
"""Adding them up would make no sense."""


def merged_numbers(reports: Iterable[Numbers], departed: "Departed") -> Numbers | None:
    """What the metrics are made of, oldest report first. A node that the newest one does not know is gone."""
    merged: Numbers | None = None
    for report in reports:
        before = merged or {"counters": departed.counters, "gauges": None, "nodes": {}}
        nodes: dict[str, Numbers] = {}
        for name, own in report["nodes"].items():
            previous = before["nodes"].get(name) or departed.nodes.get(name, {})
            nodes[name] = {
                **own,
                **{key: _sum(own[key], previous.get(key)) for key in FIGURES},
                "gauges": _gauges(own["gauges"], previous.get("gauges"), NODE_GAUGES),
            }
        merged = {
            "counters": _sum(report["counters"], before["counters"]),
            "gauges": _gauges(report["gauges"], before["gauges"], GAUGES),
            "nodes": nodes,
        }
    return merged


def merged_rows(reports: Iterable[list[dict[str, Any]]], departed: "Departed") -> list[dict[str, Any]]:
    """The nodes' rows, oldest report first. A node that the newest report does not know is gone."""
    rows: dict[str, dict[str, Any]] = {}
    for report in reports:
        before, rows = rows, {}
        for row in report:
            name = row["name"]
            previous = before.get(name) or departed.rows.get(name, {})
            own = row.keys() & (ROW_COUNTERS | ROW_GAUGES)
            added = {key: _sum(row[key], previous.get(key)) for key in own}
            rows[name] = {**row, **added}
    return list(rows.values())


def merged_totals(reports: Iterable[Mapping[str, Any]], departed: "Departed") -> dict[str, Any]:
    sums = dict(departed.totals)
    for totals in reports:
        _add(sums, totals)
    return sums


class Departed:
    """What the workers that have ended had counted."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.totals: dict[str, Any] = {}
        self.counters: list[float | None] | None = None
        self.nodes: dict[str, Numbers] = {}

    def add(self, rows: list[dict[str, Any]], totals: Mapping[str, Any], numbers: Numbers) -> None:
        """A worker's last report."""
        for row in rows:
            counted = {key: row[key] for key in row.keys() & ROW_COUNTERS}
            _add(self.rows.setdefault(row["name"], {}), counted)
        _add(self.totals, {key: value for key, value in totals.items() if key not in TOTALS_GAUGES})
        self.counters = _sum(numbers["counters"], self.counters)
        for name, own in numbers["nodes"].items():
            _add(self.nodes.setdefault(name, {}), {key: own[key] for key in FIGURES})


def processes(pids: Iterable[int]) -> Iterator[Metric]:
    """The `process_…` metrics of living processes as one's, with the CPU time of our children that have ended."""
    sums: dict[str, Metric] = {}
    for pid in pids:
        for family in _process(pid):
            first = sums.setdefault(family.name, family)
            if first is not family and family.name not in FACTS_OF_PROCESS:
                _add_samples(first, [sample.value for sample in family.samples])
    if "process_cpu_seconds" in sums:
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        _add_samples(sums["process_cpu_seconds"], [ended.ru_utime + ended.ru_stime])
    yield from sums.values()


def _process(pid: int) -> Iterable[Metric]:
    return ProcessCollector(pid=lambda: pid, registry=None).collect()


def _add_samples(family: Metric, values: Sequence[float]) -> None:
    family.samples = [
        sample._replace(value=sample.value + value)
        for sample, value in zip(family.samples, values, strict=True)
    ]


def _gauges(newer: list[Any], older: list[Any] | None, rows: Sequence[OfAll | OfNode]) -> list[Any]:
    """Amounts are added, of facts the newer counts."""
    if older is None:
        return newer
    return [new if row.is_fact else _sum(new, old) for row, new, old in zip(rows, newer, older, strict=True)]


def _add(sums: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        sums[key] = _sum(value, sums.get(key))


def _sum(one: Any, other: Any) -> Any:
    """Of two numbers, or of lists of them place by place; either may be missing."""
    if other is None:
        return one
    if one is None:
        return other
    return [_sum(a, b) for a, b in zip(one, other, strict=True)] if isinstance(one, list) else one + other
