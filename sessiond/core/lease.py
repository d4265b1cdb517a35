"""The right to act under `quorum = "majority"`: a quorum has answered this very life within `lease_s` (protocol 1.3).

Serving, releasing an answer, granting, voting and saying "gone" need it. It counts from when the question was
*sent*, and a voter answers the accused no more; so when a quorum's votes have been cast for `lease_s`, the accused
holds no lease that could still run. Links and handshakes are no answers. Under `any` it is always held.

The quorum is one of all members that the cluster is known to have, dead ones too: of those that either side of an
answer knows. A cluster grows by one at a time, so each step's quorums overlap with those of the step before.
"""

from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.types import Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

ASKED_PER_LEASE = 4
"""Questions in the time of one lease: so many answers may be late before the lease runs out."""

ROUNDS_KEPT = 2 * ASKED_PER_LEASE
"""Questions whose answers still count when they come; older ones could not prolong the lease."""


class Lease:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._by_majority = machine.options.quorum == "majority"
        self._sent_at: dict[int, float] = {}
        self._answered: dict[Life, tuple[float, int]] = {}
        self._round = 0
        self._next_at = machine.now
        self._held_until = float("-inf")

    def is_held(self) -> bool:
        """Whether this node may act now."""
        return not self._by_majority or self._machine.now < self._held_until

    @property
    def lost_for_s(self) -> float:
        """For how long this node, which had been serving, may not act any more; 0 while it may."""
        if self.is_held() or self._held_until == float("-inf"):
            return 0.0
        return self._machine.now - self._held_until

    def next_deadline(self) -> float | None:
        return self._next_at if self._by_majority else None

    def tick(self, now: float) -> None:
        if not self._by_majority or now < self._next_at:
            return
        self._next_at = now + self._machine.options.lease_s / ASKED_PER_LEASE
        if not self._machine.membership.joined:
            return
        self._round += 1
        self._sent_at[self._round] = now
        self._sent_at.pop(self._round - ROUNDS_KEPT, None)
        self._machine.send(self._machine.membership.linked(), m.LeaseAsk(self._round))
        self._settle()

    def on_ask(self, life: Life, ask: m.LeaseAsk) -> None:
        """Somebody who is not accused here asks; a node without memory may not answer yet."""
        if self._machine.membership.joined:
            self._machine.send((life,), m.LeaseAnswer(ask.round, self._machine.membership.size))

    def on_answer(self, life: Life, answer: m.LeaseAnswer) -> None:
        sent_at = self._sent_at.get(answer.round)
        if sent_at is not None:
            self._answered[life] = (sent_at, answer.size)
            self._settle()

    def forget(self) -> None:
        """This node begins another life: what was answered to the old one does not count."""
        self._answered.clear()
        self._sent_at.clear()
        self._settle()

    def life_ended(self, life: Life) -> None:
        """Answers of who is accused, or over, do not count."""
        if self._answered.pop(life, None) is not None:
            self._settle()

    def _settle(self) -> None:
        machine = self._machine
        lease_s = machine.options.lease_s
        fresh = [entry for entry in self._answered.values() if machine.now - entry[0] < lease_s]
        size = max([machine.membership.size, *(size for _, size in fresh)])
        others_needed = size // 2  # with this node itself that is a quorum
        if others_needed == 0:
            self._held_until = float("inf")
        elif len(fresh) >= others_needed:
            oldest_needed = sorted((sent_at for sent_at, _ in fresh), reverse=True)[others_needed - 1]
            self._extend(oldest_needed + lease_s)
        elif self._held_until > machine.now:
            self._held_until = machine.now

    def _extend(self, until: float) -> None:
        was_held = self.is_held()
        self._held_until = until
        if not was_held:
            self._machine.lease_gained()
