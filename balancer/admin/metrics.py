"""Prometheus metrics, read from plain integers when somebody asks, so that counting costs the requests nothing."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from balancer.core.pool import NodeState, Pool
from balancer.proxy.service import ProxyService


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
        yield from self._totals()
        yield from self._nodes()

    def _totals(self) -> Iterator[Metric]:
        totals = self._service.totals
        for name, text, value in (
            ("requests", "Requests accepted from clients", totals.requests),
            ("failures", "Requests that the balancer answered itself because no node did", totals.failures),
            ("retries", "Attempts repeated after a failure", totals.retries),
            (
                "refused",
                "Requests refused: malformed, too large, or for the nodes' own paths",
                totals.refused,
            ),
        ):
            yield CounterMetricFamily(f"balancer_{name}", text, value=value)
        if self._service.discovery is not None:
            yield CounterMetricFamily(
                "balancer_discovery_failures",
                "Looks at the cluster's members that no node answered; the last list stays",
                value=self._service.discovery.rounds_failed,
            )
        yield GaugeMetricFamily(
            "balancer_panic",
            "1 while so few nodes are up that health is not believed",
            value=float(self._pool.is_panicking),
        )
        yield GaugeMetricFamily(
            "balancer_connections", "Client connections open", value=self._service.active_connections
        )

    def _nodes(self) -> Iterator[Metric]:
        nodes = list(self._pool.nodes.values())
        state = GaugeMetricFamily(
            "balancer_node_state", "1 for the node's present state", labels=["node", "state"]
        )
        answers = CounterMetricFamily(
            "balancer_node_answers",
            "Answers from the node by hundreds of the status",
            labels=["node", "class"],
        )
        for node in nodes:
            for possible in NodeState:
                state.add_metric([node.name, possible.value], float(node.state is possible))
            for hundreds, count in enumerate(node.counters.answers):
                if hundreds:
                    answers.add_metric([node.name, f"{hundreds}xx"], count)
        yield state
        yield answers
        for name, text, counts in (
            ("requests", "Attempts sent to the node", [node.counters.requests for node in nodes]),
            ("failures", "Attempts that the node failed", [node.counters.failures for node in nodes]),
            ("retries", "Attempts at the node that were repeated", [node.counters.retries for node in nodes]),
            (
                "referrals",
                "421 answers of the node that were followed",
                [node.counters.referrals for node in nodes],
            ),
            (
                "ejections",
                "Times the node was taken out because its requests failed",
                [node.counters.ejections for node in nodes],
            ),
            (
                "ejections_denied",
                "Failed requests that would have taken the node out, had not too many been out already",
                [node.counters.ejections_denied for node in nodes],
            ),
            (
                "queue_overflows",
                "Requests refused because too many waited for the node",
                [node.counters.queue_overflows for node in nodes],
            ),
            (
                "queue_timeouts",
                "Requests refused because they waited too long for the node",
                [node.counters.queue_timeouts for node in nodes],
            ),
        ):
            counter = CounterMetricFamily(f"balancer_node_{name}", text, labels=["node"])
            for node, count in zip(nodes, counts, strict=True):
                counter.add_metric([node.name], count)
            yield counter
        connections = self._service.connections
        for name, text, values in (
            ("active", "Requests and tunnels at the node now", [node.active for node in nodes]),
            ("queued", "Requests that wait for their turn at the node", [node.queued for node in nodes]),
            ("weight", "Share of new sessions", [node.weight for node in nodes]),
            (
                "warmth",
                "Part of its share that the node gets: less than 1 after it came back",
                [node.warmth for node in nodes],
            ),
            (
                "idle_connections",
                "Idle connections to the node",
                [connections[n.name].idle_count for n in nodes],
            ),
        ):
            gauge = GaugeMetricFamily(f"balancer_node_{name}", text, labels=["node"])
            for node, value in zip(nodes, values, strict=True):
                gauge.add_metric([node.name], value)
            yield gauge
        sessions = GaugeMetricFamily("balancer_node_sessions", "Sessions the node reported", labels=["node"])
        for node in nodes:
            if node.sessions is not None:
                sessions.add_metric([node.name], node.sessions)
        yield sessions
        load = GaugeMetricFamily(
            "balancer_node_load", "Load the node reported: 0 idle, 1 busy", labels=["node"]
        )
        for node in nodes:
            if node.load is not None:
                load.add_metric([node.name], node.load.figure)
        yield load
