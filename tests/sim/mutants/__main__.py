"""`python -m tests.sim.mutants`: search the seed that finds each planted bug, and print the table."""

import argparse
import json
import re
from pathlib import Path

from tests.sim.mutants.aims import AIMED
from tests.sim.mutants.patching import Mutant, planted
from tests.sim.mutants.table import MUTANTS
from tests.sim.plans import PLANS
from tests.sim.run import violation_of
from tests.sim.simulation import Simulation
from tests.sim.transcripts import difference

RECORD = Path(__file__).parent / "seeds.json"
"""Planted bug → the seed that finds it, for the tests."""

SCENARIOS = Path(__file__).parents[1] / "scenarios"


def verdict(mutant: Mutant, seed: int) -> str | None:
    """What a seed, or the scenario, says of the core with this bug; None if it keeps every promise."""
    with planted(mutant):
        return control(mutant, seed)


def control(mutant: Mutant, seed: int) -> str | None:
    """The same of the sound core."""
    if mutant.scenario:
        return difference((SCENARIOS / f"{mutant.scenario}.txt").read_text())
    plan = PLANS.get(mutant.plan) or AIMED[mutant.plan]
    return violation_of(Simulation(seed, plan))


def find(mutant: Mutant, seeds: range) -> tuple[int, str] | None:
    """The first seed whose violation is the one that this bug causes, while the sound core passes it."""
    for seed in seeds[:1] if mutant.scenario else seeds:
        violation = verdict(mutant, seed)
        if violation is None or re.search(mutant.found_by, violation) is None:
            continue
        if control(mutant, seed) is None:
            return seed, violation
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many to try for each")
    parser.add_argument("--only", help="names that contain this")
    given = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    missed = 0
    for mutant in MUTANTS:
        if given.only and given.only not in mutant.name:
            continue
        found = find(mutant, range(given.seeds))
        missed += found is None
        seed, violation = found or ("-", "NOT FOUND")
        by = mutant.scenario or f"{mutant.plan} {seed}"
        print(f"{mutant.name:45} {mutant.rule:15} {by:35} {violation}", flush=True)
        if found is not None and not mutant.scenario:
            record[mutant.name] = seed
            RECORD.write_text(json.dumps(record, indent=2) + "\n")
    return min(missed, 1)


if __name__ == "__main__":
    raise SystemExit(main())
