"""What holders of a session ask and tell each other now and then, in case a message was lost (protocol 3.5).

A backup asks its owner whether it still counts: what ends its part (a release, a grant, a newer list) may have
been lost with the link that carried it. With `location="query"` a primary also tells a member that it meets again
what it owns: after a partition both may own a session, and no broadcast and no digest would show it.

Both happen for the copies that concern a member when a link to it opens; all backups ask every `CONFIRM_INTERVAL_S`,
and more often where nothing is broadcast: there a copy whose part has ended would hear of it from nobody else. That is
many copies and little hurry: rounds go through them in small steps, those in use first, at a bounded rate. There a copy
also asks in a moment if the message that made it may have been overtaken by one that ended its part. What the owner
answers is `Replication.on_confirm`'s business.
"""

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.copies import Copy, CopyStore, Role
from sessiond.core.options import CONFIRM_INTERVAL_S, QUERY_CONFIRM_INTERVAL_S
from sessiond.core.types import Key, Life, Location

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

STEP_S = 0.05

STEP_CONFIRMS = 250
"""Most sessions asked or told about in a step, with all members together."""

STEP_COPIES = 1500
"""Most copies looked at in a step, to find those that are in use: a millisecond; a million take half a minute."""

SOON_S = 1.0
"""After so long a copy that may have come too late asks: by then what overtook it has settled."""

IN_USE_S = 60.0
"""A copy used within this time comes before the others."""


class _Round:
    """The copies to go through: first they are looked at, then come those in use, then the rest."""

    def __init__(self, copies: CopyStore) -> None:
        self.unseen = copies.walk()
        self.in_use: deque[Key] = deque()
        self.idle: deque[Key] = deque()

    def next_key(self) -> Key | None:
        if self.in_use:
            return self.in_use.popleft()
        return self.idle.popleft() if self.idle and self.unseen.is_over else None

    @property
    def is_over(self) -> bool:
        return self.unseen.is_over and not (self.in_use or self.idle)


class Confirming:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._step_at = machine.now
        self._interval_s = QUERY_CONFIRM_INTERVAL_S if machine.asks_for_locations else CONFIRM_INTERVAL_S
        self._everybody_at = machine.now + self._interval_s
        self._rounds: dict[Life | None, _Round] = {}
        """Member → the round of what concerns it; None: of all backups, whoever owns them."""

        self._soon: dict[Key, float] = {}
        """Copies that ask out of turn, and when; the first due comes first."""

    def begin(self, peer: Life | None) -> None:
        """Go through what concerns this member; a round that is under way starts anew."""
        if len(self._machine.copies):
            self._rounds[peer] = _Round(self._machine.copies)
            self._machine.due(self._step_at)

    def soon(self, key: Key) -> None:
        """Have this copy ask in a moment."""
        self._soon.pop(key, None)
        self._soon[key] = self._machine.now + SOON_S
        self._machine.due(self._soon[key])

    def life_ended(self, life: Life) -> None:
        """Nobody is left to ask or tell."""
        self._rounds.pop(life, None)

    def next_deadline(self) -> float:
        at = min(self._step_at, self._everybody_at) if self._rounds else self._everybody_at
        return min(at, max(self._step_at, next(iter(self._soon.values())))) if self._soon else at

    def tick(self, now: float) -> None:
        if now >= self._everybody_at:
            self._everybody_at = now + self._interval_s
            self.begin(None)
        if not (self._rounds or self._soon) or now < self._step_at:
            return
        self._step_at = now + STEP_S
        self._ask_soon(now)
        if not self._rounds:
            return
        most, copies = STEP_CONFIRMS // len(self._rounds) + 1, STEP_COPIES // len(self._rounds) + 1
        for peer, each in list(self._rounds.items()):
            self._look_at(each, peer, copies)
            self._take_up(each, peer, most)
            if each.is_over:
                del self._rounds[peer]

    def _ask_soon(self, now: float) -> None:
        machine = self._machine
        for key in [key for key, at in islice(self._soon.items(), STEP_CONFIRMS) if at <= now]:
            del self._soon[key]
            copy = machine.copies.get(key)
            if copy is not None and self._asks(copy, None):
                self._ask(copy)

    def _ask(self, copy: Copy) -> None:
        confirm = m.Confirm(copy.key, copy.term, copy.seq, copy.last)
        self._machine.send((copy.term.owner,), confirm)

    def _look_at(self, each: _Round, peer: Life | None, most: int) -> None:
        """Sort the next copies of a round: does it concern this member, and is it in use?"""
        machine = self._machine
        for key in each.unseen.take(most):
            copy = machine.copies.get(key)
            if copy is not None and (self._asks(copy, peer) or self._tells(copy, peer)):
                is_in_use = machine.now - copy.accessed_at < IN_USE_S
                (each.in_use if is_in_use else each.idle).append(key)

    def _take_up(self, each: _Round, peer: Life | None, most: int) -> None:
        machine = self._machine
        told: list[tuple[Key, Location]] = []
        for _ in range(most):
            key = each.next_key()
            copy = machine.copies.get(key) if key is not None else None
            if key is None:
                break
            if copy is not None and self._asks(copy, peer):
                self._ask(copy)
            elif copy is not None and self._tells(copy, peer):
                told.append((key, copy.location))
        if told and peer is not None:
            machine.send((peer,), m.Locations(tuple(told)))

    def _asks(self, copy: Copy, peer: Life | None) -> bool:
        return copy.role is Role.BACKUP and not copy.is_granting and peer in (None, copy.term.owner)

    def _tells(self, copy: Copy, peer: Life | None) -> bool:
        machine = self._machine
        if peer is None or copy.role is not Role.PRIMARY or not machine.asks_for_locations:
            return False
        return machine.membership.may_have_copies(peer)
