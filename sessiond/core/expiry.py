"""When sessions end by themselves. Only the primary expires; the end is a write like any other.

One heap entry per primary, with the deadline as it was when the entry was made; a session used since then
is simply looked at again later. For the successor of a primary that died, a session was used when it took over:
its predecessor may have served it to the end, and told of that nobody any more. Late expiry is harmless, early
expiry is a broken promise.
"""

import heapq
from typing import TYPE_CHECKING

from sessiond.core.copies import Copy, Pending, Role
from sessiond.core.types import Key

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

IN_USE_RETRY_S = 1.0
"""A session that a request holds is looked at again after this."""

ENDED_PER_TICK = 500
"""Sessions ended in one go, so that a burst of expiries does not stall the loop."""


class Expiry:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._heap: list[tuple[float, Key]] = []
        self._watched: set[Key] = set()

    def deadline(self, copy: Copy) -> float:
        """When a primary's session ends if it is not used again."""
        options = self._machine.options
        deadline = copy.accessed_at + options.idle_timeout_s
        if options.absolute_timeout_s > 0:
            deadline = min(deadline, copy.created_at + options.absolute_timeout_s)
        return deadline

    def watch(self, copy: Copy) -> None:
        if copy.key not in self._watched:
            self._watched.add(copy.key)
            deadline = self.deadline(copy)
            heapq.heappush(self._heap, (deadline, copy.key))
            self._machine.due(deadline)

    def next_deadline(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def tick(self, now: float) -> None:
        for _ in range(ENDED_PER_TICK):
            if not self._heap or self._heap[0][0] > now:
                return
            _, key = heapq.heappop(self._heap)
            copy = self._machine.copies.get(key)
            if copy is None or copy.role is not Role.PRIMARY or copy.tombstone:
                self._watched.discard(key)
                continue
            deadline = self.deadline(copy)
            if deadline <= now and copy.leads.in_flight:
                self._machine.touches.note(copy)  # its backups must not take it for idle either
                deadline = max(self.deadline(copy), now + IN_USE_RETRY_S)
            if deadline <= now and not self._machine.lease.is_held():
                deadline = now + IN_USE_RETRY_S  # it may be in use where the majority is
            if deadline > now:
                heapq.heappush(self._heap, (deadline, key))
                continue
            self._watched.discard(key)
            self.end(copy)

    def end(self, copy: Copy) -> None:
        self._machine.stats.expired += 1
        self._machine.log("debug", "session.expired", key=copy.key.hex())
        self._machine.replication.begin_tombstone(copy, Pending(None, 0))
