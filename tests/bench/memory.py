"""``python -m tests.bench.memory [--sessions N] [--peers]``: the memory of one session, at each node that has a part of it.

A fresh process for each row fills a real core with N small sessions by the messages that bring them, and
reports how much its resident memory has grown by: everything counts, tables and accounting included. A
session costs a cluster of n nodes: primary + copies × backup + (n − 1 − copies) × directory entry, or
nothing of the last with ``--location query``. With ``--peers`` the same session in Redis and in Tomcat beside it.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from sessiond.core import codec
from sessiond.core import messages as m
from sessiond.core.identity import Identity
from sessiond.core.machine import Machine
from sessiond.core.options import Options
from sessiond.core.types import Attribute, Key, Life, Location, Stamp, Term
from sessiond.values import encode
from tests.bench import install, memory_peers, tomcat
from tests.bench.processes import unwind_on_sigterm

SESSIONS = 200_000
TOMCAT_SESSIONS_MAX = 20_000
"""Tomcat replicates each by itself: a million would take it half an hour."""

SESSION: dict[str, Any] = {
    "user": {"id": 42, "name": "Alice Example"},
    "visits": 7,
    "cart": [{"article": "keyboard", "count": 1}, {"article": "monitor stand", "count": 1}],
    "csrf": "c0ffee0123456789c0ffee0123456789",
    "locale": "en_GB",
    "seen": "2026-11-30T12:00:00",
}
"""A small session."""

TEXT = json.dumps(SESSION)
"""As most stores keep it."""

ATTRIBUTES = {name: encode(name, value) for name, value in SESSION.items()}
"""As a node keeps it."""

BATCH = 500
"""Sessions in one message, and acknowledged at once, as under load."""

FILL_TIMEOUT_S = 3600
"""A million sessions take minutes, on a busy machine many."""

PEERS = [Life(f"node{number}", number) for number in range(2, 6)]


def _core() -> Machine:
    """A node that is alone in its cluster, with room for everything."""
    identity = Identity(Life("node1", 1), bytes(16), "bench", "h:1", "h:2", "h:3", "")
    machine = Machine(identity, Options(memory_bytes_max=2**40), (), Random(1), 0.0)
    machine.start(0.0)
    machine.take_effects()
    return machine


def _meet(machine: Machine, peer: Life) -> None:
    identity = Identity(peer, bytes(16), "bench", "h:1", f"{peer.name}:2", "h:3", "")
    machine.link_opened(identity, None, 0.0)
    status = m.Status(True, False, False, 0, 0, 0)
    machine.receive(peer, m.Ping(1, status, ()), 0.0)
    machine.take_effects()


def _receive(machine: Machine, peer: Life, message: m.Message) -> None:
    machine.receive(peer, codec.decode(codec.encode(message)), 0.0)


def fill_primaries(machine: Machine, keys: list[Key]) -> None:
    """Sessions that were created here, and acknowledged by their backup."""
    (peer,) = PEERS[:1]
    _meet(machine, peer)
    for frame, key in enumerate(keys, 1):
        machine.create(frame, key, dict(ATTRIBUTES), 0.0)
        if frame % BATCH == 0 or frame == len(keys):
            _receive(machine, peer, m.Ack(2 * frame))
            machine.take_effects()
            machine.tick(0.0)
            machine.take_effects()
    assert machine.status().primaries == len(keys)
    assert machine.unprotected == 0


def fill_backups(machine: Machine, keys: list[Key]) -> None:
    """Copies of sessions whose primary is another node."""
    (peer,) = PEERS[:1]
    _meet(machine, peer)
    term = Term(1, peer)
    stamp = Stamp(term, 1)
    attributes = {name: Attribute(value, stamp) for name, value in ATTRIBUTES.items()}
    data = m.CopyData(attributes, 1, stamp, False, 0.0, 0.0, ())
    for key in keys:
        _receive(machine, peer, m.Put(key, term, 1, (machine.life,), data))
        machine.take_effects()
    assert machine.status().backups == len(keys)


def fill_directory(machine: Machine, keys: list[Key]) -> None:
    """Sessions of other nodes."""
    for peer in PEERS:
        _meet(machine, peer)
    for start in range(0, len(keys), BATCH):
        entries = tuple(
            (key, Location(Term(1, PEERS[number % 4]), 1, (PEERS[(number + 1) % 4],)))
            for number, key in enumerate(keys[start : start + BATCH])
        )
        _receive(machine, PEERS[0], m.Locations(entries))
        machine.take_effects()
    assert len(machine.directory) == len(keys)


ROWS: dict[str, Callable[[Machine, list[Key]], None]] = {
    "primary": fill_primaries,
    "backup": fill_backups,
    "directory entry": fill_directory,
}


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(row: str, sessions: int) -> dict[str, float]:
    """Fill a core in this very process: bytes a session, and what the core itself accounts for."""
    machine = _core()
    packed = Random(2).randbytes(16 * sessions)
    gc.collect()
    before = resident_bytes()
    # Keys are made as they would come: by nobody else, so each counts.
    ROWS[row](machine, [packed[at : at + 16] for at in range(0, len(packed), 16)])
    gc.collect()
    grown = resident_bytes() - before
    return {"bytes": grown / sessions, "accounted": machine.copies.bytes / sessions}


def measure_apart(row: str, sessions: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.memory", "--sessions", str(sessions), "--row", row]
    done = subprocess.run(command, check=True, capture_output=True, timeout=FILL_TIMEOUT_S)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.memory", description="Memory of one session."
    )
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--peers", action="store_true", help="Redis and Tomcat beside it (Debian's packages)")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(json.dumps(measure(arguments.row, arguments.sessions)))  # noqa: T201 - read by the parent
        return
    say = print
    say(
        f"a session of {len(ATTRIBUTES)} attributes: {len(TEXT)} bytes as JSON, {content_bytes()} as a node keeps it\n"
    )
    for row in ROWS:
        figures = measure_apart(row, arguments.sessions)
        accounted = (
            f"; accounted (memory_bytes_max) {figures['accounted']:,.0f}" if figures["accounted"] else ""
        )
        say(f"{arguments.sessions:,} x {row}: {figures['bytes']:,.0f} bytes each{accounted}")
    if arguments.peers:
        unwind_on_sigterm()
        install.ensure([install.REDIS, tomcat.JAVA, tomcat.TOMCAT], say)
        redis = memory_peers.of_redis(TEXT, arguments.sessions)
        say(
            f"{arguments.sessions:,} x Redis: {redis['bytes']:,.0f} bytes each; resident {redis['resident']:,.0f}"
        )
        sessions = min(arguments.sessions // 20, TOMCAT_SESSIONS_MAX)
        heap = memory_peers.of_tomcat(sessions)
        say(
            f"{sessions:,} x Tomcat BackupManager: {heap['primary']:,.0f} bytes of heap each at the primary, "
            f"{heap['backup']:,.0f} at the backup"
        )


def content_bytes() -> int:
    return sum(len(name) + len(value) for name, value in ATTRIBUTES.items())


if __name__ == "__main__":
    main()
