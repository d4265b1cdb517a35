"""Users for the proofs: many sessions made fast, and a few who work steadily and time every answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.e2e.client import Browser, Cookie
from tests.e2e.cluster import Cluster

CONNECTIONS_PER_NODE = 8
"""Connections that create sessions at one node: enough to have a write under way while others wait for acks."""


async def create_sessions(cluster: Cluster, count: int) -> list[str]:
    """Sessions spread evenly over the nodes, each with one small attribute; their cookies."""
    session_ids: list[str] = []
    nodes = list(cluster.running())

    async def create(name: str, share: int) -> None:
        browser = cluster.browser_at(name)
        for number in range(share):
            browser.cookie = Cookie()
            (await browser.post(f"/number/{number}")).good()
            session_ids.append(browser.cookie.session_id)
        await browser.close()

    workers = [name for name in nodes for _ in range(CONNECTIONS_PER_NODE)]
    share, rest = divmod(count, len(workers))
    await asyncio.gather(*(create(name, share + (index < rest)) for index, name in enumerate(workers)))
    return session_ids


class Steady:
    """Users who write at a steady pace, each to its own session at its own node, and how long each answer took."""

    def __init__(self, browsers: Sequence[Browser], pause_s: float) -> None:
        self._browsers = browsers
        self._pause_s = pause_s
        self.latencies_s: list[float] = []
        self.failures: list[str] = []

    def take(self) -> list[float]:
        """The latencies since the last time."""
        taken, self.latencies_s = self.latencies_s, []
        return taken

    async def _work(self, browser: Browser, first_s: float) -> None:
        await asyncio.sleep(first_s)  # spread evenly over the pause: no rush at every beat
        number = 0
        while True:
            number += 1
            began = time.perf_counter()
            answer = await browser.post(f"/number/{number}")
            self.latencies_s.append(time.perf_counter() - began)
            if answer.status != 200:
                self.failures.append(f"{answer.status} {answer.body[:200]!r}")
            await asyncio.sleep(max(0.0, self._pause_s - (time.perf_counter() - began)))

    async def run(self) -> None:
        count = len(self._browsers)
        async with asyncio.TaskGroup() as group:
            for index, browser in enumerate(self._browsers):
                group.create_task(self._work(browser, self._pause_s * index / count))


@asynccontextmanager
async def steady_users(
    cluster: Cluster, nodes: Sequence[str], users: int, pause_s: float
) -> AsyncIterator[Steady]:
    """`users` of these nodes at work as long as the block runs. A request that gets no answer ends it all."""
    browsers = [cluster.browser_at(nodes[index % len(nodes)]) for index in range(users)]
    steady = Steady(browsers, pause_s)
    task = asyncio.create_task(steady.run())
    try:
        yield steady
    finally:
        ended = task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if ended:
        task.result()


def percentile_ms(latencies_s: Sequence[float], percent: int) -> float:
    """Of a list that is not empty, in milliseconds."""
    ordered = sorted(latencies_s)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000
