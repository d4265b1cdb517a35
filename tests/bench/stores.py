"""``python -m tests.bench.stores [--seconds 3] [--only KIND]``: what a write costs in each kind of store, on this machine.

Each kind is at its durable setting: a write is on the disk when it returns. Servers are started here, on loopback,
and stopped. Beside them stands what the disk itself takes for one fsync, below which no durable write can be.
Latency is that of one `write` call with its batch, in a process that does nothing else.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sessiond.stores import Record, Store, store_for
from tests.bench.report import machine
from tests.support import services

RECORD_BYTES = 1000
KEYS = 50_000
"""Sessions that are written, at random and over again: most writes replace a record."""

SHAPES = ((1, 1), (10, 1), (100, 1), (100, 4))
"""Records in a call, and calls at the same time. A node has one call under way, and what gathers meanwhile is the next
one's batch; several calls are several nodes."""

SYNCS = 100


@dataclass(frozen=True, slots=True)
class Result:
    calls: int
    records: int
    seconds: float
    cpu_s: float
    latencies_s: list[float]

    def row(self) -> list[str]:
        cuts = statistics.quantiles(self.latencies_s, n=100)
        return [
            f"{self.records / self.seconds:,.0f}",
            f"{cuts[49] * 1000:.2f}",
            f"{cuts[98] * 1000:.2f}",
            f"{self.cpu_s / self.records * 1e6:.0f}",
        ]


@contextmanager
def postgresql(**options: str) -> Iterator[str]:
    with (
        services.directory_for_servers("bench") as directory,
        services.running(services.PostgreSQL(directory, **options)) as server,
    ):
        yield server.url


@contextmanager
def redis(**options: str) -> Iterator[str]:
    with (
        services.directory_for_servers("bench") as directory,
        services.running(services.Redis(directory, **options)) as server,
    ):
        yield server.url


@contextmanager
def files(url: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        yield url.format(directory=directory)


KINDS: dict[str, Callable[[], "contextmanager[str]"]] = {
    "file (LMDB)": lambda: files("file://{directory}/store"),
    "sqlite": lambda: files("sqlite:///{directory}/sessions.db"),
    "postgresql": postgresql,
    "redis, appendfsync always": redis,
    "redis, appendfsync everysec": lambda: redis(appendfsync="everysec"),
}


async def measure(store: Store, together: int, callers: int, seconds: float) -> Result:
    chance = random.Random(1)
    data = chance.randbytes(RECORD_BYTES)
    expires_at = time.time() + 3600
    latencies: list[float] = []
    version = 0

    async def call_after_call() -> None:
        nonlocal version
        while time.monotonic() < end:
            version += 1
            batch = [
                Record(number.to_bytes(16, "big"), 1, "node1", 1, version, expires_at, data)
                for number in chance.sample(range(KEYS), together)
            ]
            begin = time.perf_counter()
            await store.write(batch)
            latencies.append(time.perf_counter() - begin)

    begin, cpu = time.monotonic(), time.process_time()
    end = begin + seconds
    await asyncio.gather(*(call_after_call() for _ in range(callers)))
    return Result(
        len(latencies),
        len(latencies) * together,
        time.monotonic() - begin,
        time.process_time() - cpu,
        latencies,
    )


async def measure_kind(url: str, seconds: float) -> list[tuple[int, int, Result]]:
    store = store_for(url)
    await store.open()
    try:
        await measure(store, 100, 4, min(1.0, seconds))  # warm: statements prepared, some records there
        return [
            (together, callers, await measure(store, together, callers, seconds))
            for together, callers in SHAPES
        ]
    finally:
        await store.close()


def sync_times_s() -> list[float]:
    """How long the disk of the temporary directory takes to keep 4 KiB."""
    times = []
    with tempfile.TemporaryFile() as file:
        for _ in range(SYNCS):
            os.pwrite(file.fileno(), os.urandom(4096), 0)
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.stores", description="What a write costs in a store."
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--only", choices=list(KINDS))
    arguments = parser.parse_args()
    kinds = [arguments.only] if arguments.only else list(KINDS)
    if why := services.missing(*services.PACKAGES):
        _say(f"bench: {why}")
        return 2
    rows = [
        [
            "store",
            "records a call",
            "calls at once",
            "records/s",
            "p50 ms",
            "p99 ms",
            "CPU µs/record (client)",
        ]
    ]
    for kind in kinds:
        with KINDS[kind]() as url:
            for together, callers, result in asyncio.run(measure_kind(url, arguments.seconds)):
                rows.append([kind, str(together), str(callers), *result.row()])
                _say(f"{kind}: {rows[-1]}")
    cuts = statistics.quantiles(sync_times_s(), n=100)
    _say("")
    for number, row in enumerate(rows):
        sys.stdout.write("| " + " | ".join(row) + " |\n")
        if not number:
            sys.stdout.write("|---|" + "---:|" * (len(row) - 1) + "\n")
    about = machine()
    sys.stdout.write(
        f"\nRecords of {RECORD_BYTES} bytes, {KEYS:,} keys. One fdatasync of 4 KiB on this disk: p50 {cuts[49] * 1000:.2f} ms, "
        f"p99 {cuts[98] * 1000:.2f} ms.\n"
        f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python {about['python']}; the machine's load "
        f"at the end (1 is what this bench makes): {Path('/proc/loadavg').read_text().split()[0]}\n"
    )
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
