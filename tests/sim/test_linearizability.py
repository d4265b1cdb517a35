"""The checker itself: histories that have an order, and histories that have none."""

from tests.sim.linearizability import Call, is_linearizable
from tests.sim.requests import Deed

FOREVER = float("inf")


def write(begin: float, end: float, number: int, name: str = "a") -> Call:
    return Call(begin, end, Deed.WRITE, name, number)


def read(begin: float, end: float, **values: int) -> Call:
    return Call(begin, end, Deed.READ, shown=tuple(sorted(values.items())))


def count(begin: float, end: float, **values: int) -> Call:
    return Call(begin, end, Deed.COUNT, shown=tuple(sorted(values.items())))


def test_answers_in_turn_have_an_order():
    assert is_linearizable([write(0, 1, 1), read(2, 3, a=1), write(4, 5, 2), read(6, 7, a=2)])


def test_a_stale_read_has_no_place():
    assert not is_linearizable([write(0, 1, 1), write(2, 3, 2), read(4, 5, a=1)])


def test_a_read_beside_a_write_may_show_either_value():
    for value in (1, 2):
        assert is_linearizable([write(0, 1, 1), write(2, 5, 2), read(3, 4, a=value)])


def test_a_value_once_shown_is_not_taken_back():
    history = [write(0, 1, 1), write(2, 9, 2), read(3, 4, a=2), read(5, 6, a=1)]
    assert not is_linearizable(history)


def test_a_write_whose_end_nobody_knows_may_take_effect_late_or_never():
    lost = write(2, FOREVER, 2)
    assert is_linearizable([write(0, 1, 1), lost, read(3, 4, a=1), read(5, 6, a=2)])
    assert is_linearizable([write(0, 1, 1), lost, read(3, 4, a=1), read(5, 6, a=1)])
    assert not is_linearizable([write(0, 1, 1), lost, read(3, 4, a=2), read(5, 6, a=1)])


def test_two_increments_do_not_build_on_one_value():
    assert is_linearizable([count(0, 1), count(2, 3, n=1)])
    assert not is_linearizable([count(0, 5), count(1, 4)])


def test_attributes_are_shown_as_of_one_moment():
    writes = [write(0, 1, 1, "a"), write(2, 3, 1, "b")]
    assert is_linearizable([*writes, read(0.5, 4, a=1)])
    assert not is_linearizable([*writes, read(0.5, 4, b=1)])


def test_what_has_ended_does_not_come_back():
    end = Call(2, 3, Deed.END)
    gone = Call(4, 5, Deed.READ, found_gone=True)
    assert is_linearizable([write(0, 1, 1), end, gone])
    assert not is_linearizable([write(0, 1, 1), end, read(6, 7, a=1)])
    assert not is_linearizable([write(0, 1, 1), gone])
