"""``python -m tests.bench.joining [--sessions N] [--load]``: how long a joiner takes to load the directory.

Two real nodes, a process each, joined over TCP on loopback. The giver's directory knows N sessions of other
nodes; the joiner starts, loads it, and says how long it took from its start as a node to its serving. The
giver says how long its event loop stood still at most meanwhile. ``--load`` keeps both cores busy with other
processes at the same priority.
"""

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import structlog
import uvloop

from sessiond import Node, Settings
from sessiond.core.types import Life, Location, Term
from tests.bench.processes import free_ports

SESSIONS = 100_000
TIMEOUT_S = 300.0
PROBE_S = 0.001
"""The giver's loop is looked at so often."""


def quiet() -> None:
    """No log lines: the output is for the parent."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def settings(name: str, ports: list[int], seed: int) -> Settings:
    http, cluster, api = (f"127.0.0.1:{port}" for port in ports)
    return Settings(name=name, http=http, cluster=cluster, api=api, join=(f"127.0.0.1:{seed}",))


async def give(sessions: int, ports: list[int]) -> None:
    """A node whose directory is full; on a line of input, the longest pause of its loop since the last one."""
    node = Node(settings("giver", ports, ports[1]))
    directory = node._machine.directory
    rng = Random(1)
    lives = [Life(f"other{number}", 1) for number in range(4)]
    for number in range(sessions):
        location = Location(Term(1, lives[number % 4]), 1, (lives[(number + 1) % 4],))
        directory.merge(rng.randbytes(16), location, time.monotonic())
    await node.start()
    await node.joined()
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    say({"ready": True})
    longest_s = longest_cpu_s = 0.0
    asked = asyncio.ensure_future(lines.readline())
    while not asked.done():
        before, cpu_before = time.monotonic(), time.thread_time()
        await asyncio.sleep(PROBE_S)
        longest_s = max(longest_s, time.monotonic() - before - PROBE_S)
        longest_cpu_s = max(longest_cpu_s, time.thread_time() - cpu_before)
    say({"pause_ms": longest_s * 1000, "turn_cpu_ms": longest_cpu_s * 1000})
    await node.stop()


async def join(sessions: int, ports: list[int], seed: int) -> None:
    """A node that joins; says how long that took."""
    node = Node(settings("joiner", ports, seed))
    began, cpu = time.monotonic(), time.process_time()
    await node.start()
    await node.joined()
    took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
    assert len(node._machine.directory) == sessions
    say({"seconds": took_s, "cpu_seconds": cpu_s})
    await node.stop()


def say(figures: dict[str, object]) -> None:
    print(json.dumps(figures), flush=True)  # noqa: T201 - read by the parent


def _spin() -> None:
    while True:
        pass


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes that want a core each."""
    started = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(processes)]
    for process in started:
        process.start()
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.join()


def _child(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.bench.joining", *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def measure(sessions: int, load: int) -> dict[str, float]:
    """One join; figures of both sides."""
    ports = free_ports(6)
    given, joined = ",".join(map(str, ports[:3])), ",".join(map(str, ports[3:]))
    with _child("--sessions", str(sessions), "--give", given) as giver:
        try:
            assert giver.stdout is not None
            assert giver.stdin is not None
            giver.stdout.readline()
            with (
                busy(load),
                _child("--sessions", str(sessions), "--join", joined, "--seed", str(ports[1])) as joiner,
            ):
                try:
                    answer, _ = joiner.communicate(timeout=TIMEOUT_S)
                finally:
                    joiner.kill()
            giver.stdin.write("\n")
            giver.stdin.flush()
            return {**json.loads(answer), **json.loads(giver.stdout.readline())}
        finally:
            giver.kill()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.joining", description="Time to join.")
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--load", action="store_true", help="keep every core busy with something else")
    parser.add_argument("--give", help=argparse.SUPPRESS)
    parser.add_argument("--join", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.give or arguments.join:
        quiet()
    if arguments.give:
        uvloop.run(give(arguments.sessions, [int(port) for port in arguments.give.split(",")]))
    elif arguments.join:
        ports = [int(port) for port in arguments.join.split(",")]
        uvloop.run(join(arguments.sessions, ports, arguments.seed))
    else:
        figures = measure(arguments.sessions, (os.cpu_count() or 1) if arguments.load else 0)
        print(  # noqa: T201 - what this command is for
            f"{arguments.sessions:,} entries: joined in {figures['seconds']:.2f} s"
            f" ({figures['cpu_seconds']:.2f} s of CPU); the giver's loop stood still for"
            f" {figures['pause_ms']:.1f} ms at most, its longest turn took {figures['turn_cpu_ms']:.1f} ms of CPU"
        )


if __name__ == "__main__":
    main()
