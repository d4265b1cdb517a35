"""What the proofs call a fault: their reports are tried on results whose verdict is known."""

from dataclasses import replace

import pytest

from tests.e2e.client import Answer
from tests.proof import reprotection
from tests.torture.checker import Verdict
from tests.torture.history import History, Kind, Operation
from tests.torture.proof_kill_loop import WRITES_A_SECOND, KillReport
from tests.torture.proof_partition import VISITORS, PartitionReport, not_as_promised
from tests.torture.proof_pause import PauseReport
from tests.torture.proving import conclude
from tests.torture.torture import FAULT_S, TortureReport

REFUSAL = Answer(
    503, {"retry-after": "1"}, b"node5 gets no answer from a majority of the 5 members; try another"
)


# --- partition ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "faults"),
    [
        (REFUSAL, 0),
        (REFUSAL._replace(status=200), 1),
        (REFUSAL._replace(headers={}), 1),
        (REFUSAL._replace(headers={"retry-after": "soon"}), 1),
        (REFUSAL._replace(body=b"node5 takes no new sessions"), 1),
        (Answer(502, {}, b""), 3),
        (None, 1),
    ],
)
def test_a_node_in_the_minority_has_to_refuse_with_the_reason_and_a_time(answer, faults):
    assert len(not_as_promised(answer)) == faults


def majority(refusals: dict[str, Answer | None]) -> PartitionReport:
    kept = {"balancer": 9, "balancer2": 0}
    return PartitionReport(
        "majority", 8, History(), Verdict(), kept=kept, first_503_after_s=0.5, refusals=refusals
    )


def test_a_partition_proves_nothing_unless_a_node_of_the_minority_was_asked_itself():
    assert majority(dict.fromkeys(VISITORS, REFUSAL)).faults == []
    assert majority({}).faults == ["nobody asked a node of the minority itself"]
    (fault,) = majority({VISITORS[0]: REFUSAL, VISITORS[1]: None}).faults
    assert fault == "a visitor without a session in the minority: no answer"


# --- kill loop ----------------------------------------------------------------------------------------------


def writes(a_second: float, seconds: float) -> History:
    """Acknowledged ones, evenly over the time from 100 on, and one before it."""
    count = round(a_second * seconds)
    times = [1.0, *(100 + seconds * number / count for number in range(count))]
    return History([Operation("s1", "a0", Kind.WRITE, at, ended_at=at, found=0) for at in times])


def kill_loop(a_second: float, verdict: Verdict) -> list[str]:
    return KillReport(1, "any", 100.0, 10.0, writes(a_second, 10.0), verdict, [1.0]).faults


def test_a_kill_loop_without_its_load_proves_nothing():
    assert kill_loop(WRITES_A_SECOND * 0.6, Verdict()) == []
    assert kill_loop(WRITES_A_SECOND * 0.4, Verdict()) == [
        "80 writes a second were acknowledged of 200 asked for"
    ]


def test_a_kill_loop_in_which_many_answers_promised_nothing_proves_little():
    assert kill_loop(WRITES_A_SECOND, Verdict(answers=1000, unprotected=49)) == []
    assert kill_loop(WRITES_A_SECOND, Verdict(answers=1000, unprotected=60)) == [
        "6.0% of the answers were unprotected"
    ]


# --- torture ------------------------------------------------------------------------------------------------


def torture(made: dict[str, int], seconds: float, a_second: float = 100.0) -> list[str]:
    report = TortureReport(1, "any", writes(a_second, seconds), began_at=100.0, seconds=seconds)
    report.kinds = ("kill", "pause")
    report.faults_made.update(made)
    report.whole_after_s = [0.5] * sum(made.values())
    return report.faults


def test_a_torture_has_every_kind_of_fault_if_there_was_time():
    assert torture({"kill": 1, "pause": 1}, 10.0) == []
    assert torture({"kill": 1}, 5.0) == []
    assert torture({"kill": 2}, 5.0) == ["no pause in 5 s and 2 faults"]
    assert torture({"kill": 1}, 2.5 * FAULT_S) == ["no pause in 19 s and 1 faults"]


def test_a_torture_of_a_cluster_that_nobody_uses_proves_nothing():
    assert torture({"kill": 1, "pause": 1}, 10.0, a_second=30.0) == [
        "30 writes a second were acknowledged of 200 asked for"
    ]


# --- pause --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pinned", "resumed_answers", "faults"),
    [(3, 5, 0), (0, 0, 1), (3, 0, 1)],
)
def test_a_paused_node_that_nobody_asked_has_said_nothing_old(pinned, resumed_answers, faults):
    report = PauseReport(1, "any", History(), Verdict(), pinned=pinned, resumed_answers=resumed_answers)
    assert len(report.faults) == faults


# --- re-protection ------------------------------------------------------------------------------------------


RESULT = reprotection.Report(
    sessions=1000,
    moved=500,
    protected_s=2.0,
    estimates_s=[5.0, 5.0, 5.0],
    took_s=[1.0, 2.0, 5.0],
    p50_before_ms=1.0,
    p99_before_ms=1.0,
    p50_during_ms=1.0,
    p99_during_ms=1.0,
    p99_rebalancing_ms=1.0,
    joined_s=0.1,
    directory_entries=1000,
    rebalanced=350,
    rebalanced_s=3.0,
    failures=[],
)


@pytest.mark.parametrize(
    "change",
    [
        {"failures": ["503"]},
        {"directory_entries": 999},
        {"rebalanced": 100},
        {"moved": 0},
    ],
    ids=str,
)
def test_a_failure_and_a_newcomer_that_lacks_something_are_faults(change, capsys):
    assert conclude(RESULT) == 0
    assert len(replace(RESULT, **change).faults) == 1
    assert conclude(replace(RESULT, **change)) == 1
    assert capsys.readouterr().out


def test_a_survivor_that_takes_longer_than_it_has_foretold_fails_the_proof(capsys):
    assert conclude(replace(RESULT, took_s=[1.0, 5.1, 2.0])) == 1
    assert "took 5.10 s, not 5.00 s" in capsys.readouterr().out
