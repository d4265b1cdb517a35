"""The reports of several workers as one: what they did is added up, what they know is taken from who knows it last.

Counters must never fall, or whoever computes rates from them sees bursts that never were. So what a worker had
counted when it ended is kept and goes on being added (`Departed`), while its gauges end with it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import Metric

Families = list[Any]
"""Metrics as plain lists, as they travel: [name, help, type, [[sample name, [[label, value] …], number] …]]."""

ROW_COUNTERS = frozenset({"requests", "failures"})
ROW_GAUGES = frozenset({"active", "queue"})
"""What of a node's row is a worker's own; the rest is knowledge of the node."""

TOTALS_GAUGES = frozenset({"active_connections"})

FACTS = frozenset(
    {
        "balancer_node_state",
        "balancer_node_weight",
        "balancer_node_sessions",
        "balancer_node_load",
        "balancer_node_warmth",
        "balancer_panic",
        "process_start_time_seconds",
        "process_max_fds",
    }
)
"""Gauges that are no worker's own amount: adding them up would make no sense."""

CUMULATIVE = frozenset({"counter", "histogram", "summary"})


def packed(families: Iterable[Metric]) -> Families:
    """Metrics in a form that can travel."""
    return [
        [
            family.name,
            family.documentation,
            family.type,
            [[sample.name, list(sample.labels.items()), sample.value] for sample in family.samples],
        ]
        for family in families
    ]


def merged(reports: Iterable[Families]) -> Iterator[Metric]:
    """The metrics of several processes, oldest report first."""
    kinds: dict[str, tuple[str, str]] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families in reports:
        for name, documentation, kind, samples in families:
            kinds.setdefault(name, (documentation, kind))
            values = sums.setdefault(name, {})
            is_fact = name in FACTS
            for sample, labels, value in samples:
                key = (sample, tuple((label, text) for label, text in labels))
                values[key] = value if is_fact else values.get(key, 0.0) + value
    for name, (documentation, kind) in kinds.items():
        family = Metric(name, documentation, kind)
        for (sample, labels), value in sums[name].items():
            family.add_sample(sample, dict(labels), value)
        yield family


def merged_rows(reports: Iterable[list[dict[str, Any]]], departed: "Departed") -> list[dict[str, Any]]:
    """The nodes' rows, oldest report first. A node that the newest report does not know is gone."""
    rows: dict[str, dict[str, Any]] = {}
    for report in reports:
        before, rows = rows, {}
        for row in report:
            name = row["name"]
            previous = before.get(name) or departed.rows.get(name, {})
            added = {key: row[key] + previous.get(key, 0) for key in row.keys() & (ROW_COUNTERS | ROW_GAUGES)}
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
        self.families: Families = []

    def add(self, rows: list[dict[str, Any]], totals: Mapping[str, Any], families: Families) -> None:
        """A worker's last report."""
        for row in rows:
            counted = {key: row[key] for key in row.keys() & ROW_COUNTERS}
            _add(self.rows.setdefault(row["name"], {}), counted)
        _add(self.totals, {key: value for key, value in totals.items() if key not in TOTALS_GAUGES})
        cumulative = [family for family in families if family[2] in CUMULATIVE]
        self.families = packed(merged([self.families, cumulative]))


def _add(sums: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        sums[key] = sums.get(key, 0) + value
