"""What this node learns of where sessions live, and what that means for the copies that it holds (protocol 3.2 to 3.4).

Invariant: the directory never goes back to an older location, and no copy acts on after a location that leaves it
out. What the node itself has to say is `announcements`' business.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.copies import Copy, Role
from sessiond.core.types import Key, Life, Location, Term

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Locating:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._parted: dict[Key, float] = {}
        """Where nodes ask for locations: what was given up lately, and until when its location is kept, oldest first."""

    def next_deadline(self) -> float | None:
        return next(iter(self._parted.values()), None)

    def tick(self, now: float) -> None:
        while self._parted:
            key, until = next(iter(self._parted.items()))
            if until > now:
                break
            del self._parted[key]
            self.forget_if_unneeded(key)

    def on_locations(self, life: Life, message: m.Locations) -> None:
        self.learn(message.entries)
        ended: list[tuple[Key, Location]] = []
        for key, location in message.entries:
            known = self._machine.directory.get(key)
            if known is not None and known.gone and not location.gone:
                ended.append((key, known))  # the sender was away when the session ended
        if ended:
            self._machine.send((life,), m.Locations(tuple(ended)))

    def learn(self, entries: Iterable[tuple[Key, Location]]) -> int:
        """Take what another node says of any number of sessions; how many were news."""
        news = 0
        for key, location in entries:
            news += self.merge(key, location)
            self._machine.lookup.resolve(key)
        return news

    def merge(self, key: Key, location: Location) -> bool:
        """Learn where a session lives; whether it was news."""
        machine = self._machine
        if machine.denials.denies(key, location):
            return False
        if not machine.directory.merge(key, location, machine.now):
            return False
        if location.gone:
            machine.takeover.forget(key)
        copy = machine.copies.get(key)
        if copy is None:
            self.forget_if_unneeded(key)
        elif location.gone:
            if machine.storing is not None:
                machine.storing.ended_elsewhere(copy, location)
            if copy.role is Role.PRIMARY:
                machine.announcements.add(key, location, copy.backups)  # they may not have heard either
            else:
                machine.takeover.tell_superseded(copy, location)
            machine.drop_copy(key)
        elif location.term > copy.term:
            self._superseded(copy, location)
        elif location.term == copy.term and location.seq > copy.seq and copy.role is Role.BACKUP:
            self._list_changed(copy, location)
        return True

    def _superseded(self, copy: Copy, location: Location) -> None:
        machine = self._machine
        listed = machine.life in location.backups
        granted_here = location.term.owner == machine.life and copy.is_granting
        if not listed and not granted_here and copy.role is not Role.QUARANTINED:
            machine.quarantine(copy)

    def _list_changed(self, copy: Copy, location: Location) -> None:
        machine = self._machine
        if machine.life in location.backups:
            copy.backups, copy.seq = location.backups, location.seq
            if copy.leadership is not None:
                machine.takeover.grant_ended(copy, location)
        elif not copy.is_granting:
            machine.quarantine(copy)

    def parting(self, key: Key, term: Term) -> None:
        """This node gives its copy up, for the session lives on in this term. Who asks everybody must hear so here.

        Its new primary may have answered before it was that. Its own word is as good once it comes, but may be late.
        """
        machine = self._machine
        machine.directory.merge(key, Location(term, 0, ()), machine.now)
        if machine.asks_for_locations:
            self._parted.pop(key, None)
            until = self._parted[key] = (
                machine.now + machine.options.request_wait_s
            )  # as long as anybody asks
            machine.due(until)

    def forget_if_unneeded(self, key: Key) -> None:
        """A node that asks for locations keeps those of its copies, of those that it has just given up, and of look-ups
        under way, and tombstones."""
        machine = self._machine
        if machine.asks_for_locations and not (
            key in machine.copies
            or key in self._parted
            or key in machine.lookup
            or machine.directory.is_gone(key)
        ):
            machine.directory.forget(key)
