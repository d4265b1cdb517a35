"""What a kill takes along: every combination of `flush`, `ack` and `granularity`, on real nodes.

    python -m tests.proof.loss [--kills 10] [--users 20] [--interval-ms 200] [--seed 1]

Three nodes; users of one of them write rising numbers at a steady pace, each into a session of his own, and remember the
last that was acknowledged and when. Their node is killed with SIGKILL in the midst of it, and each session is read at
another one: what is missing of the acknowledged numbers is lost. The requests end as most do, with the commit that the
adapter makes; `save()` is for those who do not want to lose anything, and the last line shows that.
"""

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import NamedTuple

from tests.e2e.client import Browser, Cookie, NotAnswered
from tests.e2e.cluster import Cluster, at_work
from tests.torture.proving import Timing, main, progress
from tests.torture.watch import seen_dead, whole

NODES = 3
VICTIM = "node1"
WRITE_PAUSE_S = 0.05
WARM_UP_S = 1.0
"""Before a kill: so that sessions have had flushes, and the last one is long ago in no more than one interval."""

SLACK_S = 0.1
"""A write may be acknowledged so long before it leaves, besides the interval: the loop, the link, the clock of the users."""

FLUSHES = ("request", "interval")
ACKS = ("sync", "async")
GRANULARITIES = ("attribute", "dirty", "session")


class Scheme(NamedTuple):
    """One combination. `saves`: the application calls `save()`."""

    flush: str
    ack: str
    granularity: str
    saves: bool = False

    @property
    def promises_all(self) -> bool:
        return self.saves or (self.flush == "request" and self.ack == "sync")


SCHEMES = [Scheme(*words) for words in product(FLUSHES, ACKS, GRANULARITIES)]
SAVING = Scheme("interval", "async", "attribute", saves=True)


@dataclass(slots=True)
class Row:
    """What the kills of one scheme came to."""

    scheme: Scheme
    interval_s: float
    kills: int = 0
    writes: int = 0
    lasted_s: float = 0.0
    lost: list[int] = field(default_factory=list)
    """Acknowledged writes that were gone, of each kill."""

    oldest_s: float = 0.0
    """How long before its kill the oldest of them had been acknowledged."""

    @property
    def rate(self) -> float:
        return self.writes / self.lasted_s

    @property
    def window_s(self) -> float:
        return 0.0 if self.scheme.promises_all else SLACK_S + self.interval_s

    @property
    def faults(self) -> list[str]:
        lost = sum(self.lost)
        if self.scheme.promises_all and lost:
            return [f"{self.scheme}: {lost} acknowledged writes are lost"]
        if self.interval_s and not self.scheme.promises_all and not lost:
            return [f"{self.scheme}: nothing is lost, so nothing was kept back"]
        return []

    def __str__(self) -> str:
        flush, ack, granularity, saves = self.scheme
        shown = f"{self.interval_s * 1000:.0f} ms" if self.interval_s else flush
        lost = sum(self.lost) / self.kills
        return (
            f"{shown:9} {ack:6} {granularity:10} {'save()' if saves else 'end':8} {self.rate:8.0f} {self.kills:6} "
            f"{lost:10.1f} {max(self.lost):8} {self.oldest_s * 1000:10.0f}"
        )


@dataclass(slots=True)
class LossReport:
    rows: list[Row]

    @property
    def faults(self) -> list[str]:
        return [fault for row in self.rows for fault in row.faults]

    @property
    def timings(self) -> Sequence[Timing]:
        """A kill takes along what was acknowledged within one interval, and nothing older."""
        return [
            Timing(f"{row.scheme}: from the oldest lost write to the kill it", row.oldest_s, row.window_s)
            for row in self.rows
            if not row.scheme.promises_all
        ]

    def __str__(self) -> str:
        head = (
            f"{'flush':9} {'ack':6} {'granularity':10} {'commit':8} {'writes/s':>8} {'kills':>6} {'lost a kill':>10} "
            f"{'at most':>8} {'oldest, ms':>10}"
        )
        return "\n".join([head, *map(str, self.rows)])


