"""How busy a node is, as one number for the balancer: 0.0 idle, 1.0 and above busy.

    load = requests in flight / FULL_IN_FLIGHT + lag of the event loop / FULL_LAG_S

Requests in flight show waiting, the loop's lag shows work. Both are cheap: one timer, no work per request.
"""

import asyncio

FULL_IN_FLIGHT = 100
"""So many requests waiting for an answer count as a load of 1."""

FULL_LAG_S = 0.1
"""A loop that comes so late to its timers counts as a load of 1."""

SAMPLE_INTERVAL_S = 0.25
SMOOTHING = 0.3
"""Weight of the newest sample: a change shows within a second, one slow callback does not."""


class LoopLag:
    """How late the event loop is with its timers, in seconds, smoothed."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(SAMPLE_INTERVAL_S, self._fire, loop, loop.time() + SAMPLE_INTERVAL_S)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self.observe(loop.time() - due)
        self.start()

    def observe(self, late_s: float) -> None:
        self.seconds += SMOOTHING * (max(0.0, late_s) - self.seconds)


def load(in_flight: int, lag_s: float) -> float:
    """The load figure; thousandths are noise."""
    return round(in_flight / FULL_IN_FLIGHT + lag_s / FULL_LAG_S, 3)
