"""Who is away and may not have heard of ends: for their sake ends are remembered longer (protocol 5).

A tombstone is kept for `tombstone_ttl_s`. A node that was paused, or cut off, for longer comes back with copies of
sessions that have ended without it, and nobody must have forgotten that by then. So while a member is away that may
come back with its memory, and for as long again as it takes to hear of everything, no tombstone is forgotten. There is
an end to that: a session that was not used for `REMEMBERED_IDLES` time-outs has ended by itself, and a copy in doubt
of such age does not become primary any more (`rounds`).

The protocol has who was away for half of that time discard its copies. That loses what cannot have ended: sessions of
which all holders were away. And from the node that was away it cannot be told who has gone on without it.
"""

from math import inf
from typing import TYPE_CHECKING

from sessiond.core.copies import Copy
from sessiond.core.members import Member

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

REMEMBERED_IDLES = 1.5
"""In idle time-outs: what a copy of a session that is in use may be behind its last use is far less than the half."""

LOOKS_A_LIFETIME = 10
"""How often in the lifetime of a tombstone the members are looked at."""


class Absence:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._ttl_s = machine.options.tombstone_ttl_s
        self._remembered_s = REMEMBERED_IDLES * machine.options.idle_timeout_s
        self._away_since: dict[str, float] = {}
        """Name → since when a member has been away, also one that is not shown any more."""

        self._last_at = -inf
        """When somebody was away last."""

        self._next_at = machine.now

    def next_deadline(self) -> float:
        return self._next_at

    def tick(self, now: float) -> None:
        if now < self._next_at:
            return
        self._next_at = now + self._ttl_s / LOOKS_A_LIFETIME
        members = self._machine.membership.members
        for name, member in members.items():
            if self._is_here(member):
                self._away_since.pop(name, None)
            else:
                self._away_since.setdefault(name, now)
        waited_for = {
            name: since for name, since in self._away_since.items() if now - since <= self._remembered_s
        }
        if waited_for:
            self._last_at = now
        for name in self._away_since.keys() - waited_for.keys() - members.keys():
            del self._away_since[name]
        is_needed = now - self._last_at <= self._ttl_s
        self._machine.directory.kept_longer_s = self._remembered_s if is_needed else 0.0

    def _is_here(self, member: Member) -> bool:
        """Whether a member hears of ends, or never will: it has left, or its memory is gone with its process."""
        if member.left or (member.linked and not member.suspected):
            return True
        return not member.is_alive and self._machine.membership.ballots.is_certain(member.life)

    def is_too_old(self, copy: Copy) -> bool:
        """Whether nobody can be expected to remember the end of this session, if it has ended."""
        return self._machine.now - copy.accessed_at > self._remembered_s
