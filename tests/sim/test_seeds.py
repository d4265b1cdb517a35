"""A few seeds of every plan, as they run in hundreds and thousands by `make sim` and `make proof-sim`."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sessiond.core.types import Location, Term
from tests.sim.coverage import FAULTS_MIN, OPERATIONS_MIN, expected, is_idle, missing
from tests.sim.plans import PLANS
from tests.sim.promises import Violation
from tests.sim.requests import Answer, Status
from tests.sim.run import Outcome, plan_of, report, run_seed
from tests.sim.simulation import Simulation

ROOT = Path(__file__).parents[2]
SEEDS_PER_PLAN = 2
BUSY = Counter(operations=OPERATIONS_MIN, faults=FAULTS_MIN)


@pytest.mark.parametrize("plan", PLANS)
def test_every_promise_is_kept_under(plan):
    for number in range(SEEDS_PER_PLAN):
        outcome = run_seed(1000 + number, plan)
        assert outcome.violation is None, str(outcome)
        assert not is_idle(outcome.counts)


@pytest.mark.parametrize("plan", ["majority", "query", "partitions", "store"])
def test_a_seed_is_the_same_story_under_every_hash_seed(plan):
    def trace(hash_seed: str) -> str:
        command = [sys.executable, "-m", "tests.sim", "--seed", "7", "--plan", plan]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        run = subprocess.run(
            command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    assert trace("1") == trace("2")


def test_a_transcript_does_not_change_what_it_tells():
    quiet, told = Simulation(3, PLANS["any"]), Simulation(3, PLANS["any"], is_told=True)
    quiet.run()
    told.run()
    assert quiet.book.trace == told.book.trace
    assert told.book.lines


def test_a_seed_without_a_plan_has_one_of_its_own():
    assert {plan_of(seed) for seed in range(len(PLANS))} == set(PLANS)


def test_a_failing_seed_tells_its_story_and_how_to_replay_it(monkeypatch):
    # The rule that is broken: an answer waits for the backups.
    wrong = replace(PLANS["storm"], options=replace(PLANS["storm"].options, ack="async"))
    monkeypatch.setitem(PLANS, "storm", wrong)
    outcome = next(o for o in (run_seed(seed, "storm") for seed in range(50)) if o.violation is not None)
    assert "acked" in str(outcome)
    assert f"make sim SEED={outcome.seed} PLAN=storm" in str(outcome)
    assert "crash" in str(outcome)


def test_what_never_occurred_fails_a_batch(capsys):
    counts = Counter({what: 1 for what in expected() if what != "Grant"}) + BUSY
    outcome = Outcome(0, "any", "", counts)
    assert missing(outcome.counts) == ["Grant"]
    assert report([outcome], is_complete=True) == 1
    assert "never occurred: Grant" in capsys.readouterr().out


@pytest.mark.parametrize(("operations", "faults"), [(OPERATIONS_MIN - 1, 99), (9999, FAULTS_MIN - 1)])
def test_a_seed_in_which_little_happened_fails_a_batch(capsys, operations, faults):
    outcome = Outcome(17, "any", "", Counter(operations=operations, faults=faults))
    assert report([outcome], is_complete=False) == 1
    assert f"seed 17 (any): kept every promise; trace ; {operations} operations" in capsys.readouterr().out


def test_what_fails_nothing_does_not_count_as_a_failure():
    nobody_may_go = replace(PLANS["calm"], faults=("drain",), down_max=0, lasts_s=5.0)
    simulation = Simulation(0, nobody_may_go)
    with pytest.raises(Violation, match="does not come to its end"):
        simulation.run()
    assert simulation.faults.number == simulation.book.counts["fault.drain"] == 0


def test_a_search_for_an_order_that_is_given_up_too_often_fails_a_batch(capsys):
    def batch(found: int, undecided: int) -> int:
        counts = Counter({"order.found": found, "order.undecided": undecided}) + BUSY
        return report([Outcome(0, "majority", "", counts)], is_complete=False)

    assert batch(95, 5) == 0
    assert "5 of 100 searches for an order undecided" in capsys.readouterr().out
    assert batch(94, 6) == 1
    assert "too many" in capsys.readouterr().out


def test_a_plan_that_promises_nothing_strict_still_notices_half_a_write():
    simulation = Simulation(1, PLANS["partitions"])
    simulation.run()
    session = next(iter(simulation.sessions.values()))
    with pytest.raises(Violation, match="half a write"):
        session.shown({"c": 2, "c+": 1}, session.floor())


@pytest.mark.parametrize(
    ("values", "status", "why"),
    [({"c": 2, "c+": 1}, Status.OK, "half a write"), ({}, Status.GONE, "in a healthy cluster")],
)
def test_after_healing_half_a_write_and_a_session_that_is_missed_somewhere_are_noticed_under_every_plan(
    values, status, why
):
    simulation = Simulation(1, PLANS["partitions"])
    simulation.run()
    now = simulation.timeline.now
    session = next(each for each in simulation.sessions.values() if not each.may_be_over(now))
    answer = Answer(status, "n1", now, values)
    with pytest.raises(Violation, match=why):
        simulation.check_final(session, answer, session.floor())


def test_after_healing_a_session_may_be_gone_that_somebody_asked_to_end():
    simulation = Simulation(1, PLANS["partitions"])
    simulation.run()
    now = simulation.timeline.now
    session = next(each for each in simulation.sessions.values() if not each.may_be_over(now))
    session.end_asked = True
    simulation.check_final(session, Answer(Status.GONE, "n1", now), session.floor())
    with pytest.raises(Violation, match="served though"):
        simulation.check_final(session, Answer(Status.OK, "n2", now), session.floor())


def test_a_directory_that_knows_of_a_session_that_nobody_holds_is_noticed():
    simulation = Simulation(1, PLANS["any"])
    simulation.run()
    assert simulation.settlement.left_over() is None
    process = simulation.network.hosts["n1"]
    process.machine.directory.merge(bytes(16), Location(Term(1, process.machine.life), 1, ()), 0.0)
    assert "nobody holds it" in simulation.settlement.left_over()


def test_a_tombstone_that_outlives_its_time_is_noticed():
    plan = PLANS["endings"]
    simulation = Simulation(1, replace(plan, options=replace(plan.options, tombstone_ttl_s=20.0)))
    simulation.run()
    assert simulation.settlement.left_over() is None
    for process in simulation.network.hosts.values():
        process.pause()
    simulation.timeline.run_until(simulation.timeline.now + 30.0)
    assert "tombstone" in simulation.settlement.left_over()
