"""A node that stood still asks before it acts (protocol 1.6).

Stopped, suspended or starved for longer than a lease, this node may have been declared dead meanwhile, and others
may own its sessions by now. So at the first sign of the gap, at the entry of whatever verb comes first, nothing is
processed: input is queued, and every member that was alive is asked whether this life still counts. All of those
that can be reached say yes: the queue is worked off, in order. One says no, or does not answer: this node goes on
in another life, with every copy in doubt before anything else happens; what the links of the old life brought is
dropped, what the application asked is done.

Rejoining needlessly does no harm, acting needlessly does. So silence is taken for a no.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.types import Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

STANDING_WAIT_S = 0.5
"""Members get so long to answer. Users wait meanwhile; after it, copies are validated one by one."""

HELD_MAX = 100_000
"""Inputs kept while waiting; with more of them the node rejoins, and drops those of its links."""


class StallGuard:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._asked: dict[Life, None] = {}
        self._held: deque[tuple[bool, Callable[[], None]]] = deque()
        self._deadline: float | None = None

    @property
    def is_active(self) -> bool:
        return self._deadline is not None

    def begin(self, gap_s: float) -> None:
        """This node stood still for `gap_s`."""
        machine = self._machine
        machine.stats.stalls += 1
        machine.log("warning", "node.stood_still", seconds=round(gap_s, 3))
        self._asked = dict.fromkeys(machine.membership.alive())
        self._deadline = machine.now + STANDING_WAIT_S
        for life in self._asked:
            if machine.membership.is_linked(life):
                machine.send((life,), m.StandingAsk())
        self._settle()

    def hold(self, again: Callable[[], None], *, of_link: bool = False) -> None:
        """Do this later. `of_link`: it belongs to a link of this life, and is void in another one."""
        self._held.append((of_link, again))
        if len(self._held) > HELD_MAX:
            self.rejoin("too much came in meanwhile")

    def next_deadline(self) -> float | None:
        return self._deadline

    def tick(self, now: float) -> None:
        if self._deadline is not None and now >= self._deadline:
            silent = ", ".join(sorted(str(life) for life in self._asked))
            self.rejoin(f"after a standstill {silent} did not say that this life still counts")

    def link_opened(self, life: Life) -> None:
        """A member can be asked now."""
        if life in self._asked:
            self._machine.send((life,), m.StandingAsk())

    def process_gone(self, address: str) -> None:
        """Nobody listens there any more, so nobody there can have taken this node for dead."""
        members = self._machine.membership.members
        for life in [life for life in self._asked if members[life.name].address == address]:
            del self._asked[life]
        self._settle()

    def answered(self, life: Life, *, counts: bool) -> None:
        if not counts:
            self.rejoin(f"{life} says that this life does not count any more")
        else:
            self._asked.pop(life, None)
            self._settle()

    def _settle(self) -> None:
        if self.is_active and not self._asked:
            self._machine.log("info", "node.goes_on", after="a standstill")
            self._release(of_links=True)

    def rejoin(self, why: str) -> None:
        """Go on in another life."""
        self._deadline = None
        self._machine.rejoin(self._machine.life.incarnation, why)

    def life_began(self) -> None:
        """This node is in another life now: copies are in doubt, links are gone."""
        self._release(of_links=False)

    def _release(self, *, of_links: bool) -> None:
        self._deadline = None
        self._asked.clear()
        self._machine.due(self._machine.now)
        held, self._held = self._held, deque()
        for of_link, again in held:
            if of_links or not of_link:
                again()
