"""From whom this node was parted for so long that they may have forgotten what ended meanwhile (protocol 5).

A tombstone is kept for `tombstone_ttl_s`. A node that was paused, or cut off, for longer comes back with copies of
sessions that have ended without it, and nobody knows that any more. So a copy in doubt for which nobody acts must not
become primary again if its list, or its term, names a node that went on without this one for more than half of that
time: had the session not ended, that node would hold it, or would know who does. Whose process stood still as well
did not go on: a whole cluster that was suspended has forgotten nothing.

The protocol has every copy discarded after such an absence. That would lose what cannot have ended elsewhere: sessions
of which all holders were away together, and under `any` those that this side of a partition has served.

Invariant: what is known here is about the copies that are in doubt now; it is forgotten with the last of them.
"""

from math import inf, isfinite
from typing import TYPE_CHECKING, NamedTuple

from sessiond.core.copies import Copy
from sessiond.core.identity import Identity
from sessiond.core.members import Member
from sessiond.core.types import Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class _Parting(NamedTuple):
    """Of a member that has not been met since this node's life began."""

    life: Life
    boot_id: bytes
    since: float


class Absence:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self.long_s = machine.options.tombstone_ttl_s / 2
        """A longer absence than this makes doubtful what this node comes back with."""

        self._silences: dict[str, tuple[float, float]] = {}
        """Name → when the last long silence of a member began, and when it ended."""

        self._parted: dict[str, _Parting] = {}
        self._went_on: set[str] = set()
        """Names of nodes that were met again after a long time in which they had lived."""

    def forget(self) -> None:
        """No copy is in doubt."""
        self._parted.clear()
        self._went_on.clear()

    def heard_again(self, member: Member) -> None:
        """A member was silent for long. What it says may be of before, kept by the network: that is no company."""
        if isfinite(member.heard_at):
            self._silences[member.life.name] = (member.heard_at, self._machine.now)

    def begin(self) -> None:
        """This node was declared dead, or could not learn whether it was, and goes on in another life."""
        for name, member in self._machine.membership.members.items():
            began_at, ended_at = self._silences.pop(name, (inf, -inf))
            is_the_same = self._machine.now - ended_at <= self.long_s
            since = min(member.heard_at, began_at) if is_the_same else member.heard_at
            self._parted.setdefault(name, _Parting(member.life, member.boot_id, since))

    def met(self, identity: Identity) -> None:
        """There is a link to a member again."""
        parting = self._parted.pop(identity.life.name, None)
        if parting is None or not self._is_long(parting):
            return
        stood_still_too = identity.boot_id == parting.boot_id and identity.life != parting.life
        if not stood_still_too:
            self._went_on.add(identity.life.name)

    def may_have_missed_end(self, copy: Copy) -> bool:
        """Whether the session of a copy in doubt may have ended among others so long ago that nobody knows."""
        return any(self._may_have_ended(life.name) for life in (copy.term.owner, *copy.backups))

    def _may_have_ended(self, name: str) -> bool:
        parting = self._parted.get(name)
        return name in self._went_on or (parting is not None and self._is_long(parting))

    def _is_long(self, parting: _Parting) -> bool:
        return self._machine.now - parting.since > self.long_s