class Writer:
    """One user: a session, and when each number of it was acknowledged."""

    def __init__(self, browser: Browser, path: str) -> None:
        self.browser = browser
        self.acked_at: list[float] = []
        """Of number 1, 2, and so on."""
        self._path = path

    async def begin(self) -> None:
        """Create the session, protected before anything is counted."""
        await self._write()

    async def run(self, first_s: float) -> None:
        """Write until the node is gone."""
        await asyncio.sleep(first_s)
        with suppress(NotAnswered):
            while True:
                await self._write()
                await asyncio.sleep(WRITE_PAUSE_S)

    async def _write(self) -> None:
        (await self.browser.post(f"{self._path}/{len(self.acked_at) + 1}")).good()
        self.acked_at.append(time.perf_counter())

    async def lost(self, cluster: Cluster, node: str) -> list[float]:
        """When the acknowledged writes were acknowledged that this node does not know of."""
        browser = cluster.browser_at(node, Cookie(self.browser.cookie.session_id))
        found = (await browser.get("/number")).good()["number"]
        await browser.close()
        return self.acked_at[found:]


async def _kill(cluster: Cluster, row: Row, users: int, rng: random.Random) -> None:
    """One round: new sessions, a steady load, a kill in it, and what is left."""
    path = "/save" if row.scheme.saves else "/number"
    writers = [Writer(cluster.browser_at(VICTIM), path) for _ in range(users)]
    for writer in writers:
        await writer.begin()
    began_at = time.perf_counter()
    tasks = [
        asyncio.create_task(writer.run(WRITE_PAUSE_S * index / users)) for index, writer in enumerate(writers)
    ]
    await asyncio.sleep(WARM_UP_S + rng.uniform(0.0, max(row.interval_s, 0.1)))
    killed_at = time.perf_counter()
    cluster.kill(VICTIM)
    await asyncio.gather(*tasks)
    await seen_dead(cluster, VICTIM)
    survivors = sorted(cluster.running())
    lost = [when for writer in writers for when in await writer.lost(cluster, rng.choice(survivors))]
    row.kills += 1
    row.lost.append(len(lost))
    row.writes += sum(len(writer.acked_at) for writer in writers)
    row.lasted_s += killed_at - began_at
    row.oldest_s = max([row.oldest_s, *(killed_at - when for when in lost)])
    for writer in writers:
        await writer.browser.close()


async def measure(
    directory: Path, scheme: Scheme, interval_ms: int, *, kills: int, users: int, rng: random.Random
) -> Row:
    """The kills of one scheme; `directory` is its own."""
    row = Row(scheme, interval_ms / 1000 if scheme.flush == "interval" else 0.0)
    settings = {
        "flush": str(interval_ms) if scheme.flush == "interval" else scheme.flush,
        "ack": scheme.ack,
        "granularity": scheme.granularity,
    }
    async with at_work(Cluster(directory, NODES, "tests.e2e.apps:create_app", **settings)) as cluster:
        for number in range(kills):
            if number:
                cluster.nodes[VICTIM].start()
                await whole(cluster)
            await _kill(cluster, row, users, rng)
    progress(str(row))
    return row


async def prove(directory: Path, kills: int, users: int, interval_ms: int, seed: int) -> LossReport:
    rng = random.Random(seed)
    rows = []
    for number, scheme in enumerate([*SCHEMES, SAVING]):
        own = directory / f"scheme{number}"
        own.mkdir()
        rows.append(await measure(own, scheme, interval_ms, kills=kills, users=users, rng=rng))
    return LossReport(rows)


if __name__ == "__main__":
    sys.exit(main(__doc__, {"kills": 10, "users": 20, "interval_ms": 200, "seed": 1}, prove))
