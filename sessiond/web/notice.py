"""Whether everybody who asks for the node's health regularly has heard that it is draining.

An answer that was sent may not have been read yet, and requests come until it is; who asks again has read it. So each
asker has to ask twice: every worker of every balancer, for each learns of it by its own checks. Whoever asked just once,
or has ceased to ask, is waited for by nobody. Decides only; the clock's reading is an argument.
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise

NOTICE_MAX_S = 2.0
"""How long a drain waits at most for the next health checks. The time between the last ones says whether to."""

CHECKS_KEPT = 4
"""Health checks of an asker whose times are kept. Some come out of turn, so that the last two say little of the interval."""

ASKERS_MAX = 256
"""Askers that are remembered; of more, those that have not asked for longest are not waited for."""

ASKS_TO_KNOW = 2
"""Of the answers that say so, the first may be on its way still when the second one is asked for."""


@dataclass(slots=True)
class _Asker:
    asked_at: deque[float] = field(default_factory=lambda: deque(maxlen=CHECKS_KEPT))
    told: int = 0

    def left_s(self, now: float) -> float:
        """How long its next two checks may still take; 0 if it knows, or does not ask regularly."""
        if self.told >= ASKS_TO_KNOW or len(self.asked_at) < 2:
            return 0.0
        interval_s = max(later - earlier for earlier, later in pairwise(self.asked_at))
        since_s = now - self.asked_at[-1]
        return min(NOTICE_MAX_S, 3 * interval_s - since_s) if since_s < 2 * interval_s else 0.0


class Notice:
    """Who asked when, and what they were told."""

    def __init__(self) -> None:
        self._askers: dict[str, _Asker] = {}

    def asked(self, name: str, now: float, *, draining: bool) -> None:
        """Somebody asked, and is told whether the node drains. An aborted drain makes the next one news again."""
        asker = self._askers.pop(name, None) or _Asker()
        asker.asked_at.append(now)
        asker.told = asker.told + 1 if draining else 0
        self._askers[name] = asker
        if len(self._askers) > ASKERS_MAX:
            del self._askers[next(iter(self._askers))]

    def left_s(self, now: float) -> float:
        """How long it may take until everybody knows; 0 if they do."""
        return max((asker.left_s(now) for asker in self._askers.values()), default=0.0)
