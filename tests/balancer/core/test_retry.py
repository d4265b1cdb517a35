"""What is repeated, where, and how often."""

import pytest

from balancer.core.retry import ATTEMPTS_MAX, Budget, Failure, Phase, Remedy, may_leave_unavailable, remedy

UNSENT, SENT, ANSWERING = Phase.UNSENT, Phase.SENT, Phase.ANSWERING


@pytest.mark.parametrize(
    ("phase", "method", "replayable", "on_reused", "attempts", "expected"),
    [
        (UNSENT, b"GET", True, False, 1, Remedy.OTHER_NODE),
        (UNSENT, b"POST", True, False, 1, Remedy.OTHER_NODE),
        (UNSENT, b"POST", False, False, 2, Remedy.NONE),
        (UNSENT, b"PATCH", True, False, ATTEMPTS_MAX, Remedy.NONE),
        (SENT, b"GET", True, False, 1, Remedy.OTHER_NODE),
        (SENT, b"GET", True, True, 1, Remedy.SAME_NODE),
        (SENT, b"GET", False, True, 1, Remedy.NONE),
        (SENT, b"HEAD", True, False, 1, Remedy.OTHER_NODE),
        (SENT, b"OPTIONS", True, False, 1, Remedy.OTHER_NODE),
        (SENT, b"TRACE", True, False, 1, Remedy.OTHER_NODE),
        (SENT, b"PUT", True, False, 1, Remedy.OTHER_NODE),
        (SENT, b"DELETE", True, True, 1, Remedy.SAME_NODE),
        (SENT, b"POST", True, False, 1, Remedy.NONE),
        (SENT, b"POST", True, True, 1, Remedy.NONE),
        (SENT, b"PATCH", True, True, 1, Remedy.NONE),
        (SENT, b"GET", True, False, ATTEMPTS_MAX, Remedy.NONE),
        (ANSWERING, b"GET", True, False, 1, Remedy.NONE),
        (ANSWERING, b"GET", True, True, 1, Remedy.NONE),
    ],
)
def test_the_rules(
    *, phase: Phase, method: bytes, replayable: bool, on_reused: bool, attempts: int, expected: Remedy
) -> None:
    assert remedy(Failure(phase, method, replayable, on_reused, attempts)) is expected


@pytest.mark.parametrize(
    ("method", "replayable", "attempts", "expected"),
    [
        (b"GET", True, 1, True),
        (b"PUT", True, ATTEMPTS_MAX - 1, True),
        (b"GET", True, ATTEMPTS_MAX, False),
        (b"GET", False, 1, False),
        (b"POST", True, 1, False),
    ],
)
def test_a_503_is_left_only_where_repeating_is_harmless(
    method: bytes, replayable: bool, attempts: int, expected: bool
) -> None:
    assert may_leave_unavailable(method, replayable, attempts) is expected


def test_the_budget_allows_a_burst_and_then_a_share_of_the_requests() -> None:
    budget = Budget(0.25, 10)
    assert [budget.withdraw() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(4):
        assert not budget.withdraw()
        budget.deposit()
    assert budget.withdraw()
    assert not budget.withdraw()


def test_the_budget_saves_no_more_than_its_reserve() -> None:
    budget = Budget(1.0, 2)
    for _ in range(100):
        budget.deposit()
    assert [budget.withdraw() for _ in range(3)] == [True, True, False]


def test_a_smaller_reserve_keeps_what_fits_and_what_was_refused_stays_counted() -> None:
    budget = Budget(0.0, 3)
    assert [budget.withdraw() for _ in range(4)] == [True] * 3 + [False]
    budget.configure(0.5, 1)
    assert (budget.balance, budget.refusals) == (0.0, 1)
    for _ in range(4):
        budget.deposit()
    assert budget.balance == 1.0


def test_a_larger_reserve_has_the_difference_at_once_and_what_was_spent_stays_spent() -> None:
    budget = Budget(0.0, 3)
    budget.withdraw()
    budget.configure(0.0, 5)
    assert budget.balance == 4.0
    budget.configure(0.0, 5)
    assert budget.balance == 4.0
    budget.configure(0.0, 2)
    assert budget.balance == 2.0
