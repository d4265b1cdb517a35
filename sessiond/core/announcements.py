"""Locations on their way to those who are to know them, a few milliseconds' worth in one message.

With `location="broadcast"` that is every other node, with `"query"` the session's holders alone.
"""

from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.options import LOCATION_BATCH_S, SNAPSHOT_CHUNK
from sessiond.core.types import Key, Life, Location

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Announcements:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._entries: dict[Life | None, dict[Key, Location]] = {}
        """By receiver; None: everybody."""

        self._flush_at: float | None = None

    @property
    def is_idle(self) -> bool:
        """Whether everything has been said."""
        return not self._entries

    def add(self, key: Key, location: Location, holders: tuple[Life, ...]) -> None:
        """Tell where a session lives, or that it is gone. `holders`: who has a copy of it, besides this node."""
        machine = self._machine
        for life in holders if machine.asks_for_locations else (None,):
            self._entries.setdefault(life, {})[key] = location
        if self._flush_at is None:
            self._flush_at = machine.now + LOCATION_BATCH_S
            machine.due(self._flush_at)

    def next_deadline(self) -> float | None:
        return self._flush_at

    def tick(self, now: float) -> None:
        if self._flush_at is not None and now >= self._flush_at:
            self.flush()

    def flush(self) -> None:
        """Send what has gathered, now."""
        self._flush_at = None
        linked = self._machine.membership.linked()
        for life, by_key in self._entries.items():
            entries = list(by_key.items())
            for start in range(0, len(entries), SNAPSHOT_CHUNK):
                message = m.Locations(tuple(entries[start : start + SNAPSHOT_CHUNK]))
                self._machine.send(linked if life is None else (life,), message)
        self._entries.clear()
