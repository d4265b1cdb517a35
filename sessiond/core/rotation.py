"""Rotated sessions: for a short grace the old key answers with the session that goes on under a new one.

An alias is no copy and has no primary: it is what the *tombstone* of the old key says besides "gone". So it
is acked by every backup, completed by a successor and final exactly as a tombstone is (`replication`), and
what has ended cannot come back when it is forgotten. This module owns what every node keeps of that: old key,
new key, and until when. The seconds left travel, so the grace does not begin anew on a node that hears late.

Invariant: an alias is told to a member before the tombstone's location is, so whoever knows that the old key
is gone knows where it went (`precede`). It does not decide what a request sees: `operations` and `lookup` resolve a key here first.
"""

from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.types import Alias, Key, Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

HOPS_MAX = 8
"""Rotations of one session within one grace that are followed."""

ALIASES_MAX = 100_000
"""Aliases kept; beyond it the oldest is forgotten early. Logins per second times `rotate_grace_s` are below."""

ALIASES_CHUNK = 1000
"""Aliases in one message."""


class Aliases:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._aliases: dict[Key, Alias] = {}
        """By old key, in the order in which they came."""

    def __contains__(self, key: Key) -> bool:
        return self.resolve(key) != key

    def __len__(self) -> int:
        return len(self._aliases)

    def resolve(self, key: Key) -> Key:
        """The key under which the session goes on; the same one if it was not rotated, or longer ago than the grace."""
        if self._aliases:
            for _ in range(HOPS_MAX):
                alias = self._aliases.get(key)
                if alias is None or alias.until <= self._machine.now:
                    break
                key = alias.key
        return key

    def new(self, key: Key) -> Alias | None:
        """For a rotation that begins now; None if there is no grace."""
        grace_s = self._machine.options.rotate_grace_s
        return Alias(key, self._machine.now + grace_s) if grace_s else None

    def begin(self, old: Key, alias: Alias) -> None:
        """The old key's tombstone is committed: every backup has this."""
        self._learn(old, alias)
        machine = self._machine
        left_s = max(0.0, alias.until - machine.now)
        machine.send(machine.membership.linked(), m.Aliases(((old, alias.key, left_s),)))

    def on_aliases(self, message: m.Aliases) -> None:
        for old, new, left_s in message.entries:
            self._learn(old, Alias(new, self._machine.now + left_s))

    def tell(self, life: Life) -> None:
        """A link to this life has opened: what it may have missed."""
        now = self._machine.now
        entries = [
            (old, alias.key, alias.until - now) for old, alias in self._aliases.items() if alias.until > now
        ]
        for start in range(0, len(entries), ALIASES_CHUNK):
            self._machine.send((life,), m.Aliases(tuple(entries[start : start + ALIASES_CHUNK])))

    def precede(self, to: tuple[Life, ...], message: m.Message) -> None:
        """If this message says that a rotated key is gone, say first where it went: who rotated it may be dead by now."""
        if isinstance(message, m.Locations | m.Dir):
            gone = [key for key, location in message.entries if location.gone]
        elif isinstance(message, m.Snapshot):
            gone = [key for key, location in message.locations if location.gone]
        elif isinstance(message, m.Here | m.Refer) and message.location is not None and message.location.gone:
            gone = [message.key]
        else:
            return
        now = self._machine.now
        known = [(key, alias) for key in gone if (alias := self._aliases.get(key)) is not None]
        entries = tuple((key, alias.key, alias.until - now) for key, alias in known if alias.until > now)
        if entries:
            self._machine.send(to, m.Aliases(entries))

    def _learn(self, old: Key, alias: Alias) -> None:
        known = self._aliases.get(old)
        if known is not None and known.until <= alias.until:
            return  # heard again by another way: the grace is not prolonged
        self._aliases.pop(old, None)
        while len(self._aliases) >= ALIASES_MAX:
            del self._aliases[next(iter(self._aliases))]
        self._aliases[old] = alias
        self._machine.due(alias.until)

    def next_deadline(self) -> float | None:
        return next((alias.until for alias in self._aliases.values()), None)

    def tick(self, now: float) -> None:
        """Forget those whose grace is over. In order of arrival, so one may be kept, unused, a little longer."""
        while self._aliases:
            old, alias = next(iter(self._aliases.items()))
            if alias.until > now:
                return
            del self._aliases[old]
