"""A million sessions on one node: what each weighs, and how long the loop ever stands still.

    python -m tests.proof.million [--sessions 1000000] [--idle-timeout SECONDS]

node1 is filled with that many sessions, node2 with a tenth of it; each is the other's backup. Then, one after the other:
nothing happens; every session is read once; node3 joins, loads the directory and gets its first backups; node2 is killed,
so node1 takes over its sessions and gives all of them another backup; and all that were read together expire
together. In every phase each node tells how late its loop is, and how much of that is its own doing (`lag`); so does a
process beside them that does nothing else: what it shows is the machine's doing.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e.client import Browser, NotAnswered
from tests.e2e.cluster import Cluster
from tests.e2e.processes import Process, python
from tests.e2e.waiting import wait_until
from tests.proof.footprint import Footprint
from tests.proof.lag import PATH, figures_of

BIG, PEER, NEWCOMER = "node1", "node2", "node3"

LAG_P999_MAX_MS = 50.0

IDLE_S = 10.0
REBALANCE_AFTER_S = 3.0
REBALANCING_SEEN_S = 7.0
"""The newcomer's share would take an hour; what matters here is that it begins."""

PHASE_S = 1800.0
POLL_S = 0.5


class Proof:
    """The cluster with its control, and what was found."""

    def __init__(self, cluster: Cluster, control: Process, control_port: int) -> None:
        self._cluster = cluster
        self._control = control
        self._control_port = control_port
        self.problems: list[str] = []

    # --- measuring ------------------------------------------------------------------------------------

    async def _lags(self) -> dict[str, bytes]:
        """What each loop has to tell since the last time."""
        ports = {name: node.http for name, node in self._cluster.running().items()}
        ports["control"] = self._control_port
        return {name: await _ask("GET", port, PATH) for name, port in ports.items()}

    @asynccontextmanager
    async def phase(self, name: str) -> AsyncIterator[None]:
        """What happens in the block is a row for each process; a percentile that is too high is a problem."""
        await self._lags()
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        for process, told in (await self._lags()).items():
            figures = figures_of(told)
            say(f"{name:14} {seconds:7.1f}  {process:8} {figures}")
            p999 = figures.own.p999
            if p999 > LAG_P999_MAX_MS:
                self.problems.append(f"{name}: {process} holds up its own loop: p99.9 {p999:.1f} ms")

    def resident(self, name: str) -> int:
        return Footprint.of(self._cluster.nodes[name].child.pid).rss_kib * 1024

    async def gauge(self, node: str, name: str) -> float:
        """One of a node's metrics."""
        lines = await self._cluster.metrics(node)
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), -1.0)

    async def primaries(self, node: str) -> float:
        return await self.gauge(node, 'sessiond_copies{role="primary"}')

    # --- the course of it -----------------------------------------------------------------------------

    async def run(self, sessions: int, idle_timeout_s: float) -> None:
        cluster, others = self._cluster, sessions // 10
        empty = {name: self.resident(name) for name in (BIG, PEER)}
        percentiles = "    p50     p99   p99.9    most"
        say(f"{'':34}{'loop lag, ms':32}{'of its own doing, ms':32}longest")
        say(f"{'phase':14} {'s':>7}  {'process':8} {percentiles} {percentiles} collection")
        async with self.phase("filling"):
            await self._fill(BIG, sessions)
        grown = {name: (self.resident(name) - size) / sessions for name, size in empty.items()}
        async with self.phase("filling, peer"):
            await self._fill(PEER, others)
        async with self.phase("idle"):
            await asyncio.sleep(IDLE_S)
        async with self.phase("reading"):
            found = int(await _ask("POST", cluster.nodes[BIG].http, f"/use/{sessions}"))
            used_at = time.perf_counter()
        self._expect("sessions found", found, sessions)
        async with self.phase("joining"):
            entry = await self._join(sessions + others)
        async with self.phase("re-protecting"):
            cluster.kill(PEER)
            try:
                await self._protected(sessions + others, until=used_at + idle_timeout_s)
            except AssertionError as error:
                self.problems.append(str(error))
        await asyncio.sleep(used_at + idle_timeout_s - time.perf_counter())
        async with self.phase("expiring"):
            await self._expired(others)
        say(
            f"bytes a session: primary {grown[BIG]:.0f}, backup {grown[PEER]:.0f}, directory entry {entry:.0f}"
        )
        await self._check_memory()

    async def _fill(self, name: str, count: int) -> None:
        protected = int(await _ask("POST", self._cluster.nodes[name].http, f"/fill/{count}"))
        self._expect(f"sessions of {name} with a backup", protected, count)

    async def _join(self, entries: int) -> float:
        """Start the newcomer; what a directory entry weighs on it, before it has anything else."""
        cluster = self._cluster
        node = cluster.newcomer(NEWCOMER, NEWCOMER)
        cluster.nodes[NEWCOMER] = node

        async def has_spoken() -> bool:
            return bool(node.text())

        async def has_joined() -> bool:
            return bool(node.events("node.joined"))

        await wait_until(has_spoken, f"{NEWCOMER} has been loaded")
        base = self.resident(NEWCOMER)
        await wait_until(has_joined, f"{NEWCOMER} joins", PHASE_S, 0.05)
        weight = (self.resident(NEWCOMER) - base) / entries
        self._expect("entries loaded", int(await self.gauge(NEWCOMER, "sessiond_directory_entries")), entries)
        await asyncio.sleep(REBALANCE_AFTER_S + REBALANCING_SEEN_S)
        return weight

    async def _protected(self, total: int, until: float) -> None:
        async def is_protected() -> bool:
            nodes = (BIG, NEWCOMER)
            return (
                sum([await self.primaries(name) for name in nodes]) == total
                and sum([await self.gauge(name, "sessiond_unprotected") for name in nodes]) == 0
                and sum([await self.gauge(name, 'sessiond_copies{role="backup"}') for name in nodes]) == total
            )

        what = "every session has a primary and a backup again before any expires (--idle-timeout)"
        await wait_until(is_protected, what, until - time.perf_counter(), POLL_S)

    async def _expired(self, taken_over: int) -> None:
        """Those that were taken over were used when that happened, as far as anybody knows: they come later."""

        async def is_over() -> bool:
            return 0 <= await self.primaries(BIG) <= taken_over

        await wait_until(is_over, "the sessions expire", PHASE_S, POLL_S)

    async def _check_memory(self) -> None:
        for name in self._cluster.running():
            say(f"{name} holds {self.resident(name) / 2**20:.0f} MiB in the end")

    def _expect(self, what: str, found: int, wanted: int) -> None:
        if found != wanted:
            self.problems.append(f"{what}: {found} instead of {wanted}")


