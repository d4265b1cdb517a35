"""Copies for sessions that have too few: what a death or a drain leaves behind, mended without a request.

Owns the queue of such sessions, hottest first, the pace at which it is worked off, and the estimate of the
seconds left. Invariant: `seconds_left` is an upper bound as long as no further member fails: sessions in the
queue at the pace that is really reached, times `MARGIN`, and then time for the last copies to be applied. How a list is mended is
`replication`'s business, who takes over `takeover`'s; what somebody waits for is done first and elsewhere
(`Machine.life_ended`).

The pace exists for the healthy users, whose requests run in the same loop (`pace`): the queue is worked off in
steps of a few sessions. A step is skipped while too many copies are under way, so that a receiver that is busy slows
those who send to it.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from sessiond.core.aftermath import Backlog, Finds, Sweep
from sessiond.core.copies import Copy, Role
from sessiond.core.options import UPKEEP_INTERVAL_S
from sessiond.core.pace import Pace
from sessiond.core.table import Table
from sessiond.core.types import Key, Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

STEP_S = 0.005
"""How often a part of the queue is done: at the usual pace a millisecond's work, which no request notices."""

LATE_S = 0.003
"""A step that comes so late slows the pace: the loop was busy, and every request waits as long as a step does."""

PACE_CUT = 0.7
"""What a late step leaves of the pace."""

PACE_MIN = 500.0
"""Sessions per second however busy the node is: a second death must not find everything undone."""

PACE_AT_FIRST = 0.15
"""Of `reprotect_rate_max`: how much the loop can bear shows only when it begins, and the users of the dead node are
just being taken over. So the first estimate is a cautious one: it holds at the least pace, too."""

