"""`make proof-partition`: five nodes are cut into 3 and 2, with users and a balancer on both sides.

Every node and both balancers have a network namespace of their own. The same users write through both balancers all
the time, each side into an attribute of its own, so that a fork loses nothing that the other side wrote.

`majority`: the side of two answers 503 within the detection time, and nothing acknowledged is lost. A node of that
side, asked without the balancer between, refuses visitors with and without a session, and names the majority as the reason.
`any`: both sides serve; when they meet again, the forks are merged and counted, and nothing acknowledged is lost
either, since no attribute was written on both sides. While the sides are apart, each shows only its own writes.
Both: the cluster is one again within 5 s of healing.
"""

import asyncio
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.client import Answer, Browser, NotAnswered
from tests.e2e.cluster import Balancer, Cluster, at_work
from tests.e2e.waiting import wait_until
from tests.torture.checker import Verdict, judge
from tests.torture.history import History, Kind
from tests.torture.netns import Network, missing
from tests.torture.proving import APP, DETECTION_S, Timing, main, progress, settings_of
from tests.torture.users import User, look_at_everything, using
from tests.torture.watch import totals, whole

MAJORITY_SIDE = ("node1", "node2", "node3", "balancer")
MINORITY_SIDE = ("node4", "node5", "balancer2")
NODES = 5
USERS = 40
WRITE_PAUSE_S = 0.2
READ_PAUSE_S = 0.2
CALM_S = 2.0
CONVERGED_MAX_S = 5.0
UNAVAILABLE = 503
VISITORS = ("with a session", "without a session")


@dataclass(slots=True)
class PartitionReport:
    quorum: str
    seconds: int
    history: History
    verdict: Verdict
    kept: dict[str, int] = field(default_factory=dict)
    """Writes acknowledged on each side while they were apart, by the side's balancer."""
    refused_after_s: float = 0.0
    """`majority`: when the last write was acknowledged in the minority, from the cut."""
    first_503_after_s: float | None = None
    refusals: dict[str, Answer | None] = field(default_factory=dict)
    """`majority`: what a node of the minority itself answered to whom; None: nothing."""
    merged: int = 0
    converged_s: float = 0.0
    waits_s: list[float] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        found = list(self.verdict.faults)
        if not self.kept["balancer"]:
            found.append("the majority did not serve")
        if self.quorum == "any":
            if not self.kept["balancer2"]:
                found.append("the side of two did not serve")
            if not self.merged:
                found.append("no fork was merged")
        else:
            if self.first_503_after_s is None:
                found.append("the minority never answered 503")
            if len(self.refusals) < len(VISITORS):
                found.append("nobody asked a node of the minority itself")
            for visitor, answer in self.refusals.items():
                found.extend(
                    f"a visitor {visitor} in the minority: {each}" for each in not_as_promised(answer)
                )
        return found

    @property
    def timings(self) -> list[Timing]:
        found = [Timing("to be one cluster again", self.converged_s, CONVERGED_MAX_S)]
        if self.quorum == "majority":
            found.append(Timing("the minority's first 503", self.first_503_after_s or 0.0, DETECTION_S))
            found.append(Timing("the minority's last acknowledgement", self.refused_after_s, DETECTION_S))
        return found

    def __str__(self) -> str:
        sides = (
            f"{self.kept['balancer']} writes acknowledged by the three, {self.kept['balancer2']} by the two"
        )
        said = (
            f"{self.merged} forks merged, {self.verdict.forked} answers that knew nothing of the other side"
            if self.quorum == "any"
            else f"minority: first 503 after {self.first_503_after_s or 0.0:.2f} s, "
            f"last acknowledgement after {self.refused_after_s:.2f} s, "
            f"{len(self.refusals)} refusals of a node itself that name the majority"
        )
        return (
            f"partition 3|2 for {self.seconds} s, quorum {self.quorum}: {sides}; {said}; {self.verdict}; "
            f"one cluster again {self.converged_s:.2f} s after healing"
        )


