"""`python -m tests.sim.races`: ends of sessions that race with their use and with takeovers, until there were enough.

A race is an end, asked for or by expiry, during or close to which somebody else used the session, or a copy of it
became primary. Seeds of the plan `endings`, in turn with one of more time-outs; their promises say what must not come of it: a session that was said to
be gone is served again, or one ends that nobody ended and that was in use.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tests.sim.plans import PLANS, Plan
from tests.sim.requests import Deed
from tests.sim.run import violation_of
from tests.sim.simulation import Simulation

CLOSE_S = 0.1
"""What happens within this time of an end races with it: a few deliveries and turns."""

TIMEOUTS: Plan = replace(PLANS["endings"], ending=0.02, clients=2, sessions=20, haste=0.3, pause_s=1.2)
"""Users come back about when their session's time is over."""

RESURRECTION = "served though"
EARLY = "nobody ended it"


def races(simulation: Simulation) -> Counter[str]:
    """How often what raced with what in a run that is over."""
    total: Counter[str] = Counter()
    for key in simulation.history:
        for how, by, began, ended in _ends(simulation, key):
            against = [
                name
                for name, times in (
                    ("use", _uses(simulation, key, by)),
                    ("takeover", _takeovers(simulation, key)),
                )
                if any(start <= ended + CLOSE_S and end >= began - CLOSE_S for start, end in times)
            ]
            total["races"] += bool(against)
            total.update(f"{how} and {name}" for name in against)
    return total


def _ends(simulation: Simulation, key: bytes) -> Iterator[tuple[str, str, float, float]]:
    """How it ended, by whom ("" is nobody), and from when to when that took."""
    for operation in simulation.history[key]:
        if operation.request.deed is Deed.END:
            yield (
                "logout",
                operation.client,
                operation.invoked_at,
                operation.returned_at or operation.invoked_at,
            )
    expired_at = simulation.watch.expiries.get(key)
    if expired_at is not None:
        yield "expiry", "", expired_at, expired_at


def _uses(simulation: Simulation, key: bytes, by: str) -> Iterator[tuple[float, float]]:
    """Of everybody else: who logs out has clicked a moment ago, and waited for the answer."""
    for operation in simulation.history[key]:
        if operation.request.deed is not Deed.END and operation.client != by:
            yield operation.invoked_at, operation.returned_at or operation.invoked_at


def _takeovers(simulation: Simulation, key: bytes) -> Iterator[tuple[float, float]]:
    """The first copy that became primary was the session's creation."""
    return ((at, at) for at in simulation.watch.takeovers.get(key, [])[1:])


def run(least: int, first: int = 0) -> Counter[str]:
    """Run seeds until there were so many races; what they came to."""
    total: Counter[str] = Counter({"resurrections": 0, "early expiries": 0, "other violations": 0})
    seed = first
    while total["races"] < least:
        simulation = Simulation(seed, PLANS["endings"] if seed % 2 else TIMEOUTS)
        violation = violation_of(simulation)
        if violation is not None:
            print(f"seed {seed}: {violation}", flush=True)
            told = violation.told
            total["resurrections"] += RESURRECTION in told
            total["early expiries"] += EARLY in told
            total["other violations"] += RESURRECTION not in told and EARLY not in told
        total.update(races(simulation))
        total["seeds"] += 1
        seed += 1
    return total


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.races", description=__doc__)
    parser.add_argument("--races", type=int, default=10_000, help="at least so many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    given = parser.parse_args()
    total = run(given.races, given.first)
    for what, times in sorted(total.items()):
        print(f"{what:20} {times:8,}")
    return min(1, total["resurrections"] + total["early expiries"] + total["other violations"])


if __name__ == "__main__":
    raise SystemExit(main())
