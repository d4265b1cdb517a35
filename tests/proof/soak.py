"""`python -m tests.proof.soak`: everyday traffic for a long time; memory and descriptors must stay what they are.

    python -m tests.proof.soak [--minutes 30] [--rate 300] [--quick]

Users with sessions read at an even rate; beside them others come and go: with a connection for one request, with a
WebSocket, with a request that they abandon half-way, with a body in chunks. Every few seconds the balancer's and the
nodes' memory and descriptors are noted. Flat means: the last quarter's median is that of the second quarter (the
first one warms up), within a tolerance; and when all have left, descriptors are back.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

from tests.e2e.client import NotAnswered
from tests.e2e.cluster import Cluster, at_work
from tests.e2e.processes import HOST
from tests.e2e.waiting import wait_until
from tests.proof.arrivals import Users, quantile_ms, while_coming
from tests.proof.footprint import Footprint, watched

APP = "tests.e2e.apps:create_app"
USERS = 100
PASSERS_BY_PER_S = 20
"""Of each kind there is one in turn."""
SAMPLES = 120
RSS_GROWTH_MAX = 1.03
RSS_SLACK_KIB = 1024
DESCRIPTOR_SLACK = 10
SHOWN = 6


@dataclass(frozen=True, slots=True)
class Course:
    """The footprints of one process over time, and when all had left."""

    name: str
    seen: Sequence[Footprint]
    afterwards: Footprint

    def quarter(self, number: int) -> Footprint:
        """Medians of a quarter, from 1 to 4."""
        length = len(self.seen) // 4
        part = self.seen[(number - 1) * length : number * length]
        return Footprint(
            round(statistics.median(each.rss_kib for each in part)),
            round(statistics.median(each.descriptors for each in part)),
        )

    @property
    def problems(self) -> list[str]:
        second, last = self.quarter(2), self.quarter(4)
        problems = []
        if last.rss_kib > second.rss_kib * RSS_GROWTH_MAX + RSS_SLACK_KIB:
            problems.append(f"{self.name} grew from {second.rss_kib} to {last.rss_kib} KiB")
        if last.descriptors > second.descriptors + DESCRIPTOR_SLACK:
            problems.append(f"{self.name} had {second.descriptors} descriptors, then {last.descriptors}")
        if self.afterwards.descriptors > self.seen[0].descriptors + DESCRIPTOR_SLACK:
            problems.append(f"{self.name} keeps {self.afterwards.descriptors} descriptors when all have left")
        return problems

    def __str__(self) -> str:
        step = max(1, len(self.seen) // SHOWN)
        memory = " ".join(f"{each.rss_kib / 1024:6.1f}" for each in self.seen[::step])
        descriptors = " ".join(f"{each.descriptors:4}" for each in self.seen[::step])
        return f"{self.name:9} MiB {memory}   descriptors {descriptors}, afterwards {self.afterwards.descriptors}"


class PassersBy:
    """They come one after another, each in another way, until `leave`."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._ways: tuple[Callable[[], Awaitable[None]], ...] = (
            self.look, self.talk, self.abandon, self.upload,
        )  # fmt: skip
        self.visits = 0
        self.faults: list[str] = []
        self._is_over = False

    async def come(self, rate: float) -> None:
        async with asyncio.TaskGroup() as visits:
            while not self._is_over:
                visits.create_task(self._visit(self._ways[self.visits % len(self._ways)]))
                self.visits += 1
                await asyncio.sleep(1 / rate)

    def leave(self) -> None:
        self._is_over = True

    async def _visit(self, way: Callable[[], Awaitable[None]]) -> None:
        try:
            await way()
        except (AssertionError, NotAnswered, aiohttp.ClientError, TypeError) as error:
            self.faults.append(f"{way.__name__}: {error!r}")

    async def look(self) -> None:
        """A new session on a connection of its own."""
        browser = self._cluster.browser_to(self._cluster.port)
        (await browser.post("/number/1")).good()
        await browser.close()

    async def talk(self) -> None:
        async with aiohttp.ClientSession() as web, web.ws_connect(self._url("/echo")) as line:
            await line.receive_str()
            await line.send_str("hello")
            assert await line.receive_str() == "hello"

    async def abandon(self) -> None:
        """Half a body, and gone."""
        _, writer = await asyncio.open_connection(HOST, self._cluster.port)
        writer.write(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf")
        with suppress(ConnectionError):
            await writer.drain()
        writer.transport.abort()

    async def upload(self) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(4):
                yield b"x" * 4096

        async with (
            aiohttp.ClientSession() as web,
            web.post(self._url("/body"), data=pieces()) as answer,
        ):
            assert (await answer.json())["number"] == 4 * 4096

    def _url(self, path: str) -> str:
        return f"http://{HOST}:{self._cluster.port}{path}"


async def soak(cluster: Cluster, seconds: float, rate: float) -> list[str]:
    """Run it on a started cluster that hosts `tests.e2e.apps`; prints the courses, and returns what must not be."""
    users = Users(cluster, cluster.port, USERS)
    await users.begin()
    passers_by = PassersBy(cluster)
    processes = [cluster.balancer, *cluster.nodes.values()]
    async with AsyncExitStack() as watching:
        seen = [
            await watching.enter_async_context(watched(process.child.pid, seconds / SAMPLES))
            for process in processes
        ]

        async def scene() -> None:
            coming = asyncio.create_task(passers_by.come(PASSERS_BY_PER_S))
            await asyncio.sleep(seconds)
            passers_by.leave()
            await coming

        record = await while_coming(users, rate, scene)
    await users.close()
    began = [each[0].descriptors for each in seen]

    async def have_let_go() -> bool:
        now = [Footprint.of(process.child.pid).descriptors for process in processes]
        return all(one <= other + DESCRIPTOR_SLACK for one, other in zip(now, began, strict=True))

    with suppress(AssertionError):  # what is left is said below
        await wait_until(have_let_go, "connections are closed", deadline_s=90, interval_s=0.5)
    courses = [
        Course(process.name, own, Footprint.of(process.child.pid))
        for process, own in zip(processes, seen, strict=True)
    ]
    visits = record.visits
    tell(
        f"soak: {seconds / 60:.1f} min, {len(visits)} reads ({len(visits) / seconds:.0f}/s, p99 "
        f"{quantile_ms(visits, 0.99):.1f} ms, {len(record.faults)} failed), {passers_by.visits} passers-by "
        f"({len(passers_by.faults)} failed)"
    )
    for course in courses:
        tell(f"  {course}")
    faults = [*record.faults, *passers_by.faults]
    return [*faults, *(problem for course in courses for problem in course.problems)]


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def run(seconds: float, rate: float) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="proof-") as directory:
        # Sessions of passers-by end soon, so that nodes reach a size at which they stay.
        async with at_work(
            Cluster(Path(directory), nodes=3, app=APP, idle_timeout_s=max(10, round(seconds / 10)))
        ) as cluster:
            return await soak(cluster, seconds, rate)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Everyday traffic for long: memory and descriptors stay flat."
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=300, help="reads a second")
    parser.add_argument("--quick", action="store_true", help="one minute")
    options = parser.parse_args()
    problems = uvloop.run(run(60 if options.quick else options.minutes * 60, options.rate))
    for problem in problems[:20]:
        tell(f"  MUST NOT BE: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
