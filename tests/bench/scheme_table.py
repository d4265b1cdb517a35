"""``python -m tests.bench.scheme_table [--quick] [--only NAME] [--out DIR]``: what `make bench-schemes` runs.

One row for each scheme of `schemes.SCHEMES`, every cell measured on real clusters in a network of their own: what is
lost when nodes are killed, and what a write costs. Writes docs/schemes-table.md.

A session counts as lost when its visitor is a stranger afterwards; a write as lost when it was acknowledged and the
session is older than it. Exit codes: 0 all was measured and nothing lost that the scheme keeps, 1 not so, 2 this
machine lacks something.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop

from tests.bench import install, report, traffic, wire
from tests.bench.errors import BenchError, MachineError
from tests.bench.fleet import Fleet, Node
from tests.bench.measure import memory_kib
from tests.bench.pages import markdown
from tests.bench.processes import REPOSITORY, get, unwind_on_sigterm
from tests.bench.schemes import POSTGRESQL, REDIS, SCHEMES, Scheme
from tests.bench.visitors import Crowd, Visit, Visitor

DOCS = REPOSITORY / "docs"
JSON_FILE = REPOSITORY / ".run" / "schemes.json"

CONNECTIONS = 10
RECOVERED_DEADLINE_S = 30.0
"""A node that takes over, loads or waits for a vote answers 503 meanwhile."""

RETRY_S = 0.05


LOAD = traffic.Plan(sessions=50, writes=200, idle_s=4.0)


@dataclass(frozen=True, slots=True)
class Plan:
    kill_size: int = 4
    sizes: tuple[int, int] = (2, 8)
    sessions: int = 50
    """At each node that is killed."""

    under_load_s: float = 2.0
    memory_sessions: int = 5000
    load: traffic.Plan = LOAD


QUICK_SCHEMES = ("backup", "central", "backup, Redis")

QUICK = Plan(
    sizes=(2, 4),
    sessions=20,
    under_load_s=0.5,
    memory_sessions=200,
    load=traffic.Plan(sessions=20, writes=60, rate=30.0, idle_s=1.0),
)


@dataclass(frozen=True, slots=True)
class Loss:
    """Of the sessions that were there, and of the writes that were acknowledged to their visitors."""

    sessions: int
    of: int
    writes: int

    def __str__(self) -> str:
        text = f"{self.sessions} of {self.of}"
        return f"{text}; {self.writes} writes" if self.writes else text


@dataclass(frozen=True, slots=True)
class Row:
    scheme: str
    killed: Loss
    pair_killed: Loss
    restarted: Loss
    costs: tuple[traffic.Row, traffic.Row]
    """At the two sizes."""

    memory_bytes: float
    """Of a session, in all processes of a cluster of two and its store together."""

    date: str

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Row":
        losses = {name: Loss(**raw[name]) for name in ("killed", "pair_killed", "restarted")}
        one, two = (traffic.Row.from_json(cost) for cost in raw["costs"])
        return cls(**{**raw, **losses, "costs": (one, two)})


@dataclass(frozen=True, slots=True)
class Place:
    """The server that a cluster shares as its store: what its nodes are told, where it is on the wire, whose CPU counts."""

    url: str = ""
    ports: range | None = None
    pids: tuple[int, ...] = ()


@contextmanager
def store_of(scheme: Scheme) -> Iterator[Place]:
    """A server of its own, empty, if the scheme has one."""
    if not scheme.store:
        yield Place()
        return
    from tests.support import services  # needs the stores' libraries

    if missing := services.missing({POSTGRESQL: "postgres", REDIS: "redis-server"}[scheme.store]):
        raise MachineError(missing)
    kind = {POSTGRESQL: services.PostgreSQL, REDIS: services.Redis}[scheme.store]
    with (
        services.directory_for_servers(scheme.store) as directory,
        services.running(kind(directory)) as server,
    ):
        yield Place(server.url, range(server.port, server.port + 1), (server.pid,))


@contextmanager
def cluster_of(scheme: Scheme, size: int) -> Iterator[tuple[Fleet, wire.Meter]]:
    with tempfile.TemporaryDirectory(prefix="schemes-") as name, store_of(scheme) as place:
        ranges = {"cluster": wire.CLUSTER_PORTS, **({"store": place.ports} if place.ports else {})}
        meter = wire.Meter(ranges)
        with Fleet(scheme, size, Path(name), store=place.url, others=place.pids) as fleet:
            yield fleet, meter


# --- what is lost ---------------------------------------------------------------------------------------


async def found_at(port: int, visit: Visit) -> int:
    """Writes of the session that are still there, as another node has it: 0 if it is a stranger's."""
    deadline = time.monotonic() + RECOVERED_DEADLINE_S
    while True:
        visitor = Visitor(port)
        try:
            await visitor.open()
            return await visitor.ask(Visit(visit.cookie)) - 1
        except (BenchError, OSError, EOFError) as error:
            if time.monotonic() > deadline:
                raise BenchError(f"a session was not answered for after a kill: {error}") from error
            await asyncio.sleep(RETRY_S)
        finally:
            visitor.close()


