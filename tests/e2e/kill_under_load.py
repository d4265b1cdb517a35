"""The central promise, tried: 500 sessions under continuous writes, and one node dies in the midst of them.

So that the victim has many writes in flight without the machine being saturated (then the time to the next answer
would show the queue in front of two cores, not the failover), its users press the button at the same moment; it is
killed when the first of them have their answer.
"""

import asyncio
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.cluster import Cluster
from tests.e2e.load import Customer, audit, begin, shopping
from tests.e2e.waiting import wait_until

NODES = 4
SESSIONS = 500
VICTIM = "node2"
WRITE_PAUSE_S = 0.5
"""Between two writes of a customer: 1000 writes a second in all, well below what two cores can do."""
READ_PAUSE_S = 1.0
WARM_UP_ROUNDS = 3
"""Before it all users write at once, so often: connections are made and code is warm, as on a site in use."""
WRITES_BEFORE = 3
"""Kept writes of every customer before the kill."""
IN_FLIGHT_MIN = 50
"""Sessions of the victim with a write in flight when it dies; fewer prove nothing."""
RUSHES_MAX = 20
WRITES_AFTERWARDS = 3
"""Kept writes of every customer after the kill."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a kill did. Times are from the kill to an affected session's first good answer, in milliseconds."""

    primaries: int
    in_flight: int
    writes_per_s: float
    unknown_writes: int
    reads: int
    faults: list[str]
    gaps_ms: list[float]

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.gaps_ms)

    @property
    def p99_ms(self) -> float:
        return statistics.quantiles(self.gaps_ms, n=100, method="inclusive")[98]

    def __str__(self) -> str:
        return (
            f"kill under load: {self.primaries} primaries, {self.in_flight} with a write in flight, "
            f"{self.writes_per_s:.0f} writes/s; {len(self.faults)} faults, {self.unknown_writes} writes unanswered, "
            f"{self.reads} reads; first good answer p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"
        )


async def kill_under_load(cluster: Cluster) -> Report:
    """Run it on a started cluster that hosts `tests.e2e.apps`."""
    customers = await begin(cluster, SESSIONS)
    for _ in range(WARM_UP_ROUNDS):
        await asyncio.gather(*(customer.write() for customer in customers))
    async with shopping(customers, WRITE_PAUSE_S, READ_PAUSE_S):
        began_at = time.perf_counter()
        kept_before = sum(customer.kept for customer in customers)
        await everybody_writes(customers, WRITES_BEFORE)
        rate = (sum(customer.kept for customer in customers) - kept_before) / (time.perf_counter() - began_at)
        affected = [customer for customer in customers if customer.cookie.node == VICTIM]
        in_flight = await rush(affected)
        # From here to the kill nothing is awaited, so that the count is still true.
        killed_at = time.perf_counter()
        cluster.nodes[VICTIM].signal(signal.SIGKILL)
        for customer in affected:
            customer.leave(VICTIM)
        await everybody_writes(customers, WRITES_AFTERWARDS)
    await cluster.nodes[VICTIM].ended()
    faults = await audit(customers)
    return Report(
        primaries=len(affected),
        in_flight=in_flight,
        writes_per_s=rate,
        unknown_writes=sum(len(customer.unknown) for customer in customers),
        reads=sum(customer.reads for customer in customers),
        faults=faults,
        gaps_ms=[(customer.moved_at - killed_at) * 1000 for customer in affected if customer.moved_at],
    )


async def everybody_writes(customers: Sequence[Customer], count: int) -> None:
    """Return when each has had so many more writes answered."""
    goals = [(customer, customer.sent + count) for customer in customers]

    async def have_written() -> bool:
        return all(customer.kept >= goal for customer, goal in goals)

    await wait_until(have_written, f"every customer gets {count} more writes answered")


async def rush(affected: Sequence[Customer]) -> int:
    """Let all of them write at once, and return when some are answered and enough are not; how many are not."""
    for _ in range(RUSHES_MAX):
        sent = {customer: customer.sent for customer in affected}
        for customer in affected:
            customer.hurry()

        async def have_sent(sent: dict[Customer, int] = sent) -> bool:
            return all(customer.is_writing or customer.sent > sent[customer] for customer in affected)

        await wait_until(have_sent, f"the users of {VICTIM} write", interval_s=0)
        goals = {customer: customer.sent for customer in affected if customer.is_writing}
        while (in_flight := sum(customer.is_writing for customer in goals)) >= IN_FLIGHT_MIN:
            if any(customer.kept >= goal for customer, goal in goals.items()):
                return in_flight
            await asyncio.sleep(0)
    raise AssertionError(
        f"no moment with {IN_FLIGHT_MIN} writes in flight at {VICTIM} in {RUSHES_MAX} rushes"
    )