def not_as_promised(answer: Answer | None) -> list[str]:
    """What is wrong with this as the answer of a node in the minority, which says why it refuses, and when to come again."""
    if answer is None:
        return ["no answer"]
    found = []
    if answer.status != UNAVAILABLE:
        found.append(f"answered {answer.status}")
    if not answer.headers.get("retry-after", "").isdecimal():
        found.append("no Retry-After")
    if b"majority" not in answer.body:
        found.append(f"the reason does not name the majority: {answer.body[:200]!r}")
    return found


async def prove(directory: Path, quorum: str, seconds: int) -> PartitionReport:
    if reason := missing():
        raise SystemExit(f"proof-partition cannot run: {reason}")
    history = History()
    report = PartitionReport(quorum, seconds, history, Verdict())
    with Network([*MAJORITY_SIDE, *MINORITY_SIDE]) as network:
        cluster = Cluster(directory, NODES, APP, network.places, **settings_of(quorum, NODES))
        second = Balancer("balancer2", network.places["balancer2"], cluster.nodes.values(), directory)
        cluster.others.append(second)
        async with at_work(cluster):
            second.start()
            await wait_until(lambda: second.sends_to(cluster.nodes), "the second balancer uses all nodes")
            users = await _users(cluster, second, history)
            doors = [door for user in users for door in user.doors]
            async with using(doors, WRITE_PAUSE_S, READ_PAUSE_S, own_only=True):
                await asyncio.sleep(CALM_S)
                cut_at = time.perf_counter()
                network.part(MAJORITY_SIDE, MINORITY_SIDE)
                progress("cut")
                await asyncio.sleep(seconds)
                if quorum == "majority":
                    report.refusals = await _refusals(cluster, users[0])
                healed_at = time.perf_counter()
                network.heal()
                progress("healed")
                await whole(cluster)
                report.converged_s = time.perf_counter() - healed_at
                await asyncio.sleep(CALM_S)
            await look_at_everything(doors)
            report.merged = int((await totals(cluster, "sessiond_merged_total"))["sessiond_merged_total"])
    _count(report, history, cut_at, healed_at)
    # In a majority cluster there are no two sides that serve: nothing is excused.
    parted = [(cut_at, healed_at + report.converged_s)] if quorum == "any" else []
    report.verdict = judge(history, parted)
    return report


async def _users(cluster: Cluster, second: Balancer, history: History) -> list[User]:
    """Users with a door on each side, and a cookie for each: nobody carries one across a cut."""
    users = []
    for number in range(USERS):
        user = User(history, number)
        user.open_door("balancer", cluster.browser(user.cookie), cluster.browser(user.cookie))
        await user.begin()
        cookie = user.cookie.copy()
        user.open_door(second.name, *(cluster.browser_through(second, cookie) for _ in range(2)))
        users.append(user)
    return users


async def _refusals(cluster: Cluster, user: User) -> dict[str, Answer | None]:
    """What the last node of the minority says to a user who has a session, and to one who has none."""
    asked = MINORITY_SIDE[1]
    cookies = dict(zip(VISITORS, (user.cookie.copy(), None), strict=True))
    return {
        visitor: await _answer_of(cluster.browser_at(asked, cookie)) for visitor, cookie in cookies.items()
    }


async def _answer_of(browser: Browser) -> Answer | None:
    try:
        return await browser.get("/read/a0")
    except NotAnswered:
        return None
    finally:
        await browser.close()


def _count(report: PartitionReport, history: History, cut_at: float, healed_at: float) -> None:
    apart = [each for each in history.operations if cut_at < each.began_at and each.ended_at < healed_at]
    for side in ("balancer", "balancer2"):
        report.kept[side] = sum(
            each.kind is Kind.WRITE and each.is_answered and each.via == side for each in apart
        )
    minority = [each for each in apart if each.via == "balancer2"]
    kept = [each.ended_at - cut_at for each in minority if each.is_answered and each.kind is Kind.WRITE]
    refused = [each.ended_at - cut_at for each in minority if each.status == UNAVAILABLE]
    report.refused_after_s = max(kept, default=0.0)
    report.first_503_after_s = min(refused, default=None)


if __name__ == "__main__":
    sys.exit(main(__doc__, {"quorum": "any", "seconds": 30}, prove))
