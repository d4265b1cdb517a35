"""How late an event loop is with its timers, finely enough to see one stall of a few milliseconds.

A timer is due every `BEAT_S`; what counts is how late it comes. While a loop stands still no timer fires, so one
late beat stands for all that were due meanwhile: they are added, each as late as it would have been. Without that a
stall of a second would be one sample among thousands, and no percentile would show it. So a percentile says how long
whatever comes to this loop at any moment has to wait.

On a busy machine a loop is late, too, because its process does not get a core. So each sample says in addition how much
of it can be the loop's *own* doing: not more than the processor time that its thread used since the last beat.

    python -m tests.proof.lag PORT      # a control: a process that does nothing else
"""

import asyncio
import gc
import sys
import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import uvloop
from aiohttp import web

from sessiond.adapters.aiohttp import without_session

BEAT_S = 0.005

PATH = "/lag"
"""GET: what there was since the last time, as packed floats. First the longest garbage collection, then pairs: late, and
of its own doing. All in seconds."""


class LagWatch:
    """Samples of the running loop, and of its process's garbage collections, from `start` on."""

    def __init__(self) -> None:
        self._samples = array("f")
        self._collecting_since = 0.0
        self._longest_collection_s = 0.0

    def start(self) -> None:
        gc.callbacks.append(self._collects)
        loop = asyncio.get_running_loop()
        self._arm(loop, loop.time() + BEAT_S)

    def take(self) -> bytes:
        """The samples since the last time."""
        taken, self._samples = self._samples, array("f")
        longest, self._longest_collection_s = array("f", [self._longest_collection_s]), 0.0
        return longest.tobytes() + taken.tobytes()

    def stop(self) -> None:
        gc.callbacks.remove(self._collects)

    def _collects(self, phase: str, _info: object) -> None:
        if phase == "start":
            self._collecting_since = time.thread_time()
        else:
            took_s = time.thread_time() - self._collecting_since
            self._longest_collection_s = max(self._longest_collection_s, took_s)

    def _arm(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        loop.call_at(due, self._fire, loop, due, time.thread_time())

    def _fire(self, loop: asyncio.AbstractEventLoop, due: float, used: float) -> None:
        now = loop.time()
        self.observe(now - due, time.thread_time() - used)
        self._arm(loop, now + BEAT_S)

    def observe(self, late_s: float, used_s: float) -> None:
        """A beat came so late, and with it those that were due meanwhile; the thread used so much of a core."""
        own_s = min(late_s, used_s)
        while True:
            self._samples.extend((max(0.0, late_s), max(0.0, own_s)))
            late_s -= BEAT_S
            own_s -= BEAT_S
            if late_s <= 0.0:
                return


def watched(app: web.Application) -> web.Application:
    """The same application, telling at `PATH` how late its loop is."""
    watch = LagWatch()

    async def start(_: web.Application) -> None:
        watch.start()

    async def stop(_: web.Application) -> None:
        watch.stop()

    @without_session
    async def tell(_: web.Request) -> web.Response:
        return web.Response(body=watch.take())

    app.on_startup.append(start)
    app.on_cleanup.append(stop)
    app.router.add_get(PATH, tell)
    return app


@dataclass(frozen=True, slots=True)
class Lag:
    """Milliseconds."""

    p50: float
    p99: float
    p999: float
    most: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Lag":
        samples = sorted(seconds)
        assert samples, "a loop that never fired a timer"

        def at(share: float) -> float:
            return samples[min(len(samples) - 1, int(len(samples) * share))] * 1000

        return cls(at(0.5), at(0.99), at(0.999), samples[-1] * 1000)

    def __str__(self) -> str:
        return f"{self.p50:7.1f} {self.p99:7.1f} {self.p999:7.1f} {self.most:7.1f}"


class Figures(NamedTuple):
    """Of one process in one phase."""

    late: Lag
    own: Lag
    longest_collection_ms: float

    def __str__(self) -> str:
        return f"{self.late} {self.own} {self.longest_collection_ms:7.1f}"


def figures_of(packed: bytes) -> Figures:
    """What `PATH` told."""
    longest, *samples = array("f", packed)
    return Figures(Lag.of(samples[::2]), Lag.of(samples[1::2]), longest * 1000)


async def _main(arguments: Sequence[str]) -> None:
    runner = web.AppRunner(watched(web.Application()))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(arguments[0])).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1:]))
