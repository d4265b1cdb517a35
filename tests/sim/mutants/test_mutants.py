"""Each planted bug is found by the promise that it breaks. `make proof-mutants` searches all of them anew."""

import json
import re

import pytest

from sessiond.core.backing import Backing
from tests.sim.mutants.__main__ import RECORD, verdict
from tests.sim.mutants.patching import planted
from tests.sim.mutants.table import MUTANTS

SEEDS_BESIDE = range(20)
"""Tried when the recorded seed tells another story by now, because the core has changed."""


def test_a_planted_bug_is_gone_when_the_test_is_over():
    right = Backing.on_patch
    mutant = next(mutant for mutant in MUTANTS if mutant.method is right)
    with planted(mutant):
        assert Backing.on_patch is not right
    assert Backing.on_patch is right


RECORDED = json.loads(RECORD.read_text())


@pytest.mark.parametrize(
    "mutant", [mutant for mutant in MUTANTS if mutant.name in RECORDED], ids=lambda mutant: mutant.name
)
def test_the_simulator_finds(mutant):
    verdicts = []
    for seed in (RECORDED[mutant.name], *SEEDS_BESIDE):
        violation = verdict(mutant, seed)
        if violation is not None and re.search(mutant.found_by, violation):
            return
        verdicts.append(violation)
    pytest.fail(f"not found: {verdicts}")
