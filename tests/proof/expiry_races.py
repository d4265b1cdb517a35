"""Log-outs and expiries race with uses and takeovers on real nodes: nothing ends early, and nothing comes back.

    python -m tests.proof.expiry_races [--races 100] [--seed 1]

In each round some sessions of one node are used from several tabs at all nodes at once, just when they are logged out,
or when their time-out is about to end; and in the midst of it that node is killed. What may be said is judged by the
clock of the users alone: an answer's fate was decided between its request and its arrival.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.client import Cookie, NotAnswered
from tests.e2e.cluster import Cluster
from tests.e2e.waiting import wait_until

NODES = 3
RACES_PER_ROUND = 10
TABS = 3
IDLE_TIMEOUT_S = 2.0
TOUCH_INTERVAL_S = 0.3
NEAR_S = 0.4
"""Uses come this much before or after the time-out."""

USES_MAX = 4
"""Uses just in time, after which a session is left alone until it has ended."""

AFTERMATH_S = 1.0
"""How long somebody goes on asking for a session that has ended: longer than a takeover without a request takes."""

ROUND_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tab was told: `found`, or that there is no such session; when it asked and when it heard."""

    sent_at: float
    heard_at: float
    found: bool


@dataclass(slots=True)
class Race:
    """One session, and everything that was said of it."""

    session_id: str
    answers: list[Answer] = field(default_factory=list)
    ended_at: float | None = None
    """When its log-out was acknowledged."""

    logs_out: bool = False

    def faults(self) -> list[str]:
        gone = [answer for answer in self.answers if not answer.found]
        found = [answer for answer in self.answers if answer.found]
        last_sent_at = max((answer.sent_at for answer in found), default=0.0)
        faults = []
        if self.ended_at is not None and last_sent_at > self.ended_at:
            faults.append(f"served {last_sent_at - self.ended_at:.3f} s after its log-out was acknowledged")
        if self.logs_out:
            return faults  # whether one that was not answered took effect is not known
        for answer in gone:
            if last_sent_at > answer.heard_at:
                faults.append(
                    f"came back {last_sent_at - answer.heard_at:.3f} s after it was said to be gone"
                )
            elif answer.heard_at - last_sent_at < IDLE_TIMEOUT_S:
                faults.append(
                    f"gone {answer.heard_at - last_sent_at:.3f} s after its last use at the earliest"
                )
        return faults


@dataclass(slots=True)
class Report:
    seed: int
    races: list[Race] = field(default_factory=list)
    kills: int = 0

    @property
    def faults(self) -> list[str]:
        return [fault for race in self.races for fault in race.faults()]

    @property
    def acknowledged(self) -> int:
        return sum(race.ended_at is not None for race in self.races)

    @property
    def expired(self) -> int:
        return sum(
            not race.logs_out and any(not answer.found for answer in race.answers) for race in self.races
        )

    def __str__(self) -> str:
        uses = sum(len(race.answers) for race in self.races)
        return (
            f"expiry races: {len(self.races)} sessions (seed {self.seed}), {self.acknowledged} logged out, "
            f"{self.expired} expired, {uses} answers, {self.kills} kills: {len(self.faults)} came back or ended early"
        )


async def expiry_races(cluster: Cluster, races: int, seed: int) -> Report:
    """Run it on a started cluster of `NODES` with `settings()`."""
    report = Report(seed)
    rng = random.Random(seed)
    while len(report.races) < races:
        victim = rng.choice(sorted(cluster.nodes))
        browser = cluster.browser_at(victim)
        begun: list[Race] = []
        for index in range(min(RACES_PER_ROUND, races - len(report.races))):
            browser.cookie = Cookie()
            sent_at = time.perf_counter()
            (await browser.post("/number/1")).good()
            race = Race(browser.cookie.session_id, logs_out=index % 2 == 0)
            race.answers.append(Answer(sent_at, time.perf_counter(), found=True))
            begun.append(race)
        async with asyncio.timeout(ROUND_S), asyncio.TaskGroup() as group:
            for race in begun:
                group.create_task(
                    _log_out(cluster, race, rng) if race.logs_out else _expire(cluster, race, rng)
                )
            group.create_task(_kill(cluster, victim, rng.uniform(0.1, 1.5 * IDLE_TIMEOUT_S)))
        report.races.extend(begun)
        report.kills += 1
        await cluster.restart(victim)
        await wait_until(lambda: _is_protected(cluster), "all sessions have their backups")
    return report


