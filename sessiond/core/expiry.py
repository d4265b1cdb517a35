"""When sessions end by themselves. Only the primary expires; the end is a write like any other.

One heap entry per primary, with the deadline as it was when the entry was made; a session used since then
is simply looked at again later. However many are due together, they end in small steps, at a pace that leaves the
loop to others (`pace`), and not faster than their backups take it. For the successor of a primary that died, a session was used when it took over:
its predecessor may have served it to the end, and told of that nobody any more. Late expiry is harmless, early
expiry is a broken promise.
"""

import heapq
from typing import TYPE_CHECKING

from sessiond.core.copies import Copy, Pending, Role
from sessiond.core.pace import Pace
from sessiond.core.table import Table
from sessiond.core.types import Key

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

IN_USE_RETRY_S = 1.0
"""A session that a request holds is looked at again after this."""

STEP_S = 0.005
"""How often some end, of those that are due."""

LATE_S = 0.01
"""A step that comes so late slows the pace: the loop was busy, and every request waits as long as a step does."""

PACE_CUT = 0.7
"""What a late step leaves of the pace."""

PACE_MAX = 10_000.0
"""Sessions that end in a second at most: half of a core's time."""

PACE_MIN = 2000.0
"""Sessions per second however busy the node is: as many end as begin in the long run, so falling behind fills the memory."""

UNDER_WAY_MAX = 200
"""Writes sent and not acked on one link, beyond which no more sessions end for now."""

LOOKED_AT_PER_STEP = 500
"""Most deadlines looked at in a step: most may be of sessions used since."""


class Expiry:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._heap: list[tuple[float, Key]] = []
        self._watched: Table[None] = Table()
        self._next_at = machine.now
        self._pace = Pace(most=PACE_MAX, least=PACE_MIN, step_s=STEP_S, late_s=LATE_S, cut=PACE_CUT)

    def deadline(self, copy: Copy) -> float:
        """When a primary's session ends if it is not used again."""
        options = self._machine.options
        deadline = copy.accessed_at + options.idle_timeout_s
        if options.absolute_timeout_s > 0:
            deadline = min(deadline, copy.created_at + options.absolute_timeout_s)
        return deadline

    def watch(self, copy: Copy) -> None:
        if copy.key not in self._watched:
            self._watched[copy.key] = None
            deadline = self.deadline(copy)
            heapq.heappush(self._heap, (deadline, copy.key))
            self._machine.due(deadline)

    def next_deadline(self) -> float | None:
        return max(self._next_at, self._heap[0][0]) if self._heap else None

    def tick(self, now: float) -> None:
        heap = self._heap
        if not heap or heap[0][0] > now or now < self._next_at:
            return
        allowed = self._pace.step(now - max(self._next_at, heap[0][0]))
        if self._machine.links.under_way_max() > UNDER_WAY_MAX:
            allowed = 0
        for _ in range(LOOKED_AT_PER_STEP):
            if not heap or heap[0][0] > now:
                return
            if not allowed:
                break
            if self._look_at(heapq.heappop(heap)[1], now):
                allowed -= 1
                self._pace.did(1)
        self._next_at = now + STEP_S

    def _look_at(self, key: Key, now: float) -> bool:
        """End a session whose time is over; True if that has begun."""
        copy = self._machine.copies.get(key)
        if copy is None or copy.role is not Role.PRIMARY or copy.tombstone:
            self._watched.pop(key)
            return False
        deadline = self.deadline(copy)
        if deadline <= now and copy.leads.in_flight:
            self._machine.touches.note(copy)  # its backups must not take it for idle either
            deadline = max(self.deadline(copy), now + IN_USE_RETRY_S)
        if deadline <= now and not self._machine.lease.is_held():
            deadline = now + IN_USE_RETRY_S  # it may be in use where the majority is
        if deadline > now:
            heapq.heappush(self._heap, (deadline, key))
            return False
        self._watched.pop(key)
        self.end(copy)
        return True

    def end(self, copy: Copy) -> None:
        self._machine.stats.expired += 1
        self._machine.log("debug", "session.expired", key=copy.key.hex())
        self._machine.replication.begin_tombstone(copy, Pending(None, 0))
