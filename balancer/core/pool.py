"""The nodes that requests can go to: what is known of each, and who may be chosen now.

A node's state joins what its health says with what the operator ordered; the operator wins. Who may be chosen is kept
in tuples that only change when a state does, because every request looks at them. No I/O and no clock: the shell tells
the time through `tick`, hears of changes through `on_change` and `follow`, and logs, counts and closes connections.

The list of nodes may change at any time. A node is one name at one address: a name that moves is a new `Node`, whose
health nobody knows yet, while requests in flight finish at the old one. Nobody is sent to a node that was taken out.
"""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from balancer.core.ejection import Ejections
from balancer.core.health import UNCHECKED, Fitness, Health, Patience
from balancer.core.histogram import Histogram
from balancer.core.node_spec import NodeSpec, checked_weight
from sessiond.contract.address import Address
from sessiond.contract.cluster_view import Load

WARMTH_MIN = 0.1
"""What of its share a node gets as it comes back, before it warms up: without requests it would never do so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules for all nodes together. The defaults switch everything off.

    `zone`: our own; nodes there are preferred. `slow_start_s`: a node that was down gets its whole share of new sessions
    after this. `panic_threshold`: below this share of nodes up, health is not believed.
    `eject_s`: how long a node whose requests failed is kept out at first, `eject_max_s` at most; `eject_share_max`: of all
    nodes at a time. `active_max`, `queued_max`: requests that a node may have, and that may wait for it.
    """

    zone: str = ""
    slow_start_s: float = 0.0
    panic_threshold: float = 0.0
    eject_s: float = 0.0
    eject_max_s: float = 0.0
    eject_share_max: float = 1.0
    active_max: int = sys.maxsize
    queued_max: int = 0


class NodeState(StrEnum):
    """Draining and maintenance both take no requests; draining serves as a last resort, maintenance never."""

    UP = "up"
    DOWN = "down"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"


@dataclass(slots=True)
class Counters:
    """Totals of one node since start. `answers`: by hundreds of the status, index 2 for 2xx. `queue_…`: requests that were
    told to come back because too many waited for the node, or because they had waited too long. `ejections…`: for failed
    requests, and those that did not happen because too many nodes were out already.

    `latency`: from a request's head at the balancer to the head of the node's answer, failed attempts before included;
    `duration`: to the answer's last byte. `connects`: of connections that were made. `checks`: of health checks that got
    any answer. `bytes_sent` and `bytes_received`: of requests and answers, heads included, tunnels not.
    """

    requests: int = 0
    failures: int = 0
    retries: int = 0
    referrals: int = 0
    queue_overflows: int = 0
    queue_timeouts: int = 0
    ejections: int = 0
    ejections_denied: int = 0
    answers: list[int] = field(default_factory=lambda: [0] * 6)
    bytes_sent: int = 0
    bytes_received: int = 0
    latency: Histogram = field(default_factory=Histogram)
    duration: Histogram = field(default_factory=Histogram)
    connects: Histogram = field(default_factory=Histogram)
    checks: Histogram = field(default_factory=Histogram)


class Node:
    """One back end. `weight`: its share of new sessions. `active`: requests and tunnels there now.

    `sessions` (primaries) and `load`: as it reported, None if unknown. `is_up`: it counts as up, and may be sent requests.
    `queued`: requests that wait for their turn there. `warmth`: 1, and less for a while after it came back. `credit`: what
    round robin owes it.
    """

    __slots__ = (
        "active", "address", "counters", "credit", "health", "is_cold", "is_up", "load", "name", "order", "queued",
        "sessions", "spec", "warm_since", "warmth", "was_up", "weight",
    )  # fmt: skip

    def __init__(
        self, name: str, address: Address, patience: Patience, weight: int = 1, zone: str = ""
    ) -> None:
        self.name = name
        self.address = address
        self.weight = weight  # of the spec, until an operator says otherwise
        self.spec = NodeSpec(name, address, weight, zone)
        self.health = Health(patience)
        self.order = NodeState.UP  # the operator's: UP leaves it to health
        self.is_up = False  # kept by the pool, because every request asks
        self.was_up = False
        self.is_cold = False  # was seen up, and down or in maintenance after that
        self.warmth = 1.0
        self.warm_since = 0.0
        self.credit = 0.0
        self.active = 0
        self.queued = 0
        self.sessions: int | None = None
        self.load: Load | None = None
        self.counters = Counters()

    @property
    def zone(self) -> str:
        return self.spec.zone

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


Follower = Callable[[Sequence[Node], Sequence[Node]], None]
"""Hears of the nodes that were taken out of the list and those that came into it, in one call for one change."""