async def _kill(cluster: Cluster, victim: str, after_s: float) -> None:
    await asyncio.sleep(after_s)
    cluster.kill(victim)


async def _is_protected(cluster: Cluster) -> bool:
    views = [await cluster.view(name) for name in cluster.running()]
    return all(view is not None and all(not member.unprotected for member in view.members) for view in views)


async def _ask(cluster: Cluster, race: Race, node: str, *, writes: bool) -> None:
    """One use, with the cookie of the beginning, on a connection of its own; an unknown outcome counts for nothing."""
    browser = cluster.browser_at(node, Cookie(race.session_id))
    sent_at = time.perf_counter()
    try:
        answer = await (browser.post("/number/2") if writes else browser.get("/number"))
    except NotAnswered:
        return
    finally:
        await browser.close()
    if answer.status == 200:
        found = answer.json()["number"] != 0
        race.answers.append(Answer(sent_at, time.perf_counter(), found))


async def _log_out(cluster: Cluster, race: Race, rng: random.Random) -> None:
    """Tabs use the session at all nodes while one of them logs out."""
    until = [float("inf")]

    async def use(node: str) -> None:
        while time.perf_counter() < until[0]:
            await _ask(cluster, race, node, writes=rng.random() < 0.3)
            await asyncio.sleep(rng.uniform(0.0, 0.05))

    async with asyncio.TaskGroup() as group:
        for node in rng.sample(sorted(cluster.nodes), TABS):
            group.create_task(use(node))
        await asyncio.sleep(rng.uniform(0.0, 1.5 * IDLE_TIMEOUT_S))
        browser = cluster.browser_at(rng.choice(sorted(cluster.nodes)), Cookie(race.session_id))
        try:
            if (await browser.post("/log-out")).status == 200:
                race.ended_at = time.perf_counter()
        except NotAnswered:
            pass  # it may have taken effect or not
        finally:
            await browser.close()
        until[0] = time.perf_counter() + AFTERMATH_S


async def _expire(cluster: Cluster, race: Race, rng: random.Random) -> None:
    """Tabs use the session just before and after its time-out, from several nodes at the same moment."""
    for _ in range(USES_MAX):
        await asyncio.sleep(IDLE_TIMEOUT_S + rng.uniform(-NEAR_S, NEAR_S))
        nodes = rng.sample(sorted(cluster.nodes), TABS)
        await asyncio.gather(*(_ask(cluster, race, node, writes=rng.random() < 0.3) for node in nodes))
        if any(not answer.found for answer in race.answers):
            break
    else:
        await asyncio.sleep(IDLE_TIMEOUT_S + 3 * NEAR_S + TOUCH_INTERVAL_S)
    until = time.perf_counter() + AFTERMATH_S
    while time.perf_counter() < until:
        await _ask(cluster, race, rng.choice(sorted(cluster.nodes)), writes=rng.random() < 0.3)
        await asyncio.sleep(0.05)


def settings() -> dict[str, str | int | float]:
    return {
        "app": "tests.e2e.apps:create_app",
        "idle_timeout_s": IDLE_TIMEOUT_S,
        "touch_interval_s": TOUCH_INTERVAL_S,
        "reprotect_delay_s": 0.2,
    }


async def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--races", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        async with Cluster(Path(directory), NODES, **settings()) as cluster:  # type: ignore[arg-type] # by name
            report = await expiry_races(cluster, options.races, options.seed)
    print(report, *report.faults, sep="\n")  # noqa: T201 - its output is the proof
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
