"""`make proof-pause`: a primary is stopped for twice the detection time, and nobody else notices for long.

SIGSTOP is the nastiest way to be away: the node's sockets stay open and take connections, it knows nothing of the
pause, and when it goes on it believes itself the primary of everything it held. Users behind the balancer write and
read all the while; every one of them has a second door, pinned to the victim itself, through which he goes on when
the victim does: what it says then is what must not be old.
"""

import asyncio
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.cluster import Cluster, at_work
from tests.e2e.waiting import wait_until
from tests.torture.checker import Verdict, judge
from tests.torture.history import History, Kind, Operation
from tests.torture.proving import (
    APP,
    DETECTION_S,
    LEASE_S,
    Timing,
    main,
    milliseconds,
    percentile,
    progress,
    settings_of,
    users_of,
)
from tests.torture.users import Door, look_at_everything, using
from tests.torture.watch import metrics, seen_dead, whole

NODES = 5
USERS = 50
WRITE_PAUSE_S = 0.25
READ_PAUSE_S = 0.25
PAUSE_S = 2 * DETECTION_S
BEFORE_S = 2.0
AFTERWARDS_S = 2.0
DEMOTED_MAX_S = 1.0
REJOINS = "sessiond_rejoins_total"


@dataclass(slots=True)
class PauseReport:
    rounds: int
    quorum: str
    history: History
    verdict: Verdict
    demoted_s: list[float] = field(default_factory=list)
    """From SIGCONT until the victim had begun another life, with every copy that it holds in doubt."""
    old_acks: list[str] = field(default_factory=list)
    """What the victim answered after SIGCONT in a term below one that had acknowledged something by then."""
    pinned: int = 0
    """Users with a door to a node that was then paused, of all rounds."""
    resumed_answers: int = 0
    """What the victim itself answered after SIGCONT through those doors: none of it may be old."""
    waited_answers: int = 0
    """Of those, the answers to requests that had been sent to it while it stood still."""
    waits_s: list[float] = field(default_factory=list)
    """How long the requests through the balancer took that met the pause."""
    unanswered: int = 0
    """Of those, the ones whose answer said that their fate is not known."""

    @property
    def faults(self) -> list[str]:
        found = [*self.verdict.faults, *self.old_acks]
        if not self.pinned:
            found.append("no user had a door to a paused node")
        elif not self.resumed_answers:
            found.append(
                "no paused node answered anything after SIGCONT, so nothing of it could have been old"
            )
        return found

    @property
    def timings(self) -> list[Timing]:
        detection_s = DETECTION_S + (LEASE_S if self.quorum == "majority" else 0.0)
        return [
            Timing("to demote the victim", max(self.demoted_s), DEMOTED_MAX_S),
            Timing("the longest wait of a user", percentile(self.waits_s, 1.0), detection_s),
        ]

    def __str__(self) -> str:
        return (
            f"pause of {PAUSE_S:.0f} s, quorum {self.quorum}: {self.rounds} rounds, "
            f"{self.history.count(Kind.WRITE, answered=True)} writes acknowledged; {self.verdict}; "
            f"{self.resumed_answers} answers of the resumed node itself to {self.pinned} users ({self.waited_answers} to "
            f"requests sent while it stood still), {len(self.old_acks)} of its answers in an old term; "
            f"demoted at most {max(self.demoted_s) * 1000:.0f} ms after SIGCONT; "
            f"{len(self.waits_s)} requests of other users met the pause: {milliseconds(self.waits_s)}, "
            f"{self.unanswered} of unknown fate"
        )


async def prove(directory: Path, rounds: int, seed: int, quorum: str) -> PauseReport:
    rng = random.Random(seed)
    history = History()
    report = PauseReport(rounds, quorum, history, Verdict())
    async with at_work(Cluster(directory, NODES, APP, **settings_of(quorum, NODES))) as cluster:
        users = await users_of(cluster, history, USERS)
        doors = [user.doors[0] for user in users]
        for number in range(rounds):
            victim = rng.choice(list(cluster.nodes))
            pinned = [
                user.open_door(victim, *(cluster.browser_at(victim, user.cookie) for _ in range(2)))
                for user in users
                if user.cookie.node == victim
            ]
            report.pinned += len(pinned)
            async with using(doors, WRITE_PAUSE_S, READ_PAUSE_S):
                await _pause(cluster, victim, pinned, report)
            await look_at_everything([*doors, *pinned])
            progress(f"round {number + 1}: {victim} was paused, demoted after {report.demoted_s[-1]:.3f} s")
    report.verdict = judge(history)
    return report


async def _pause(cluster: Cluster, victim: str, pinned: Sequence[Door], report: PauseReport) -> None:
    node = cluster.nodes[victim]
    history = report.history
    async with using(pinned, WRITE_PAUSE_S, READ_PAUSE_S):
        await asyncio.sleep(BEFORE_S)
        rejoins = (await metrics(node))[REJOINS]
        stopped_at = time.perf_counter()
        node.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(PAUSE_S / 2)
            await seen_dead(cluster, victim, DETECTION_S)
            await asyncio.sleep(max(0.0, stopped_at + PAUSE_S - time.perf_counter()))
        finally:
            resumed_at = time.perf_counter()
            terms = _terms(history.operations)
            node.signal(signal.SIGCONT)

        async def is_demoted() -> bool:
            samples = await metrics(node)
            return samples.get(REJOINS, 0.0) > rejoins

        await wait_until(is_demoted, f"{victim} knows that it was buried")
        report.demoted_s.append(time.perf_counter() - resumed_at)
        await whole(cluster)
        await asyncio.sleep(AFTERWARDS_S)
    through = [
        operation
        for operation in history.operations
        if operation.is_answered
        and operation.via == operation.node == victim
        and operation.ended_at > resumed_at
    ]
    report.resumed_answers += len(through)
    report.waited_answers += sum(stopped_at < operation.began_at < resumed_at for operation in through)
    report.old_acks.extend(
        f"{operation}, when term {terms[operation.session]} had acknowledged"
        for operation in history.operations
        if operation.is_answered
        and operation.node == victim
        and resumed_at < operation.ended_at
        and operation.epoch < terms.get(operation.session, 0)
    )
    met = [
        operation
        for operation in history.operations
        if operation.via == "balancer" and operation.began_at < resumed_at and operation.ended_at > stopped_at
    ]
    report.waits_s.extend(operation.ended_at - operation.began_at for operation in met)
    report.unanswered += sum(not operation.is_answered for operation in met)


def _terms(operations: Sequence[Operation]) -> dict[str, int]:
    """The highest term in which something of a session was acknowledged so far."""
    highest: dict[str, int] = {}
    for operation in operations:
        if operation.is_answered:
            highest[operation.session] = max(highest.get(operation.session, 0), operation.epoch)
    return highest


if __name__ == "__main__":
    sys.exit(main(__doc__, {"rounds": 3, "seed": 1, "quorum": "any"}, prove))
