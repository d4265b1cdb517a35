"""Sessions put away: they lie in the store alone, and come back by a look-up when somebody wants them.

Two occasions: memory runs short (more than `REST_ABOVE` of `memory_bytes_max`), when the primaries idle longest go, at
a bounded rate; and a drain, of sessions that no other node can take a copy of.

Invariant: a backup is released only when the store has the session as it is, and the session is put away only when
nobody holds it and every backup has been released; so at any time somebody else has what was answered, in the end the
record alone, and the rules for reading it back (`recall`) apply to anybody. A request that comes meanwhile calls it
off. Nodes that know where sessions live are told to forget it (`denials`).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sessiond.core.aftermath import Finds, Sweep
from sessiond.core.copies import Copy, Role
from sessiond.core.types import Key

if TYPE_CHECKING:
    from sessiond.core.machine import Machine
    from sessiond.core.storing import Storing

REST_ABOVE = 0.9
REST_UNTIL = 0.85
"""Of `memory_bytes_max`: where putting away begins, and where it ends."""

IDLE_MIN_S = 10.0
"""A session used within this stays: far above `RECALL_VALID_S`, so that no look-up holds an older record of it."""

STEP_S = 0.05
RESTED_PER_STEP = 50
"""So many begin to be put away in a step: 1,000 a second, each a record of a batch."""

GOING_MAX = 1000
"""So many are being put away at once: a slow store, or a slow backup, keeps others from being begun."""


class Resting:
    def __init__(self, machine: "Machine", storing: "Storing") -> None:
        self._machine = machine
        self._storing = storing
        self._sweep: Sweep | None = None
        self._finds = Finds()
        self._coldest: Iterator[Key] | None = None
        self._going: set[Key] = set()
        """Those that are being put away for want of memory."""

        self._is_on = False
        self._next_at = machine.now

    @property
    def may_rest(self) -> bool:
        """Whether a session in the store outlives this node: on another node, or on this one when it is back.

        What lies in a store of this node's own is out of reach of others when it dies, and they would call it gone.
        """
        return not self._storing.is_down and (
            self._storing.is_shared or not self._machine.membership.staying()
        )

    # --- memory ---------------------------------------------------------------------------------------

    def next_deadline(self) -> float:
        return self._next_at

    def tick(self, now: float) -> None:
        if now >= self._next_at:
            self._next_at = now + STEP_S
            self._make_room(now)

    def _make_room(self, now: float) -> None:
        machine = self._machine
        share = machine.copies.bytes / machine.options.memory_bytes_max
        if not self._is_on:
            if share > REST_ABOVE and self.may_rest:
                self._is_on = True
                machine.log("info", "memory.short", share=round(share, 3), copies=len(machine.copies))
            return
        if share <= REST_UNTIL or not self.may_rest:
            self._is_on, self._sweep, self._coldest = False, None, None
        elif self._coldest is not None:
            self._put_coldest_away()
        elif self._sweep is None:
            self._finds = Finds()
            self._sweep = Sweep(machine.copies, self._look)
        elif self._sweep.go_on(now):
            self._sweep, self._coldest = None, self._finds.coldest_first()

    def _look(self, copy: Copy) -> Finds | None:
        is_cold = copy.role is Role.PRIMARY and self._machine.now - copy.accessed_at >= IDLE_MIN_S
        return self._finds if is_cold and not copy.tombstone else None

    def _put_coldest_away(self) -> None:
        machine = self._machine
        assert self._coldest is not None, "there is a list of them"
        too_many = machine.copies.bytes - REST_UNTIL * machine.options.memory_bytes_max - self._going_bytes()
        for _ in range(RESTED_PER_STEP):
            if too_many <= 0 or len(self._going) >= GOING_MAX:
                return
            key = next(self._coldest, None)
            if key is None:
                self._coldest = None
                return
            copy = machine.copies.get(key)
            if copy is not None and self._look(copy) is not None:
                self._going.add(key)
                too_many -= copy.bytes
                self.begin(copy)

    def _going_bytes(self) -> int:
        """What those weigh that are being put away and are still here."""
        going = [copy for key in self._going if (copy := self._machine.copies.get(key)) is not None]
        going = [
            copy for copy in going if copy.leadership is not None and copy.leadership.resting is not None
        ]
        self._going = {copy.key for copy in going}
        return sum(copy.bytes for copy in going)

    # --- putting away ---------------------------------------------------------------------------------

    def begin(self, copy: Copy) -> None:
        """Put a primary's session away, if nobody has it; its backups are released on the way, once the store has it."""
        leads = copy.leads
        if copy.backups and not self._storing.has(copy):
            self._storing.note(copy)
            return
        if leads.resting is None and not (
            leads.pending or leads.in_flight or leads.handoff or copy.tombstone
        ):
            leads.resting = copy.accessed_at
            self._machine.lists.maintain(copy)

    def is_on(self, copy: Copy) -> bool:
        """Whether a session that was to be put away still is: it is not if it has been used since."""
        leads = copy.leads
        if leads.resting is None:
            return False
        if leads.resting != copy.accessed_at or leads.pending or leads.in_flight or leads.handoff:
            leads.resting = None
        return leads.resting is not None

    def go_on(self, copy: Copy) -> None:
        """A backup was released, or the store has written: is that all?"""
        machine, storing = self._machine, self._storing
        if not self.is_on(copy):
            machine.lists.maintain(copy)
        elif copy.backups:
            return
        elif not machine.lease.is_held():
            machine.lists.repairing.setdefault(copy.key, machine.now)  # and come back here
        elif storing.has(copy):
            machine.stats.rested += 1
            key, place = copy.key, (copy.term, copy.seq)
            machine.drop_copy(key)
            machine.denials.deny(key, *place)
        else:
            storing.note(copy)
