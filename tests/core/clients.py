"""Clients of a cluster under test, and what the answers they got allow them to expect.

A client writes rising numbers into an attribute of its own, raises a counter that all clients of a session
share (by `if_version`), reads everything, and ends the session now and then. `Expected` holds what was
promised: an acknowledged value is never lost or shown older, no two increments get the same number, a
session is gone only if somebody ended it or it was idle for long enough, and then for ever.
"""

from dataclasses import dataclass, field

from sessiond.backend import Committed, Elsewhere
from sessiond.core.checkout import Checkout
from sessiond.errors import Conflict, SessionGone, Unavailable
from tests.core.process import Process
from tests.core.world import World


class Violation(AssertionError):
    """The promise that was broken."""


@dataclass
class Expected:
    """One session, and everything that was said of it."""

    key: bytes
    idle_timeout_s: float
    used_at: float
    acked: dict[str, int] = field(default_factory=dict)
    increments: set[int] = field(default_factory=set)
    end_asked: bool = False
    ended: bool = False
    strict: bool = True
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def floor(self) -> tuple[dict[str, int], bool]:
        """What a request that begins now may rely on."""
        return dict(self.acked), self.ended

    def shown(self, values: dict[str, int], floor: tuple[dict[str, int], bool]) -> None:
        """A request that began with this `floor` was answered with these values."""
        least, ended = floor
        if not self.strict:
            return
        if ended:
            raise Violation(f"{self} is served though it was said to be gone")
        for name, number in least.items():
            if values.get(name, 0) < number:
                raise Violation(f"{self}: {name} shown as {values.get(name, 0)}, {number} was acked before")

    def committed(self, changes: dict[str, int]) -> None:
        for name, number in changes.items():
            if name == "counter":
                if number in self.increments and self.strict:
                    raise Violation(f"{self}: two increments to {number} were acknowledged")
                self.increments.add(number)
            self.acked[name] = max(self.acked.get(name, 0), number)

    def gone(self, now: float) -> None:
        """Somebody was told that there is no such session."""
        if not self.strict:
            return
        idle_s = now - self.used_at
        if not self.ended and not self.end_asked and idle_s < self.idle_timeout_s:
            raise Violation(f"{self} is said to be gone; nobody ended it, it was used {idle_s:.3f} s ago")
        self.ended = True

    def __str__(self) -> str:
        return f"session {self.key[:2].hex()}"


@dataclass
class Client:
    """Sends one request after another for one session, wherever it is sent; a request opens, writes, releases."""

    expected: Expected
    attribute: str
    ends_sessions: bool = False
    node: str = ""
    process: Process | None = None
    number: int = 0
    verb: str = "idle"
    operation: int | None = None
    asked_at: float = 0.0
    answered_at: float = 0.0
    began: tuple[dict[str, int], bool] = field(default_factory=lambda: ({}, False))
    values: dict[str, int] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)
    checkout: Checkout | None = None
    version: int = 0

    @property
    def is_idle(self) -> bool:
        return self.verb == "idle"

    def drive(self, world: World) -> None:
        """The client's next move, if it is its turn."""
        if self.is_idle:
            self._open(world)
        elif self.operation is None:
            self._write(world)

    def hear(self, world: World) -> None:
        """Take the answer, if there is one: it counts from the moment it was given, even if its node dies then."""
        if self.process is None:
            return
        if self.operation is not None:
            outcome = self.process.outcomes.get(self.operation, "pending")
            if outcome != "pending":
                self.answered_at = self.process.answered_at[self.operation]
                self.operation = None
                self._answered(outcome)
        if not self.is_idle and world.processes.get(self.node) is not self.process:
            self._connection_lost()

    def _begin(self, world: World, verb: str, *args: object, **kwargs: object) -> None:
        self.verb, self.asked_at = verb, world.now
        self.process = world.processes[self.node]
        self.operation = world.ask(self.node, verb, self.expected.key, *args, **kwargs)

    def create(self, world: World) -> None:
        self.changes = {self.attribute: 1}
        self._begin(world, "create", {self.attribute: b"1"})

    def _open(self, world: World) -> None:
        if self.node not in world.processes or world.rng.random() < 0.2:
            self.node = world.rng.choice(sorted(world.processes))
        self.began = self.expected.floor()
        self._begin(world, "open", may_refer=world.rng.random() < 0.3)

    def _write(self, world: World) -> None:
        """The request holds the session: it writes, or only reads, or ends the session."""
        chance = world.rng.random()
        self.changes = {}
        if self.ends_sessions and chance < 0.05:
            self.expected.end_asked = True
            self._begin(world, "invalidate")
        elif chance < 0.25:
            self.changes = {"counter": self.values.get("counter", 0) + 1}
            self._commit(world, self.version)
        elif chance < 0.8:
            self.number += 1
            self.changes = {self.attribute: self.number}
            self._commit(world, None)
        else:
            self._commit(world, None)

    def _commit(self, world: World, if_version: int | None) -> None:
        changes = {name: b"%d" % number for name, number in self.changes.items()}
        self._begin(world, "commit", changes, if_version)

    def _answered(self, outcome: object) -> None:
        expected, verb = self.expected, self.verb
        match outcome:
            case Checkout():
                expected.count("opened")
                self.checkout, self.verb, self.version = outcome, "held", outcome.version
                expected.used_at = max(expected.used_at, self.answered_at)
                self.values = {name: int(outcome.read(name) or b"0") for name in outcome.names()}
                return
            case Elsewhere(owner):
                expected.count("referred")
                self.node = owner
            case Committed():
                expected.count("acked")
                expected.shown(self.values, self.began)
                expected.committed(self.changes)
            case Conflict():
                expected.count("conflicts")
            case Unavailable():
                expected.count("failed")
            case SessionGone():
                expected.gone(self.answered_at)
            case None if verb == "invalidate":
                expected.count("ended")
                expected.ended = True
            case None:
                expected.gone(self.answered_at)
            case _:
                raise Violation(f"{verb} of {expected} was answered with {outcome!r}")
        self._release()

    def _release(self) -> None:
        if self.checkout is not None:
            self.checkout.release()
        self.checkout, self.verb, self.operation = None, "idle", None

    def _connection_lost(self) -> None:
        self.checkout, self.verb, self.operation, self.node = None, "idle", None, ""
