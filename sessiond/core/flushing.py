"""Flush intervals: writes are kept here for a moment, and what one session wrote meanwhile leaves together.

The primary's copy changes at once and its version rises; what its backups were not sent yet is the `Unsent` of its
leadership: the stamp that they were sent last, and the names written since. When the session's turn comes, one PATCH
on that base carries the latest value of each. A session's turn in the interval is given by its key, so that a burst of
writes does not come out as a burst of flushes, and is the same every time: one PATCH a session and interval at most.

Invariant: nobody waits for a version that was not sent, and nothing else is sent of a session before what is kept back:
a whole copy carries it, an answer that waits (`save`), a handoff or the end of the session sends it first. So a move in
order keeps nothing back, and only a primary that dies takes writes along: those of one interval.

Everything that compares acks with a primary's copy therefore asks for `Copy.sent`, not for its version.
"""

import heapq
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sessiond.core.copies import Copy, Pending, Unsent
from sessiond.core.types import Attribute, Key, Life, Stamp

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

TURN_S = 0.01
"""Turns of an interval are so far apart: one timer for all sessions whose turn is the same."""

FLUSHED_PER_TICK = 200
"""Sessions flushed in one go: a few milliseconds' work, which requests have to wait for. The others follow at once."""


class Flushing:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._turns: list[tuple[float, Key]] = []
        """A heap: when which session is flushed. One entry each."""

        self._queued: set[Key] = set()
        self._turns_per_interval = max(1, round(machine.options.flush_s / TURN_S))

    def __len__(self) -> int:
        """Sessions that have a turn ahead."""
        return len(self._queued)

    def write(self, copy: Copy, changes: Mapping[str, bytes | None]) -> None:
        """Apply changes here, and keep them back until the session's turn. For a copy with backups."""
        machine = self._machine
        base = machine.replication.apply(copy, changes, None)
        self.keep_back(copy, base, changes)
        if machine.storing is not None:
            machine.storing.note(copy)

    def keep_back(self, copy: Copy, base: Stamp, names: Iterable[str]) -> None:
        """These attributes were written over `base` and not sent."""
        leads, key = copy.leads, copy.key
        if leads.unsent is None:
            leads.unsent = Unsent(base)
        leads.unsent.names.update(dict.fromkeys(names))
        if key not in self._queued:
            self._queued.add(key)
            at = self._next_turn(key)
            heapq.heappush(self._turns, (at, key))
            self._machine.due(at)

    def _next_turn(self, key: Key) -> float:
        """The first turn of this key from now on; at most one interval away."""
        interval_s = self._machine.options.flush_s
        number = int.from_bytes(key[:4], "big") % self._turns_per_interval
        offset_s = number * interval_s / self._turns_per_interval
        return self._machine.now + interval_s - (self._machine.now - offset_s) % interval_s

    def flush(self, copy: Copy, write_id: bytes | None = None, *, beside: Life | None = None) -> None:
        """Send now what was kept back, if anything was; `beside` is about to get the whole copy."""
        leads = copy.leads
        unsent, leads.unsent = leads.unsent, None
        if unsent is None:
            return
        machine = self._machine
        changes = {name: copy.read(name) for name in unsent.names}
        for name, value in changes.items():
            # The backups can only know the stamp of the whole PATCH, and equal attributes must have equal stamps.
            copy.attributes[name] = Attribute(value, copy.last)
        machine.stats.flushes += 1
        machine.replication.send_patch(copy, unsent.base, changes, write_id, beside)
        leads.pending.append(Pending(None, copy.version))
        machine.replication.waiting.setdefault(copy.key, machine.now)

    def flush_all(self) -> None:
        """This node leaves: nothing is kept back any more."""
        for key in self._queued:
            copy = self._machine.copies.get(key)
            if copy is not None and copy.leadership is not None:
                self.flush(copy)
        self._turns.clear()
        self._queued.clear()

    # --- time ------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        return self._turns[0][0] if self._turns else None

    def tick(self, now: float) -> None:
        for _ in range(FLUSHED_PER_TICK):
            if not self._turns or self._turns[0][0] > now:
                return
            _, key = heapq.heappop(self._turns)
            self._queued.discard(key)
            copy = self._machine.copies.get(key)
            if copy is not None and copy.leadership is not None and copy.leads.unsent is not None:
                self.flush(copy)
                self._machine.replication.go_on(copy)

    def check_invariants(self) -> None:
        assert sorted(key for _, key in self._turns) == sorted(self._queued)
        for copy in self._machine.copies.values():
            unsent = copy.leadership.unsent if copy.leadership is not None else None
            if unsent is not None:
                assert copy.key in self._queued, "what is kept back has no turn"
                assert unsent.base < copy.last, "nothing was written over the base"
                assert not copy.tombstone, "a session ends without its last writes"
                assert not copy.is_granting, "a session moves on without its last writes"
