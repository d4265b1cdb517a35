"""Backups go to where `placement` wants them: a node that joined gets its share, a zone that came back too.

Owns when that happens and how fast. Invariants: nothing moves while a session anywhere is known to be
unprotected, nor before the members have been the same for `rebalance_after_s`, so that a flapping node causes
no churn; a change of the members ends the run, and the next one starts from what is then. A move adds first and
releases after (`lists.move`), so it never costs a copy. The primaries stay where their users are.

It is never urgent. So its pace (`pace`) starts low, halves at the least sign of a loop that has other things to do,
down to next to nothing; and it waits for those who are to take what it has sent already.
"""

from collections import deque
from typing import TYPE_CHECKING

from sessiond.core.copies import Role
from sessiond.core.pace import Pace
from sessiond.core.table import Walk
from sessiond.core.types import Key, Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

LOOK_S = 0.25
"""How often the members are compared with what they were."""

STEP_S = 0.01
"""How often a running rebalancing goes on."""

LATE_S = 0.0015
"""A step that comes so late, because the loop was busy, slows the pace."""

PACE_CUT = 0.5
"""What a late step leaves of the pace."""

PACE_MIN = 100.0
"""Moves per second however busy the node is: even so it comes to an end."""

PACE_AT_FIRST = 0.2
"""Of `rebalance_rate_max`."""

UNDER_WAY_MAX = 20
"""Copies sent and not acked on one link, beyond which nothing more moves."""

RANKED_PER_STEP = 40
"""Sessions whose placement is worked out in one step, half a millisecond, whether they move or not."""

LOOKED_AT_PER_STEP = 2000
"""Most copies looked at in a step, to find this node's sessions among them."""


class Rebalancing:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._next_at = machine.now
        self._standing: frozenset[tuple[Life, str]] = frozenset()
        self._start_at: float | None = None
        self._walk: Walk | None = None
        """Through all copies; None: all have been looked at."""

        self._keys: deque[Key] = deque()
        """Sessions that come next, found by the walk."""

        self._busy: list[Key] = []
        """Sessions that were in the midst of a write: looked at again after `LOOK_S`."""

        self._began_at = 0.0
        self._moved = 0
        rate_max = float(machine.options.rebalance_rate_max)
        self._pace = Pace(most=rate_max, least=PACE_MIN, step_s=STEP_S, late_s=LATE_S, cut=PACE_CUT)

    @property
    def backlog(self) -> int:
        """Sessions whose placement is still to be looked at, or copies that may be such."""
        unseen = self._walk.unseen if self._walk is not None else 0
        return unseen + len(self._keys) + len(self._busy)

    def next_deadline(self) -> float:
        return self._next_at

    def tick(self, now: float) -> None:
        if now < self._next_at:
            return
        late_s = now - self._next_at if self._is_under_way else 0.0
        machine = self._machine
        standing = machine.candidates.standing()
        if standing != self._standing:
            self._abandon()
            self._standing = standing
            self._start_at = now + machine.options.rebalance_after_s
        if self._start_at is not None and now >= self._start_at and self._may_move():
            self._start_at = None
            self._begin()
        if not self._is_under_way:
            self._keys.extend(self._busy)
            self._busy.clear()
        if self._is_under_way and self._may_move():
            self._step(late_s)
        self._next_at = now + (STEP_S if self._is_under_way else LOOK_S)

    @property
    def _is_under_way(self) -> bool:
        return bool(self._keys) or self._walk is not None

    def _may_move(self) -> bool:
        machine = self._machine
        if machine.draining or not machine.may_act or machine.unprotected:
            return False
        statuses = (member.status for member in machine.membership.members.values() if member.is_alive)
        return not any(status is not None and status.unprotected for status in statuses)

    def _begin(self) -> None:
        machine = self._machine
        self._began_at, self._moved = machine.now, 0
        self._pace.begin(PACE_AT_FIRST * self._pace.most)
        sessions = machine.copies.counts[Role.PRIMARY]
        if sessions:
            self._walk = machine.copies.walk()
            machine.log("info", "rebalancing.began", sessions=sessions)

    def _find(self) -> None:
        """Look for this node's sessions among the next copies."""
        if self._walk is None or len(self._keys) >= RANKED_PER_STEP:
            return
        get = self._machine.copies.get
        copies = (get(key) for key in self._walk.take(LOOKED_AT_PER_STEP))
        self._keys.extend(copy.key for copy in copies if copy is not None and copy.role is Role.PRIMARY)
        if self._walk.is_over:
            self._walk = None

    def _step(self, late_s: float) -> None:
        machine = self._machine
        self._find()
        allowed = self._pace.step(late_s)
        if machine.links.under_way_max() > UNDER_WAY_MAX:
            return
        for _ in range(min(RANKED_PER_STEP, len(self._keys))):
            if not allowed:
                return
            if self._look_at(self._keys.popleft()):
                allowed -= 1
                self._pace.did(1)
        if not self.backlog:
            seconds = round(machine.now - self._began_at, 3)
            machine.log("info", "rebalancing.ended", moved=self._moved, seconds=seconds)

    def _look_at(self, key: Key) -> bool:
        """Move what is not where it should be; True if that has begun."""
        machine = self._machine
        copy = machine.copies.get(key)
        if copy is None or copy.role is not Role.PRIMARY or copy.tombstone:
            return False
        better = machine.lists.misplaced(copy)
        if not better:
            return False
        if not machine.lists.move(copy, better):
            self._busy.append(key)
            return False
        self._moved += 1
        machine.stats.rebalanced += 1
        return True

    def _abandon(self) -> None:
        if self.backlog:
            self._machine.log("info", "rebalancing.abandoned", moved=self._moved, left=self.backlog)
            self._walk = None
            self._keys.clear()
            self._busy.clear()
