"""``python -m tests.bench.traffic [--quick] [--only NAME] [--out DIR] [--json FILE]``: what `make bench-traffic` runs.

What one session write, and one session created, costs on the wire and in CPU, by the size of the cluster: real
nodes of each scheme that differs in what it sends, and Tomcat's two managers beside them, under the same bounded
load in a network of their own. Prints the table, writes it into docs/traffic.md and the plots beside it.

Exit codes: 0 all was measured, 1 a request was not answered as it should be or a target is missed, 2 this machine
lacks something.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import uvloop

from tests.bench import install, report, tomcat, wire
from tests.bench.errors import BenchError, MachineError
from tests.bench.fleet import Fleet, Payload
from tests.bench.measure import cpu_seconds
from tests.bench.pages import fill_in, markdown
from tests.bench.plot import Line, plot
from tests.bench.processes import REPOSITORY, unwind_on_sigterm
from tests.bench.schemes import SCHEMES
from tests.bench.visitors import Crowd, Visit, Visitor

DOCS = REPOSITORY / "docs"
JSON_FILE = REPOSITORY / ".run" / "traffic.json"
MARKER = "make bench-traffic"

CONNECTIONS = 10
"""To each node."""

FLAT_MAX = 1.25
"""`backup`: payload of a write at the largest size, by that at two nodes."""

WRITE_BYTES_MAX = 150
"""Payload of a write, its ack included, in a cluster of two."""

LOCATION_BYTES_MAX = 32
"""What the broadcast of a location may add for a session and node."""

COLOURS = ("#3465a4", "#a40000", "#73a046", "#cc6600", "#75507b", "#8f5902")


@dataclass(frozen=True, slots=True)
class Plan:
    sizes: tuple[int, ...] = (2, 4, 8, 16)
    tomcat_sizes: tuple[int, ...] = (2, 4)
    sessions: int = 100
    """Created at each node."""

    writes: int = 200
    """At each node, its sessions in turn."""

    rate: float = 20.0
    """Requests a second and node."""

    idle_s: float = 6.0
    settle_s: float = 0.5
    """What is still under way arrives within this."""


QUICK = Plan(sizes=(2, 4), tomcat_sizes=(2,), sessions=40, writes=100, rate=50.0, idle_s=1.0)
QUICK_NAMES = ("backup", "all", "BackupManager")


class Contender(Protocol):
    """What runs: where its users go, and whose CPU counts."""

    @property
    def ports(self) -> list[int]: ...

    @property
    def pids(self) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one moment."""

    at: float
    wire: wire.Traffic
    payload: Payload
    cpu_s: float

    def __sub__(self, other: "Reading") -> "Reading":
        return Reading(
            self.at - other.at,
            self.wire - other.wire,
            self.payload - other.payload,
            self.cpu_s - other.cpu_s,
        )

    def without(self, idle: "Reading") -> "Reading":
        """What is left when the same time of idleness is taken away."""
        share = self.at / idle.at
        return Reading(
            self.at,
            self.wire - idle.wire.times(share),
            Payload(
                self.payload.bytes - idle.payload.bytes * share,
                self.payload.frames - idle.payload.frames * share,
            ),
            self.cpu_s - idle.cpu_s * share,
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one write, or one session created. Payload is 0 for programs that do not count their own."""

    wire_bytes: float
    packets: float
    payload_bytes: float
    frames: float
    cpu_us: float

    @classmethod
    def of(cls, reading: Reading, events: int) -> "Cost":
        return cls(
            reading.wire.bytes / events,
            reading.wire.packets / events,
            reading.payload.bytes / events,
            reading.payload.frames / events,
            reading.cpu_s * 1e6 / events,
        )


@dataclass(frozen=True, slots=True)
class Row:
    scheme: str
    size: int
    create: Cost
    write: Cost
    p50_ms: float
    p99_ms: float
    idle_bytes_per_node_s: float

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Row":
        return cls(**{**raw, "create": Cost(**raw["create"]), "write": Cost(**raw["write"])})


def read(contender: Contender, meter: wire.Meter) -> Reading:
    payload = contender.payload() if isinstance(contender, Fleet) else Payload(0, 0)
    return Reading(asyncio.get_running_loop().time(), meter.read(), payload, cpu_seconds(contender.pids))


async def measure(name: str, size: int, contender: Contender, meter: wire.Meter, plan: Plan) -> Row:
    """Idle, then sessions are created, then written."""
    await asyncio.sleep(plan.settle_s)
    begin = read(contender, meter)
    await asyncio.sleep(plan.idle_s)
    idle = read(contender, meter) - begin
    crowd = await Crowd.at(contender.ports, CONNECTIONS, plan.sessions)
    try:
        before = read(contender, meter)
        await crowd.write(plan.sessions, plan.rate)
        await asyncio.sleep(plan.settle_s)
        created = read(contender, meter)
        latencies = await crowd.write(plan.writes, plan.rate)
        await asyncio.sleep(plan.settle_s)
        written = read(contender, meter)
        await _is_known_elsewhere(name, crowd, contender.ports)
    finally:
        crowd.close()
    nodes = len(contender.ports)
    return Row(
        name,
        size,
        Cost.of((created - before).without(idle), plan.sessions * nodes),
        Cost.of((written - created).without(idle), plan.writes * nodes),
        latencies.p(50) * 1000,
        latencies.p(99) * 1000,
        idle.wire.bytes / idle.at / size,
    )


async def _is_known_elsewhere(name: str, crowd: Crowd, ports: list[int]) -> None:
    """A session goes on at another node: it was replicated, or nothing was measured."""
    if len(ports) < 2:
        return
    visit: Visit = crowd.visits[ports[0]][0]
    visitor = await Visitor(ports[1]).open()
    try:
        await visitor.write(visit)
    except BenchError as error:
        raise BenchError(f"{name}: a session of the run was not found at another node: {error}") from error
    finally:
        visitor.close()


def contenders(plan: Plan, only: Iterable[str]) -> list[tuple[str, int]]:
    """Interleaved: all contenders of one size follow each other."""
    wanted = tuple(only)
    pairs = [
        *((name, size) for size in plan.sizes for name, scheme in SCHEMES.items() if scheme.is_traffic),
        *((manager, size) for size in plan.tomcat_sizes for manager in tomcat.MANAGERS),
    ]
    return [(name, size) for name, size in pairs if not wanted or name in wanted]


def run(plan: Plan, only: Iterable[str]) -> Iterator[Row]:
    meter = wire.Meter({"cluster": wire.CLUSTER_PORTS})
    for name, size in contenders(plan, only):
        with tempfile.TemporaryDirectory(prefix="traffic-") as place:
            directory = Path(place)
            if name in tomcat.MANAGERS:
                ports = (list(wire.HTTP_PORTS[1 : size + 1]), list(wire.CLUSTER_PORTS[1 : size + 1]))
                with tomcat.Tomcats(name, size, directory, ports=ports) as tomcats:
                    row = uvloop.run(measure(f"Tomcat {name}", size, tomcats, meter, plan))
            else:
                with Fleet(SCHEMES[name], size, directory) as fleet:
                    row = uvloop.run(measure(name, size, fleet, meter, plan))
        yield row
        sys.stderr.write(
            f"{row.scheme}, {size} nodes: {row.write.wire_bytes:.0f} bytes and {row.write.packets:.1f} packets a write, "
            f"payload {row.write.payload_bytes:.0f}; {row.create.wire_bytes:.0f} bytes a session created, payload "
            f"{row.create.payload_bytes:.0f}; {row.write.cpu_us:.0f} µs of CPU a write\n"
        )


# --- what the rows say ----------------------------------------------------------------------------------


def by_scheme(rows: list[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.scheme, []).append(row)
    return found


def location_bytes(rows: list[Row]) -> dict[int, float]:
    """What a broadcast location adds in payload for a session and node that holds no copy, by size of the cluster.

    With ``location="query"`` the holders are told and nobody else; the difference is the broadcast.
    """
    schemes = by_scheme(rows)
    told = {row.size: row.create.payload_bytes for row in schemes.get("backup", ())}
    untold = {row.size: row.create.payload_bytes for row in schemes.get("backup, query", ())}
    return {size: (told[size] - untold[size]) / (size - 2) for size in told if size in untold and size > 2}


def verdicts(rows: list[Row]) -> list[tuple[str, float, float]]:
    """The promises that can be judged by these rows: what, found, at most."""
    backup = {row.size: row.write.payload_bytes for row in by_scheme(rows).get("backup", ())}
    found = []
    if 2 in backup:
        found.append(
            ("payload bytes of a write at 2 nodes, both ways, `backup`", backup[2], float(WRITE_BYTES_MAX))
        )
        if (largest := max(backup)) > 2:
            growth = backup[largest] / backup[2]
            found.append((f"the same at {largest} nodes, as a multiple", growth, FLAT_MAX))
    found += [
        (
            f"payload bytes that a location's broadcast adds a session and node, at {size} nodes",
            value,
            float(LOCATION_BYTES_MAX),
        )
        for size, value in location_bytes(rows).items()
    ]
    return found


def table(rows: list[Row]) -> str:
    return markdown(
        (
            "scheme",
            "nodes",
            "a write: bytes on the wire",
            "packets",
            "payload",
            "CPU µs",
            "p50 ms",
            "p99 ms",
            "a session created: bytes on the wire",
            "packets",
            "payload",
            "idle: bytes a node and second",
        ),
        [
            (
                f"`{row.scheme}`" if row.scheme in SCHEMES else row.scheme,
                str(row.size),
                f"{row.write.wire_bytes:,.0f}",
                f"{row.write.packets:.1f}",
                f"{row.write.payload_bytes:,.0f}" if row.write.payload_bytes else "–",
                f"{row.write.cpu_us:,.0f}",
                f"{row.p50_ms:.1f}",
                f"{row.p99_ms:.1f}",
                f"{row.create.wire_bytes:,.0f}",
                f"{row.create.packets:.1f}",
                f"{row.create.payload_bytes:,.0f}" if row.create.payload_bytes else "–",
                f"{row.idle_bytes_per_node_s:,.0f}",
            )
            for rows_of_one in by_scheme(rows).values()
            for row in rows_of_one
        ],
    )


def verdict_table(rows: list[Row]) -> str:
    return markdown(
        ("promise", "found", "at most", ""),
        [
            (
                what,
                f"{found:.2f}" if most < 10 else f"{found:.1f}",
                f"{most:g}",
                "kept" if found <= most else "**missed**",
            )
            for what, found, most in verdicts(rows)
        ],
    )


def pictures(rows: list[Row]) -> dict[str, str]:
    """By file name. Both axes of the first are what the law is about: bytes by nodes."""
    sizes = sorted({row.size for row in rows})
    schemes = {
        name: of_it
        for name, of_it in by_scheme(rows).items()
        if [row.size for row in of_it] == sizes[: len(of_it)]
    }

    def lines(value: str, cost: str) -> list[Line]:
        return [
            Line(name, [getattr(getattr(row, cost), value) for row in of_it], colour)
            for (name, of_it), colour in zip(schemes.items(), COLOURS * 3, strict=False)
        ]

    return {
        "traffic-writes.svg": plot(
            "Bytes on the wire for one session write", sizes, lines("wire_bytes", "write")
        ),
        "traffic-created.svg": plot(
            "Bytes on the wire for one session created", sizes, lines("wire_bytes", "create")
        ),
    }


def kept(file: Path, rows: list[Row]) -> list[Row]:
    """These rows and, of earlier runs, the others, scheme by scheme."""
    earlier = json.loads(file.read_text())["rows"] if file.exists() else []
    by_place = {(row["scheme"], row["size"]): Row.from_json(row) for row in earlier}
    by_place |= {(row.scheme, row.size): row for row in rows}
    order = [*SCHEMES, *(f"Tomcat {manager}" for manager in tomcat.MANAGERS)]
    return sorted(
        (row for row in by_place.values() if row.scheme in order),
        key=lambda row: (order.index(row.scheme), row.size),
    )


def save(file: Path, plan: Plan, rows: list[Row]) -> list[Row]:
    """All rows that are known, as JSON."""
    rows = kept(file, rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    figures = {"machine": report.machine(), "plan": asdict(plan), "rows": [asdict(row) for row in rows]}
    file.write_text(json.dumps(figures, indent=2) + "\n")
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.traffic", description="Cost on the wire.")
    parser.add_argument(
        "--quick", action="store_true", help="small clusters, a few seconds each; writes no docs"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="one scheme or Tomcat manager"
    )
    parser.add_argument("--out", type=Path, default=DOCS, metavar="DIR", help="where traffic.md lies")
    parser.add_argument("--json", type=Path, default=JSON_FILE, metavar="FILE", help=f"default: {JSON_FILE}")
    chosen = parser.parse_args(arguments)
    plan = QUICK if chosen.quick else Plan()
    unwind_on_sigterm()
    try:
        install.ensure(
            [install.IPTABLES, install.IP, tomcat.JAVA, tomcat.TOMCAT],
            lambda line: sys.stderr.write(f"{line}\n"),
        )
        wire.enter()
        rows: list[Row] = []
        for row in run(plan, chosen.only or (QUICK_NAMES if chosen.quick else ())):
            rows.append(row)
            if not chosen.quick:
                save(chosen.json, plan, rows)  # an hour's work is not lost with its last minute
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2 if isinstance(error, MachineError) else 1
    if not chosen.quick:
        rows = save(chosen.json, plan, rows)
    text = f"{table(rows)}\n\n{verdict_table(rows)}\n"
    sys.stdout.write(text)
    if not chosen.quick:
        fill_in(chosen.out / "traffic.md", MARKER, text)
        for name, svg in pictures(rows).items():
            (chosen.out / name).write_text(svg)
    missed = [what for what, found, most in verdicts(rows) if found > most]
    sys.stderr.writelines(f"missed: {what}\n" for what in missed)
    return 1 if missed and not chosen.quick else 0  # short runs of small clusters say little of sizes


if __name__ == "__main__":
    sys.exit(main())
