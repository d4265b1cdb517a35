"""What the cluster does without being asked: mend lists, take over from the dead, hand over when leaving.

Work of a death or a drain is queued and done at a bounded rate, so that healthy users do not notice it;
what somebody waits for is done first and elsewhere (`Machine.life_ended`).
"""

from collections import deque
from typing import TYPE_CHECKING

from sessiond.core.copies import Role
from sessiond.core.options import UPKEEP_INTERVAL_S
from sessiond.core.types import Key, Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

LISTS_MENDED_AFTER_S = 0.1
"""Sessions that lost a backup, and that nobody writes to, wait so long for another: in the instants after a
death the users of the dead node come first."""


class Upkeep:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._next_at = machine.now
        self._next_touch_at = machine.now + machine.options.touch_interval_s
        self._queue: deque[Key] = deque()
        self._later: list[tuple[float, list[Key]]] = []

    @property
    def backlog(self) -> int:
        """Sessions queued for mending."""
        return len(self._queue) + sum(len(keys) for _, keys in self._later)

    def life_ended(self, life: Life) -> None:
        """Queue what the dead life leaves behind: lists that miss it now, sessions without a primary later."""
        machine = self._machine
        orphans, short_lists = [], []
        for copy in machine.copies.values():
            if copy.role is Role.PRIMARY:
                if life in copy.backups:
                    short_lists.append(copy.key)
            elif copy.term.owner == life:
                orphans.append(copy.key)
        # Hottest first: their users come soonest.
        self._queue_later(short_lists, LISTS_MENDED_AFTER_S)
        self._queue_later(orphans, machine.options.reprotect_delay_s)
        self._wake()

    def standing_changed(self, life: Life) -> None:
        """A member can take copies now, or wants to get rid of them."""
        machine = self._machine
        is_draining = machine.membership.is_draining
        if is_draining(life):
            keys = [c.key for c in machine.copies.values() if c.role is Role.PRIMARY and life in c.backups]
        else:
            # Those of a node that leaves may have waited for one that stays.
            leaving = {other for other in machine.membership.linked() if is_draining(other)}
            keys = list(machine.replication.unprotected)
            if leaving:
                keys += [
                    copy.key
                    for copy in machine.copies.values()
                    if copy.role is Role.PRIMARY and not leaving.isdisjoint(copy.backups)
                ]
        keys.sort(key=self._last_use, reverse=True)
        self._queue.extend(keys)
        self._wake()

    def look_after(self, key: Key) -> None:
        """Something about this session wants settling soon."""
        self._queue.append(key)
        self._wake()

    def _queue_later(self, keys: list[Key], delay_s: float) -> None:
        if keys:
            keys.sort(key=self._last_use, reverse=True)
            self._later.append((self._machine.now + delay_s, keys))

    def _last_use(self, key: Key) -> float:
        copy = self._machine.copies.get(key)
        return copy.accessed_at if copy is not None else 0.0

    def _wake(self) -> None:
        self._machine.due(self._next_at)

    def next_deadline(self) -> float:
        machine = self._machine
        replication = machine.replication
        busy = (
            self._queue
            or self._later
            or replication.waiting
            or replication.repairing
            or machine.takeover.granting
        )
        return min(self._next_at, self._next_touch_at) if busy or machine.draining else self._next_touch_at

    def tick(self, now: float) -> None:
        machine = self._machine
        if now >= self._next_touch_at:
            self._next_touch_at = now + machine.options.touch_interval_s
            machine.replication.flush_touches()
        if now < self._next_at:
            return
        elapsed_s = min(now - self._next_at, UPKEEP_INTERVAL_S) + UPKEEP_INTERVAL_S
        self._next_at = now + UPKEEP_INTERVAL_S
        for entry in [entry for entry in self._later if entry[0] <= now]:
            self._later.remove(entry)
            self._queue.extend(entry[1])
        self._mend(max(1, int(machine.options.reprotect_rate_max * elapsed_s)))
        self._nudge(now)
        if machine.draining:
            machine.drain.hand_over()

    def _mend(self, most: int) -> None:
        machine = self._machine
        for _ in range(min(most, len(self._queue))):
            copy = machine.copies.get(self._queue.popleft())
            if copy is None:
                continue
            if copy.role is Role.PRIMARY:
                machine.replication.maintain(copy)
            else:
                machine.lookup.resolve(copy.key)

    def _nudge(self, now: float) -> None:
        """Look at what should have been answered by now: resend, replace, give up on the dead."""
        machine = self._machine
        replication = machine.replication
        timeout_s = machine.options.ack_timeout_s
        if machine.lease.lost_for_s > machine.options.lease_s:
            replication.give_up_waiting()
            machine.lookup.give_up_waiting()
        for key in [key for key, since in replication.waiting.items() if now - since > timeout_s]:
            copy = machine.copies.get(key)
            if copy is not None and copy.role is Role.PRIMARY:
                replication.maintain(copy)
        for key in [key for key, seen in replication.repairing.items() if now - seen >= UPKEEP_INTERVAL_S]:
            del replication.repairing[key]
            copy = machine.copies.get(key)
            if copy is not None and copy.role is Role.PRIMARY:
                replication.maintain(copy)
        for key in list(machine.takeover.granting):
            copy = machine.copies.get(key)
            if copy is not None and copy.is_granting:
                machine.takeover.continue_grant(copy)
            else:
                machine.takeover.granting.pop(key, None)
