"""A backup asks its owner, now and then, whether it still counts (protocol 3.5).

A message that ends a backup's part (a release, a grant, a newer list) may be lost with the link that carried
it. So the copies whose owner is a certain life are confirmed when a link to it opens again, and all copies every
`CONFIRM_INTERVAL_S`. That is many copies and little hurry: rounds go through them in small steps, those that were
used a short while ago first, at a bounded rate. What the owner answers is `Replication.on_confirm`'s business.
"""

from collections import deque
from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.copies import Role
from sessiond.core.options import CONFIRM_INTERVAL_S
from sessiond.core.types import Key, Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

STEP_S = 0.05

STEP_CONFIRMS = 250
"""Most CONFIRMs in a step, for all owners together."""

STEP_COPIES = 5000
"""Most copies looked at in a step, to find those that are in use."""

IN_USE_S = 60.0
"""A copy used within this time is confirmed before the others."""


class _Round:
    """The copies that are to be confirmed, first to be looked at, then those in use, then the rest."""

    def __init__(self, keys: list[Key]) -> None:
        self.unseen = keys
        self.in_use: deque[Key] = deque()
        self.idle: deque[Key] = deque()

    def next_key(self) -> Key | None:
        if self.in_use:
            return self.in_use.popleft()
        return self.idle.popleft() if self.idle and not self.unseen else None

    @property
    def is_over(self) -> bool:
        return not (self.unseen or self.in_use or self.idle)


class Confirming:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._step_at = machine.now
        self._everybody_at = machine.now + CONFIRM_INTERVAL_S
        self._rounds: dict[Life | None, _Round] = {}
        """Owner → the round of the copies that it owns; None: every owner."""

    def begin(self, owner: Life | None) -> None:
        """Confirm the copies of this owner; a round that is under way starts anew."""
        machine = self._machine
        if machine.copies.counts[Role.BACKUP]:
            self._rounds[owner] = _Round(machine.copies.keys())
            machine.due(self._step_at)

    def life_ended(self, life: Life) -> None:
        """Nobody is left to ask."""
        self._rounds.pop(life, None)

    def next_deadline(self) -> float:
        return min(self._step_at, self._everybody_at) if self._rounds else self._everybody_at

    def tick(self, now: float) -> None:
        if now >= self._everybody_at:
            self._everybody_at = now + CONFIRM_INTERVAL_S
            self.begin(None)
        if not self._rounds or now < self._step_at:
            return
        self._step_at = now + STEP_S
        confirms, copies = STEP_CONFIRMS // len(self._rounds) + 1, STEP_COPIES // len(self._rounds) + 1
        for owner, each in list(self._rounds.items()):
            self._look_at(each, owner, copies)
            self._confirm(each, confirms)
            if each.is_over:
                del self._rounds[owner]

    def _look_at(self, each: _Round, owner: Life | None, most: int) -> None:
        """Sort the next copies of a round: of this owner, and in use or not."""
        machine = self._machine
        for key in each.unseen[-most:]:
            copy = machine.copies.get(key)
            if copy is not None and copy.role is Role.BACKUP and owner in (None, copy.term.owner):
                is_in_use = machine.now - copy.accessed_at < IN_USE_S
                (each.in_use if is_in_use else each.idle).append(key)
        del each.unseen[-most:]

    def _confirm(self, each: _Round, most: int) -> None:
        machine = self._machine
        for _ in range(most):
            key = each.next_key()
            if key is None:
                return
            copy = machine.copies.get(key)
            if copy is not None and copy.role is Role.BACKUP and not copy.is_granting:
                machine.send((copy.term.owner,), m.Confirm(key, copy.term, copy.seq, copy.last))
