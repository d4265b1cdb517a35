"""Rumours waiting to travel on messages that are sent anyway.

Each rumour is sent O(log n) times, those sent least often first and the newest of them before the others, a few
on each message. That reaches every member with high probability (Demers et al. 1987; the count is SWIM's), and
costs no message of its own. About one life there is one rumour: the newest.

Bounded: `RUMOURS_PER_MESSAGE` entries of limited size on a message, `QUEUE_MAX` waiting. Believing a rumour or
not is decided in `swim`.
"""

import heapq
import math
from dataclasses import dataclass

from sessiond.core.messages import Rumour
from sessiond.core.types import Life

RUMOURS_PER_MESSAGE = 8
"""About 40 bytes each: a message with all of them fits into one packet."""

QUEUE_MAX = 256
"""Rumours waiting; beyond it the one sent most often goes. Reached only when a great part of a big cluster fails."""

REPEAT = 3
"""Sends of a rumour per power of ten of the members, the first one whole; more survives more loss, and costs bytes in bad times only."""


@dataclass(slots=True)
class _Waiting:
    rumour: Rumour
    sends: int
    serial: int


class Gossip:
    def __init__(self) -> None:
        self._waiting: dict[Life, _Waiting] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, rumour: Rumour) -> None:
        """Tell this from now on, and nothing else about the same life."""
        self._serial += 1
        self._waiting[rumour.life] = _Waiting(rumour, 0, self._serial)
        if len(self._waiting) > QUEUE_MAX:
            del self._waiting[max(self._waiting, key=self._urgency)]

    def forget(self, life: Life) -> None:
        """Tell nothing more about a life."""
        self._waiting.pop(life, None)

    def take(self, others: int) -> tuple[Rumour, ...]:
        """The rumours for one message to one of `others` members."""
        if not self._waiting:
            return ()
        sends_max = math.ceil(REPEAT * math.log2(others + 1))
        chosen = heapq.nsmallest(RUMOURS_PER_MESSAGE, self._waiting, key=self._urgency)
        rumours = tuple(self._waiting[life].rumour for life in chosen)
        for life in chosen:
            waiting = self._waiting[life]
            waiting.sends += 1
            if waiting.sends >= sends_max:
                del self._waiting[life]
        return rumours

    def _urgency(self, life: Life) -> tuple[int, int]:
        """Lowest first: sent least often, then newest."""
        waiting = self._waiting[life]
        return (waiting.sends, -waiting.serial)
