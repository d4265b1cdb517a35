"""Entries of the directory that nobody holds any more: the owner was lost, and the backups with it, or they had no copy yet.

Nobody announces such an end, so every node goes through its own directory now and then, a few buckets at a time. An
entry whose owner's life is over is asked about: WHO, to every member. Invariant: an entry is forgotten only
when all that could hold the session have answered that they do not (under majority: when everyone is accounted
for), and nothing was heard of it meanwhile. A quarantined copy anywhere keeps it.

An entry like that is no more than a hint that leads nowhere, so forgetting one too many would cost a look-up, not a
session. Who knows that it leads nowhere tells the others (`denials`), so that they do not teach it back; a tombstone
would be wrong, as it ends a session for good, and a member that is cut off may come back with a copy.
"""

from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.directory import BUCKETS
from sessiond.core.types import Key, Life, Location

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

ROUND_INTERVAL_S = 60.0
"""Time between two rounds through the directory: far longer than a failover, which settles most of what it finds."""

STEP_S = 0.1

STEP_BUCKETS = 16
"""Most buckets looked at in a step: a round takes half a minute."""

STEP_ENTRIES = 1500
"""Entries after which no further bucket is looked at in a step: a millisecond; a round through a million takes longer."""

ASKED_PER_STEP = 20
"""Sessions that all members together ask about in a step, so that each is asked 200 times a second at most."""

ANSWER_WAIT_S = 1.0
"""Who has not answered by then is asked again in the next round."""


class _Question:
    """A session that is asked about, and who has not answered yet."""

    __slots__ = ("asked", "location", "silent", "until")

    def __init__(self, location: Location, asked: frozenset[Life], until: float) -> None:
        self.location = location
        self.asked = asked
        self.silent = set(asked)
        self.until = until


class Forgetting:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._next_at = machine.now + ROUND_INTERVAL_S
        self._bucket = 0
        self._lost: list[tuple[Key, Location]] = []
        """Found in the buckets so far, and to be asked about."""

        self._allowed = 0.0
        self._asked: dict[Key, _Question] = {}

    def next_deadline(self) -> float:
        return self._next_at

    def tick(self, now: float) -> None:
        if now < self._next_at:
            return
        for key in [key for key, question in self._asked.items() if question.until <= now]:
            del self._asked[key]
        if not self._lost and self._bucket < BUCKETS:
            self._look()
        self._ask()
        is_over = self._bucket >= BUCKETS and not self._lost and not self._asked
        if is_over:
            self._bucket = 0
        self._next_at = now + (ROUND_INTERVAL_S if is_over else STEP_S)

    def _look(self) -> None:
        machine = self._machine
        end = min(self._bucket + STEP_BUCKETS, BUCKETS)
        seen = 0
        while self._bucket < end and seen < STEP_ENTRIES:
            entries = machine.directory.bucket(self._bucket)
            self._lost += [
                (key, location)
                for key, location in entries
                if not location.gone
                and key not in machine.copies
                and machine.membership.is_dead(location.term.owner)
            ]
            self._bucket += 1
            seen += len(entries)

    def _ask(self) -> None:
        machine = self._machine
        alive = machine.membership.alive()
        self._allowed = min(self._allowed + ASKED_PER_STEP / (len(alive) + 1), ASKED_PER_STEP)
        while self._lost and self._allowed >= 1.0:
            key, location = self._lost.pop()
            if machine.directory.get(key) != location:
                continue  # somebody has taken it over since
            self._allowed -= 1.0
            self._asked[key] = _Question(location, frozenset(alive), machine.now + ANSWER_WAIT_S)
            machine.send(tuple(alive), m.Who(key, 0))
            self._conclude(key)

    def on_here(self, life: Life, here: m.Here) -> None:
        question = self._asked.get(here.key)
        if question is None or here.round != 0:
            return
        if here.held is not None:
            del self._asked[here.key]
            return
        question.silent.discard(life)
        self._conclude(here.key)

    def _conclude(self, key: Key) -> None:
        machine = self._machine
        question = self._asked[key]
        if question.silent:
            return
        del self._asked[key]
        everybody = question.asked == frozenset(machine.membership.alive())
        if not everybody or not machine.lease.is_held() or machine.membership.unaccounted():
            return
        if machine.directory.get(key) == question.location and not (
            key in machine.copies or key in machine.lookup
        ):
            machine.directory.forget(key)
            machine.denials.deny(key, question.location.term, question.location.seq)
            machine.stats.entries_forgotten += 1
