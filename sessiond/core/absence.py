"""Whom this node has missed for so long that ends which it missed with them may be forgotten (protocol 5).

A tombstone is kept for `tombstone_ttl_s`. A node that was paused, or cut off, for longer comes back with copies of
sessions that have ended without it, and nobody knows that any more. So a copy in doubt for which nobody acts must not
become primary again if its list, or its term, names a life that goes on, has nothing of the session, and was out of
this node's reach for more than half of that time: had the session not ended, that life would hold it, or would know
who does. A life that went on has counted all the while; one that was declared dead as well, or stood still as well,
comes back as another one and proves nothing.

The protocol has every copy discarded after such an absence. That would lose what cannot have ended elsewhere: sessions
of which all holders were away, together or each alone, and under `any` those that this side of a partition has served.

Invariant: what is known here is about the copies that are in doubt now; it is forgotten with the last of them.
"""

from collections.abc import Collection
from math import inf, isfinite
from typing import TYPE_CHECKING

from sessiond.core.copies import Copy
from sessiond.core.members import Member
from sessiond.core.types import Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Absence:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self.long_s = machine.options.tombstone_ttl_s / 2
        """A longer absence than this makes doubtful what this node comes back with."""

        self._silences: dict[str, tuple[float, float]] = {}
        """Name → when the last long silence of a member began, and when it ended."""

        self._missed: set[str] = set()
        """Names of members out of reach for long when this node began its life."""

    def forget(self) -> None:
        """No copy is in doubt."""
        self._missed.clear()

    def heard_again(self, member: Member) -> None:
        """A member was silent for long. What it says may be of before, kept by the network: that is no company."""
        if isfinite(member.heard_at):
            self._silences[member.life.name] = (member.heard_at, self._machine.now)

    def begin(self) -> None:
        """This node was declared dead, or could not learn whether it was, and goes on in another life."""
        now = self._machine.now
        for name, member in self._machine.membership.members.items():
            began_at, ended_at = self._silences.pop(name, (inf, -inf))
            is_of_now = now - ended_at <= self.long_s
            heard_at = min(member.heard_at, began_at) if is_of_now else member.heard_at
            if isfinite(heard_at) and now - heard_at > self.long_s:
                self._missed.add(name)

    def may_have_missed_end(self, copy: Copy, have_nothing: Collection[Life]) -> bool:
        """Whether the session of a copy in doubt may have ended so long ago that nobody knows.

        `have_nothing`: the lives that say so of this session.
        """
        named = (copy.term.owner, *copy.backups)
        return any(life.name in self._missed and life in have_nothing for life in named)
