"""Many tagged requests through the data plane, and what became of them."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass

from tests.balancer.proxy.stage import Stage
from tests.conformance.tagged.client import Client, End
from tests.conformance.tagged.node import TaggedNode
from tests.conformance.tagged.wire import Mishap

NODES = 3
CLIENTS = 200


@dataclass(frozen=True, slots=True)
class Report:
    """`crossed`: answers or requests that met another's. Nothing else is a fault."""

    requests: int
    seconds: float
    ends: Counter[End]
    mishaps: Counter[Mishap]
    client_aborts: int
    client_connections: int
    retries: int
    crossed: list[str]

    def lines(self) -> list[str]:
        """For people."""
        whole = (
            f"tagged requests: {self.requests:,} in {self.seconds:.0f} s over {self.client_connections:,} client "
            f"connections, {self.client_aborts:,} of them hung up by the client; {self.retries:,} retries"
        )
        ends = [f"  {end.value}: {count:,}" for end, count in self.ends.most_common()]
        mishaps = [f"  by a node, {mishap.value}: {count:,}" for mishap, count in self.mishaps.most_common()]
        return [whole, *ends, *mishaps, f"  crossed: {len(self.crossed)}"]


async def run(requests: int, seed: int) -> Report:
    """Needs uvloop for its speed, not for its result. The seed decides what is done, the machine when."""
    left = requests

    def take(wanted: int) -> int:
        nonlocal left
        taken = min(wanted, left)
        left -= taken
        return taken

    nodes = [TaggedNode(f"node{i}", random.Random(f"{seed} node{i}")) for i in range(1, NODES + 1)]
    began = time.perf_counter()
    # Nothing here brings a node back that was given up, and failures are what it is about.
    async with Stage(*nodes, request_fall=1_000_000_000, retry_reserve=1_000_000_000) as stage:
        where = stage.address
        clients = [Client(f"c{i}", where, random.Random(f"{seed} c{i}"), take) for i in range(CLIENTS)]
        await asyncio.gather(*(client.run() for client in clients))
        retries = stage.service.totals.retries
    return Report(
        requests,
        time.perf_counter() - began,
        sum((client.ends for client in clients), Counter()),
        sum((node.mishaps for node in nodes), Counter()),
        sum(client.aborts for client in clients),
        sum(client.connections for client in clients),
        retries,
        [line for one in (*clients, *nodes) for line in one.crossed],
    )
