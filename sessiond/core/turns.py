"""Whose turn it is to ask every member for a session: so many rounds of WHO a second, requests first.

Asking everybody costs every member work, so a node that is driven to it (a dead neighbour, `location="query"`,
cookies of sessions that ended long ago) does it at a bounded rate. What a request waits for comes before what the
cluster mends by itself, which in addition leaves half of the burst for requests to come.
"""

from collections import OrderedDict

from sessiond.core.throttle import TokenBucket
from sessiond.core.types import Key

BURST_S = 0.1
"""So many seconds' worth of rounds may be asked at once."""


class Turns:
    def __init__(self, rate_max: int, now: float) -> None:
        burst = max(1.0, rate_max * BURST_S)
        self._bucket = TokenBucket(rate_max, burst, now)
        self._reserve = (burst - 1.0) / 2
        self._requests: OrderedDict[Key, None] = OrderedDict()
        self._repairs: OrderedDict[Key, None] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        """Whether this key waits for its turn."""
        return key in self._requests or key in self._repairs

    def __len__(self) -> int:
        return len(self._requests) + len(self._repairs)

    def take(self, key: Key, now: float, *, wanted: bool) -> bool:
        """Whether it is this key's turn now; if not, it waits. `wanted`: by a request."""
        waits = self._requests or (self._repairs and not wanted)
        if not waits and self._bucket.take(now, leave=0.0 if wanted else self._reserve):
            self.leave(key)
            return True
        if wanted:
            self._repairs.pop(key, None)
            self._requests.setdefault(key)
        elif key not in self._requests:
            self._repairs.setdefault(key)
        return False

    def leave(self, key: Key) -> None:
        """This key needs no turn any more."""
        self._requests.pop(key, None)
        self._repairs.pop(key, None)

    def next(self, now: float) -> Key | None:
        """The next key whose turn has come; it waits no more."""
        if self._requests and self._bucket.take(now):
            return self._requests.popitem(last=False)[0]
        if self._repairs and not self._requests and self._bucket.take(now, leave=self._reserve):
            return self._repairs.popitem(last=False)[0]
        return None

    def next_deadline(self, now: float) -> float | None:
        if self._requests:
            return self._bucket.next_at(now)
        return self._bucket.next_at(now, leave=self._reserve) if self._repairs else None
