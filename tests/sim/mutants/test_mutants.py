"""Each planted bug is found by the promise that it breaks. `make proof-mutants` searches all of them anew."""

import json
import re

import pytest

from sessiond.core.backing import Backing
from tests.sim.mutants.__main__ import RECORD, control, verdict
from tests.sim.mutants.patching import planted
from tests.sim.mutants.table import MUTANTS
from tests.sim.plans import PLANS
from tests.sim.run import violation_of
from tests.sim.simulation import Simulation

SEEDS_BESIDE = range(60)
"""Tried when the recorded seed tells another story by now, because the core has changed."""


def test_a_planted_bug_is_gone_when_the_test_is_over():
    right = Backing.on_patch
    mutant = next(mutant for mutant in MUTANTS if mutant.method is right)
    with planted(mutant):
        assert Backing.on_patch is not right
    assert Backing.on_patch is right


@pytest.mark.parametrize("plan", ["any", "store"])  # the first backup, and one that comes later
def test_seeds_see_an_answer_that_does_not_wait_for_who_is_new_to_the_list(plan):
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "a newcomer to the list does not count yet")
    with planted(mutant):
        violation = violation_of(Simulation(1, PLANS[plan]))
    assert re.search("answered before .*(any backup|new to the list)", str(violation))


RECORDED = json.loads(RECORD.read_text())


def test_who_finds_each_planted_bug_is_known():
    assert {mutant.name for mutant in MUTANTS if not mutant.scenario} == set(RECORDED)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_is_found(mutant):
    verdicts = []
    seeds = (0,) if mutant.scenario else (RECORDED[mutant.name], *SEEDS_BESIDE)
    for seed in seeds:
        violation = verdict(mutant, seed)
        if violation is not None and re.search(mutant.found_by, violation):
            assert control(mutant, seed) is None, "the sound core keeps its promises in the same course"
            return
        verdicts.append(violation)
    pytest.fail(f"not found: {verdicts}")
