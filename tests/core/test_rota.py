"""Whose turn it is: everybody once a round, in an order that nobody can foresee, the accused at once."""

from random import Random

from sessiond.core.rota import Rota
from sessiond.core.types import Life

LIVES = [Life(f"node{number}", 1) for number in range(1, 9)]


def rota(seed: int = 1) -> Rota:
    rota = Rota(Random(seed))
    for life in LIVES:
        rota.add(life)
    rota.check_invariants()
    return rota


def one_round(turns: Rota) -> list[Life | None]:
    return [turns.next() for _ in LIVES]


def test_everybody_has_one_turn_a_round_and_the_order_changes():
    turns = rota()
    rounds = [one_round(turns) for _ in range(5)]
    assert all(sorted(turn) == LIVES for turn in rounds)
    assert len({tuple(turn) for turn in rounds}) > 1


def test_two_nodes_do_not_go_through_the_others_in_the_same_order():
    assert one_round(rota(1)) != one_round(rota(2))


def test_the_accused_comes_first_once_and_keeps_its_turn():
    turns = rota()
    turns.put_first(LIVES[4])
    turns.put_first(LIVES[4])
    assert turns.next() == LIVES[4]
    assert sorted(one_round(turns)) == LIVES


def test_an_accused_who_was_heard_of_waits_for_its_turn():
    turns = rota()
    turns.put_first(LIVES[4])
    turns.take_back(LIVES[4])
    assert sorted(one_round(turns)) == LIVES


def test_who_joins_in_the_middle_of_a_round_makes_nobody_miss_a_turn():
    for seed in range(20):
        turns = Rota(Random(seed))
        for life in LIVES[:6]:
            turns.add(life)
        seen = [turns.next() for _ in range(3)]
        turns.add(LIVES[6])
        turns.check_invariants()
        seen += [turns.next() for _ in range(4)]
        assert set(seen) >= set(LIVES[:6])


def test_who_is_removed_has_no_turn_and_nobody_else_misses_one():
    for seed in range(20):
        turns = rota(seed)
        seen = [turns.next() for _ in range(3)]
        turns.put_first(LIVES[7])
        turns.remove(LIVES[7])
        turns.check_invariants()
        rest = [turns.next() for _ in range(7 - len(set(seen) - {LIVES[7]}))]
        assert LIVES[7] not in rest
        assert set(seen) | set(rest) >= set(LIVES[:7])


def test_with_nobody_there_it_is_nobodys_turn():
    turns = Rota(Random(1))
    assert turns.next() is None
    assert turns.sample(3) == []


def test_a_sample_names_each_member_at_most_once():
    turns = rota()
    assert len(set(turns.sample(5))) == 5
    assert sorted(turns.sample(50)) == LIVES
