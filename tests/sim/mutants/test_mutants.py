"""Each planted bug is found by the promise that it breaks. `make proof-mutants` searches all of them anew."""

import json
import re
from dataclasses import replace

import pytest

from sessiond.core.backing import Backing
from sessiond.core.machine import Machine
from tests.sim.mutants.__main__ import RECORD, control, is_found, verdict
from tests.sim.mutants.patching import planted
from tests.sim.mutants.table import MUTANTS
from tests.sim.plans import PLANS
from tests.sim.promises import Violation
from tests.sim.run import Verdict, violation_of
from tests.sim.simulation import Simulation


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
    seed = 0 if mutant.scenario else RECORDED[mutant.name]
    violation = verdict(mutant, seed)
    assert is_found(mutant, violation), f"{violation}: if the core has changed, search another seed"
    assert control(mutant, seed) is None, "the sound core keeps its promises in the same course"


def test_a_bug_is_not_found_by_an_exception_that_it_causes():
    mutant = next(mutant for mutant in MUTANTS if mutant.plan)
    aimed = replace(mutant, found_by="is said")
    assert is_found(aimed, Verdict("at 1 s: s1 is said to be gone"))
    assert not is_found(aimed, Verdict("at 1 s: KeyError: is said", is_crash=True))


@pytest.mark.parametrize(
    ("raised", "is_crash"),
    [
        (Violation("x"), False),
        (AssertionError("x"), True),
        (KeyError("x"), True),
        (AttributeError("x"), True),
    ],
)
def test_only_a_broken_promise_is_no_crash(monkeypatch, raised, is_crash):
    def run(_simulation):
        raise raised

    monkeypatch.setattr(Simulation, "run", run)
    assert violation_of(Simulation(0, PLANS["any"])).is_crash == is_crash


def test_a_broken_invariant_of_a_core_is_no_crash(monkeypatch):
    def check_invariants(_machine):
        raise AssertionError("entries are miscounted")

    monkeypatch.setattr(Machine, "check_invariants", check_invariants)
    violation = violation_of(Simulation(0, PLANS["any"]))
    assert "entries are miscounted" in violation.told
    assert not violation.is_crash
