"""Copies for sessions that have too few: what a death or a drain leaves behind, mended without a request.

Owns the queue of such sessions, hottest first, the pace at which it is worked off, and the estimate of the
seconds left. Invariant: `seconds_left` is an upper bound as long as no further member fails: sessions in the
queue at the pace that is really reached, times `MARGIN`, and then time for the last copies to be applied. How a list is mended is
`replication`'s business, who takes over `takeover`'s; what somebody waits for is done first and elsewhere
(`Machine.life_ended`).

The pace exists for the healthy users, whose requests run in the same loop. So the queue is worked off in
small steps; the pace is halved when a step comes late, which means that the loop has more to do than it can,
and grows again towards `reprotect_rate_max`; and a step is skipped while too many copies are under way.
"""

import math
from collections import deque
from typing import TYPE_CHECKING

from sessiond.core.copies import Role
from sessiond.core.options import UPKEEP_INTERVAL_S
from sessiond.core.types import Key, Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

STEP_S = 0.01
"""How often a part of the queue is done: a step of 50 sessions holds up a request for a few milliseconds."""

LATE_S = 0.02
"""A step that comes so late, because the loop was busy, halves the pace: requests wait as long as a step does."""

PACE_MIN = 200.0
"""Sessions per second however busy the node is: a second death must not find everything undone."""

PACE_GROWTH = 1.02
"""Per step that was in time: twice the pace in a third of a second."""

PACE_AT_FIRST = 0.25
"""Of `reprotect_rate_max`: how much the loop can bear shows only when it begins, and the users of the dead node are
just being taken over. So the first estimate is a cautious one: with the loop to itself it takes a third of that."""

UNDER_WAY_MAX = 2000
"""Copies sent and not acked on one link, beyond which the queue waits: the receiver is what is slow."""

LISTS_MENDED_AFTER_S = 0.1
"""Sessions that lost a backup, and that nobody writes to, wait so long for another: in the instants after a
death the users of the dead node come first."""

MARGIN = 1.5
"""Of the estimate, over the queue at the present pace: users' requests and other nodes' work share the loop, and may slow it."""

MEASURED_OVER_S = 1.0
"""The reached pace is averaged over about this."""


class Reprotection:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._queue: deque[Key] = deque()
        self._later: list[tuple[float, list[Key]]] = []
        self._next_at = machine.now
        self._pace = float(machine.options.reprotect_rate_max)
        self._reached = self._pace
        self._due = 0.0
        self.orphans: set[Key] = set()
        """Sessions of a dead primary that this node is the one to take over."""

        self._began_at: float | None = None
        self._sessions = 0
        self._estimate_s = 0.0

    @property
    def backlog(self) -> int:
        """Sessions queued for mending."""
        return len(self._queue) + sum(len(keys) for _, keys in self._later)

    @property
    def seconds_left(self) -> float:
        """Until every session here has its copies again; infinite if no node could take one."""
        machine = self._machine
        if not machine.unprotected:
            return 0.0
        if not machine.membership.backup_candidates():
            return math.inf
        wait_s = max((at - machine.now for at, _ in self._later), default=0.0)
        pace = max(1.0, min(self._pace, self._reached))
        settle_s = 2 * machine.options.ack_timeout_s + 2 * UPKEEP_INTERVAL_S  # one slow newcomer is replaced
        return max(0.0, wait_s) + MARGIN * self.backlog / pace + settle_s

    # --- what comes in ---------------------------------------------------------------------------------

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
                if copy.role is Role.BACKUP and machine.takeover.arbiter(copy) == machine.life:
                    self.orphans.add(copy.key)
        if machine.options.copies:
            machine.replication.unprotected.update(dict.fromkeys(short_lists))
        # Hottest first: their users come soonest.
        self._queue_later(short_lists, LISTS_MENDED_AFTER_S)
        self._queue_later(orphans, machine.options.reprotect_delay_s)
        self._begin()

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
        self._begin()

    def look_after(self, key: Key) -> None:
        """Something about this session wants settling soon."""
        self._queue.append(key)
        self._machine.due(self._next_at)

    def _queue_later(self, keys: list[Key], delay_s: float) -> None:
        if keys:
            keys.sort(key=self._last_use, reverse=True)
            self._later.append((self._machine.now + delay_s, keys))

    def _last_use(self, key: Key) -> float:
        copy = self._machine.copies.get(key)
        return copy.accessed_at if copy is not None else 0.0

    def _begin(self) -> None:
        """Say what is ahead, if there is anything; what comes on top of it is said too."""
        machine = self._machine
        machine.due(self._next_at)
        if not self.backlog or not machine.unprotected:
            return
        if self._began_at is None:
            self._began_at = machine.now
            self._pace = self._reached = PACE_AT_FIRST * machine.options.reprotect_rate_max
        self._sessions = machine.unprotected
        self._estimate_s = self.seconds_left
        machine.log(
            "info", "reprotection.began", sessions=self._sessions, estimate_s=_shown(self._estimate_s)
        )

    # --- time ------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        if self._queue:
            return self._next_at
        if self._later:
            return max(self._next_at, min(at for at, _ in self._later))
        return self._next_at + UPKEEP_INTERVAL_S if self._began_at is not None else None

    def tick(self, now: float) -> None:
        if now < self._next_at:
            return
        late_s = now - self._next_at if self._queue else 0.0
        self._next_at = now + STEP_S
        for entry in [entry for entry in self._later if entry[0] <= now]:
            self._later.remove(entry)
            self._queue.extend(entry[1])
        if self._queue:
            self._step(late_s)
        elif self._began_at is not None and not self._later and not self._machine.unprotected:
            self._end(self._began_at)

    def _step(self, late_s: float) -> None:
        rate_max = float(self._machine.options.reprotect_rate_max)
        if late_s > LATE_S:
            self._pace = max(min(PACE_MIN, rate_max), self._pace / 2)
        else:
            self._pace = min(rate_max, self._pace * PACE_GROWTH)
        elapsed_s = STEP_S + late_s
        # What a late step missed is not made up for: that would be the burst that the pace is to prevent.
        self._due = min(self._due + self._pace * STEP_S, max(1.0, self._pace * 2 * STEP_S))
        done = 0
        if all(ledger.under_way <= UNDER_WAY_MAX for ledger in self._machine.ledgers.values()):
            done = min(int(self._due), len(self._queue))
            self._due -= done
            self._mend(done)
        if self._queue:  # the last step says nothing of what could have been done
            weight = min(1.0, elapsed_s / MEASURED_OVER_S)
            self._reached += weight * (done / elapsed_s - self._reached)
        else:
            self._reached = self._pace

    def _mend(self, most: int) -> None:
        machine = self._machine
        for _ in range(most):
            copy = machine.copies.get(self._queue.popleft())
            if copy is None:
                continue
            if copy.role is Role.PRIMARY:
                machine.replication.maintain(copy)
            else:
                machine.lookup.resolve(copy.key)

    def _end(self, began_at: float) -> None:
        machine = self._machine
        self._began_at = None
        machine.log(
            "info",
            "reprotection.ended",
            sessions=self._sessions,
            seconds=round(machine.now - began_at, 3),
            estimate_s=_shown(self._estimate_s),
        )


def _shown(seconds: float) -> float | None:
    """Infinite is null where people and programs read it."""
    return round(seconds, 3) if math.isfinite(seconds) else None
