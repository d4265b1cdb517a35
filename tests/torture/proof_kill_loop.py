"""`make proof-kill-loop`: one node after the other is killed under load, and nothing acknowledged is lost.

Five nodes behind the balancer, 100 users, 200 writes a second. In each round one node is killed with SIGKILL, with
no pause of the load before it; when the others know, it is started again, and the next round begins when every
session is protected again: one failure per re-protection window, which is what the promise allows.
"""

import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.cluster import Cluster, at_work
from tests.torture.checker import Verdict, judge
from tests.torture.history import History, Kind
from tests.torture.proving import APP, Timing, main, milliseconds, progress, settings_of, users_of
from tests.torture.users import look_at_everything, using
from tests.torture.watch import seen_dead, whole

NODES = 5
USERS = 100
WRITE_PAUSE_S = 0.5
READ_PAUSE_S = 1.0
WRITES_A_SECOND = USERS / WRITE_PAUSE_S
SERVED_MIN = 0.5
"""Of the writes that the users have in mind, so many have to be acknowledged: less is no load."""

UNPROTECTED_MAX = 0.05
"""Of the answers. They promise nothing, so with many of them the rest would prove little."""


@dataclass(slots=True)
class KillReport:
    rounds: int
    quorum: str
    began_at: float
    lasted_s: float
    history: History
    verdict: Verdict
    protected_after_s: list[float] = field(default_factory=list)
    failed_reads: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        found = [*self.verdict.faults, *self.failed_reads]
        if self.writes_a_second < SERVED_MIN * WRITES_A_SECOND:
            found.append(
                f"{self.writes_a_second:.0f} writes a second were acknowledged of {WRITES_A_SECOND:.0f} asked for"
            )
        if self.verdict.unprotected_share > UNPROTECTED_MAX:
            found.append(f"{self.verdict.unprotected_share:.1%} of the answers were unprotected")
        return found

    @property
    def writes_a_second(self) -> float:
        """While the users were at it: what was written before and after is no load."""
        return self.history.rate(Kind.WRITE, self.began_at, self.began_at + self.lasted_s)

    @property
    def timings(self) -> list[Timing]:
        return []

    def __str__(self) -> str:
        kept = self.history.count(Kind.WRITE, answered=True)
        return (
            f"kill loop, quorum {self.quorum}: {self.rounds} rounds, {kept} writes acknowledged "
            f"({self.writes_a_second:.0f}/s), "
            f"{self.history.count(Kind.WRITE, answered=False)} not answered; {self.verdict}; "
            f"{self.history.count(Kind.READ, answered=True)} reads, {len(self.failed_reads)} failed; "
            f"all protected again after the kill: {milliseconds(self.protected_after_s)}"
        )


async def prove(directory: Path, rounds: int, seed: int, quorum: str) -> KillReport:
    rng = random.Random(seed)
    history = History()
    async with at_work(Cluster(directory, NODES, APP, **settings_of(quorum, NODES))) as cluster:
        users = await users_of(cluster, history, USERS)
        doors = [door for user in users for door in user.doors]
        protected_after_s = []
        began_at = time.perf_counter()
        async with using(doors, WRITE_PAUSE_S, READ_PAUSE_S):
            for number in range(rounds):
                victim = rng.choice(list(cluster.nodes))
                killed_at = time.perf_counter()
                cluster.kill(victim)
                await seen_dead(cluster, victim)
                cluster.nodes[victim].start()
                await whole(cluster)
                protected_after_s.append(time.perf_counter() - killed_at)
                progress(f"round {number + 1}: {victim}, whole after {protected_after_s[-1]:.2f} s")
        lasted_s = time.perf_counter() - began_at
        await look_at_everything(doors)
    failed_reads = [
        str(operation)
        for operation in history.operations
        if operation.kind is Kind.READ and not operation.is_answered
    ]
    return KillReport(
        rounds, quorum, began_at, lasted_s, history, judge(history), protected_after_s, failed_reads
    )


if __name__ == "__main__":
    sys.exit(main(__doc__, {"rounds": 100, "seed": 1, "quorum": "any"}, prove))