async def loss_of(visits: Iterable[Visit], port: int) -> Loss:
    visits = list(visits)
    lost = missing = 0
    for visit in visits:
        found = await found_at(port, visit)
        lost += found == 0
        missing += max(0, visit.writes - found) if found else 0
    return Loss(lost, len(visits), missing)


async def settled(fleet: Fleet) -> None:
    """Whatever is on its way arrives: longer than any flush interval of the schemes."""
    await asyncio.sleep(1.0)
    del fleet


async def one_kill(fleet: Fleet, plan: Plan) -> Loss:
    """The node is killed while its users write; they go on at another one."""
    victim, other = fleet.serving[0], _another(fleet, fleet.serving[0])
    crowd = await Crowd.at([victim.http], CONNECTIONS, plan.sessions)
    await crowd.write(plan.sessions, plan.load.rate * CONNECTIONS)
    await settled(fleet)
    visitors, visits = crowd.visitors[victim.http], crowd.visits[victim.http]
    shares = [visits[number :: len(visitors)] for number in range(len(visitors))]
    writers = [
        asyncio.create_task(visitor.keep_writing(share))
        for visitor, share in zip(visitors, shares, strict=True)
    ]
    await asyncio.sleep(plan.under_load_s)
    fleet.kill([victim])
    await asyncio.gather(*writers)
    crowd.close()
    return await loss_of(visits, other.http)


async def pair_kill(fleet: Fleet, plan: Plan) -> Loss:
    """A node and the node that holds most of its sessions' first backups are killed at once: those sessions count.

    Without backups: the node and another one.
    """
    victim = fleet.serving[0]
    crowd = await Crowd.at([victim.http], CONNECTIONS, plan.sessions)
    await crowd.write(plan.sessions, plan.load.rate * CONNECTIONS)
    crowd.close()
    await settled(fleet)
    backup_of = {
        number: _first_backup(victim, visit) for number, visit in enumerate(crowd.visits[victim.http])
    }
    chosen, _ = Counter(backup_of.values()).most_common(1)[0]
    partner = next(node for node in fleet.nodes if node.name == chosen or (not chosen and node is not victim))
    survivor = next(node for node in fleet.serving if node not in {victim, partner})
    fleet.kill([victim, partner])
    hit = [visit for number, visit in enumerate(crowd.visits[victim.http]) if backup_of[number] == chosen]
    return await loss_of(hit, survivor.http)


async def whole_restart(fleet: Fleet, plan: Plan) -> Loss:
    """All nodes are killed at once and started again; each user goes back to his node."""
    nodes = fleet.serving
    crowd = await Crowd.at([node.http for node in nodes], CONNECTIONS, plan.sessions)
    await crowd.write(plan.sessions, plan.load.rate)
    crowd.close()
    await settled(fleet)
    fleet.kill(fleet.nodes)
    fleet.start(fleet.nodes)
    losses = [await loss_of(crowd.visits[node.http], node.http) for node in nodes]
    return Loss(*(sum(getattr(loss, name) for loss in losses) for name in ("sessions", "of", "writes")))


