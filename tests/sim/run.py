"""Running seeds: one, with its transcript if it fails, or a batch, with the counts of what occurred in it.

A seed's plan is its turn through the table of plans unless one is named, so a seed's number alone replays it.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from tests.sim.book import LINES_KEPT
from tests.sim.coverage import has_given_up, is_idle, missing, searches
from tests.sim.plans import PLANS
from tests.sim.promises import Violation
from tests.sim.simulation import Simulation

SEEDS_PER_TASK = 10

SEEDS_PER_SIGN = 500
"""After so many a batch says that it is alive."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a run.

    `is_crash`: something was raised that nobody means to raise, so no promise was seen broken. A seed fails by it all
    the same; but a planted bug is not found by it.
    """

    told: str
    is_crash: bool = False

    def __str__(self) -> str:
        return self.told


@dataclass(frozen=True)
class Outcome:
    """What a seed came to. `violation`: the promise that it broke, or None."""

    seed: int
    plan: str
    trace: str
    counts: Counter[str]
    violation: str | None = None
    transcript: tuple[str, ...] = ()

    @property
    def replay(self) -> str:
        return f"make sim SEED={self.seed} PLAN={self.plan}"

    def __str__(self) -> str:
        if self.violation is None:
            return f"seed {self.seed} ({self.plan}): kept every promise; trace {self.trace}"
        lines = "\n".join(self.transcript)
        return f"{lines}\nseed {self.seed} ({self.plan}): {self.violation}\nreplay it: {self.replay}"


def plan_of(seed: int) -> str:
    names = list(PLANS)
    return names[seed % len(names)]


def run_seed(seed: int, plan: str | None = None, lines: int = LINES_KEPT) -> Outcome:
    """Run a seed; one that fails is run again, with its transcript."""
    name = plan or plan_of(seed)
    simulation = Simulation(seed, PLANS[name])
    violation = violation_of(simulation)
    transcript: tuple[str, ...] = ()
    if violation is not None:
        again = Simulation(seed, PLANS[name], is_told=True, lines=lines)
        violation_of(again)
        transcript = tuple(again.book.lines)
    told = str(violation) if violation is not None else None
    return Outcome(seed, name, simulation.book.trace, simulation.book.counts, told, transcript)


def violation_of(simulation: Simulation) -> Verdict | None:
    """Whatever is raised in a core or by who watches it is what the seed is for."""
    try:
        simulation.run()
    except Violation as violation:
        return Verdict(f"at {simulation.timeline.now:.4f} s: {violation}")
    except (AssertionError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        told = f"at {simulation.timeline.now:.4f} s: {type(error).__name__}: {error}"
        return Verdict(told, is_crash=True)
    return None


def _run_task(task: tuple[range, str | None]) -> list[Outcome]:
    seeds, plan = task
    return [run_seed(seed, plan) for seed in seeds]


def run_batch(seeds: range, plan: str | None = None, processes: int = 1) -> Iterator[Outcome]:
    tasks = [
        (range(first, min(first + SEEDS_PER_TASK, seeds.stop)), plan)
        for first in range(seeds.start, seeds.stop, SEEDS_PER_TASK)
    ]
    if processes == 1:
        for task in tasks:
            yield from _run_task(task)
        return
    with ProcessPoolExecutor(processes) as pool:
        for outcomes in pool.map(_run_task, tasks):
            yield from outcomes


def report(outcomes: Iterable[Outcome], *, is_complete: bool) -> int:
    """Print what fails as it comes, then what occurred how often; the number of things that are not right."""
    began = time.perf_counter()
    total: Counter[str] = Counter()
    number, wrong, idle = 0, 0, 0
    for outcome in outcomes:
        number += 1
        total.update(outcome.counts)
        if outcome.violation is not None:
            wrong += 1
            print(outcome, flush=True)
        elif is_idle(outcome.counts):
            idle += 1
            operations, faults = outcome.counts["operations"], outcome.counts["faults"]
            print(f"too little: {outcome}; {operations} operations, {faults} failures", flush=True)
        if number % SEEDS_PER_SIGN == 0:
            print(f"{number} seeds, {wrong} violations so far", file=sys.stderr, flush=True)
    elapsed_s = time.perf_counter() - began
    width = max(map(len, total))
    for what, times in sorted(total.items()):
        print(f"{what:{width}} {times:12,}")
    never = missing(total) if is_complete else []
    for what in never:
        print(f"never occurred: {what}")
    undecided = f"{total['order.undecided']} of {searches(total):,} searches for an order undecided"
    gives_up = has_given_up(total)
    if gives_up:
        print(f"too many to rely on: {undecided}")
    print(
        f"{number} seeds, {total['operations']:,} operations, {total['faults']:,} failures,"
        f" {total['events']:,} events in {elapsed_s:.1f} s: {total['events'] / elapsed_s:,.0f} events/s;"
        f" {undecided}; {wrong} violations"
    )
    return wrong + idle + len(never) + gives_up


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one, and show its transcript if it fails")
    parser.add_argument("--seeds", type=int, default=100, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--plan", choices=list(PLANS), help="for all of them; else each takes its turn")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--lines", type=int, default=LINES_KEPT, help="length of a transcript")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        outcome = run_seed(given.seed, given.plan, given.lines)
        print(outcome)
        return int(outcome.violation is not None)
    seeds = range(given.first, given.first + given.seeds)
    outcomes = run_batch(seeds, given.plan, given.processes)
    return min(1, report(outcomes, is_complete=given.plan is None))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
