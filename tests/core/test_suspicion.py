"""How long the accused has: long with one accuser, short once several say the same independently."""

import itertools

import pytest

from sessiond.core.suspicion import CONFIRMATIONS_WANTED, PERIODS_MIN, UNCONFIRMED_FACTOR, Suspicion
from sessiond.core.types import Life

INTERVAL_S = 0.25
ALL = 1000
"""Everybody else could confirm."""

LIVES = [Life(f"node{number}", 1) for number in range(1, 12)]


def suspicion(others: int, accusers: int = 1) -> Suspicion:
    suspicion = Suspicion(0, 100.0, others=others, interval_s=INTERVAL_S)
    for accuser in LIVES[:accusers]:
        suspicion.confirm((accuser,))
    return suspicion


def test_each_independent_accuser_shortens_it_by_less_than_the_one_before():
    patience = [suspicion(9, accusers).patience_s(1, ALL) for accusers in range(1, CONFIRMATIONS_WANTED + 2)]
    steps = [before - after for before, after in itertools.pairwise(patience)]
    assert patience[0] == pytest.approx(patience[-1] * UNCONFIRMED_FACTOR)
    assert patience[-1] == pytest.approx(PERIODS_MIN * INTERVAL_S)
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] > 0


def test_the_same_accuser_counts_once():
    one = suspicion(9)
    assert not one.confirm((LIVES[0],))
    assert one.patience_s(1, ALL) == suspicion(9).patience_s(1, ALL)


def test_no_more_accusers_are_kept_than_are_wanted():
    crowded = suspicion(9, accusers=11)
    assert crowded.accusers == tuple(LIVES[: CONFIRMATIONS_WANTED + 1])
    assert not crowded.confirm((LIVES[10],))


def test_several_accusers_of_one_rumour_count_each():
    told = Suspicion(0, 100.0, others=9, interval_s=INTERVAL_S)
    assert told.confirm((LIVES[0], LIVES[1]))
    assert told.confirm((LIVES[1], LIVES[2]))
    assert told.accusers == tuple(LIVES[:3])


@pytest.mark.parametrize(("others", "accusers"), [(1, 1), (2, 2), (3, 3)])
def test_a_small_cluster_waits_for_no_more_accusers_than_it_has(others, accusers):
    assert suspicion(others, accusers).patience_s(1, ALL) == pytest.approx(PERIODS_MIN * INTERVAL_S)


def test_in_a_bigger_cluster_rumours_and_refutations_get_more_time():
    assert suspicion(999, 4).patience_s(1, ALL) == pytest.approx(3 * suspicion(9, 4).patience_s(1, ALL))


def test_doubt_lengthens_it_up_to_what_a_lone_accuser_waits_and_no_further():
    doubted, alone = suspicion(9, accusers=3), suspicion(9)
    assert doubted.patience_s(2, ALL) == pytest.approx(2 * doubted.patience_s(1, ALL))
    assert doubted.patience_s(9, ALL) == alone.patience_s(9, ALL) == alone.patience_s(1, ALL)


@pytest.mark.parametrize(("accusers", "witnesses"), [(1, 0), (2, 1), (3, 2), (4, 6)])
def test_when_all_who_could_have_confirmed_doubt_makes_no_difference(accusers, witnesses):
    agreed = suspicion(9, accusers)
    assert agreed.patience_s(1, witnesses) == agreed.patience_s(9, witnesses) == PERIODS_MIN * INTERVAL_S


def test_who_could_still_confirm_is_waited_for():
    assert suspicion(9, accusers=2).patience_s(1, 2) > suspicion(9, accusers=2).patience_s(1, 1)
