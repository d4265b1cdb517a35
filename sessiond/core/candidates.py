"""Which members may take a copy of a session, best first, and which are passed over because they were slow.

Invariant: a member that kept a primary here waiting for `ack_timeout_s` is not chosen for `SLOW_PASSED_OVER_S`
while there is any other: that holds for the member, not for a session, so that ten thousand sessions do not
each find out about the same sick node. A sick sole candidate is better than none. The order itself is
`contract.placement`'s.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sessiond.contract.placement import Candidate, ranking
from sessiond.core.types import Key, Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

SLOW_PASSED_OVER_S = 10.0
"""So long after its last late ack a member is chosen again: longer than the pause of a process, shorter than a repair."""


class Candidates:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._slow_until: dict[Life, float] = {}
        self.late: set[Life] = set()
        """Members that have not acked in time since they were last found slow: nobody waits for them again."""

    def was_late(self, life: Life) -> None:
        """A member of a list owes an ack for longer than `ack_timeout_s`."""
        machine = self._machine
        if not self.is_slow(life):
            machine.stats.slow_backups += 1
            machine.log("warning", "peer.slow", peer=life.name, passed_over_s=SLOW_PASSED_OVER_S)
            self._slow_until = {k: until for k, until in self._slow_until.items() if until > machine.now}
            self.late &= self._slow_until.keys()
        self._slow_until[life] = machine.now + SLOW_PASSED_OVER_S
        self.late.add(life)

    def was_prompt(self, life: Life) -> None:
        """A member acked well in time: its sessions stay, though it is not given more of them yet."""
        self.late.discard(life)

    def is_slow(self, life: Life) -> bool:
        return bool(self._slow_until) and self._slow_until.get(life, 0.0) > self._machine.now

    def beside(self, key: Key, held: Iterable[Life]) -> list[str]:
        """Names of those that could be added to the list `held` of a primary here, best first."""
        names = {life.name for life in held}
        members = self._machine.membership.backup_candidates()
        return self._ranked(key, [member for member in members if member.name not in names])

    def best(self, key: Key) -> list[str]:
        """Names of all that can hold a copy, best first, whether they hold one or not."""
        return self._ranked(key, self._machine.membership.backup_candidates())

    def _ranked(self, key: Key, members: list[Candidate]) -> list[str]:
        return ranking(key, self._machine.zone, self._quick(members))

    def _quick(self, members: list[Candidate]) -> list[Candidate]:
        """Without the slow ones, as long as there are others."""
        if not self._slow_until:
            return members
        life_of = self._machine.membership.life_of
        return [member for member in members if not self.is_slow(life_of(member.name))] or members

    def standing(self) -> frozenset[tuple[Life, str]]:
        """What placement depends on: the lives that can take copies, and their zones."""
        membership = self._machine.membership
        members = self._quick(membership.backup_candidates())
        return frozenset((membership.life_of(member.name), member.zone) for member in members)

    def best_of(self, key: Key, lives: Iterable[Life]) -> list[Life]:
        """Members of a list, those to keep first: quick before slow, then by rank."""
        machine = self._machine
        by_name = {life.name: life for life in lives}
        ranked = ranking(key, machine.zone, [machine.membership.candidate(name) for name in by_name])
        return sorted((by_name[name] for name in ranked), key=self.is_slow)
