"""How busy this process is: how late its event loop comes, and how much of a core it uses.

Cheap: one timer, no work per request. What the figures are worth together: `sessiond.contract.cluster_view.Load`.
"""

import asyncio
import time

SAMPLE_INTERVAL_S = 0.25
SMOOTHING = 0.3
"""Weight of the newest sample: a change shows within a second, one slow callback does not."""


class Meter:
    """`lag_s`: how late the event loop is with its timers. `cpu`: seconds of processor time a second. Both smoothed."""

    def __init__(self) -> None:
        self.lag_s = 0.0
        self.cpu = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(SAMPLE_INTERVAL_S, self._fire, loop, loop.time(), time.process_time())

    def _fire(self, loop: asyncio.AbstractEventLoop, began: float, cpu_began: float) -> None:
        self.observe(loop.time() - began, time.process_time() - cpu_began)
        self._arm(loop)

    def observe(self, passed_s: float, cpu_s: float) -> None:
        """One sample: the timer fired after `passed_s`, in which the process used `cpu_s`."""
        late_s = max(0.0, passed_s - SAMPLE_INTERVAL_S)
        self.lag_s += SMOOTHING * (late_s - self.lag_s)
        self.cpu += SMOOTHING * (cpu_s / passed_s - self.cpu)
