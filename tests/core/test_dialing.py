"""Dialing: at once, then with growing pauses up to a bound, until reached or unwanted."""

import pytest

from sessiond.core.dialing import FIRST_BACKOFF_S, LOST_ATTEMPT_S, Dialer
from sessiond.core.effects import Dial

ADDRESS = "node2:7101"
BACKOFF_MAX_S = 1.0


@pytest.fixture
def dials() -> list[str]:
    return []


@pytest.fixture
def dialer(dials: list[str]) -> Dialer:
    def emit(dial: Dial) -> None:
        dials.append(dial.address)

    return Dialer(emit, BACKOFF_MAX_S)


def test_a_wanted_address_is_dialed_at_once_and_once(dialer, dials):
    dialer.want(ADDRESS, 0.0)
    dialer.want(ADDRESS, 0.0)
    dialer.tick(0.0)
    assert dials == [ADDRESS]


def test_an_empty_address_is_nobody(dialer, dials):
    dialer.want("", 0.0)
    assert dials == []
    assert dialer.next_deadline() is None


def test_after_failures_the_pauses_grow_up_to_the_bound(dialer, dials):
    now, pauses = 0.0, []
    dialer.want(ADDRESS, now)
    for number in range(2, 10):
        dialer.failed(ADDRESS, now)
        deadline = dialer.next_deadline()
        pauses.append(round(deadline - now, 6))
        dialer.tick(deadline - 0.001)
        assert len(dials) == number - 1  # not before its time
        now = deadline
        dialer.tick(now)
        assert len(dials) == number
    assert pauses == [FIRST_BACKOFF_S, 0.1, 0.2, 0.4, 0.8, BACKOFF_MAX_S, BACKOFF_MAX_S, BACKOFF_MAX_S]


def test_a_reached_address_is_left_alone_and_starts_afresh_when_wanted_again(dialer, dials):
    dialer.want(ADDRESS, 0.0)
    for _ in range(5):
        dialer.failed(ADDRESS, 0.0)
    dialer.reached(ADDRESS)
    assert dialer.next_deadline() is None
    dialer.want(ADDRESS, 5.0)
    assert dials == [ADDRESS, ADDRESS]
    dialer.failed(ADDRESS, 5.0)
    assert dialer.next_deadline() == 5.0 + FIRST_BACKOFF_S


def test_a_forgotten_address_is_not_dialed_again_unless_it_is_one_to_keep(dialer, dials):
    dialer.want(ADDRESS, 0.0)
    dialer.failed(ADDRESS, 0.0)
    dialer.forget(ADDRESS, unless=(ADDRESS,))
    assert dialer.next_deadline() is not None
    dialer.forget(ADDRESS)
    assert dialer.next_deadline() is None
    dialer.tick(100.0)
    assert dials == [ADDRESS]


def test_an_attempt_that_nobody_reports_on_is_made_again(dialer, dials):
    dialer.want(ADDRESS, 0.0)
    assert dialer.next_deadline() == LOST_ATTEMPT_S
    dialer.tick(LOST_ATTEMPT_S)
    assert dials == [ADDRESS, ADDRESS]


def test_a_failure_of_an_address_that_nobody_wants_changes_nothing(dialer, dials):
    dialer.failed(ADDRESS, 0.0)
    dialer.reached(ADDRESS)
    assert dialer.next_deadline() is None
    assert dials == []


def test_addresses_do_not_wait_for_each_other(dialer, dials):
    dialer.want(ADDRESS, 0.0)
    for _ in range(6):
        dialer.failed(ADDRESS, 0.0)
    dialer.want("node3:7101", 0.1)
    dialer.failed("node3:7101", 0.1)
    assert dialer.next_deadline() == 0.1 + FIRST_BACKOFF_S
    dialer.tick(0.1 + FIRST_BACKOFF_S)
    assert dials == [ADDRESS, "node3:7101", "node3:7101"]


def test_dials_that_the_driver_dropped_are_made_anew_at_once_and_without_the_old_pauses(dialer, dials):
    dialer.want(ADDRESS, 0.0)
    for _ in range(6):
        dialer.failed(ADDRESS, 0.0)
    dialer.start_over(1.0)
    assert dials == [ADDRESS, ADDRESS]
    dialer.failed(ADDRESS, 1.0)
    assert dialer.next_deadline() == 1.0 + FIRST_BACKOFF_S
