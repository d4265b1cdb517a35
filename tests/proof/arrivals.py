"""Users who come at their times, whatever the answers do: an open load, so that a stall is not hidden by its own waiting.

Each user has a session, a connection, and requests due at even intervals. One that is late is sent at once, and its
time counts from when it was due: what a person would have waited.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from tests.e2e.client import Browser, NotAnswered
from tests.e2e.cluster import Cluster

READ = "/number"


@dataclass(frozen=True, slots=True)
class Visit:
    """A request: when it was due, how long until its answer (both in seconds), and what was wrong with that."""

    due: float
    took: float
    fault: str = ""


@dataclass
class Record:
    """What came of all requests."""

    visits: list[Visit] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        return [visit.fault for visit in self.visits if visit.fault]

    def between(self, begin: float, end: float) -> list[Visit]:
        """The requests that were due then."""
        return [visit for visit in self.visits if begin <= visit.due < end]


def quantile_ms(visits: Iterable[Visit], share: float) -> float:
    """Of the answered ones, in milliseconds."""
    took = sorted(visit.took for visit in visits if not visit.fault)
    if len(took) < 2:
        return float("nan")
    cuts = statistics.quantiles(took, n=1000, method="inclusive")
    return cuts[round(share * 1000) - 1] * 1000


class Users:
    """`count` users of a cluster that hosts `tests.e2e.apps`, through the proxy at `port`."""

    def __init__(self, cluster: Cluster, port: int, count: int) -> None:
        self._browsers = [cluster.browser_to(port) for _ in range(count)]
        self.record = Record()
        self._ends = float("inf")

    async def begin(self) -> None:
        """A session each, with a number of its own in it."""
        for number, browser in enumerate(self._browsers, 1):
            (await browser.post(f"/number/{number}")).good()

    async def come(self, rate: float) -> None:
        """Read, `rate` times a second together, until `leave`."""
        pause = len(self._browsers) / rate
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number, browser in enumerate(self._browsers, 1):
                due = begin + pause * number / len(self._browsers)
                tasks.create_task(self._visit(browser, number, due, pause))

    def leave(self) -> None:
        self._ends = time.perf_counter()

    async def _visit(self, browser: Browser, number: int, due: float, pause: float) -> None:
        while due < self._ends:
            await asyncio.sleep(due - time.perf_counter())
            fault = await ask(browser, number)
            self.record.visits.append(Visit(due, time.perf_counter() - due, fault))
            due += pause

    async def close(self) -> None:
        await asyncio.gather(*(browser.close() for browser in self._browsers))


async def ask(browser: Browser, number: int) -> str:
    """One GET; what is wrong with its answer."""
    try:
        answer = await browser.get(READ)
    except NotAnswered as error:
        return f"no answer: {error}"
    if answer.status != 200:
        return f"answer {answer.status}: {answer.body[:100]!r}"
    found = answer.json()["number"]
    return "" if found == number else f"the session has {found}, not {number}"


async def while_coming(users: Users, rate: float, scene: Callable[[], Awaitable[None]]) -> Record:
    """Let them come while the scene is played; returns when their last answers are here."""
    coming = asyncio.create_task(users.come(rate))
    try:
        await scene()
    finally:
        users.leave()
        await coming
    return users.record
