"""Every node is killed at once, under continuous writes, and started again: what the store promises, tried.

Customers write until the kill and are asked for their numbers afterwards: each must find at least what was answered,
and at most what it sent. `place_stores` gives the nodes their store: one for all, or a file each.
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.e2e.cluster import Cluster
from tests.e2e.load import Customer, audit, begin

WRITE_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Report:
    """What a kill of everybody did."""

    sessions: int
    kept: int
    in_doubt: int
    faults: list[str]

    def __str__(self) -> str:
        return (
            f"everybody killed: {self.sessions} sessions, {self.kept} answered writes, {self.in_doubt} unanswered; "
            f"{len(self.faults)} faults"
        )


def place_stores(cluster: Cluster, url_of: Callable[[str], str]) -> None:
    """Before the cluster starts: the URL of each node's store."""
    for node in cluster.nodes.values():
        node.configure(store=url_of(node.name))
        node.join(cluster.nodes.values())


async def kill_everybody(cluster: Cluster, *, sessions: int, seconds: float, rounds: int) -> Report:
    """Run it on a started cluster that hosts `tests.e2e.apps`."""
    customers = await begin(cluster, sessions)
    faults: list[str] = []
    for _ in range(rounds):
        await _write_until_the_end(cluster, customers, seconds)
        await come_back(cluster, customers)
        faults = await audit(customers)
    return Report(
        sessions=len(customers),
        kept=sum(customer.kept for customer in customers),
        in_doubt=sum(len(customer.unknown) for customer in customers),
        faults=faults,
    )


def kill_all(cluster: Cluster) -> None:
    """At once: no node learns of another one's end."""
    for node in cluster.nodes.values():
        node.signal(signal.SIGKILL)


async def come_back(cluster: Cluster, customers: Sequence[Customer]) -> None:
    """Start all nodes again that were killed; their customers connect anew."""
    for node in cluster.nodes.values():
        await node.ended()
    await asyncio.gather(*(customer.hang_up() for customer in customers))
    for node in cluster.nodes.values():
        node.start()
    await cluster.ready()


async def _write_until_the_end(cluster: Cluster, customers: Sequence[Customer], seconds: float) -> None:
    is_over = asyncio.Event()

    async def write(customer: Customer) -> None:
        while not is_over.is_set():
            await customer.write()
            await asyncio.sleep(WRITE_PAUSE_S)

    async with asyncio.TaskGroup() as tasks:
        for customer in customers:
            tasks.create_task(write(customer))
        await asyncio.sleep(seconds)
        kill_all(cluster)
        is_over.set()