async def _ask(method: str, port: int, path: str) -> bytes:
    """The body of a 200, however long it takes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.split()[1] == b"200", head
        return body
    finally:
        writer.close()


@asynccontextmanager
async def control_process(cluster: Cluster) -> AsyncIterator[tuple[Process, int]]:
    port = cluster.ports.take()
    process = Process("control", python("tests.proof.lag", str(port)), cluster.directory)
    process.start()
    try:

        async def answers() -> bool:
            try:
                return (await Browser(port).get(PATH)).status == 200
            except NotAnswered:
                return False

        await wait_until(answers, "the control answers")
        yield process, port
    finally:
        process.close()


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - its output is the proof


def settings(idle_timeout_s: float) -> dict[str, str | int | float]:
    return {
        "app": "tests.proof.crowd:create_app",
        "idle_timeout_s": idle_timeout_s,
        "rebalance_after_s": REBALANCE_AFTER_S,
        "memory_bytes_max": 2**40,
        "reprotect_rate_max": 20_000,
    }


async def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument(
        "--idle-timeout",
        type=float,
        help="must be longer than the filling, and than all between reading and expiring",
    )
    options = parser.parse_args(arguments)
    idle_timeout_s = options.idle_timeout or 60.0 + options.sessions / 1000
    with tempfile.TemporaryDirectory() as directory:
        async with (
            Cluster(Path(directory), 2, **settings(idle_timeout_s)) as cluster,  # type: ignore[arg-type] # by name
            control_process(cluster) as (control, port),
        ):
            proof = Proof(cluster, control, port)
            await proof.run(options.sessions, idle_timeout_s)
    for problem in proof.problems:
        say(f"FAILED: {problem}")
    return 1 if proof.problems else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
