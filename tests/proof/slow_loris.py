"""`python -m tests.proof.slow_loris`: clients that send their requests as slowly as they can, beside honest ones.

    python -m tests.proof.slow_loris [--heads 1000] [--bodies 500] [--quick]

Debian's slowhttptest opens the connections and trickles: heads that never end, then bodies that never end. Meanwhile
honest users read their sessions at an even rate. Shown for each attack: when the last of its connections was cut,
memory and descriptors of the balancer before, at most, and after, and the users' p99 before and meanwhile.
"""

import argparse
import asyncio
import csv
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.bench.install import Package, ensure
from tests.e2e.cluster import Cluster, at_work
from tests.e2e.processes import HOST, Process
from tests.e2e.waiting import wait_until
from tests.proof.arrivals import Users, quantile_ms, while_coming
from tests.proof.footprint import Footprint, watched

SLOWHTTPTEST = Package("slowhttptest", "slowhttptest")
APP = "tests.e2e.apps:create_app"
USERS, RATE = 50, 200
QUIET_S = 3.0
"""How long the users come alone before, for the figures to compare with."""
WATCH_INTERVAL_S = 0.1
CONNECTIONS_PER_S = 250
GRACE_S = 8
"""The attack is given so much longer than the limits before it gives up itself: then something was not cut."""
DESCRIPTORS_LEFT_MAX = 10
"""More than before that may be open afterwards: honest users' connections to the nodes."""
SETTLE_S = 60
"""Longer than the balancer keeps idle connections to nodes, of which honest users needed more in the busiest moment."""

KIB_PER_CONNECTION_MAX = 64


@dataclass(frozen=True, slots=True)
class Attack:
    """`pause_s`: between two pieces of a request; `limit_s`: the balancer's, from a request's first byte."""

    name: str
    option: str
    path: str
    connections: int
    pause_s: int
    limit_s: int


def attacks(heads: int, bodies: int) -> tuple[Attack, ...]:
    """The limits are the balancer's defaults."""
    return (
        Attack("slow heads", "-H", "/number", heads, pause_s=2, limit_s=10),
        Attack("slow bodies", "-B", "/body", bodies, pause_s=5, limit_s=30),
    )


@dataclass(frozen=True, slots=True)
class Report:
    """What an attack did."""

    attack: Attack
    connected: int
    last_cut_s: float
    """When the last connection was gone, from the begin of the attack."""
    are_all_cut: bool
    before: Footprint
    most: Footprint
    after: Footprint
    alone_p99_ms: float
    beside_p99_ms: float
    faults: list[str]

    @property
    def problems(self) -> list[str]:
        """What of this must not be."""
        problems = list(self.faults)
        opening_s = self.attack.connections / CONNECTIONS_PER_S
        if self.connected < self.attack.connections:
            problems.append(f"only {self.connected} connections were opened: nothing was shown")
        if not self.are_all_cut:
            problems.append("not every connection was cut")
        if self.last_cut_s > opening_s + self.attack.limit_s + GRACE_S / 2:
            problems.append(f"the last connection was cut after {self.last_cut_s} s")
        if self.after.descriptors > self.before.descriptors + DESCRIPTORS_LEFT_MAX:
            problems.append(
                f"{self.after.descriptors} descriptors are open, before {self.before.descriptors}"
            )
        if self.most.rss_kib - self.before.rss_kib > self.attack.connections * KIB_PER_CONNECTION_MAX:
            problems.append(f"the balancer grew to {self.most.rss_kib} KiB")
        return problems

    def __str__(self) -> str:
        grown = (self.most.rss_kib - self.before.rss_kib) / self.attack.connections
        return (
            f"{self.connected} {self.attack.name}, limit {self.attack.limit_s} s: the last one cut after "
            f"{self.last_cut_s:.0f} s\n"
            f"  balancer before {self.before}; at most {self.most} ({grown:.1f} KiB each); after {self.after}\n"
            f"  {len(self.faults)} honest requests failed; their p99 alone {self.alone_p99_ms:.1f} ms, "
            f"beside the attack {self.beside_p99_ms:.1f} ms"
        )


