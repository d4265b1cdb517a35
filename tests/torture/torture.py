"""Random faults on a real cluster, one after the other, each mended and waited for before the next.

One node at a time is killed, paused, cut off or has its links hurt, while users write, read and log out through the
real balancer. The next fault comes when every session is protected again: one failure per re-protection window, so
that the strict promise holds throughout. The same seed makes the same faults; what the machine does meanwhile
differs from run to run.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.cluster import Cluster, Node, at_work
from tests.torture.chaos_proxy import ChaosProxy, Way
from tests.torture.checker import Verdict, judge
from tests.torture.history import History, Kind
from tests.torture.netns import Network, missing
from tests.torture.proving import (
    APP,
    DETECTION_S,
    Timing,
    milliseconds,
    progress,
    settings_of,
    users_of,
)
from tests.torture.users import User, look_at_everything, using
from tests.torture.watch import seen_dead, whole

NODES = 5
USERS = 60
WRITE_PAUSE_S = 0.3
READ_PAUSE_S = 0.6
PAUSE_MAX_S = 5.0
OUTAGE_MAX_S = 5.0
DELAY_MAX_S = 0.15
"""Well below the silence that counts as a death."""
WHOLE_DEADLINE_S = 60.0
GHOSTS = 6
WRITES_A_SECOND = USERS / WRITE_PAUSE_S
SERVED_MIN = 0.25
"""Of the writes that the users have in mind, so many have to be acknowledged. A balancer that is cut off with the
smaller side gets none under `majority`, for as long as that lasts."""

FAULT_S = 7.5
"""A fault, and until all is whole again, takes less on average, so that in so long each kind has its turn."""


@dataclass(slots=True)
class TortureReport:
    seed: int
    quorum: str
    history: History
    verdict: Verdict = field(default_factory=Verdict)
    faults_made: Counter[str] = field(default_factory=Counter)
    without: str = ""
    """Why no packet could be dropped; empty if it could."""
    whole_after_s: list[float] = field(default_factory=list)

    began_at: float = 0.0
    seconds: float = 0.0
    """How long the load lasted, whatever was asked for."""
    kinds: Collection[str] = ()
    """Every kind of fault that can be made here."""

    @property
    def faults(self) -> list[str]:
        found = list(self.verdict.faults)
        missed = [kind for kind in self.kinds if not self.faults_made[kind]]
        rounds = len(self.whole_after_s)
        if missed and (rounds >= len(self.kinds) or self.seconds > len(self.kinds) * FAULT_S):
            found.append(f"no {', no '.join(missed)} in {self.seconds:.0f} s and {rounds} faults")
        if self.writes_a_second < SERVED_MIN * WRITES_A_SECOND:
            found.append(
                f"{self.writes_a_second:.0f} writes a second were acknowledged of {WRITES_A_SECOND:.0f} asked for"
            )
        return found

    @property
    def writes_a_second(self) -> float:
        """While the users were at it: what was written before and after is no load."""
        return self.history.rate(Kind.WRITE, self.began_at, self.began_at + self.seconds)

    @property
    def timings(self) -> list[Timing]:
        return []

    def __str__(self) -> str:
        made = ", ".join(f"{name} {count}" for name, count in sorted(self.faults_made.items()))
        return (
            f"torture, seed {self.seed}, quorum {self.quorum}: {made}"
            + (f" (no packets dropped: {self.without})" if self.without else "")
            + f"; {self.history.count(Kind.WRITE, answered=True)} writes ({self.writes_a_second:.0f}/s), "
            f"{self.history.count(Kind.READ, answered=True)} reads and "
            f"{self.history.count(Kind.LOG_OUT, answered=True)} log-outs acknowledged, "
            f"{sum(not each.is_answered for each in self.history.operations)} not answered; {self.verdict}, "
            f"{self.verdict.forked} excused; whole after a fault: {milliseconds(self.whole_after_s)}"
        )


async def torture(directory: Path, seconds: int, seed: int, quorum: str) -> TortureReport:
    history = History()
    report = TortureReport(seed, quorum, history, without=missing())
    names = [f"node{number}" for number in range(1, NODES + 1)]
    async with AsyncExitStack() as stack:
        network = None if report.without else stack.enter_context(Network([*names, "balancer"]))
        cluster = Cluster(
            directory, NODES, APP, network.places if network else None, **settings_of(quorum, NODES)
        )
        proxies = await _proxies(cluster, stack)
        await stack.enter_async_context(at_work(cluster))
        users = await users_of(cluster, history, USERS)
        doors = [user.doors[0] for user in users]
        tormentor = Tormentor(cluster, proxies, network, random.Random(seed), report)
        report.kinds = tormentor.kinds
        async with using(doors, WRITE_PAUSE_S, READ_PAUSE_S):
            report.began_at = time.perf_counter()
            while time.perf_counter() < report.began_at + seconds:
                await tormentor.hurt()
            report.seconds = time.perf_counter() - report.began_at
        await look_at_everything(doors)
    report.verdict = judge(history, tormentor.parted if quorum == "any" else [])
    return report


async def _proxies(cluster: Cluster, stack: AsyncExitStack) -> dict[str, ChaosProxy]:
    """One before every node, at the address that the node gives to the others."""
    proxies = {name: ChaosProxy(node.site, node.cluster) for name, node in cluster.nodes.items()}
    for name, node in cluster.nodes.items():
        node.advertise_cluster(proxies[name].address)
    for name, node in cluster.nodes.items():
        node.join(cluster.nodes.values())
        await proxies[name].start()
        stack.push_async_callback(proxies[name].close)
    return proxies


class Tormentor:
    """Hurts one node at a time. `parted`: when parts of the cluster may have gone on without each other."""

    def __init__(
        self,
        cluster: Cluster,
        proxies: dict[str, ChaosProxy],
        network: Network | None,
        rng: random.Random,
        report: TortureReport,
    ) -> None:
        self._cluster = cluster
        self._proxies = proxies
        self._rng = rng
        self._report = report
        self._users = 0
        self.parted: list[tuple[float, float]] = []
        self._wounds: dict[str, Callable[[Node], Awaitable[None]]] = {
            "kill": self._kill,
            "pause": self._pause,
            "reset": self._reset,
            "half-close": self._half_close,
            "delay": self._delay,
            "stall": self._stall,
        }
        if network is not None:
            self._network = network
            self._wounds |= {"partition": self._partition, "one-way": self._one_way}
        self._parting = frozenset({"stall", "partition", "one-way", "half-close"})
        """Wounds after which both sides of a link may live on, each without the other."""

    @property
    def kinds(self) -> Collection[str]:
        return self._wounds.keys()

    async def hurt(self) -> None:
        """One fault, until the cluster is whole again; some users log out meanwhile."""
        # Each kind comes before any comes twice, so that a short run has them all.
        made = self._report.faults_made
        kind = min(self._wounds, key=lambda name: (made[name], self._rng.random()))
        node = self._cluster.nodes[self._rng.choice(list(self._cluster.nodes))]
        is_parting = kind in self._parting
        leaving = [await self._newcomer() for _ in range(2)]
        began_at = time.perf_counter()
        made[kind] += 1
        # While sides are apart a log-out on one of them is unknown to the other: that is no promise under `any`.
        nobody = is_parting and self._report.quorum == "any"
        async with asyncio.TaskGroup() as tasks:
            for user in [] if nobody else leaving:
                tasks.create_task(self._leave(user))
            tasks.create_task(self._wounds[kind](node))
        mended_at = time.perf_counter()
        await whole(self._cluster, WHOLE_DEADLINE_S)
        now = time.perf_counter()
        self._report.whole_after_s.append(now - mended_at)
        if is_parting:
            self.parted.append((began_at, now))
        progress(f"{kind} {node.name}: {mended_at - began_at:.2f} s, whole {now - mended_at:.2f} s later")

    # --- users who log out ----------------------------------------------------------------------------------

    async def _newcomer(self) -> User:
        self._users += 1
        user = User(self._report.history, USERS + self._users)
        user.open_door("balancer", *(self._cluster.browser(user.cookie) for _ in range(2)))
        await user.begin()
        return user

    async def _leave(self, user: User) -> None:
        """Log out, and come back with the old cookie, to the balancer and to nodes."""
        old = user.cookie.copy()
        await asyncio.sleep(self._rng.uniform(0.0, 1.0))
        await user.doors[0].log_out()
        for _ in range(GHOSTS):
            browser = self._cluster.browser(old.copy())
            await user.ghost("balancer", browser).read()
            await browser.close()
            await asyncio.sleep(self._rng.uniform(0.0, 0.5))
        await user.doors[0].close()

    # --- wounds: each is over when the node could be well again ---------------------------------------------

    async def _kill(self, node: Node) -> None:
        self._cluster.kill(node.name)
        await seen_dead(self._cluster, node.name)
        await asyncio.sleep(self._rng.choice((0.0, self._rng.uniform(0.0, 2.0))))
        node.start()

    async def _pause(self, node: Node) -> None:
        node.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self._rng.uniform(0.1, PAUSE_MAX_S))
        finally:
            node.signal(signal.SIGCONT)

    async def _reset(self, node: Node) -> None:
        for _ in range(self._rng.randint(1, 3)):
            self._proxies[node.name].reset()
            await asyncio.sleep(self._rng.uniform(0.0, 0.3))

    async def _half_close(self, node: Node) -> None:
        self._proxies[node.name].half_close(self._rng.choice(list(Way)))

    async def _delay(self, node: Node) -> None:
        self._proxies[node.name].delay(self._rng.uniform(0.005, DELAY_MAX_S))
        await asyncio.sleep(self._rng.uniform(1.0, 3.0))
        self._proxies[node.name].behave()

    async def _stall(self, node: Node) -> None:
        self._proxies[node.name].stall(self._rng.choice(list(Way)))
        await asyncio.sleep(self._rng.uniform(0.2, OUTAGE_MAX_S))
        self._proxies[node.name].behave()

    async def _partition(self, node: Node) -> None:
        one, other = self._sides(node)
        await self._cut(lambda: self._network.part(one, other))

    async def _one_way(self, node: Node) -> None:
        one, other = self._sides(node)
        await self._cut(lambda: self._network.block(one, other))

    def _sides(self, node: Node) -> tuple[list[str], list[str]]:
        """This node, perhaps with another one, and the rest; the balancer on either side."""
        names = [name for name in self._cluster.nodes if name != node.name]
        self._rng.shuffle(names)
        count = self._rng.randint(0, 1)
        sides = [node.name, *names[:count]], names[count:]
        sides[self._rng.randint(0, 1)].append("balancer")
        return sides

    async def _cut(self, cut: Callable[[], None]) -> None:
        cut()
        try:
            await asyncio.sleep(self._rng.uniform(0.5, DETECTION_S + OUTAGE_MAX_S))
        finally:
            self._network.heal()
