"""Locations on their way to every other node, a few milliseconds' worth in one message."""

from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.options import LOCATION_BATCH_S, SNAPSHOT_CHUNK
from sessiond.core.types import Key, Life, Location

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Announcements:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._entries: dict[Key, Location] = {}
        self._flush_at: float | None = None

    def add(self, key: Key, location: Location, now: float) -> None:
        self._entries[key] = location
        if self._flush_at is None:
            self._flush_at = now + LOCATION_BATCH_S
            self._machine.due(self._flush_at)

    def next_deadline(self) -> float | None:
        return self._flush_at

    def tick(self, now: float) -> None:
        if self._flush_at is not None and now >= self._flush_at:
            self.flush()

    def flush(self) -> None:
        """Send what has gathered, now."""
        self._flush_at = None
        self.send(self._machine.membership.linked(), list(self._entries.items()))
        self._entries.clear()

    def send(self, to: tuple[Life, ...], entries: list[tuple[Key, Location]]) -> None:
        """Send any number of locations, in messages of bounded length."""
        for start in range(0, len(entries), SNAPSHOT_CHUNK):
            self._machine.send(to, m.Locations(tuple(entries[start : start + SNAPSHOT_CHUNK])))
