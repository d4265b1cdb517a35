"""One coarse clock and one sweep for all time-outs of a loop, instead of a timer per request.

A connection keeps its deadline in an attribute, set with a plain assignment whenever it makes progress; several
times a second all are compared with the clock. That costs about 60 ns a connection and sweep, whatever the
traffic. (A timer wheel would save the comparison for idle connections and cost work for each request.)

Time-outs come up to `SWEEP_INTERVAL_S` late, and never early.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

SWEEP_INTERVAL_S = 0.25


class Watched(Protocol):
    """Something with a deadline in the clock's time; `expired` must move the deadline or end the thing."""

    deadline: float

    def expired(self) -> None: ...


class Deadlines:
    """`now` is the loop's time at the last sweep."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._watched: set[Watched] = set()
        self._reapers: list[Callable[[float], None]] = []
        self.now = loop.time()

    def watch(self, watched: Watched) -> None:
        self._watched.add(watched)

    def forget(self, watched: Watched) -> None:
        self._watched.discard(watched)

    def add_reaper(self, reaper: Callable[[float], None]) -> None:
        """Call `reaper(now)` at each sweep: for collections that know their oldest member."""
        self._reapers.append(reaper)

    def remove_reaper(self, reaper: Callable[[float], None]) -> None:
        self._reapers.remove(reaper)

    def start(self) -> None:
        self._timer = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        # Armed first: an exception out of one connection must not stop the clock for all.
        self._timer = self._loop.call_later(SWEEP_INTERVAL_S, self._sweep)
        # A thing made right after the last sweep took that sweep's time for now, so its deadline lies up
        # to one interval early: it expires at the sweep after.
        self.now, due = self._loop.time(), self.now
        for watched in [watched for watched in self._watched if watched.deadline <= due]:
            if watched.deadline <= due:  # still: one that expired before it may have moved it on
                watched.expired()
        for reaper in tuple(self._reapers):
            reaper(self.now)
