"""Prometheus metrics, read from plain integers when somebody asks, so that counting costs the requests nothing.

Each metric is one row of a table here: its name, what it says, and where it is read. docs/metrics.md is made from
the tables, and a test keeps what deploy/ has for Prometheus and Grafana to these names.

What is read are `Numbers`, bare lists in the order of the tables: a worker sends them several times a second, at a
hundredth of what making metrics of them costs. Only a scrape makes `families`, of one process's numbers or of a sum.
"""

from collections.abc import Callable, Iterator
from math import inf
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from balancer.core.histogram import Histogram, cumulative
from balancer.core.pool import Node, NodeState, Pool
from balancer.proxy.service import ProxyService

PREFIX = "balancer_"


Numbers = dict[str, Any]
"""The figures of a process: `counters` and `gauges` of the whole, `nodes` by name, each with `counters`, `gauges`,
`answers` (by hundreds of the status, from 1xx), `durations` (for each histogram the counts of its buckets, then the sum
in seconds) and `state`. Lists are in the order of the tables; None: there is no such figure."""


class OfAll(NamedTuple):
    """A number of the whole balancer; None: there is no such thing in this set-up.

    `is_fact`: of several processes each knows it, so it is no amount to be added up.
    """

    name: str
    text: str
    read: Callable[[ProxyService], float | None]
    is_fact: bool = False


class OfNode(NamedTuple):
    """A number of a node; None: it is not known. `is_fact`: as above."""

    name: str
    text: str
    read: Callable[[ProxyService, Node], float | None]
    is_fact: bool = False


class Durations(NamedTuple):
    """A histogram of a node."""

    name: str
    text: str
    read: Callable[[Node], Histogram]


COUNTERS = (
    OfAll("requests", "Requests accepted from clients", lambda all_: all_.totals.requests),
    OfAll(
        "failures",
        "Requests that the balancer answered itself because no node did",
        lambda all_: all_.totals.failures,
    ),
    OfAll("retries", "Attempts repeated after a failure", lambda all_: all_.totals.retries),
    OfAll(
        "retries_refused",
        "Attempts not repeated because the retry budget was exhausted",
        lambda all_: all_.budget.refusals,
    ),
    OfAll(
        "discovery_failures",
        "Looks at the cluster's members that no node answered; the last list stays (with `--discover`)",
        lambda all_: all_.discovery.rounds_failed if all_.discovery is not None else None,
    ),
    OfAll(
        "refused",
        "Requests refused: malformed, too large, too slow, or for the nodes' own paths",
        lambda all_: all_.totals.refused,
    ),
)

GAUGES = (
    OfAll(
        "panic",
        "1 while so few nodes are up that health is not believed",
        lambda all_: float(all_.pool.is_panicking),
        is_fact=True,
    ),
    OfAll("connections", "Client connections open, tunnels included", lambda all_: all_.active_connections),
    OfAll("tunnels", "WebSockets and other upgraded connections open", lambda all_: all_.open_tunnels),
    OfAll("retry_budget", "Retries that could be paid now", lambda all_: all_.budget.balance),
)

NODE_COUNTERS = (
    OfNode("node_requests", "Attempts sent to the node", lambda _, node: node.counters.requests),
    OfNode("node_failures", "Attempts that the node failed", lambda _, node: node.counters.failures),
    OfNode("node_retries", "Attempts at the node that were repeated", lambda _, node: node.counters.retries),
    OfNode(
        "node_referrals",
        "421 answers of the node that were followed",
        lambda _, node: node.counters.referrals,
    ),
    OfNode(
        "node_ejections",
        "Times the node was taken out because its requests failed",
        lambda _, node: node.counters.ejections,
    ),
    OfNode(
        "node_ejections_denied",
        "Failed requests that would have taken the node out, had not too many been out already",
        lambda _, node: node.counters.ejections_denied,
    ),
    OfNode(
        "node_queue_overflows",
        "Requests refused because too many waited for the node",
        lambda _, node: node.counters.queue_overflows,
    ),
    OfNode(
        "node_queue_timeouts",
        "Requests refused because they waited too long for the node",
        lambda _, node: node.counters.queue_timeouts,
    ),
    OfNode("node_sent_bytes", "Bytes of requests sent to the node", lambda _, node: node.counters.bytes_sent),
    OfNode(
        "node_received_bytes",
        "Bytes of answers received from the node",
        lambda _, node: node.counters.bytes_received,
    ),
)

