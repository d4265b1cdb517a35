"""What the proofs call a fault: their reports are tried on results whose verdict is known."""

import pytest

from tests.e2e.client import Answer
from tests.torture.checker import Verdict
from tests.torture.history import History
from tests.torture.proof_partition import VISITORS, PartitionReport, not_as_promised

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
