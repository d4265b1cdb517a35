"""Copies: content with stamps, and an exact account of what the copies of a node weigh."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sessiond.core.copies import ATTRIBUTE_BYTES, COPY_BYTES, Copy, CopyStore, Role, newer
from sessiond.core.messages import CopyData
from sessiond.core.options import WRITE_IDS_KEPT
from sessiond.core.types import EPOCH_NONE, Attribute, Life, Stamp, Term

LIFE = Life("node1", 1)
TERM = Term(1, LIFE)
KEYS = [bytes([i]) * 16 for i in range(4)]
names = st.sampled_from(["a", "bb", "cart"])
values = st.none() | st.binary(max_size=30)
changes = st.dictionaries(names, values, max_size=3)


def stamp(version: int, epoch: int = 1) -> Stamp:
    return Stamp(Term(epoch, LIFE), version)


def copy(**written: bytes | None) -> Copy:
    made = Copy(KEYS[0], Role.PRIMARY, TERM, 100.0)
    if written:
        made.apply(written, stamp(1), None)
    return made


def weight(of: Copy) -> int:
    return COPY_BYTES + sum(
        ATTRIBUTE_BYTES + len(name) + len(value or b"") for name, (value, _) in of.attributes.items()
    )


class Accounting(RuleBasedStateMachine):
    """Whatever happens to copies in a store, its account of bytes and roles is exact."""

    @initialize()
    def begin(self):
        self.store = CopyStore()
        self.version = 0

    def next_stamp(self) -> Stamp:
        self.version += 1
        return stamp(self.version)

    @rule(key=st.sampled_from(KEYS), role=st.sampled_from(Role), written=changes)
    def put(self, key, role, written):
        made = Copy(key, role, TERM, 0.0)
        made.apply(written, self.next_stamp(), None)
        self.store.put(made)

    @rule(key=st.sampled_from(KEYS))
    def remove(self, key):
        there = key in self.store
        assert (self.store.remove(key) is not None) == there

    @rule(key=st.sampled_from(KEYS), role=st.sampled_from(Role))
    def change_role(self, key, role):
        if key in self.store:
            self.store.set_role(self.store[key], role)

    @rule(key=st.sampled_from(KEYS), written=changes, write_id=st.none() | st.binary(max_size=12))
    def write(self, key, written, write_id):
        if key in self.store:
            held = self.store[key]
            before = held.bytes
            held.apply(written, self.next_stamp(), write_id)
            self.store.reweigh(before, held)

    @rule(key=st.sampled_from(KEYS), news=changes)
    def absorb(self, key, news):
        if key in self.store:
            held = self.store[key]
            before = held.bytes
            held.absorb(
                {name: Attribute(v, self.next_stamp()) for name, v in news.items()}, self.next_stamp()
            )
            self.store.reweigh(before, held)

    @invariant()
    def account_is_exact(self):
        self.store.check_invariants()
        for held in self.store.values():
            assert held.bytes == weight(held)
        assert len(self.store) == len(self.store.walk().take(10_000)) == sum(self.store.counts.values())


Accounting.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
test_the_account_of_bytes_and_roles_is_exact_after_any_operations = Accounting.TestCase


def test_the_store_would_notice_a_wrong_account():
    store = CopyStore()
    held = copy(a=b"1")
    store.put(held)
    held.bytes += 1
    with pytest.raises(AssertionError):
        store.check_invariants()


def test_a_write_sets_value_stamp_and_version():
    held = copy(a=b"1", b=b"2")
    held.apply({"a": b"3"}, stamp(2), None)
    assert held.attributes == {"a": Attribute(b"3", stamp(2)), "b": Attribute(b"2", stamp(1))}
    assert held.version == 2
    assert held.last == stamp(2)


def test_a_deleted_attribute_is_not_shown_and_keeps_its_stamp():
    held = copy(a=b"1", b=b"2")
    held.apply({"a": None}, stamp(2), None)
    assert held.read("a") is None
    assert list(held.names()) == ["b"]
    assert held.attributes["a"] == Attribute(None, stamp(2))
    assert held.content_bytes() == len("a") + len("b") + 1


def test_the_newest_write_ids_are_kept_and_no_more():
    held = copy()
    for number in range(WRITE_IDS_KEPT + 3):
        held.apply({"a": b""}, stamp(number), bytes([number]))
    assert held.write_ids == tuple(bytes([n]) for n in range(3, WRITE_IDS_KEPT + 3))


def test_content_travels_whole_with_durations_in_place_of_clock_readings():
    held = copy(a=b"1")
    held.created_at, held.accessed_at, held.tombstone = 90.0, 98.5, True
    held.apply({}, stamp(2), b"id")
    data = held.data(100.0)
    assert (data.age_s, data.idle_s) == (10.0, 1.5)
    other = Copy(KEYS[0], Role.BACKUP, TERM, 5000.0)
    other.load(data, 5000.0)
    assert (other.created_at, other.accessed_at) == (4990.0, 4998.5)
    assert (other.attributes, other.version, other.last) == (held.attributes, held.version, held.last)
    assert (other.tombstone, other.write_ids, other.bytes) == (True, (b"id",), held.bytes)


def test_content_in_a_message_does_not_change_with_the_copy():
    held = copy(a=b"1")
    data = held.data(100.0)
    held.apply({"a": b"2"}, stamp(2), None)
    assert data.attributes["a"].value == b"1"


def test_a_copy_made_in_the_future_of_a_slow_clock_is_not_of_negative_age():
    held = copy()
    held.created_at = held.accessed_at = 101.0
    data = held.data(100.0)
    assert (data.age_s, data.idle_s) == (0.0, 0.0)


def test_news_are_the_attributes_written_later_deleted_ones_too():
    mine = {
        "new": Attribute(b"1", stamp(1)),
        "later": Attribute(None, stamp(3)),
        "same": Attribute(b"", stamp(2)),
    }
    theirs = {
        "later": Attribute(b"2", stamp(2)),
        "same": Attribute(b"", stamp(2)),
        "else": Attribute(b"", stamp(9)),
    }
    assert newer(mine, theirs) == {"new": mine["new"], "later": mine["later"]}
    held = copy()
    held.load(CopyData(mine, 3, stamp(3), False, 0.0, 0.0, ()), 0.0)
    assert held.news_over(theirs) == newer(mine, theirs)


@given(st.dictionaries(names, st.integers(1, 9)), st.dictionaries(names, st.integers(1, 9)))
def test_merging_two_copies_gives_the_same_attributes_from_either_side(one, other):
    # The value is made from the stamp: one stamp, one write.
    mine = {name: Attribute(b"%d" % v, stamp(v)) for name, v in one.items()}
    theirs = {name: Attribute(b"%d" % v, stamp(v)) for name, v in other.items()}
    assert {**theirs, **newer(mine, theirs)} == {**mine, **newer(theirs, mine)}


def test_merges_compare_terms_before_versions():
    old = {"a": Attribute(b"old", stamp(50, epoch=1))}
    new = {"a": Attribute(b"new", stamp(2, epoch=2))}
    assert newer(new, old) == new
    assert newer(old, new) == {}


def test_every_stamp_of_a_commit_is_above_none():
    assert Stamp(Term(1, Life("a", 1)), 0) > EPOCH_NONE
