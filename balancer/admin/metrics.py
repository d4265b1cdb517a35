"""Prometheus metrics, read from plain integers when somebody asks, so that counting costs the requests nothing.

Each metric is one row of a table here: its name, what it says, and where it is read. docs/metrics.md is made from
the tables, and a test keeps what deploy/ has for Prometheus and Grafana to these names.
"""

from collections.abc import Callable, Iterator
from math import inf
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from balancer.core.histogram import Histogram
from balancer.core.pool import Node, NodeState, Pool
from balancer.proxy.service import ProxyService

PREFIX = "balancer_"


class OfAll(NamedTuple):
    """A number of the whole balancer; None: there is no such thing in this set-up."""

    name: str
    text: str
    read: Callable[[ProxyService], float | None]


class OfNode(NamedTuple):
    """A number of a node; None: it is not known."""

    name: str
    text: str
    read: Callable[[ProxyService, Node], float | None]


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
    OfNode("node_weight", "Share of new sessions", lambda _, node: node.weight),
    OfNode(
        "node_warmth",
        "Part of its share that the node gets: less than 1 after it came back",
        lambda _, node: node.warmth,
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
    ),
    OfNode("node_sessions", "Sessions the node reported", lambda _, node: node.sessions),
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
        service, nodes = self._service, list(self._pool.nodes.values())
        for family_of, numbers in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
            for name, text, read in numbers:
                if (number := read(service)) is not None:
                    yield family_of(PREFIX + name, text, value=number)
        for kind, rows in ((CounterMetricFamily, NODE_COUNTERS), (GaugeMetricFamily, NODE_GAUGES)):
            for name, text, of_node in rows:
                family = kind(PREFIX + name, text, labels=["node"])
                for node in nodes:
                    if (value := of_node(service, node)) is not None:
                        family.add_metric([node.name], value)
                yield family
        for name, text, histogram_of in HISTOGRAMS:
            histograms = HistogramMetricFamily(PREFIX + name, text, labels=["node"])
            for node in nodes:
                histogram = histogram_of(node)
                buckets = [
                    (str(bound) if bound < inf else "+Inf", count) for bound, count in histogram.cumulative()
                ]
                histograms.add_metric([node.name], buckets, histogram.sum_s)
            yield histograms
        yield _states(nodes)
        yield _answers(nodes)


def _states(nodes: list[Node]) -> Metric:
    state = GaugeMetricFamily(PREFIX + "node_state", STATE, labels=["node", "state"])
    for node in nodes:
        for possible in NodeState:
            state.add_metric([node.name, possible.value], float(node.state is possible))
    return state


def _answers(nodes: list[Node]) -> Metric:
    answers = CounterMetricFamily(PREFIX + "node_answers", ANSWERS, labels=["node", "class"])
    for node in nodes:
        for hundreds, count in enumerate(node.counters.answers):
            if hundreds:
                answers.add_metric([node.name, f"{hundreds}xx"], count)
    return answers
