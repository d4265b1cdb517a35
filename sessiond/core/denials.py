"""Entries of the directory that lead nowhere: whoever knows that nobody holds the session tells the others.

The owner knows it of what it has put away in the store, and of what it is named for and knows nothing of: nobody
remembers an end for ever, but a node that was away keeps the entry, and comparing directories teaches it to all
others again. Of the sessions of the dead whoever has asked everybody knows it (`forgetting`). An entry of that term,
or of an older one, is to be forgotten.

An entry is a hint, so forgetting one too many costs a look-up, not a session. Where nodes ask for locations nobody
keeps entries without need. Invariant: denied is only what this node neither holds nor, by then, has an entry of.
"""

from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.copies import Role
from sessiond.core.options import LOCATION_BATCH_S, SNAPSHOT_CHUNK
from sessiond.core.types import Key, Life, Location, Term

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Denials:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._told: dict[Key, tuple[Term, int]] = {}
        self._tell_at: float | None = None

    def deny(self, key: Key, term: Term, seq: int) -> None:
        """Nobody holds this session: whoever has an entry of it, not newer than that, is to forget it."""
        machine = self._machine
        if machine.asks_for_locations:
            return
        machine.directory.forget(key)
        self._told[key] = (term, seq)
        if self._tell_at is None:
            self._tell_at = machine.now + LOCATION_BATCH_S
            machine.due(self._tell_at)

    def next_deadline(self) -> float | None:
        return self._tell_at

    def tick(self, now: float) -> None:
        if self._tell_at is None or now < self._tell_at:
            return
        self._tell_at = None
        entries = [(key, term, seq) for key, (term, seq) in self._told.items()]
        self._told.clear()
        for start in range(0, len(entries), SNAPSHOT_CHUNK):
            message = m.Denied(tuple(entries[start : start + SNAPSHOT_CHUNK]))
            self._machine.send(self._machine.membership.linked(), message)

    def on_denied(self, life: Life, denied: m.Denied) -> None:
        machine = self._machine
        for key, term, seq in denied.entries:
            copy = machine.copies.get(key)
            if copy is not None:
                # Its primary, in the same term and life, knows nothing of it: the end of it never came here.
                if (
                    copy.role is not Role.BACKUP
                    or copy.is_granting
                    or copy.term != term
                    or term.owner != life
                ):
                    continue
                machine.drop_copy(key)
            location = machine.directory.get(key)
            if location is not None and not location.gone and (location.term, location.seq) <= (term, seq):
                machine.directory.forget(key)

    def denies(self, key: Key, location: Location) -> bool:
        """Whether a location that is told here names this life as owner, though it knows nothing of the session."""
        machine = self._machine
        if (
            location.term.owner != machine.life
            or location.gone
            or machine.asks_for_locations
            or key in machine.copies
            or machine.directory.get(key) is not None
        ):
            return False
        self.deny(key, location.term, location.seq)
        return True