class Pool:
    """All nodes, by name. Evidence about a node's health goes through here, so that nobody sees a stale choice.

    `up`: their state is up. `usable`: those that count as up, which in a panic are more. `near`: whom of them to prefer.
    `last_resort`: whom to ask when none is usable: draining nodes, else those that nothing is known of yet.

    Panic (Envoy's rule): when less than a share of the nodes is up, it is likelier that the checks are wrong, or that the
    few would be crushed, than that so many are dead. Then every node counts as up which nobody ordered away and which did
    not say itself that it is draining; a session is sent to its own node as well, and on to another if that fails.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        on_change: Callable[[Node], None] = lambda _node: None,
        policy: Policy = Policy(),
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.up: tuple[Node, ...] = ()
        self.usable: tuple[Node, ...] = ()
        self.near: tuple[Node, ...] = ()
        self.draining: tuple[Node, ...] = ()
        self.last_resort: tuple[Node, ...] = ()
        self.is_panicking = False
        self._on_change = on_change
        self.policy = policy
        self._followers: list[Follower] = []
        self._warming: set[Node] = set()
        self._ejections = Ejections(*_ejections(policy))
        self._now = 0.0
        self._regroup()

    def tick(self, now: float) -> None:
        """Time passes: to be called several times a second."""
        self._now = now
        for node in tuple(self._warming):
            self._warm(node)
        for node in self._ejections.over(now):
            node.health.release()

    def follow(self, follower: Follower) -> None:
        """Tell `follower` now of the nodes that are here, and later of every change of the list."""
        self._followers.append(follower)
        follower((), tuple(self.nodes.values()))

    def set_nodes(self, specs: Iterable[NodeSpec], patience: Patience) -> None:
        """Make this the list of nodes, in this order.

        A node whose name and address stay keeps all that is known of it, and the weight that an operator gave it
        unless the list now says another one than before. A name at another address keeps its counters and the
        operator's order. What does not appear here is gone.

        Raises ExceptionGroup if followers failed; the list is the new one, and all others have heard of it.
        """
        before, self.nodes = self.nodes, {}
        for spec in specs:
            node = before.get(spec.name)
            if node is None or node.address != spec.address:
                node = _successor(node, spec, patience)
            elif node.spec.weight != spec.weight:
                node.weight = spec.weight
            node.spec = spec
            node.health.patience = patience
            self.nodes[spec.name] = node
        gone = [node for name, node in before.items() if self.nodes.get(name) is not node]
        come = [node for name, node in self.nodes.items() if before.get(name) is not node]
        for node in gone:
            node.is_up = False
            self._warming.discard(node)
            self._ejections.forget(node)
        self._regroup()
        if gone or come:
            self._tell(gone, come)

    def _tell(self, gone: Sequence[Node], come: Sequence[Node]) -> None:
        """One that fails keeps no other from hearing: who missed a change would be wrong about the list for good."""
        failures = []
        for follower in self._followers:
            try:
                follower(gone, come)
            except Exception as error:  # noqa: BLE001 - raised below
                failures.append(error)
        if failures:
            raise ExceptionGroup("followers of the list of nodes failed", failures)

    def set_policy(self, policy: Policy) -> None:
        """Go by these rules from now on.

        Other rules for ejections than before begin with a clean slate: nobody is kept out any more, checks decide.
        """
        if _ejections(policy) != _ejections(self.policy):
            for node in self._ejections.over(math.inf):
                node.health.release()
            self._ejections = Ejections(*_ejections(policy))
        self.policy = policy
        for node in tuple(self._warming):
            self._warm(node)
        self._regroup()

    def unreachable(self, node: Node, reason: str) -> None:
        self._ejections.pardon(node)
        self._settle(node, changed=node.health.unreachable(reason))

    def request_failed(self, node: Node, reason: str) -> None:
        node.counters.failures += 1
        if not node.health.request_failed() or self.nodes.get(node.name) is not node:
            return
        if not self._ejections.has_room(len(self.nodes)):
            node.counters.ejections_denied += 1
            return
        node.counters.ejections += 1
        seconds = self._ejections.begin(node, self._now) if self.policy.eject_s else 0.0
        self._settle(node, changed=node.health.eject(reason, seconds))

    def check_passed(
        self, node: Node, number: int, *, sessions: int | None, draining: bool, load: Load | None = None
    ) -> None:
        node.sessions, node.load = sessions, load
        self._settle(node, changed=node.health.check_passed(number, draining=draining))

    def check_failed(
        self, node: Node, number: int, reason: str, *, deliberate: bool = False, said: str = ""
    ) -> None:
        changed = node.health.check_failed(number, reason, deliberate=deliberate, said=said)
        if changed:
            self._ejections.pardon(node)
        self._settle(node, changed=changed)

    def why_none_is_up(self) -> str:
        """For those who are turned away: with the words of a node that said why, unless it is away by order; where and how
        nodes fail is no concern of theirs."""
        for node in self.nodes.values():
            if node.health.said and node.order is NodeState.UP:
                return f"no node is up; {node.name} {node.health.said}"
        return "no node is up"

    def takes_requests(self, node: Node) -> bool:
        """Whether it may be sent any now: it counts as up, or nobody does and it is a last resort."""
        return node.is_up or (not self.usable and node in self.last_resort)

    def set_order(self, node: Node, order: NodeState) -> None:
        """The operator's word: UP (as health says), DRAINING or MAINTENANCE. Raises ValueError on DOWN."""
        if order is NodeState.DOWN:
            raise ValueError("a node cannot be ordered down; use maintenance")
        changed = node.order is not order
        node.order = order
        self._settle(node, changed=changed)

    def set_weight(self, node: Node, weight: int) -> None:
        """The operator's word. Raises ValueError."""
        changed = node.weight != checked_weight(weight)
        node.weight = weight
        self._settle(node, changed=changed)

    def _settle(self, node: Node, *, changed: bool) -> None:
        if changed and self.nodes.get(node.name) is node:  # of one that was taken out nobody wants to hear
            if node.state is NodeState.DOWN:
                node.sessions = node.load = None
            self._regroup()
            self._on_change(node)

    def _regroup(self) -> None:
        nodes = self.nodes.values()
        states = {node: node.state for node in nodes}
        self.up = tuple(node for node, state in states.items() if state is NodeState.UP)
        self.draining = tuple(node for node, state in states.items() if state is NodeState.DRAINING)
        down = [node for node, state in states.items() if state is NodeState.DOWN]
        unknown = {node for node in down if node.health.reason == UNCHECKED}
        in_panic = {*self.up, *(node for node in down if node.order is NodeState.UP)}
        judged = len(in_panic - unknown)
        self.is_panicking = len(self.up) < judged * self.policy.panic_threshold
        self.usable = tuple(node for node in nodes if node in in_panic) if self.is_panicking else self.up
        zone = self.policy.zone
        self.near = (
            tuple(node for node in self.usable if zone and node.zone == zone and node.weight) or self.usable
        )
        self.last_resort = self.draining or tuple(node for node in nodes if node in unknown)
        for node, state in states.items():
            node.is_up = state is NodeState.UP or (self.is_panicking and node in in_panic)
            if state is NodeState.UP:
                node.was_up = True
                if node.is_cold:
                    self._begin_to_warm(node)
            elif state is NodeState.MAINTENANCE or state is NodeState.DOWN:
                node.is_cold = node.was_up

    def _begin_to_warm(self, node: Node) -> None:
        node.is_cold = False
        if self.policy.slow_start_s:
            node.warm_since = self._now
            self._warming.add(node)
            self._warm(node)

    def _warm(self, node: Node) -> None:
        """Its share rises in a straight line."""
        slow_start_s = self.policy.slow_start_s
        passed = (self._now - node.warm_since) / slow_start_s if slow_start_s else 1.0
        node.warmth = min(1.0, WARMTH_MIN + (1.0 - WARMTH_MIN) * passed)
        if node.warmth == 1.0:
            self._warming.discard(node)

    def check_invariants(self) -> None:
        for node in self.nodes.values():
            node.health.check_invariants()
            if (node in self.up) != (node.state is NodeState.UP) or (node in self.usable) != node.is_up:
                raise AssertionError(f"{node.name} is {node.state} and grouped otherwise")
            if node.health.is_held != (node in self._ejections):
                raise AssertionError(
                    f"{node.name} is held, and nobody knows until when, or the other way round"
                )
            if not WARMTH_MIN <= node.warmth <= 1.0 or (node.warmth < 1.0) != (node in self._warming):
                raise AssertionError(
                    f"{node.name} is {node.warmth} warm and does not get warmer, or is warm and does"
                )
            if (node in self.draining) != (node.state is NodeState.DRAINING):
                raise AssertionError(f"{node.name} is {node.state} and grouped otherwise")
            if node.active < 0 or node.queued < 0:
                raise AssertionError(f"{node.name} finished more requests than it began")
        if not set(self.up) <= set(self.usable) or not set(self.near) <= set(self.usable):
            raise AssertionError("somebody is up and not usable, or preferred and not usable")


def _ejections(policy: Policy) -> tuple[float, float, float]:
    """What of the rules is about them."""
    return policy.eject_s, policy.eject_max_s, policy.eject_share_max


def _successor(node: Node | None, spec: NodeSpec, patience: Patience) -> Node:
    """A new node; what outlives its change of address, if it has had another one."""
    new = Node(spec.name, spec.address, patience, spec.weight, spec.zone)
    if node is not None:
        new.order, new.counters, new.was_up = node.order, node.counters, node.was_up
        if node.spec.weight == spec.weight:
            new.weight = node.weight
    return new
