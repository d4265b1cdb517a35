"""Where every session lives, as far as this node has heard: the location of each key.

Merging takes the higher rank (gone, term, seq), so the order and repetition of messages do not matter. An
entry is a hint with one exception: a committed tombstone is final, and is kept for `tombstone_ttl_s` so
that no late copy brings the session back.
"""

from collections import deque
from collections.abc import Iterator

from sessiond.core.types import Key, Location


class Directory:
    def __init__(self, tombstone_ttl_s: float) -> None:
        self._ttl_s = tombstone_ttl_s
        self._locations: dict[Key, Location] = {}
        self._tombstones: deque[tuple[float, Key]] = deque()
        self.get = self._locations.get

    def __len__(self) -> int:
        return len(self._locations)

    def items(self) -> Iterator[tuple[Key, Location]]:
        """All entries at this moment."""
        return iter(list(self._locations.items()))

    def is_gone(self, key: Key) -> bool:
        location = self._locations.get(key)
        return location is not None and location.gone

    def merge(self, key: Key, location: Location, now: float) -> bool:
        """Take a location if it ranks higher than what is known; True if it did."""
        known = self._locations.get(key)
        if known is not None and location.rank <= known.rank:
            return False
        self._locations[key] = location
        if location.gone:
            self._tombstones.append((now + self._ttl_s, key))
        return True

    def forget(self, key: Key) -> None:
        """Every member was asked, and nobody holds the session."""
        self._locations.pop(key, None)

    def next_deadline(self) -> float | None:
        return self._tombstones[0][0] if self._tombstones else None

    def tick(self, now: float) -> None:
        """Forget tombstones whose time is over."""
        while self._tombstones and self._tombstones[0][0] <= now:
            _, key = self._tombstones.popleft()
            if self.is_gone(key):
                del self._locations[key]
