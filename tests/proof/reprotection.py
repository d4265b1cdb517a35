"""A node dies and its sessions get their copies again; a node joins and gets its share: with how long, and at what cost.

    python -m tests.proof.reprotection [--sessions 100000]

Four nodes hold the sessions; users of the healthy ones write steadily all the time. One node is killed, and the
clock runs until every session has a primary and a backup again. Then a fifth node joins: its directory, its share.
Proven: no user of a healthy node met a failure, every survivor kept its own estimate, and the newcomer learned where
every session is, and got copies of its own.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sessiond.contract.cluster_view import MemberView
from tests.e2e.cluster import Cluster
from tests.e2e.waiting import wait_until
from tests.proof.users import create_sessions, percentile_ms, steady_users
from tests.torture.proving import Timing, conclude

NODES = 4
VICTIM = "node4"
NEWCOMER = "node5"
USERS = 60
PAUSE_S = 0.3
"""Between two writes of a user: 200 writes a second in all."""

CALM_S = 5.0
"""So long the users' latency is measured before the kill."""

REBALANCE_AFTER_S = 3.0
PROTECTED_WITHIN_S = 240.0
SHARE_MIN = 0.1
"""Of all backups, what a newcomer gets at least: half of its fair share of one in five."""
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Report:
    """Times in seconds, latencies of the healthy users in milliseconds."""

    sessions: int
    moved: int
    """Sessions that lost a copy."""

    protected_s: float
    estimates_s: list[float]
    """What each survivor foretold when the death was found."""

    took_s: list[float]
    """What each survivor then needed."""

    p50_before_ms: float
    p99_before_ms: float
    p50_during_ms: float
    p99_during_ms: float
    p99_rebalancing_ms: float
    joined_s: float
    """From the newcomer's first word to its joining: handshakes and the whole directory."""

    directory_entries: int
    rebalanced: int
    rebalanced_s: float
    failures: list[str]

    @property
    def faults(self) -> list[str]:
        found = [f"a user of a healthy node: {failure}" for failure in self.failures]
        if not self.moved:
            found.append(f"{VICTIM} had nothing that could be lost")
        if self.directory_entries < self.sessions:
            found.append(f"{NEWCOMER} knows of {self.directory_entries} of {self.sessions} sessions")
        if self.rebalanced <= self.sessions * SHARE_MIN:
            found.append(f"{NEWCOMER} got {self.rebalanced} of {self.sessions} backups")
        return found

    @property
    def timings(self) -> list[Timing]:
        """The nodes' own estimates are the bounds: how fast it is depends on the machine."""
        return [
            Timing("re-protection by a survivor", took, estimate)
            for took, estimate in zip(self.took_s, self.estimates_s, strict=True)
        ]

    def __str__(self) -> str:
        pairs = ", ".join(
            f"{took:.1f} of {estimate:.1f}"
            for took, estimate in zip(self.took_s, self.estimates_s, strict=True)
        )
        return (
            f"re-protection: {self.sessions} sessions, {VICTIM} killed: {self.moved} lost a copy, all protected again "
            f"after {self.protected_s:.1f} s ({self.moved / self.protected_s:.0f}/s; each node's seconds of its "
            f"estimate: {pairs})\n"
            f"healthy users: p50 {self.p50_before_ms:.1f} ms, p99 {self.p99_before_ms:.1f} ms before; "
            f"p50 {self.p50_during_ms:.1f} ms, p99 {self.p99_during_ms:.1f} ms during; "
            f"p99 {self.p99_rebalancing_ms:.1f} ms while rebalancing; {len(self.failures)} failures\n"
            f"{NEWCOMER} joined with {self.directory_entries} directory entries after {self.joined_s:.2f} s; "
            f"{self.rebalanced} backups moved to it in {self.rebalanced_s:.1f} s"
        )


async def own_rows(cluster: Cluster) -> list[MemberView]:
    """What each running node says of itself."""
    views = [await cluster.view(name) for name in cluster.running()]
    return [
        member for view in views if view is not None for member in view.members if member.name == view.node
    ]


async def is_protected(cluster: Cluster, sessions: int) -> bool:
    """Whether there is one primary and one backup of every session, and nobody has anything else."""
    rows = await own_rows(cluster)
    return (
        len(rows) == len(cluster.running())
        and sum(row.unprotected or 0 for row in rows) == 0
        and sum(row.primaries or 0 for row in rows) == sessions
        and sum(row.backups or 0 for row in rows) == sessions
    )


