"""`python -m tests.proof.rolling_restart`: restart every node, one after another, under load; nobody may notice.

    python -m tests.proof.rolling_restart [--nodes 5] [--rate 500] [--rounds 1] [--way sigterm|drain|both]
                                          [--quorum any|majority] [--placements pair,all,backup]

Customers write and read through the balancer, half GETs and half POSTs, and new visitors come all the time. A node
is told to end, by SIGTERM alone or after `sessiond drain NODE --wait`, and started again; the next one's turn comes
when every node sees it alive, the balancer uses it and all sessions are protected. A request that is not
answered with 200 is a failed one, whatever the reason; a session that is not found, or found with anything but the
last number that was kept, is a lost one.

With `--placements` each round leads the running cluster to another scheme: every node comes back with it.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from sessiond.contract.cluster_view import MemberState
from tests.e2e.cluster import Cluster, Setting, at_work, show_logs
from tests.e2e.load import Customer, audit, begin, shopping
from tests.e2e.processes import HOST, Process, python
from tests.e2e.waiting import wait_until

APP = "tests.e2e.apps:create_app"
WAYS = ("sigterm", "drain")
SECONDS_PER_REQUEST = 0.8
"""A customer writes, and reads, once in this time."""
HEADROOM = 1.03
"""So many more customers than the rate would need if answers took no time."""
NEWCOMERS_PER_S = 10
DRAIN_TIMEOUT_S = 8.0
FAULTS_SHOWN = 20


@dataclass
class Report:
    """What a rolling restart did to the users."""

    way: str
    requests: int = 0
    posts: int = 0
    took_s: float = 0.0
    newcomers: int = 0
    restarts: int = 0
    leaving_s: list[float] = field(default_factory=list)
    """From being told to leave until the process had ended."""
    failed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        return [*self.failed, *self.lost]

    def __str__(self) -> str:
        rate = self.requests / self.took_s
        return (
            f"rolling restart by {self.way}: {self.restarts} restarts in {self.took_s:.1f} s, {self.requests} requests "
            f"({rate:.0f}/s, {self.posts} POSTs, {self.newcomers} new visitors); a node leaves within "
            f"{max(self.leaving_s):.2f} s; {len(self.failed)} failed requests, {len(self.lost)} sessions lost"
        )


async def rolling_restart(
    cluster: Cluster, way: str, rate: float, rounds: int = 1, placements: Sequence[str] = ()
) -> Report:
    """Restart every node of a started cluster that hosts `tests.e2e.apps`, `rounds` times; or once for each of
    `placements`, with which the nodes come back."""
    report = Report(way)
    pause_s = SECONDS_PER_REQUEST
    customers = await begin(cluster, round(HEADROOM * rate * pause_s / 2))
    newcomers: list[Customer] = []
    async with shopping(customers, pause_s, pause_s), newcoming(cluster, newcomers):
        before, began_at = count(customers), time.perf_counter()
        for placement in placements or [""] * rounds:
            for name in cluster.nodes:
                report.leaving_s.append(await leave(cluster, name, way))
                report.restarts += 1
                if placement:
                    cluster.reconfigure(name, placement=placement)
                await cluster.restart(name)
                await protected(cluster)
        report.took_s = time.perf_counter() - began_at
        posts, reads = count([*customers, *newcomers])
        report.posts = posts - before[0]
        report.requests = report.posts + reads - before[1]
    everybody = [*customers, *newcomers]
    report.newcomers = len(newcomers)
    for customer in everybody:
        report.failed += customer.unknown + customer.faults
        customer.faults.clear()
    report.lost = await audit(everybody)
    return report


def count(customers: list[Customer]) -> tuple[int, int]:
    """POSTs and GETs so far."""
    return sum(customer.sent for customer in customers), sum(customer.reads for customer in customers)


@asynccontextmanager
async def newcoming(cluster: Cluster, newcomers: list[Customer]) -> AsyncIterator[None]:
    """New visitors come until the block ends; each begins a session and looks whether it is there."""

    async def come(visits: asyncio.TaskGroup) -> None:
        while True:
            newcomer = Customer(cluster)
            newcomers.append(newcomer)
            visits.create_task(visit(newcomer))
            await asyncio.sleep(1 / NEWCOMERS_PER_S)

    async def visit(newcomer: Customer) -> None:
        await newcomer.write()
        await newcomer.read()
        await newcomer.hang_up()

    async with asyncio.TaskGroup() as visits:
        coming = visits.create_task(come(visits))
        try:
            yield
        finally:
            coming.cancel()


async def leave(cluster: Cluster, name: str, way: str) -> float:
    """Let a node end in order; how long it took from the first word to the end of the process."""
    node = cluster.nodes[name]
    began_at = time.perf_counter()
    if way == "drain":
        asked = next(other for other in cluster.nodes.values() if other is not node)
        command = python("sessiond", "drain", name, "--wait", f"--api={HOST}:{asked.api}")
        drain = Process(f"drain-{name}", command, cluster.directory)
        cluster.others.append(drain)
        drain.start()
        assert await drain.ended() == 0, drain.text()
        assert drain.text().endswith("0 copies: safe to stop\n"), drain.text()
    node.signal(signal.SIGTERM)
    assert await node.ended() == 0, f"{name} ended with code {node.child.returncode}"
    assert not node.events("node.sessions_end"), f"{name} ended with sessions"
    return time.perf_counter() - began_at


async def protected(cluster: Cluster) -> None:
    """Wait until no node misses a backup of any of its sessions."""

    async def are_protected() -> bool:
        view = await cluster.view(next(iter(cluster.nodes)))
        members = view.members if view is not None else ()
        living = [m for m in members if m.state not in (MemberState.DEAD, MemberState.LEFT)]
        return len(living) == len(cluster.nodes) and not any(member.unprotected for member in living)

    await wait_until(are_protected, "every session is protected")


async def run(
    way: str, nodes: int, rate: float, rounds: int, quorum: str, *, placements: Sequence[str]
) -> Report:
    """One proof on a cluster of its own."""
    with tempfile.TemporaryDirectory(prefix="proof-") as directory:
        settings: dict[str, Setting] = {"drain_timeout_s": DRAIN_TIMEOUT_S, "quorum": quorum}
        if quorum == "majority":
            settings["expect"] = nodes
        cluster = Cluster(Path(directory), nodes=nodes, app=APP, **settings)
        async with at_work(cluster):
            report = await rolling_restart(cluster, way, rate, rounds, placements)
        if report.faults:
            show_logs(cluster)
        return report


def main() -> int:
    parser = argparse.ArgumentParser(description="Restart every node under load; nobody may notice.")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--rate", type=float, default=500, help="requests a second")
    parser.add_argument("--rounds", type=int, default=1, help="times that every node is restarted")
    parser.add_argument("--way", choices=[*WAYS, "both"], default="both")
    parser.add_argument("--quorum", choices=["any", "majority"], default="any")
    parser.add_argument("--placements", default="", help="schemes to lead the cluster through, one a round")
    options = parser.parse_args()
    placements = options.placements.split(",") if options.placements else []
    faults = 0
    for way in WAYS if options.way == "both" else [options.way]:
        report = uvloop.run(
            run(way, options.nodes, options.rate, options.rounds, options.quorum, placements=placements)
        )
        sys.stdout.write(f"{report}\n")
        sys.stdout.writelines(f"  {fault}\n" for fault in report.faults[:FAULTS_SHOWN])
        sys.stdout.flush()
        faults += len(report.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
