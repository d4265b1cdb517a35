"""A table is a dict, whatever its size, and can be gone through while it changes."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.table import ONE_PART_MAX, PARTS, Table, Walk

LARGE = 3 * ONE_PART_MAX


def keys_of(count: int) -> list[bytes]:
    rng = Random(1)
    return [rng.randbytes(16) for _ in range(count)]


def table_of(keys: list[bytes]) -> Table[int]:
    table: Table[int] = Table()
    for number, key in enumerate(keys):
        table[key] = number
    table.check_invariants()
    return table


@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=2), st.integers())))
def test_it_does_what_a_dict_does(changes):
    table: Table[int] = Table()
    like: dict[bytes, int] = {}
    for adds, key, value in changes:
        if adds:
            table[key] = like[key] = value
        else:
            assert table.pop(key) == like.pop(key, None)
        table.check_invariants()
        assert (key in table) == (key in like)
        assert table.get(key) == like.get(key)
        assert len(table) == len(like)
    assert list(table) == list(like)
    assert list(table.values()) == list(like.values())


@pytest.mark.parametrize("count", [ONE_PART_MAX, LARGE])
def test_it_has_what_was_put_in_at_any_size(count):
    keys = keys_of(count)
    table = table_of(keys)
    assert len(table) == count
    assert set(table) == set(keys)
    assert [table[key] for key in keys] == list(range(count))
    assert sorted(table.values()) == list(range(count))
    for key in keys:
        assert table.pop(key) is not None
    table.check_invariants()
    assert not table
    with pytest.raises(KeyError):
        table[keys[0]]


def test_a_small_one_keeps_the_order_in_which_keys_came():
    keys = keys_of(ONE_PART_MAX)
    assert list(table_of(keys)) == keys


def test_no_part_of_a_large_one_has_more_than_its_share():
    keys = keys_of(LARGE)
    table = table_of(keys)
    walk, sizes = Walk(table), []
    while not walk.is_over:
        sizes.append(len({key[0] for key in walk.take(LARGE // PARTS)}))
    assert max(sizes) <= 3, "neighbours in a walk lie in one part, or in the next ones"


def test_the_order_of_a_large_one_is_the_same_again():
    keys = keys_of(LARGE)
    assert list(table_of(keys)) == list(table_of(keys))


def test_an_emptied_one_is_small_again():
    table = table_of(keys_of(LARGE))
    table.clear()
    table.check_invariants()
    table[b"b"], table[b"a"] = 1, 2
    assert list(table) == [b"b", b"a"]


@pytest.mark.parametrize("count", [0, 1, ONE_PART_MAX, LARGE])
def test_a_walk_sees_every_key_once(count):
    keys = keys_of(count)
    walk = Walk(table_of(keys))
    assert walk.unseen == count
    seen: list[bytes] = []
    while not walk.is_over:
        step = walk.take(100)
        assert len(step) == 100 or walk.is_over
        seen += step
    assert walk.unseen == 0
    assert walk.take(100) == []
    assert sorted(seen) == sorted(keys)


@pytest.mark.parametrize("count", [ONE_PART_MAX - 10, LARGE])
def test_a_walk_goes_on_through_what_changes_and_grows(count):
    keys = keys_of(count + 2000)
    came, later = keys[:count], keys[count:]
    table = table_of(came)
    walk = Walk(table)
    seen = walk.take(10)
    for key in later:  # the smaller one becomes large
        table[key] = 0
    removed = set(came[500:600]) - set(seen)
    for key in removed:
        table.pop(key)
    while not walk.is_over:
        seen += walk.take(100)
    assert len(set(seen)) == len(seen)
    assert set(came) - removed <= set(seen)


def test_what_is_left_of_a_walk_is_never_nothing_before_its_end():
    table = table_of(keys_of(LARGE))
    walk = Walk(table)
    for key in keys_of(2 * LARGE):
        table[key] = 0
    while not walk.is_over:
        assert walk.unseen > 0
        walk.take(1000)
    assert walk.unseen == 0
