"""`make proof-detection`: deaths are known soon, and a node that is merely slow takes nobody else down.

First, over and over, one of five nodes is killed (its addresses refuse at once) or silenced (SIGSTOP: its sockets
stay open), and the event logs of the others say when each of them knew. Then one node's application blocks its
loop again and again while it serves its share of the load, and loses 5 % of its packets, for minutes: the others
must stay in the cluster, every one of them, in every node's eyes. The slow node itself may be buried; how often, and
how long its loop stood, is printed. It stands for 350 ms to BLOCK_MS each time. AWARENESS_MAX is the nodes' setting: how
far they may doubt themselves; 0: not at all.
"""

import asyncio
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.e2e.cluster import Cluster, at_work
from tests.torture.checker import Verdict, judge
from tests.torture.history import History, Kind
from tests.torture.netns import Network, missing
from tests.torture.proving import (
    APP,
    DETECTION_S,
    Timing,
    main,
    milliseconds,
    percentile,
    progress,
    users_of,
)
from tests.torture.users import look_at_everything, using
from tests.torture.watch import seen_dead, whole

NODES = 5
KILLED_P99_MAX_S = 0.1
LAG_MIN_S = 0.3
USERS = 50
WRITE_PAUSE_S = 0.5
READ_PAUSE_S = 0.5

STARVED = "node5"
BLOCK_LEAST_MS, BREATHE_MS = 350, 10
LOSS = 0.05
SETTLE_S = 10.0


@dataclass(slots=True)
class DetectionReport:
    rounds: int
    minutes: int
    awareness_max: int
    killed_s: list[float] = field(default_factory=list)
    silent_s: list[float] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    evictions: list[str] = field(default_factory=list)
    """Burials of nodes that nothing was done to."""
    own_evictions: int = 0
    """How often the starved node was buried."""
    history: History = field(default_factory=History)
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def faults(self) -> list[str]:
        found = [*self.evictions, *self.verdict.faults]
        if self.minutes and percentile(self.lags_s, 0.5) < LAG_MIN_S:
            found.append("the node was not starved")
        return found

    @property
    def timings(self) -> list[Timing]:
        return [
            Timing("to know of a kill (p99)", percentile(self.killed_s, 0.99), KILLED_P99_MAX_S),
            Timing("to know of a silence (p99)", percentile(self.silent_s, 0.99), DETECTION_S),
        ]

    def __str__(self) -> str:
        lines = []
        if self.rounds:
            lines.append(
                f"detection, {self.rounds} rounds of each, seen by {NODES - 1} nodes: killed process "
                f"{milliseconds(self.killed_s)}; silence {milliseconds(self.silent_s)}"
            )
        if self.minutes:
            lines.append(
                f"one node starved for {self.minutes} min, {'with' if self.awareness_max else 'without'} awareness, "
                f"its loop's lag {milliseconds(self.lags_s)}, and "
                f"{LOSS:.0%} of its packets lost: {len(self.evictions)} evictions of other nodes, "
                f"{self.own_evictions} of its own; {self.history.count(Kind.WRITE, answered=True)} writes "
                f"acknowledged, {self.verdict}"
            )
        return "\n".join(lines)


async def prove(
    directory: Path, *, rounds: int, minutes: int, seed: int, block_ms: int, awareness_max: int
) -> DetectionReport:
    if minutes and (reason := missing()):
        raise SystemExit(f"proof-detection cannot drop packets: {reason}; MINUTES=0 leaves that part out")
    report = DetectionReport(rounds, minutes, awareness_max)
    rng = random.Random(seed)
    deaths = directory / "deaths"
    deaths.mkdir()
    async with at_work(Cluster(deaths, NODES, APP, awareness_max=awareness_max)) as cluster:
        for number in range(rounds):
            for wound, found in ((_kill, report.killed_s), (_silence, report.silent_s)):
                victim = rng.choice(list(cluster.nodes))
                found.extend(await wound(cluster, victim))
                await whole(cluster)
            progress(f"round {number + 1}: {report.killed_s[-1]:.3f} s, {report.silent_s[-1]:.3f} s")
    if minutes:
        slow = directory / "slow"
        slow.mkdir()
        names = [f"node{number}" for number in range(1, NODES + 1)]
        with Network([*names, "balancer"]) as network:
            async with at_work(
                Cluster(slow, NODES, APP, network.places, awareness_max=awareness_max)
            ) as cluster:
                await _starve(cluster, network, minutes * 60, block_ms, report)
    return report


async def _kill(cluster: Cluster, victim: str) -> list[float]:
    since = time.time()
    cluster.nodes[victim].signal(signal.SIGKILL)
    await seen_dead(cluster, victim)
    await cluster.nodes[victim].ended()
    cluster.nodes[victim].start()
    return _known_after(cluster, victim, since)


async def _silence(cluster: Cluster, victim: str) -> list[float]:
    since = time.time()
    cluster.nodes[victim].signal(signal.SIGSTOP)
    try:
        await seen_dead(cluster, victim, 3 * DETECTION_S)
    finally:
        cluster.nodes[victim].signal(signal.SIGCONT)
    return _known_after(cluster, victim, since)


def _known_after(cluster: Cluster, victim: str, since: float) -> list[float]:
    """When each other node knew of the death, from the logs: both clocks are this machine's."""
    found = []
    for name, node in cluster.nodes.items():
        if name != victim:
            times = [
                at - since for at, peer in _burials(node.events("peer.dead")) if peer == victim and at > since
            ]
            assert times, f"{name} did not log the death of {victim}"
            found.append(min(times))
    return found


def _burials(events: Sequence[dict[str, str]]) -> list[tuple[float, str]]:
    return [(datetime.fromisoformat(event["timestamp"]).timestamp(), event["peer"]) for event in events]


async def _starve(
    cluster: Cluster, network: Network, seconds: float, block_most_ms: int, report: DetectionReport
) -> None:
    users = await users_of(cluster, report.history, USERS)
    doors = [user.doors[0] for user in users]
    control = cluster.browser_at(STARVED)
    async with using(doors, WRITE_PAUSE_S, READ_PAUSE_S):
        began_at = time.time()
        (await control.post(f"/starve/{BLOCK_LEAST_MS}/{block_most_ms}/{BREATHE_MS}")).good()
        network.lose(STARVED, LOSS)
        await asyncio.sleep(seconds)
        network.heal()
        report.lags_s = [lag_ms / 1000 for lag_ms in (await control.post("/feed")).good()["lags_ms"]]
        await asyncio.sleep(SETTLE_S)
        await whole(cluster)
    for name, node in cluster.nodes.items():
        for at, peer in _burials(node.events("peer.dead")):
            if at < began_at:
                continue
            if peer != STARVED:
                report.evictions.append(
                    f"{name} buried {peer} {at - began_at:.1f} s after the starving began"
                )
    report.own_evictions = len(cluster.nodes[STARVED].events("node.rejoins"))
    await look_at_everything(doors)
    report.verdict = judge(report.history)


if __name__ == "__main__":
    sys.exit(
        main(__doc__, {"rounds": 30, "minutes": 10, "seed": 1, "block_ms": 900, "awareness_max": 8}, prove)
    )