async def reprotection(cluster: Cluster, sessions: int) -> Report:
    """Run it on a started cluster of `NODES` that hosts `tests.e2e.apps`."""
    survivors = [name for name in cluster.nodes if name != VICTIM]
    await create_sessions(cluster, sessions)
    total = sessions + USERS
    async with steady_users(cluster, survivors, USERS, PAUSE_S) as users:
        await wait_until(
            lambda: is_protected(cluster, total), "every session has its backup", PROTECTED_WITHIN_S
        )
        users.take()
        await asyncio.sleep(CALM_S)
        before = users.take()
        (victim,) = [row for row in await own_rows(cluster) if row.name == VICTIM]
        killed_at = time.perf_counter()
        cluster.kill(VICTIM)
        await wait_until(
            lambda: is_protected(cluster, total), "all protected again", PROTECTED_WITHIN_S, POLL_S
        )
        protected_s = time.perf_counter() - killed_at
        during = users.take()
        estimates_s, took_s = await _foretold(cluster, survivors)

        joined_s, entries = await _join(cluster)
        users.take()
        began_at = time.perf_counter()
        await _rebalanced(cluster, survivors)
        await wait_until(
            lambda: is_protected(cluster, total), "nothing too many is left", PROTECTED_WITHIN_S, POLL_S
        )
        rebalanced_s = time.perf_counter() - began_at - REBALANCE_AFTER_S
        rebalancing = users.take()
    (newcomer,) = [row for row in await own_rows(cluster) if row.name == NEWCOMER]
    return Report(
        sessions=total,
        moved=(victim.primaries or 0) + (victim.backups or 0),
        protected_s=protected_s,
        estimates_s=estimates_s,
        took_s=took_s,
        p50_before_ms=percentile_ms(before, 50),
        p99_before_ms=percentile_ms(before, 99),
        p50_during_ms=percentile_ms(during, 50),
        p99_during_ms=percentile_ms(during, 99),
        p99_rebalancing_ms=percentile_ms(rebalancing, 99),
        joined_s=joined_s,
        directory_entries=entries,
        rebalanced=newcomer.backups or 0,
        rebalanced_s=rebalanced_s,
        failures=users.failures,
    )


async def _foretold(cluster: Cluster, survivors: Sequence[str]) -> tuple[list[float], list[float]]:
    """Estimate and truth of each survivor, from its log."""

    async def all_ended() -> bool:
        return all(cluster.nodes[name].events("reprotection.ended") for name in survivors)

    await wait_until(all_ended, "every survivor says that it has ended")
    ended = [cluster.nodes[name].events("reprotection.ended")[-1] for name in survivors]
    return [event["estimate_s"] for event in ended], [event["seconds"] for event in ended]


async def _join(cluster: Cluster) -> tuple[float, int]:
    """Start the newcomer; seconds until it has the directory, and how long that is."""
    node = cluster.newcomer(NEWCOMER, NEWCOMER)
    cluster.nodes[NEWCOMER] = node
    heard_at = 0.0

    async def has_joined() -> bool:
        nonlocal heard_at
        if not heard_at and node.text():
            heard_at = time.perf_counter()
        return bool(node.events("node.joined"))

    await wait_until(has_joined, f"{NEWCOMER} joins", PROTECTED_WITHIN_S)
    joined_s = time.perf_counter() - heard_at
    entries = [
        line for line in (await cluster.metrics(NEWCOMER)) if line.startswith("sessiond_directory_entries ")
    ]
    return joined_s, int(float(entries[0].split()[1]))


async def _rebalanced(cluster: Cluster, survivors: Sequence[str]) -> None:
    before = {name: len(cluster.nodes[name].events("rebalancing.ended")) for name in survivors}

    async def all_ended() -> bool:
        return all(len(cluster.nodes[name].events("rebalancing.ended")) > before[name] for name in survivors)

    await wait_until(all_ended, "every survivor has looked at all its sessions", PROTECTED_WITHIN_S, POLL_S)


def settings() -> dict[str, str | int | float]:
    return {"app": "tests.e2e.apps:create_app", "rebalance_after_s": REBALANCE_AFTER_S}


async def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=100_000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        async with Cluster(Path(directory), NODES, **settings()) as cluster:  # type: ignore[arg-type] # by name
            return conclude(await reprotection(cluster, options.sessions))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
