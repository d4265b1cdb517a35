"""`python -m tests.proof.failover`: a node is killed under load, behind our balancer and behind others.

    python -m tests.proof.failover [--rate 2000] [--rounds 3] [--only balancer,haproxy] [--quick]

Three nodes, users with a session each, GETs at an even rate; then SIGKILL to one of the nodes. The same for each
proxy, with the configurations of deploy/, in turn. A GET that is not answered with 200 and the user's own session is
a failed one. The time of a request counts from when it was due. "Added" is the p99 of the requests due within 2 s
after the kill, less that of those due before.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.bench.install import ensure
from tests.e2e.cluster import Cluster, at_work
from tests.e2e.foreign import KINDS, NODES, start_foreign
from tests.proof.arrivals import Record, Users, quantile_ms, while_coming

APP = "tests.e2e.apps:create_app"
OURS = "balancer"
VICTIM = "node1"
USERS = 240
WARM_UP_S = 2.0
AFTER_S = 2.0
"""The requests due within so long after the kill are those that it can touch."""
FAULTS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Plan:
    rate: float
    before_s: float
    after_s: float
    rounds: int


FULL = Plan(rate=2000, before_s=6.0, after_s=6.0, rounds=3)
QUICK = Plan(rate=300, before_s=2.0, after_s=3.0, rounds=1)


@dataclass(frozen=True, slots=True)
class Report:
    """What one kill did behind one proxy."""

    proxy: str
    rate: float
    before_ms: float
    after_ms: float
    longest_ms: float
    requests: int
    faults: list[str]

    @property
    def added_ms(self) -> float:
        return self.after_ms - self.before_ms


async def kill_behind(proxy: str, cluster: Cluster, plan: Plan) -> Report:
    """Run it on a started cluster of three nodes that hosts `tests.e2e.apps`."""
    port = cluster.port if proxy == OURS else (await start_foreign(KINDS[proxy], cluster)).port
    users = Users(cluster, port, USERS)
    await users.begin()
    times: list[float] = []

    async def scene() -> None:
        await asyncio.sleep(WARM_UP_S)
        times.append(time.perf_counter())
        await asyncio.sleep(plan.before_s)
        times.append(time.perf_counter())
        cluster.kill(VICTIM)
        await asyncio.sleep(plan.after_s)
        times.append(time.perf_counter())

    record = await while_coming(users, plan.rate, scene)
    await users.close()
    return report_of(proxy, record, *times)


def report_of(proxy: str, record: Record, began: float, killed: float, ended: float) -> Report:
    before, after = record.between(began, killed), record.between(killed, killed + AFTER_S)
    counted = record.between(began, ended)
    return Report(
        proxy,
        rate=len(counted) / (ended - began),
        before_ms=quantile_ms(before, 0.99),
        after_ms=quantile_ms(after, 0.99),
        longest_ms=max(visit.took for visit in after) * 1000,
        requests=len(counted),
        faults=record.faults,
    )


def table(reports: list[Report]) -> str:
    """Medians of the rounds; failed requests are of all rounds together."""
    lines = ["proxy     GETs/s   failed   p99 before   p99 after   added   slowest   (ms)"]
    for proxy in dict.fromkeys(report.proxy for report in reports):
        own = [report for report in reports if report.proxy == proxy]

        def median(figure: str, own: list[Report] = own) -> float:
            return statistics.median(getattr(report, figure) for report in own)

        failed, requests = sum(len(report.faults) for report in own), sum(report.requests for report in own)
        lines.append(
            f"{proxy:8}  {median('rate'):6.0f}  {failed:7}  {median('before_ms'):11.1f}  {median('after_ms'):10.1f}"
            f"  {median('added_ms'):6.1f}  {median('longest_ms'):8.1f}   of {requests} GETs"
        )
    return "\n".join(lines)


async def run(proxy: str, plan: Plan) -> Report:
    with tempfile.TemporaryDirectory(prefix="proof-") as name:
        async with at_work(Cluster(Path(name), nodes=NODES, app=APP)) as cluster:
            return await kill_behind(proxy, cluster, plan)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Kill a node under load, behind our balancer and behind others."
    )
    parser.add_argument("--rate", type=float, help="GETs a second")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", help="these proxies, with commas", default=",".join([OURS, *KINDS]))
    parser.add_argument("--quick", action="store_true", help="one short round at a low rate")
    options = parser.parse_args()
    usual = QUICK if options.quick else FULL
    plan = Plan(options.rate or usual.rate, usual.before_s, usual.after_s, options.rounds or usual.rounds)
    proxies = options.only.split(",")
    ensure([KINDS[proxy].package for proxy in proxies if proxy != OURS], progress)
    reports = []
    for number in range(1, plan.rounds + 1):
        for proxy in proxies:
            report = uvloop.run(run(proxy, plan))
            reports.append(report)
            progress(f"round {number} {proxy}: {report.requests} GETs, {len(report.faults)} failed")
            for fault in report.faults[:FAULTS_SHOWN]:
                progress(f"  {fault}")
    sys.stdout.write(f"{table(reports)}\n")
    ours = [fault for report in reports if report.proxy == OURS for fault in report.faults]
    return 1 if ours else 0


def progress(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
