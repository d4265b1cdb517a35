"""`python -m tests.proof.reload`: the balancer's configuration changes again and again under load; no request fails.

    python -m tests.proof.reload [--rate 1000] [--reloads 20] [--workers 1] [--quick]

The list of nodes lies in a file. Every half second the file takes a node out or brings it back, changes limits as
well, and the balancer gets SIGHUP. Users read their sessions at an even rate over connections that they keep; a GET
that is not answered with 200 and the user's own session is a failed one.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.e2e.cluster import Balancer, Cluster, at_work
from tests.e2e.processes import HOST
from tests.e2e.waiting import wait_until
from tests.proof.arrivals import Users, quantile_ms, while_coming

APP = "tests.e2e.apps:create_app"
USERS = 100
PAUSE_S = 0.5
COMES_AND_GOES = "node3"
FAULTS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Report:
    reloads: int
    requests: int
    p99_ms: float
    faults: list[str]

    def __str__(self) -> str:
        return (
            f"reload under load: {self.reloads} reloads, {self.requests} GETs, {len(self.faults)} failed, "
            f"p99 {self.p99_ms:.1f} ms"
        )


def configuration(cluster: Cluster, number: int) -> str:
    """The file's contents before the reload of this number, from 0; every second one lacks a node."""
    names = [name for name in cluster.nodes if number % 2 == 0 or name != COMES_AND_GOES]
    places = ", ".join(f'"{name}={HOST}:{cluster.nodes[name].http}"' for name in names)
    return f"node = [{places}]\nbody_bytes_max = {1_000_000 + number}\n"


async def reload_under_load(cluster: Cluster, rate: float, reloads: int, workers: int) -> Report:
    """Run it on a started cluster of three nodes that hosts `tests.e2e.apps`."""
    file = cluster.directory / "balancer.toml"
    file.write_text(configuration(cluster, 0))
    options = (f"--config={file}", f"--workers={workers}")
    balancer = Balancer("reloaded", cluster.ports, (), cluster.directory, *options)
    cluster.others.append(balancer)
    balancer.start()
    await wait_until(lambda: balancer.sends_to(cluster.nodes), "the balancer uses the nodes")
    users = Users(cluster, balancer.port, USERS)
    await users.begin()

    async def scene() -> None:
        for number in range(1, reloads + 1):
            await asyncio.sleep(PAUSE_S)
            file.write_text(configuration(cluster, number))
            balancer.signal(signal.SIGHUP)
            await wait_until(lambda number=number: have_reloaded(balancer, number), "the file is read anew")
        await asyncio.sleep(PAUSE_S)

    record = await while_coming(users, rate, scene)
    await users.close()
    return Report(reloads, len(record.visits), quantile_ms(record.visits, 0.99), record.faults)


async def have_reloaded(balancer: Balancer, number: int) -> bool:
    assert not balancer.events("configuration.refused"), balancer.log_tail()
    return len(balancer.events("configuration.reloaded")) >= number


async def run(rate: float, reloads: int, workers: int) -> Report:
    with tempfile.TemporaryDirectory(prefix="proof-") as directory:
        async with at_work(Cluster(Path(directory), nodes=3, app=APP)) as cluster:
            return await reload_under_load(cluster, rate, reloads, workers)


def main() -> int:
    parser = argparse.ArgumentParser(description="Reload the balancer's configuration under load.")
    parser.add_argument("--rate", type=float, default=1000, help="GETs a second")
    parser.add_argument("--reloads", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="four reloads at a low rate")
    options = parser.parse_args()
    rate, reloads = (200, 4) if options.quick else (options.rate, options.reloads)
    report = uvloop.run(run(rate, reloads, options.workers))
    sys.stdout.write(f"{report}\n")
    sys.stdout.writelines(f"  {fault}\n" for fault in report.faults[:FAULTS_SHOWN])
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
