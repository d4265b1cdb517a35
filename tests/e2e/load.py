"""Many customers at once, each of whom knows what was promised to it: the load of the kill tests, and its judge.

A customer writes rising numbers into its session, one at a time, and meanwhile reads them back. Only an answer
means "kept": from then on a smaller number is a lost write, whoever reads it; and every write reads what it
replaces, so that none can be lost unseen. A write that is not answered may or may not have been kept. A read must
always be answered.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.e2e.client import Answer, Cookie, NotAnswered
from tests.e2e.cluster import Cluster

MAY_BE_UNKNOWN = frozenset({502, 503, 504})
"""Statuses that say that a write's fate is not known."""

RETRY_PAUSE_S = 0.001
"""Between a failed write and the next one: a customer that presses the button again at once."""


class Customer:
    """One session, and the books about it. `port`: of the proxy that it visits; None: our balancer."""

    def __init__(self, cluster: Cluster, port: int | None = None) -> None:
        self.cookie = Cookie()
        self._writer, self._reader = (
            cluster.browser(self.cookie) if port is None else cluster.browser_to(port, self.cookie)
            for _ in range(2)
        )
        self.sent = 0
        """The last number that was sent."""
        self.kept = 0
        """The highest number that was answered."""
        self.reads = 0
        self.unknown: list[str] = []
        """Why writes were not answered."""
        self.is_writing = False
        self._rested: asyncio.Future[None] | None = None
        self.faults: list[str] = []
        """What must never happen."""
        self._left = ""
        self.moved_at: float | None = None
        """When the first good answer came from another node than the one that was left (`time.perf_counter`)."""

    async def write(self) -> bool:
        """Write the next number; whether it was kept."""
        kept = self.kept
        self.sent += 1
        number = self.sent
        self.is_writing = True
        try:
            answer = await self._writer.post(f"/number/{number}")
        except NotAnswered as error:
            self.unknown.append(str(error))
            return False
        finally:
            self.is_writing = False
        if answer.status == 200:
            self.kept = number
            self._check(answer, kept, number - 1)
            return True
        said = f"write {number} was answered {answer.status} {answer.body[:200]!r}"
        (self.unknown if answer.status in MAY_BE_UNKNOWN else self.faults).append(said)
        return False

    async def rest(self, seconds: float) -> None:
        """Look at the page, until `hurry`. Whoever has to leave a node does not look at pages."""
        if self._left and self.moved_at is None:
            seconds = min(seconds, RETRY_PAUSE_S)
        loop = asyncio.get_running_loop()
        self._rested = loop.create_future()
        timer = loop.call_later(seconds, self.hurry)
        await self._rested
        timer.cancel()

    def hurry(self) -> None:
        """Go on with the next write now."""
        if self._rested is not None and not self._rested.done():
            self._rested.set_result(None)

    def leave(self, node: str) -> None:
        """The session's node is being killed: write without a pause until another one answers."""
        self._left = node
        self.hurry()

    async def read(self) -> None:
        kept = self.kept
        try:
            answer = await self._reader.get("/number")
        except NotAnswered as error:
            self.faults.append(f"a read failed: {error}")
            return
        if answer.status != 200:
            self.faults.append(f"a read was answered {answer.status} {answer.body[:200]!r}")
            return
        self.reads += 1
        self._check(answer, kept, self.sent)

    async def hang_up(self) -> None:
        """Close the connections; the next request makes new ones."""
        await self._writer.close()
        await self._reader.close()

    def _check(self, answer: Answer, least: int, most: int) -> None:
        """The number that was found must be one of these."""
        body = answer.json()
        number, node = body["number"], body["node"]
        if self._left and self.moved_at is None and node != self._left:
            self.moved_at = time.perf_counter()
        if not least <= number <= most:
            self.faults.append(f"{least} was kept and {most} sent, but {node} found {number}")

    def all_faults(self) -> list[str]:
        if len(self.cookie.tokens) > 1:
            return [*self.faults, f"it was given {len(self.cookie.tokens)} sessions"]
        return self.faults


@asynccontextmanager
async def shopping(
    customers: Sequence[Customer], write_pause_s: float, read_pause_s: float
) -> AsyncIterator[None]:
    """All customers write and read until the block ends; requests in flight are then waited for."""
    closing = asyncio.Event()

    async def write(customer: Customer, offset_s: float) -> None:
        await customer.rest(offset_s)
        while not closing.is_set():
            kept = await customer.write()
            await customer.rest(write_pause_s if kept else RETRY_PAUSE_S)

    async def read(customer: Customer, offset_s: float) -> None:
        await asyncio.sleep(offset_s)
        while not closing.is_set():
            await customer.read()
            await asyncio.sleep(read_pause_s)

    async with asyncio.TaskGroup() as tasks:
        for number, customer in enumerate(customers):
            share = number / len(customers)
            tasks.create_task(write(customer, write_pause_s * share))
            tasks.create_task(read(customer, read_pause_s * share))
        try:
            yield
        finally:
            closing.set()


async def begin(cluster: Cluster, count: int) -> list[Customer]:
    """Customers with a session each, spread over the nodes by the balancer."""
    customers = [Customer(cluster) for _ in range(count)]
    for customer in customers:
        assert await customer.write(), f"a first write failed: {customer.unknown or customer.faults}"
    return customers


async def audit(customers: Sequence[Customer]) -> list[str]:
    """Read everything back; what is wrong with any customer's session, in words."""
    await asyncio.gather(*(customer.read() for customer in customers))
    return [fault for customer in customers for fault in customer.all_faults()]
