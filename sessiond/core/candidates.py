"""Which members may take a copy of a session, best first, how many should, and who is passed over for being slow.

The scheme (`placement`) is a setting of this node, for the sessions that it is primary of; what follows from it for
lists of backups is asked here and nowhere else. Who may hold a copy, and the order, is `contract.placement`'s.

Invariant: a member that kept a primary here waiting for `ack_timeout_s` is not chosen for `SLOW_PASSED_OVER_S`
while there is any other: that holds for the member, not for a session, so that ten thousand sessions do not
each find out about the same sick node. A sick sole candidate is better than none.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sessiond.contract.placement import Candidate, may_hold, placement, ranking
from sessiond.core.copies import Copy, Follower
from sessiond.core.types import Key, Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

SLOW_PASSED_OVER_S = 10.0
"""So long after its last late ack a member is chosen again: longer than the pause of a process, shorter than a repair."""


class Candidates:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._scheme = machine.options.placement
        self.takes_everybody = self._scheme == "all"
        """Whether every member that may hold a copy should hold one of every session."""

        self.least = 0 if self._scheme == "none" else machine.options.copies
        """With so many backups in step a session is protected; but for `takes_everybody`, so many are wanted."""

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

    # --- who ------------------------------------------------------------------------------------------

    def members(self) -> list[Candidate]:
        """The members that can take a copy now."""
        candidates = self._machine.membership.backup_candidates()
        return [member for member in candidates if may_hold(member.role, self._scheme)]

    def may_hold(self, life: Life) -> bool:
        """Whether a member of a list is one that this node would choose; else it came with the list of another one."""
        return may_hold(self._machine.membership.role_of(life.name), self._scheme)

    def is_good(self, life: Life, follower: Follower) -> bool:
        """Whether a member of a list is one to count on: well chosen, prompt, and not about to leave."""
        return not follower.slow and not self._machine.membership.is_draining(life) and self.may_hold(life)

    def beside(self, key: Key, held: Iterable[Life]) -> list[str]:
        """Names of those that could be added to the list `held` of a primary here, best first.

        Where everybody should be in it, who is slow waits outside for better times as long as anybody is prompt.
        """
        names = {life.name for life in held}
        members = self._quick(self.members()) if self.takes_everybody else self.members()
        return self._ranked(key, self._quick([member for member in members if member.name not in names]))

    def best(self, key: Key) -> tuple[str, ...]:
        """Names of those that should hold a copy, best first, whether they hold one or not."""
        return placement(key, self._own, self._quick(self.members()), self.least, self._scheme)

    def best_of(self, key: Key, lives: Iterable[Life]) -> list[Life]:
        """Members of a list, those to keep first: quick before slow, then by rank."""
        by_name = {life.name: life for life in lives}
        members = [self._machine.membership.candidate(name) for name in by_name]
        return sorted((by_name[name] for name in self._ranked(key, members)), key=self.is_slow)

    def standing(self) -> frozenset[tuple[Life, str]]:
        """What placement depends on: the lives that can take copies, and their zones."""
        membership = self._machine.membership
        return frozenset(
            (membership.life_of(member.name), member.zone) for member in self._quick(self.members())
        )

    def _ranked(self, key: Key, members: Iterable[Candidate]) -> list[str]:
        return ranking(key, self._own, members, self._scheme)

    @property
    def _own(self) -> Candidate:
        identity = self._machine.identity
        return Candidate(identity.life.name, identity.zone, identity.role)

    def _quick(self, members: list[Candidate]) -> list[Candidate]:
        """Without the slow ones, as long as there are others."""
        if not self._slow_until:
            return members
        life_of = self._machine.membership.life_of
        return [member for member in members if not self.is_slow(life_of(member.name))] or members

    # --- how many -------------------------------------------------------------------------------------

    def wanted(self, copy: Copy) -> int:
        """How many backups the list of a primary here should have."""
        if not self.takes_everybody:
            return self.least
        good = sum(self.is_good(life, follower) for life, follower in copy.leads.followers.items())
        return max(self.least, good + len(self.beside(copy.key, copy.backups)))

    def belongs_everywhere(self, life: Life) -> bool:
        """Whether this member can take copies, and every list here should have it."""
        life_of = self._machine.membership.life_of
        return self.takes_everybody and any(life_of(member.name) == life for member in self.members())