UNDER_WAY_MAX = 200
"""Copies sent and not acked on one link, beyond which the queue waits: some 40 ms of a busy receiver's work."""

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
        self._queue = Backlog()
        self._later: list[tuple[float, Finds]] = []
        self._sweeps: deque[tuple[Sweep, Callable[[], None]]] = deque()
        """What is being gone through, with what is to be done when that ends."""

        self._next_at = machine.now
        rate_max = float(machine.options.reprotect_rate_max)
        self._pace = Pace(most=rate_max, least=PACE_MIN, step_s=STEP_S, late_s=LATE_S, cut=PACE_CUT)
        self._reached = self._pace.rate
        self.orphans: Table[None] = Table()
        """Sessions of a dead primary that this node is the one to take over."""

        self._began_at: float | None = None
        self._sessions = 0
        self._estimate_s = 0.0

    @property
    def backlog(self) -> int:
        """Sessions queued for mending."""
        return len(self._queue) + sum(finds.count for _, finds in self._later)

    @property
    def is_taking_over(self) -> bool:
        """Whether there are sessions of a dead primary for this node to take over, or there may be."""
        return bool(self.orphans) or bool(self._sweeps)

    @property
    def unprotected(self) -> int:
        """Sessions here with too few backups in step, and those to be taken over. Not 0 before all have been counted."""
        known = len(self._machine.lists.unprotected) + len(self.orphans)
        return max(1, known) if self._sweeps else known

    @property
    def seconds_left(self) -> float:
        """Until every session here has its copies again; infinite if no node could take one."""
        machine = self._machine
        if not self.unprotected:
            return 0.0
        if not machine.candidates.members():
            return math.inf
        wait_s = max((at - machine.now for at, _ in self._later), default=0.0)
        pace = max(1.0, min(self._pace.rate, self._reached))
        settle_s = 2 * machine.options.ack_timeout_s + 2 * UPKEEP_INTERVAL_S  # one slow newcomer is replaced
        most = self.backlog + sum(sweep.unseen for sweep, _ in self._sweeps)
        return max(0.0, wait_s) + MARGIN * most / pace + settle_s

    # --- what comes in ---------------------------------------------------------------------------------

    def life_ended(self, life: Life) -> None:
        """Queue what the dead life leaves behind: lists that miss it now, sessions without a primary later."""
        machine = self._machine
        short_lists, orphans = Finds(), Finds()

        def look(copy: Copy) -> Finds | None:
            if copy.role is Role.PRIMARY:
                if life not in copy.backups:
                    return None
                if machine.lists.in_step(copy, without=life) < machine.candidates.least:
                    machine.lists.unprotected[copy.key] = None
                return short_lists
            if copy.term.owner != life:
                return None
            if copy.role is Role.BACKUP and machine.takeover.arbiter(copy) == machine.life:
                self.orphans[copy.key] = None
            return orphans

        mend_at = machine.now + LISTS_MENDED_AFTER_S
        take_over_at = machine.now + machine.options.reprotect_delay_s

        def queue() -> None:
            self._later += [
                (at, finds) for at, finds in ((mend_at, short_lists), (take_over_at, orphans)) if finds.count
            ]

        self._sweep(look, queue)

    def standing_changed(self, life: Life) -> None:
        """A member can take copies now, or wants to get rid of them."""
        machine = self._machine
        is_draining = machine.membership.is_draining
        unprotected = machine.lists.unprotected
        if is_draining(life):
            leaving, waiting = {life}, False
        else:
            # Those of a node that leaves may have waited for one that stays.
            leaving, waiting = {other for other in machine.membership.linked() if is_draining(other)}, True
        belongs_everywhere = machine.candidates.belongs_everywhere(life)
        if not leaving and not unprotected and not belongs_everywhere:
            return
        finds = Finds()

        def look(copy: Copy) -> Finds | None:
            if copy.role is not Role.PRIMARY:
                return None
            is_short = waiting and copy.key in unprotected
            is_short |= belongs_everywhere and life not in copy.backups
            return finds if is_short or not leaving.isdisjoint(copy.backups) else None

        self._sweep(look, lambda: self._queue.extend(finds))

    def look_after(self, key: Key) -> None:
        """Something about this session wants settling soon."""
        self._queue.append(key)
        self._machine.due(self._next_at)

    def _sweep(self, look: Callable[[Copy], Finds | None], then: Callable[[], None]) -> None:
        self._sweeps.append((Sweep(self._machine.copies, look), then))
        self._machine.due(self._next_at)
        if len(self._sweeps) == 1:
            self._sweep_on()

    def _sweep_on(self) -> None:
        sweep, then = self._sweeps[0]
        if sweep.go_on(self._machine.now):
            self._sweeps.popleft()
            then()
            self._begin()

    def _begin(self) -> None:
        """Say what is ahead, if there is anything; what comes on top of it is said too."""
        machine = self._machine
        if not self.backlog or not self.unprotected:
            return
        if self._began_at is None:
            self._began_at = machine.now
            self._pace.begin(PACE_AT_FIRST * self._pace.most)
            self._reached = self._pace.rate
        self._sessions = self.unprotected
        self._estimate_s = self.seconds_left
        machine.log(
            "info", "reprotection.began", sessions=self._sessions, estimate_s=_shown(self._estimate_s)
        )

    # --- time ------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        if self._queue or self._sweeps:
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
        if self._sweeps:
            self._sweep_on()
        elif self._queue:
            self._step(late_s)
        elif self._began_at is not None and not self._later and not self.unprotected:
            self._end(self._began_at)

    def _step(self, late_s: float) -> None:
        allowed = self._pace.step(late_s)
        done = 0
        if self._machine.links.under_way_max() <= UNDER_WAY_MAX:
            done = min(allowed, len(self._queue))
            self._pace.did(done)
            self._mend(done)
        if self._queue:  # the last step says nothing of what could have been done
            elapsed_s = STEP_S + late_s
            weight = min(1.0, elapsed_s / MEASURED_OVER_S)
            self._reached += weight * (done / elapsed_s - self._reached)
        else:
            self._reached = self._pace.rate

    def _mend(self, most: int) -> None:
        machine = self._machine
        for _ in range(most):
            copy = machine.copies.get(self._queue.popleft())
            if copy is None:
                continue
            if copy.role is Role.PRIMARY:
                machine.lists.maintain(copy)
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