async def attacked(cluster: Cluster, attack: Attack) -> Report:
    """Run it on a started cluster that hosts `tests.e2e.apps`."""
    users = Users(cluster, cluster.port, USERS)
    await users.begin()
    pid = cluster.balancer.child.pid
    prefix = cluster.directory / attack.name.replace(" ", "-")
    times: list[float] = []
    footprints: list[Footprint] = []
    said: list[str] = []

    async def scene() -> None:
        await asyncio.sleep(QUIET_S)
        times.append(time.perf_counter())
        before = Footprint.of(pid)
        async with watched(pid, WATCH_INTERVAL_S) as seen:
            said.append(await strike(cluster, attack, prefix))
        times.append(time.perf_counter())

        async def are_closed() -> bool:
            return Footprint.of(pid).descriptors <= before.descriptors + DESCRIPTORS_LEFT_MAX

        what = "the balancer has closed what was opened"
        await wait_until(are_closed, what, deadline_s=SETTLE_S, interval_s=0.1)
        most = Footprint(max(each.rss_kib for each in seen), max(each.descriptors for each in seen))
        footprints.extend((before, most, Footprint.of(pid)))

    record = await while_coming(users, RATE, scene)
    await users.close()
    began, ended = times
    statistics = await asyncio.to_thread(prefix.with_suffix(".csv").read_text)
    return Report(
        attack,
        *told(said[0], statistics),
        *footprints,
        alone_p99_ms=quantile_ms(record.between(0, began), 0.99),
        beside_p99_ms=quantile_ms(record.between(began, ended), 0.99),
        faults=record.faults,
    )


async def strike(cluster: Cluster, attack: Attack, prefix: Path) -> str:
    """What the tool printed, when it has ended: no connection is left, or its time is over."""
    longest_s = attack.connections // CONNECTIONS_PER_S + attack.limit_s + GRACE_S
    command = [
        *("slowhttptest", attack.option, "-c", str(attack.connections), "-r", str(CONNECTIONS_PER_S)),
        *("-i", str(attack.pause_s), "-x", "3", "-l", str(longest_s), "-p", "5", "-v", "1"),
        *("-u", f"http://{HOST}:{cluster.port}{attack.path}", "-g", "-o", str(prefix)),
    ]
    tool = Process(attack.name.replace(" ", "-"), command, cluster.directory)
    cluster.others.append(tool)
    tool.start()

    async def has_ended() -> bool:
        return not tool.is_running

    await wait_until(has_ended, "slowhttptest ends", deadline_s=longest_s + 30, interval_s=0.1)
    return tool.text()


def told(text: str, statistics: str) -> tuple[int, float, bool]:
    """What the tool says: connections opened, when it ended, and whether none was left then.

    Its table has a row a second, the last of them from before the end.
    """
    rows = csv.DictReader(statistics.splitlines())
    opened = max(int(row["Connected"]) + int(row["Closed"]) for row in rows)
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    ended = re.search(r"Test ended on (\d+)", plain)
    if ended is None:
        raise ValueError(f"slowhttptest did not say when it ended: {plain[-2000:]}")
    return opened, float(ended.group(1)), "No open connections left" in plain


async def run(attack: Attack) -> Report:
    with tempfile.TemporaryDirectory(prefix="proof-") as directory:
        async with at_work(Cluster(Path(directory), nodes=2, app=APP)) as cluster:
            return await attacked(cluster, attack)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Attack the balancer with slow requests, beside honest ones."
    )
    parser.add_argument("--heads", type=int, default=1000)
    parser.add_argument("--bodies", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="slow heads only, and fewer")
    options = parser.parse_args()
    ensure([SLOWHTTPTEST], progress)
    chosen = attacks(300, 0)[:1] if options.quick else attacks(options.heads, options.bodies)
    problems = []
    for attack in chosen:
        report = uvloop.run(run(attack))
        problems += report.problems
        progress(str(report))
        for problem in report.problems:
            progress(f"  MUST NOT BE: {problem}")
    return 1 if problems else 0


def progress(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
