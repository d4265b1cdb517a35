"""Locations merge to the same directory in any order; a tombstone wins, and is forgotten in time."""

from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.directory import Directory
from sessiond.core.types import Life, Location, Term

KEY = b"k" * 16
OTHER = b"o" * 16
LIVES = [Life("node1", 1), Life("node1", 2), Life("node2", 1)]
TTL_S = 600.0


def location(epoch: int, seq: int = 1, owner: Life = LIVES[0], *, gone: bool = False) -> Location:
    return Location(Term(epoch, owner), seq, (LIVES[2],), gone)


def directory() -> Directory:
    return Directory(TTL_S)


# One (term, seq) has one list: only its owner makes it.
locations = st.builds(
    lambda epoch, seq, owner, gone: location(epoch, seq, owner, gone=gone),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(LIVES),
    st.booleans(),
)


@given(st.lists(locations, max_size=6), st.data())
def test_the_order_and_repetition_of_announcements_do_not_matter(announced, data):
    again = data.draw(st.lists(st.sampled_from(announced), max_size=4)) if announced else []
    shuffled = data.draw(st.permutations(announced + again))
    one, other = directory(), directory()
    for entry in announced:
        one.merge(KEY, entry, 0.0)
    for entry in shuffled:
        other.merge(KEY, entry, 0.0)
    assert one.get(KEY) == other.get(KEY)


@given(st.lists(locations, min_size=1, max_size=6))
def test_merging_says_whether_something_was_news(announced):
    known = directory()
    for entry in announced:
        before = known.get(KEY)
        assert known.merge(KEY, entry, 0.0) == (known.get(KEY) != before)
        assert not known.merge(KEY, entry, 0.0)


def test_the_higher_term_wins_then_the_later_list():
    known = directory()
    known.merge(KEY, location(2, 1), 0.0)
    assert not known.merge(KEY, location(1, 9), 0.0)
    assert known.merge(KEY, location(2, 2), 0.0)
    assert known.merge(KEY, location(2, 1, LIVES[1]), 0.0)  # one epoch, the higher life
    assert known.get(KEY) == location(2, 1, LIVES[1])


def test_a_committed_tombstone_beats_every_term():
    known = directory()
    known.merge(KEY, location(1, gone=True), 0.0)
    assert not known.merge(KEY, location(99, 99), 0.0)
    assert known.is_gone(KEY)


def test_a_tombstone_is_forgotten_after_its_time_and_not_before():
    known = directory()
    known.merge(OTHER, location(1), 0.0)
    assert known.next_deadline() is None
    known.merge(KEY, location(1, gone=True), 10.0)
    assert known.next_deadline() == 10.0 + TTL_S
    known.tick(9.9 + TTL_S)
    assert known.is_gone(KEY)
    known.tick(10.0 + TTL_S)
    assert known.get(KEY) is None
    assert known.next_deadline() is None
    assert known.get(OTHER) == location(1)


def test_a_location_is_not_gone_and_an_unknown_key_neither():
    known = directory()
    known.merge(KEY, location(1), 0.0)
    assert not known.is_gone(KEY)
    assert not known.is_gone(OTHER)


def test_forgetting_makes_room_for_any_location():
    known = directory()
    known.merge(KEY, location(5), 0.0)
    known.forget(KEY)
    known.forget(OTHER)
    assert len(known) == 0
    assert known.merge(KEY, location(1), 0.0)


def test_items_may_be_read_while_entries_come_and_go():
    known = directory()
    known.merge(KEY, location(1), 0.0)
    for _ in known.items():
        known.merge(OTHER, location(1), 0.0)
    assert len(known) == 2