def _first_backup(node: Node, visit: Visit) -> str:
    """Its name; empty if there is none."""
    reply = get(node.api, f"/v1/locate/{visit.cookie.partition('=')[2]}")
    backups = json.loads(reply.body)["backups"]
    return backups[0] if backups else ""


def _another(fleet: Fleet, node: Node) -> Node:
    return next(other for other in fleet.serving if other is not node)


# --- what it costs --------------------------------------------------------------------------------------


async def memory_of(fleet: Fleet, sessions: int) -> float:
    """Bytes by which all processes grow for each session created."""
    crowd = await Crowd.at(fleet.ports, CONNECTIONS, sessions)
    try:
        before = memory_kib(fleet.pids)
        await crowd.write(sessions, 1e6)
        await settled(fleet)
        grown = memory_kib(fleet.pids) - before
    finally:
        crowd.close()
    return grown * 1024 / (sessions * len(fleet.ports))


def measure(scheme: Scheme, plan: Plan) -> Row:
    with cluster_of(scheme, plan.kill_size) as (fleet, _):
        killed = uvloop.run(one_kill(fleet, plan))
        fleet.start([fleet.serving[0]])
        pair_killed = uvloop.run(pair_kill(fleet, plan))
        fleet.start([node for node in fleet.nodes if not node.is_running])
        restarted = uvloop.run(whole_restart(fleet, plan))
    costs = []
    memory_bytes = 0.0
    for size in plan.sizes:
        with cluster_of(scheme, size) as (fleet, meter):
            costs.append(uvloop.run(traffic.measure(scheme.name, size, fleet, meter, plan.load)))
            if size == plan.sizes[0]:
                memory_bytes = uvloop.run(memory_of(fleet, plan.memory_sessions // len(fleet.ports)))
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return Row(scheme.name, killed, pair_killed, restarted, (costs[0], costs[1]), memory_bytes, date)


def broken_promises(row: Row, scheme: Scheme) -> list[str]:
    """What was lost that the scheme keeps."""
    kept = (
        ("one kill", row.killed, scheme.survives_kill),
        ("primary and backup killed together", row.pair_killed, scheme.survives_pair),
        ("a whole cluster killed", row.restarted, scheme.survives_restart),
    )
    return [
        f"{what}: {loss} lost"
        for what, loss, survives in kept
        if survives and (loss.sessions or (loss.writes and not scheme.loses_writes))
    ]


def options_of(scheme: Scheme) -> list[str]:
    """As a site would write them."""
    options = [option.format(directory="/var/lib", store=f"{scheme.store}://…") for option in scheme.options]
    zones = ["--zone=…"] if scheme.is_zoned else []
    roles = [f"{scheme.states} nodes --role=state"] if scheme.states else []
    return [*options, *zones, *roles]


def table(rows: Iterable[Row], sizes: tuple[int, int]) -> str:
    return markdown(
        (
            "scheme",
            "options",
            "sessions lost at one kill",
            "primary and backup killed together",
            "whole cluster killed and restarted",
            *(f"bytes on the wire for a write, {size} nodes" for size in sizes),
            *(f"CPU µs, {size} nodes" for size in sizes),
            f"p99 ms, {sizes[0]} nodes",
            "bytes of memory for a session",
        ),
        [
            (
                row.scheme,
                " ".join(f"`{option}`" for option in options_of(SCHEMES[row.scheme])) or "–",
                str(row.killed),
                str(row.pair_killed),
                str(row.restarted),
                # Where nothing is sent, what idle nodes say can be a byte more than what was said meanwhile.
                *(f"{max(0.0, cost.write.wire_bytes):,.0f}" for cost in row.costs),
                *(f"{cost.write.cpu_us:,.0f}" for cost in row.costs),
                f"{row.costs[0].p99_ms:.1f}",
                f"{row.memory_bytes:,.0f}",
            )
            for row in rows
        ],
    )


def page(rows: list[Row], plan: Plan) -> str:
    return (
        "# Schemes, measured\n\n"
        f"Every cell by `make bench-schemes`, last on {max(row.date for row in rows)}; what the schemes are for, and "
        "how to choose, is in [schemes.md](schemes.md), how traffic is counted in [traffic.md](traffic.md).\n\n"
        f"{table(rows, plan.sizes)}\n\n"
        f"- **Kills**: {plan.kill_size} nodes, {plan.sessions} sessions at each node concerned, SIGKILL. *One kill*: while its "
        "users write; `n writes` are acknowledged ones that are missing afterwards. *Primary and backup*: a node and the one "
        "that holds the first backups of most of its sessions, at the same moment; the sessions that had both there count "
        "(without backups: all of the node's).\n"
        f"- **Costs**: {plan.load.rate:g} writes a second at each node, 300-byte sessions of which a write changes 20 bytes; "
        "traffic of stores, and the CPU of their servers, included; what idle nodes cost is taken away. At so low a rate "
        "little is batched, and the CPU is that of a busy machine: compare the rows.\n"
        f"- **Memory**: growth of all processes of {plan.sizes[0]} nodes, and of their store's, for each of "
        f"{plan.memory_sessions:,} new sessions. [benchmarks.md](benchmarks.md) has the exact figures of a copy.\n"
    )


def kept(file: Path, rows: list[Row]) -> list[Row]:
    """These rows and, of earlier runs, those of the other schemes; in the order of the schemes."""
    earlier = json.loads(file.read_text())["rows"] if file.exists() else []
    by_name = {row["scheme"]: Row.from_json(row) for row in earlier} | {row.scheme: row for row in rows}
    return [by_name[name] for name in SCHEMES if name in by_name]


def save(file: Path, plan: Plan, rows: list[Row]) -> list[Row]:
    """All rows that are known, as JSON."""
    rows = kept(file, rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    figures = {"machine": report.machine(), "plan": asdict(plan), "rows": [asdict(row) for row in rows]}
    file.write_text(json.dumps(figures, indent=2) + "\n")
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scheme_table", description="All schemes.")
    parser.add_argument("--quick", action="store_true", help="checks the answers; writes no docs")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        choices=SCHEMES,
        help="one row; the others stay",
    )
    parser.add_argument("--out", type=Path, default=DOCS, metavar="DIR", help="where schemes-table.md goes")
    parser.add_argument("--json", type=Path, default=JSON_FILE, metavar="FILE", help=f"default: {JSON_FILE}")
    chosen = parser.parse_args(arguments)
    plan = QUICK if chosen.quick else Plan()
    unwind_on_sigterm()
    rows = []
    try:
        install.ensure([install.IPTABLES, install.IP], lambda line: sys.stderr.write(f"{line}\n"))
        wire.enter()
        for name in chosen.only or (QUICK_SCHEMES if chosen.quick else SCHEMES):
            row = measure(SCHEMES[name], plan)
            rows.append(row)
            if not chosen.quick:
                save(chosen.json, plan, rows)
            sys.stderr.write(
                f"{name}: lost {row.killed} | {row.pair_killed} | {row.restarted}; "
                f"{' and '.join(f'{cost.write.wire_bytes:.0f}' for cost in row.costs)} bytes a write\n"
            )
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2 if isinstance(error, MachineError) else 1
    sys.stdout.write(f"{table(rows, plan.sizes)}\n")
    if not chosen.quick:
        (chosen.out / "schemes-table.md").write_text(page(save(chosen.json, plan, rows), plan))
    broken = [f"{row.scheme}: {text}" for row in rows for text in broken_promises(row, SCHEMES[row.scheme])]
    sys.stderr.writelines(f"failed: {text}\n" for text in broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
