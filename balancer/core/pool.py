"""The nodes that requests can go to: what is known of each, and who may be chosen now.

A node's state joins what its health says with what the operator ordered; the operator wins. Up nodes are kept
in a tuple that only changes when a state does, because every request looks at it. No I/O: the shell hears of
changes through `on_change` and logs, counts and closes connections.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from balancer.core.health import Fitness, Health, Patience
from balancer.core.histogram import Histogram
from sessiond.contract.address import Address

WEIGHT_MAX = 1000


class NodeState(StrEnum):
    """Draining and maintenance both take no requests; draining serves as a last resort, maintenance never."""

    UP = "up"
    DOWN = "down"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"


@dataclass(slots=True)
class Counters:
    """Totals of one node since start. `answers`: by hundreds of the status, index 2 for 2xx.

    `latency`: from a request's head at the balancer to the head of the node's answer, failed attempts before included;
    `duration`: to the answer's last byte. `connects`: of connections that were made. `checks`: of health checks that got
    any answer. `bytes_sent` and `bytes_received`: of requests and answers, heads included, tunnels not.
    """

    requests: int = 0
    failures: int = 0
    retries: int = 0
    referrals: int = 0
    answers: list[int] = field(default_factory=lambda: [0] * 6)
    bytes_sent: int = 0
    bytes_received: int = 0
    latency: Histogram = field(default_factory=Histogram)
    duration: Histogram = field(default_factory=Histogram)
    connects: Histogram = field(default_factory=Histogram)
    checks: Histogram = field(default_factory=Histogram)


class Node:
    """One back end. `weight`: its share of new sessions. `active`: requests and tunnels there now. `sessions`: primaries it reported, None if unknown."""

    __slots__ = ("active", "address", "counters", "health", "is_up", "name", "order", "sessions", "weight")

    def __init__(self, name: str, address: Address, patience: Patience, weight: int = 1) -> None:
        self.name = name
        self.address = address
        self.weight = weight
        self.health = Health(patience)
        self.order = NodeState.UP  # the operator's: UP leaves it to health
        self.is_up = False  # state is UP; kept by the pool, because every request asks
        self.active = 0
        self.sessions: int | None = None
        self.counters = Counters()

    @property
    def state(self) -> NodeState:
        if self.order is NodeState.MAINTENANCE:
            return NodeState.MAINTENANCE
        fitness = self.health.fitness
        if fitness is Fitness.UP and self.order is NodeState.DRAINING:
            return NodeState.DRAINING
        return NodeState(fitness.value)

    @property
    def reason(self) -> str:
        """Why it is not up; empty if it is."""
        if self.state is NodeState.MAINTENANCE or self.health.fitness is Fitness.UP:
            return "" if self.order is NodeState.UP else "set by the operator"
        return self.health.reason


class Pool:
    """All nodes, by name. Evidence about a node's health goes through here, so that nobody sees a stale choice."""

    def __init__(self, nodes: Iterable[Node], on_change: Callable[[Node], None] = lambda _node: None) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.up: tuple[Node, ...] = ()
        self.draining: tuple[Node, ...] = ()
        self._on_change = on_change
        self._regroup()

    def unreachable(self, node: Node, reason: str) -> None:
        self._settle(node, changed=node.health.unreachable(reason))

    def request_failed(self, node: Node, reason: str) -> None:
        node.counters.failures += 1
        self._settle(node, changed=node.health.request_failed(reason))

    def check_passed(self, node: Node, number: int, *, sessions: int | None, draining: bool) -> None:
        node.sessions = sessions
        self._settle(node, changed=node.health.check_passed(number, draining=draining))

    def check_failed(self, node: Node, number: int, reason: str, *, deliberate: bool = False) -> None:
        self._settle(node, changed=node.health.check_failed(number, reason, deliberate=deliberate))

    def set_order(self, node: Node, order: NodeState) -> None:
        """The operator's word: UP (as health says), DRAINING or MAINTENANCE. Raises ValueError on DOWN."""
        if order is NodeState.DOWN:
            raise ValueError("a node cannot be ordered down; use maintenance")
        changed = node.order is not order
        node.order = order
        self._settle(node, changed=changed)

    def set_weight(self, node: Node, weight: int) -> None:
        if not 0 <= weight <= WEIGHT_MAX:
            raise ValueError(f"a weight is a whole number from 0 to {WEIGHT_MAX}, not {weight}")
        changed = node.weight != weight
        node.weight = weight
        self._settle(node, changed=changed)

    def _settle(self, node: Node, *, changed: bool) -> None:
        if changed:
            if node.state is NodeState.DOWN:
                node.sessions = None
            self._regroup()
            self._on_change(node)

    def _regroup(self) -> None:
        for node in self.nodes.values():
            node.is_up = node.state is NodeState.UP
        self.up = tuple(node for node in self.nodes.values() if node.is_up)
        self.draining = tuple(node for node in self.nodes.values() if node.state is NodeState.DRAINING)

    def check_invariants(self) -> None:
        for node in self.nodes.values():
            node.health.check_invariants()
            if not ((node in self.up) == node.is_up == (node.state is NodeState.UP)):
                raise AssertionError(f"{node.name} is {node.state} and grouped otherwise")
            if (node in self.draining) != (node.state is NodeState.DRAINING):
                raise AssertionError(f"{node.name} is {node.state} and grouped otherwise")
            if node.active < 0:
                raise AssertionError(f"{node.name} finished more requests than it began")
