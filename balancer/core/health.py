"""Whether a node is fit for requests: active checks, what requests met, and at-once reaction to a dead address.

Three kinds of evidence, each with its own patience. An address that cannot be connected to (refused, name gone, or
hanging while a request waits for it: a vanished container shows any of them) is down at once. A failed check counts
towards `fall`, a failed request towards `request_fall`, both in a row. Only checks bring a node back: `rise` in a row. A
node that was ejected for its requests, though it passes its checks, may be held: until it is released they do not bring
it back.

A check that was under way when the node went down says nothing about the time after: its result is recognised by
its number and ignored.
"""

from dataclasses import dataclass
from enum import Enum

UNCHECKED = "not checked yet"


class Fitness(Enum):
    """What health alone says of a node; the operator's word comes on top (`balancer.core.pool`)."""

    UP = "up"
    DRAINING = "draining"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How much evidence changes a node's fitness; all counts are of events in a row."""

    rise: int
    fall: int
    request_fall: int


class Health:
    """The evidence about one node. Every verb returns whether fitness or reason changed."""

    __slots__ = (
        "_checks_failed",
        "_checks_passed",
        "_epoch",
        "fitness",
        "is_held",
        "patience",
        "reason",
        "requests_failed",
        "said",
    )

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._checks_passed = 0
        self._checks_failed = 0
        self._epoch = 0
        self.fitness = Fitness.DOWN
        self.reason = UNCHECKED
        self.said = ""  # why it is not ready, in its own words that go on after its name
        self.requests_failed = 0
        self.is_held = False

    def check_started(self) -> int:
        """A number to hand back with the result."""
        return self._epoch

    def check_passed(self, number: int, *, draining: bool = False) -> bool:
        """The node answered. `draining`: it asks for no more requests, and finishes what it has."""
        if number != self._epoch:
            return False
        self._checks_failed = 0
        if self.is_held:
            return False
        self._checks_passed += 1
        if draining:
            return self._become(Fitness.DRAINING, "the node says that it is draining")
        if (
            self.fitness is Fitness.DOWN
            and self.reason != UNCHECKED
            and self._checks_passed < self.patience.rise
        ):
            return False
        return self._become(Fitness.UP, "")

    def check_failed(self, number: int, reason: str, *, deliberate: bool = False, said: str = "") -> bool:
        """`deliberate`: the node itself answered that it is not ready, so there is nothing to wait for; `said`: and why. A
        node that fails its checks is down for that, and not held any more."""
        if number != self._epoch:
            return False
        self._checks_passed = 0
        self._checks_failed += 1
        if deliberate or self.reason == UNCHECKED or self._checks_failed >= self.patience.fall:
            self.is_held = False
            return self._become(Fitness.DOWN, reason, said)
        return False

    def unreachable(self, reason: str) -> bool:
        """Nobody could connect. What comes back is another process, so it is not held any more."""
        self.is_held = False
        return self._become(Fitness.DOWN, reason)

    def request_failed(self) -> bool:
        """A request got no answer, or half of one, or nonsense. Returns whether that is enough to `eject` the node."""
        self.requests_failed += 1
        return self.fitness is not Fitness.DOWN and self.requests_failed >= self.patience.request_fall

    def eject(self, reason: str, hold_s: float) -> bool:
        """Too many requests failed, the last one for this reason. Held if for more than no time, which others measure."""
        held = f"; kept out for {hold_s:g} s" if hold_s else ""
        changed = self._become(
            Fitness.DOWN, f"{self.requests_failed} requests in a row failed, the last: {reason}{held}"
        )
        self.is_held = hold_s > 0
        return changed

    def release(self) -> None:
        """Held no longer: the next checks decide."""
        self.is_held = False

    def request_answered(self) -> None:
        self.requests_failed = 0

    def _become(self, fitness: Fitness, reason: str, said: str = "") -> bool:
        if fitness is Fitness.DOWN:
            self._checks_passed = 0
            if self.fitness is not Fitness.DOWN:
                self._epoch += 1
        else:
            self.requests_failed = 0
        changed = (fitness, reason) != (self.fitness, self.reason)
        self.fitness, self.reason, self.said = fitness, reason, said
        return changed

    def check_invariants(self) -> None:
        if self.fitness is Fitness.UP and self.reason:
            raise AssertionError("a node that is up needs no reason")
        if self.fitness is not Fitness.UP and not self.reason:
            raise AssertionError("a node that is not up has a reason")
        if self.is_held and self.fitness is not Fitness.DOWN:
            raise AssertionError("a node is held out and in")
        if self._checks_passed and self._checks_failed:
            raise AssertionError("checks passed and failed are counts in a row")