NODE_GAUGES = (
    OfNode("node_active", "Requests and tunnels at the node now", lambda _, node: node.active),
    OfNode("node_queued", "Requests that wait for their turn at the node", lambda _, node: node.queued),
    OfNode("node_weight", "Share of new sessions", lambda _, node: node.weight, is_fact=True),
    OfNode(
        "node_warmth",
        "Part of its share that the node gets: less than 1 after it came back",
        lambda _, node: node.warmth,
        is_fact=True,
    ),
    OfNode(
        "node_idle_connections",
        "Idle connections to the node",
        lambda all_, node: all_.connections[node.name].idle_count,
    ),
    OfNode(
        "node_load",
        "Load the node reported: 0 idle, 1 busy",
        lambda _, node: node.load.figure if node.load is not None else None,
        is_fact=True,
    ),
    OfNode("node_sessions", "Sessions the node reported", lambda _, node: node.sessions, is_fact=True),
)

HISTOGRAMS = (
    Durations(
        "node_first_byte_seconds",
        "From a request's head to the head of its answer, earlier attempts included",
        lambda node: node.counters.latency,
    ),
    Durations(
        "node_request_seconds",
        "From a request's head to the last byte of its answer; tunnels are not counted",
        lambda node: node.counters.duration,
    ),
    Durations(
        "node_connect_seconds",
        "From the look-up of the node's name to its connection",
        lambda node: node.counters.connects,
    ),
    Durations(
        "node_check_seconds",
        "Health checks that got an answer, connecting included",
        lambda node: node.counters.checks,
    ),
)

STATE = "1 for the node's present state"
ANSWERS = "Answers from the node by hundreds of the status"


def numbers(pool: Pool, service: ProxyService) -> Numbers:
    """What this process has counted and knows."""
    return {
        "counters": [row.read(service) for row in COUNTERS],
        "gauges": [row.read(service) for row in GAUGES],
        "nodes": {node.name: _numbers_of(node, service) for node in pool.nodes.values()},
    }


def _numbers_of(node: Node, service: ProxyService) -> Numbers:
    histograms = [row.read(node) for row in HISTOGRAMS]
    return {
        "counters": [row.read(service, node) for row in NODE_COUNTERS],
        "gauges": [row.read(service, node) for row in NODE_GAUGES],
        "answers": node.counters.answers[1:],
        "durations": [[*histogram.counts, histogram.sum_s] for histogram in histograms],
        "state": node.state.value,
    }


def families(figures: Numbers) -> Iterator[Metric]:
    """The metrics that say it."""
    nodes: dict[str, Numbers] = figures["nodes"]
    for family_of, part, rows in (
        (CounterMetricFamily, "counters", COUNTERS),
        (GaugeMetricFamily, "gauges", GAUGES),
    ):
        for row, number in zip(rows, figures[part], strict=True):
            if number is not None:
                yield family_of(PREFIX + row.name, row.text, value=number)
    for kind, part, of_node in (
        (CounterMetricFamily, "counters", NODE_COUNTERS),
        (GaugeMetricFamily, "gauges", NODE_GAUGES),
    ):
        for at, each in enumerate(of_node):
            family = kind(PREFIX + each.name, each.text, labels=["node"])
            for name, own in nodes.items():
                if (value := own[part][at]) is not None:
                    family.add_metric([name], value)
            yield family
    for at, histogram in enumerate(HISTOGRAMS):
        durations = HistogramMetricFamily(PREFIX + histogram.name, histogram.text, labels=["node"])
        for name, own in nodes.items():
            *counts, sum_s = own["durations"][at]
            buckets = [(str(bound) if bound < inf else "+Inf", count) for bound, count in cumulative(counts)]
            durations.add_metric([name], buckets, sum_s)
        yield durations
    yield _states(nodes)
    yield _answers(nodes)


def _states(nodes: dict[str, Numbers]) -> Metric:
    state = GaugeMetricFamily(PREFIX + "node_state", STATE, labels=["node", "state"])
    for name, own in nodes.items():
        for possible in NodeState:
            state.add_metric([name, possible.value], float(own["state"] == possible.value))
    return state


def _answers(nodes: dict[str, Numbers]) -> Metric:
    answers = CounterMetricFamily(PREFIX + "node_answers", ANSWERS, labels=["node", "class"])
    for name, own in nodes.items():
        for hundreds, count in enumerate(own["answers"], 1):
            answers.add_metric([name, f"{hundreds}xx"], count)
    return answers


def registry_of(pool: Pool, service: ProxyService) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Balancer(pool, service))
    return registry


class _Balancer(Collector):
    def __init__(self, pool: Pool, service: ProxyService) -> None:
        self._pool = pool
        self._service = service

    def collect(self) -> Iterator[Metric]:
        yield from families(numbers(self._pool, self._service))
