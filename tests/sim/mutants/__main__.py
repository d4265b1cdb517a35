"""`python -m tests.sim.mutants`: search the seed that finds each planted bug, and print the table (markdown)."""

import argparse
import json
import re
import textwrap
from pathlib import Path

from tests.sim.mutants.aims import AIMED
from tests.sim.mutants.patching import Mutant, planted
from tests.sim.mutants.table import MUTANTS
from tests.sim.plans import PLANS
from tests.sim.run import Verdict, violation_of
from tests.sim.simulation import Simulation
from tests.sim.transcripts import difference

RECORD = Path(__file__).parent / "seeds.json"
"""Planted bug → the seed that finds it, for the tests."""

TOLD_MAX = 110
"""Characters of a violation that the table shows."""

SCENARIOS = Path(__file__).parents[1] / "scenarios"


def verdict(mutant: Mutant, seed: int) -> Verdict | None:
    """What a seed, or the scenario, says of the core with this bug; None if it keeps every promise."""
    with planted(mutant):
        return control(mutant, seed)


def control(mutant: Mutant, seed: int) -> Verdict | None:
    """The same of the sound core."""
    if mutant.scenario:
        told = difference((SCENARIOS / f"{mutant.scenario}.txt").read_text())
        return Verdict(told) if told is not None else None
    plan = PLANS.get(mutant.plan) or AIMED[mutant.plan]
    return violation_of(Simulation(seed, plan))


def is_found(mutant: Mutant, violation: Verdict | None) -> bool:
    """Whether this is the promise that the bug breaks; that it makes the core crash would be no proof of the check."""
    if violation is None or violation.is_crash:
        return False
    return re.search(mutant.found_by, violation.told) is not None


def find(mutant: Mutant, seeds: range) -> tuple[int, Verdict] | None:
    """The first seed whose violation is the one that this bug causes, while the sound core passes it."""
    for seed in seeds[:1] if mutant.scenario else seeds:
        violation = verdict(mutant, seed)
        if violation is not None and is_found(mutant, violation) and control(mutant, seed) is None:
            return seed, violation
    return None


def row(mutant: Mutant, found: tuple[int, Verdict] | None) -> str:
    """A line of the table: rule, bug, second defences switched off with it, who finds it, and by what."""
    beside = ", ".join(f"`{edit.method.__qualname__}`" for edit in mutant.beside)
    if found is None:
        return f"| {mutant.rule} | {mutant.name} | {beside} | NOT FOUND | |"
    seed, violation = found
    by = mutant.scenario.replace("_", " ") if mutant.scenario else f"`{mutant.plan}`, {seed}"
    told = re.sub(r"Life\(name='(\w+)', incarnation=\d+\)|`", r"\1", violation.told)
    told = textwrap.shorten(told, TOLD_MAX, placeholder=" …")
    return f"| {mutant.rule} | {mutant.name} | {beside} | {by} | {told} |"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many to try for each")
    parser.add_argument("--recorded", action="store_true", help="only the seeds that are known to find them")
    parser.add_argument("--only", help="names that contain this")
    given = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    missed = 0
    print("| rule | planted bug | switched off with it | scenario, or plan and seed | what it shows |")
    print("|---|---|---|---|---|")
    for mutant in sorted(MUTANTS, key=lambda mutant: mutant.rule):
        if given.only and given.only not in mutant.name:
            continue
        first = record.get(mutant.name, 0)
        found = find(mutant, range(first, first + 1) if given.recorded else range(given.seeds))
        missed += found is None
        print(row(mutant, found), flush=True)
        if found is not None and not mutant.scenario:
            record[mutant.name] = found[0]
            RECORD.write_text(json.dumps(record, indent=2) + "\n")
    return min(missed, 1)


if __name__ == "__main__":
    raise SystemExit(main())
