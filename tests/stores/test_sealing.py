"""Records as bytes: order, round trip, and every kind of damage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.errors import DamagedRecord, NewerRecord
from sessiond.stores.interface import Record
from sessiond.stores.sealing import FORMAT, HEAD_BYTES_MAX, Head, fence, seal, unseal
from tests.stores.places import key, record

OWNERS = st.text("abzABZ019_-é€", min_size=1, max_size=20)
NUMBERS = st.one_of(st.integers(0, 3), st.integers(0, 2**63 - 1))
RECORDS = st.builds(
    Record,
    key=st.binary(min_size=16, max_size=16),
    epoch=NUMBERS,
    owner=OWNERS,
    incarnation=NUMBERS,
    version=NUMBERS,
    expires_at=st.floats(0, 1e12),
    data=st.none() | st.binary(max_size=100),
)


@given(RECORDS)
def test_what_was_sealed_is_unsealed(one):
    assert unseal(one.key, seal(one)) == one


@given(RECORDS, RECORDS)
def test_fences_compare_as_stamps_do_and_none_begins_another(one, other):
    assert (fence(one) < fence(other)) == (one.stamp < other.stamp)
    assert fence(other)[: len(fence(one))] != fence(one) or one.stamp == other.stamp


@given(RECORDS, st.data())
def test_any_change_of_a_byte_and_any_cut_is_noticed(one, data):
    value = seal(one)
    place = data.draw(st.integers(0, len(value) - 1))
    changed = bytearray(value)
    changed[place] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(changed), value[:place]):
        with pytest.raises(DamagedRecord):
            unseal(one.key, bad)


def test_a_record_under_another_key_is_noticed():
    with pytest.raises(DamagedRecord, match="checksum"):
        unseal(key(2), seal(record(1)))


@given(RECORDS)
def test_the_head_is_read_without_the_body_and_of_any_format(one):
    value = seal(one)
    head = Head.of(value[:HEAD_BYTES_MAX])
    assert (head.fence, head.expires_at) == (fence(one), one.expires_at)
    newer = value[: head.size] + bytes([FORMAT + 1]) + b"something else"
    head = Head.of(newer)
    assert (head.fence, head.expires_at) == (fence(one), one.expires_at)
    with pytest.raises(NewerRecord, match=f"format is {FORMAT + 1}, .* a newer one has written it"):
        unseal(one.key, newer)
