"""Messages as bytes: what goes in comes out, and nothing else comes out than messages and CodecError."""

from datetime import UTC, datetime

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessiond.backend import WHOLE
from sessiond.core import checks
from sessiond.core import messages as m
from sessiond.core.checks import INTERNED_MAX, CodecError
from sessiond.core.codec import (
    FRAME_BYTES_MAX,
    ITEMS_MAX,
    NAME_BYTES_MAX,
    decode,
    encode,
)
from sessiond.core.types import Attribute, Life, Location, Stamp, Term
from tests.core import message_strategies as strategies

KEY = b"k" * 16
LIFE = Life("node1", 1_790_000_000_123)
TERM = Term(3, LIFE)
STAMP = Stamp(TERM, 7)
DATA = m.CopyData({"cart": Attribute(b"value", STAMP)}, 7, STAMP, False, 1.5, 0.5, (b"write",))


def packed(message: m.Message) -> list:
    """A message's frame taken apart, to be tampered with."""
    return msgpack.unpackb(encode(message), use_list=True)


def tampered(frame: list, path: tuple[int, ...], value: object) -> bytes:
    at = frame
    for index in path[:-1]:
        at = at[index]
    at[path[-1]] = value
    return msgpack.packb(frame)


def test_there_is_a_strategy_for_every_kind_of_message():
    assert set(strategies.FIELDS) == set(strategies.KINDS)


@pytest.mark.parametrize("kind", strategies.KINDS, ids=lambda kind: kind.__name__)
def test_a_message_of_every_kind_survives_the_way_over_the_wire(kind):
    @settings(max_examples=25, deadline=None)
    @given(strategies.of_kind(kind))
    def survives(message):
        arrived = decode(encode(message))
        assert arrived == message
        assert type(arrived) is kind

    survives()


def test_what_was_tuples_and_named_tuples_is_so_again():
    put = decode(encode(m.Put(KEY, TERM, 2, (LIFE,), DATA)))
    assert isinstance(put, m.Put)
    assert type(put.term) is Term
    assert type(put.term.owner) is Life
    assert type(put.backups) is tuple
    assert type(put.data.attributes["cart"].stamp) is Stamp
    assert type(put.data.age_s) is float


def test_copies_share_the_names_of_their_attributes_and_their_last_stamp():
    frame = encode(m.Put(KEY, TERM, 2, (LIFE,), DATA))
    one, other = decode(frame).data, decode(frame).data
    assert next(iter(one.attributes)) is next(iter(other.attributes))
    assert one.last is one.attributes["cart"].stamp
    assert one.attributes["cart"].stamp == STAMP


def test_a_last_stamp_that_no_attribute_has_arrives_as_it_is():
    last = Stamp(TERM, 8)  # the end of a session is a write without attributes
    assert decode(encode(m.Put(KEY, TERM, 2, (LIFE,), DATA._replace(last=last)))).data.last == last


def test_a_deleted_attribute_keeps_its_stamp_on_the_wire():
    data = DATA._replace(attributes={"cart": Attribute(None, STAMP)})
    arrived = decode(encode(m.Offer(KEY, TERM, data)))
    assert arrived.data.attributes == {"cart": Attribute(None, STAMP)}


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
@example(b"")
@example(b"\xc1")
@example(msgpack.packb(None))
@example(msgpack.packb([]))
@example(msgpack.packb([[]]))
@example(msgpack.packb([{}]))
@example(msgpack.packb([99]))
@example(msgpack.packb([-1]))
@example(msgpack.packb(["Ping"]))
def test_garbage_is_a_codec_error_and_nothing_else(frame):
    try:
        message = decode(frame)
    except CodecError:
        return
    assert decode(encode(message)) == message  # by chance it was a message


@settings(max_examples=200, deadline=None)
@given(strategies.any_message, st.data())
def test_a_truncated_frame_is_a_codec_error(message, data):
    frame = encode(message)
    cut = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(CodecError):
        decode(frame[:cut])


@settings(max_examples=100, deadline=None)
@given(strategies.any_message, st.binary(min_size=1, max_size=5))
def test_bytes_after_a_message_are_a_codec_error(message, tail):
    with pytest.raises(CodecError):
        decode(encode(message) + tail)


@settings(max_examples=400, deadline=None)
@given(strategies.any_message, st.data())
def test_a_frame_with_flipped_bytes_is_a_message_or_a_codec_error(message, data):
    frame = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrived = decode(bytes(frame))
    except CodecError:
        return
    assert decode(encode(arrived)) == arrived


WRONG = {
    "None": None,
    "a truth value": True,
    "a negative number": -1,
    "a fraction": 0.5,
    "too large a number": 2**63,
    "text": "text",
    "bytes": b"bytes",
    "an array": [],
    "an array of arrays": [[[]]],
    "a map": {},
    "a map in an array": [{}, 1],
}


@pytest.mark.parametrize("kind", strategies.KINDS, ids=lambda kind: kind.__name__)
def test_the_wrong_type_in_a_field_is_a_codec_error_or_still_a_message(kind):
    @settings(max_examples=25, deadline=None)
    @given(strategies.of_kind(kind), st.data(), st.sampled_from(sorted(WRONG)))
    def refused(message, data, wrong):
        frame = packed(message)
        path = [data.draw(st.integers(0, len(frame) - 1))]
        inner = frame[path[0]]
        while isinstance(inner, list) and inner and data.draw(st.booleans()):
            path.append(data.draw(st.integers(0, len(inner) - 1)))
            inner = inner[path[-1]]
        try:
            arrived = decode(tampered(frame, tuple(path), WRONG[wrong]))
        except CodecError:
            return
        assert decode(encode(arrived)) == arrived

    refused()


@pytest.mark.parametrize(
    ("message", "path", "wrong"),
    [
        (m.Ack(1), (1,), True),
        (m.Ack(1), (1,), -1),
        (m.Ack(1), (1,), 2**63),
        (m.Ack(1), (1,), 1.0),
        (m.Vote(LIFE, "node2", 0.5, True), (4,), 1),
        (m.Vote(LIFE, "node2", 0.5, True), (1, 0), "no.dots"),
        (m.Vote(LIFE, "node2", 0.5, True), (1, 0), ""),
        (m.Vote(LIFE, "node2", 0.5, True), (1, 0), b"node1"),
        (m.Vote(LIFE, "node2", 0.5, True), (1,), ["node1"]),
        (m.OfferOk(KEY), (1,), KEY[:15]),
        (m.OfferOk(KEY), (1,), KEY + b"k"),
        (m.OfferOk(KEY), (1,), "k" * 16),
        (m.Touch(((KEY, 1.0),)), (1, 0, 1), float("nan")),
        (m.Touch(((KEY, 1.0),)), (1, 0, 1), float("inf")),
        (m.Touch(((KEY, 1.0),)), (1, 0, 1), -0.001),
        (m.Offer(KEY, TERM, DATA), (3, 5), float("nan")),
        (m.Offer(KEY, TERM, DATA), (3, 6), -1),
        (m.Offer(KEY, TERM, DATA), (3, 6), True),
        (m.Offer(KEY, TERM, DATA), (3, 1, 0, 2), 1),  # a term that is not in the table
        (m.Offer(KEY, TERM, DATA), (3, 1, 0, 0), "n" * (NAME_BYTES_MAX + 1)),
        (m.Offer(KEY, TERM, DATA), (3, 1, 0, 1), "text"),
        (m.Offer(KEY, TERM, DATA), (3, 1), {}),
        (m.Patch(KEY, TERM, 1, None, 1, 2, {"a": b""}, None), (7,), {"n" * (NAME_BYTES_MAX + 1): b""}),
        (m.Patch(KEY, TERM, 1, None, 1, 2, {"a": b""}, None), (7,), {"a": "text"}),
        (m.Patch(KEY, TERM, 1, None, 1, 2, {"a": b""}, None), (7,), {b"a": b""}),
        (m.Patch(KEY, TERM, 1, None, 1, 2, {"a": b""}, None), (7,), [["a", b""]]),
        (m.Who(KEY, 1), (0,), 99),
    ],
)
def test_a_field_of_the_wrong_type_or_range_is_refused(message, path, wrong):
    decode(encode(message))  # right as it is
    with pytest.raises(CodecError):
        decode(tampered(packed(message), path, wrong))


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_message_with_a_field_too_few_or_too_many_is_refused(extra):
    frame = packed(m.Who(KEY, 1))
    frame = frame[:-1] if extra < 0 else [*frame, 0]
    with pytest.raises(CodecError, match="Who has 2 fields"):
        decode(msgpack.packb(frame))


@pytest.mark.parametrize(
    "extension",
    [
        msgpack.ExtType(1, b""),
        msgpack.ExtType(1, b"four"),
        msgpack.ExtType(127, b"x" * 200),
        msgpack.Timestamp(0),
        msgpack.Timestamp.from_datetime(datetime(2030, 1, 1, tzinfo=UTC)),
    ],
)
def test_extension_types_have_no_place_on_a_link(extension):
    with pytest.raises(CodecError):
        decode(msgpack.packb([22, extension]))


def test_deep_nesting_is_a_codec_error():
    for depth in (10, 500, 5_000, 100_000):
        with pytest.raises(CodecError):
            decode(b"\x92\x16" + b"\x91" * depth + b"\x01")


@pytest.mark.parametrize(
    "frame",
    [
        b"\xdd\xff\xff\xff\xff",  # an array of four thousand million
        b"\xdf\xff\xff\xff\xff",  # a map of as many
        b"\xc6\xff\xff\xff\xff",  # as many bytes
        b"\xdb\xff\xff\xff\xff",  # as much text
    ],
)
def test_a_length_that_the_frame_does_not_have_is_refused_without_making_room_for_it(frame):
    with pytest.raises(CodecError):
        decode(b"\x92\x16" + frame)


def test_arrays_and_maps_have_a_longest_length():
    entry = (KEY, 0.5)
    decode(encode(m.Touch((entry,) * ITEMS_MAX)))
    with pytest.raises(CodecError):
        decode(encode(m.Touch((entry,) * (ITEMS_MAX + 1))))
    patch = m.Patch(KEY, TERM, 1, None, 1, 2, {str(i): b"" for i in range(ITEMS_MAX + 1)}, None)
    with pytest.raises(CodecError):
        decode(encode(patch))


def test_text_that_is_not_utf_8_is_refused():
    frame = encode(m.Vote(LIFE, "node2", 0.5, True)).replace(b"node1", b"\xff\xfeabc")
    with pytest.raises(CodecError):
        decode(frame)


def test_a_message_too_long_for_a_frame_is_refused_by_the_sender():
    data = DATA._replace(attributes={"a": Attribute(b"x" * FRAME_BYTES_MAX, STAMP)})
    with pytest.raises(CodecError, match=r"a Put of 8388\d+ bytes is over the limit"):
        encode(m.Put(KEY, TERM, 1, (), data))


def test_lives_and_terms_are_shared_between_messages_within_a_bounded_table():
    one = decode(encode(m.Gap(KEY, TERM)))
    other = decode(encode(m.Gap(KEY, TERM)))
    assert one.term is other.term
    for number in range(INTERNED_MAX + 10):
        decode(encode(m.Gap(KEY, Term(1, Life("node9", number)))))
    again = decode(encode(m.Gap(KEY, TERM)))
    assert again == one
    assert again.term is not one.term  # the table was emptied meanwhile: it does not grow for ever
    assert max(len(checks.known_lives), len(checks.known_terms)) <= INTERNED_MAX


def test_a_write_of_a_small_value_costs_few_bytes_more_than_the_value():
    # Measured: 77, 7 and 57 bytes.
    patch = m.Patch(KEY, TERM, 2, None, 1234, 1235, {"visits": b"v" * 20}, None)
    assert len(encode(patch)) <= 90
    assert len(encode(m.Ack(123_456))) <= 8


BACKUP = Life("node2", 1_790_000_000_456)


def entries_of(count: int) -> tuple[tuple[bytes, Location], ...]:
    return tuple((number.to_bytes(16), Location(TERM, 3, (BACKUP,))) for number in range(count))


def test_a_location_costs_few_bytes_more_than_its_key():
    # Measured, from the owner: 24 bytes alone, 23 each of three, 17 each of a hundred.
    sizes = {count: len(encode(m.Locations(entries_of(count)), LIFE, {BACKUP: 0})) for count in (1, 3, 100)}
    assert sizes[1] <= 24
    assert sizes[3] <= 3 * 23
    assert sizes[100] <= 100 * 18


@pytest.mark.parametrize(
    ("path", "wrong", "error"),
    [
        ((1,), KEY[:15], "a session key expected"),
        ((2,), -1, "a whole number expected"),
        ((3,), None, "a whole number expected"),
        ((4,), 1, "an array expected"),
        ((4, 0), 1, "an index below 1 expected, not int 1"),
        ((4, 0), -1, "a whole number expected"),
        ((4, 0), True, "an array of 2 expected"),
        ((4, 0), ["node2"], "an array of 2 expected"),
        ((4, 0), [], "an array of 2 expected"),
        ((4, 0), {}, "does not have its shape"),
    ],
)
def test_a_location_alone_is_checked_like_any_other(path, wrong, error):
    frame = msgpack.unpackb(encode(m.Locations(entries_of(1)), LIFE, {BACKUP: 0}))
    assert decode(msgpack.packb(frame), LIFE, [BACKUP]) == m.Locations(entries_of(1))
    with pytest.raises(CodecError, match=error):
        decode(tampered(frame, path, wrong), LIFE, [BACKUP])


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_location_alone_has_all_its_fields_and_no_more(extra):
    frame = msgpack.unpackb(encode(m.Locations(entries_of(1)), LIFE))
    frame = frame[:-1] if extra < 0 else [*frame, 0]
    with pytest.raises(CodecError, match="an array of 5 expected"):
        decode(msgpack.packb(frame), LIFE)


@settings(max_examples=200, deadline=None)
@given(strategies.lives, strategies.locations, st.lists(strategies.lives, max_size=3, unique=True))
def test_a_location_arrives_whoever_says_it_and_whomever_it_has_numbered(sender, location, numbered):
    numbers = {life: number for number, life in enumerate(numbered)}
    for backups in (location.backups, (*numbered, *location.backups, sender)):
        for owner in (location.term.owner, sender):
            said = location._replace(term=Term(location.term.epoch, owner), backups=backups)
            message = m.Locations(((KEY, said),))
            assert decode(encode(message, sender, numbers), sender, numbered) == message


@pytest.mark.parametrize("kind", [m.Snapshot, m.Locations, m.Dir], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("sender", [LIFE, BACKUP, Life("node3", 1)])
def test_entries_arrive_whatever_part_the_sender_has_in_them(kind, sender):
    known = (*entries_of(3), (KEY, Location(Term(4, BACKUP), 1, (LIFE, BACKUP), True)), *entries_of(1))
    message = {
        m.Snapshot: m.Snapshot(known, True, (), (LIFE,), 0, 1),
        m.Locations: m.Locations(known),
        m.Dir: m.Dir(7, known, whole=False),
    }[kind]
    arrived = decode(encode(message, sender), sender)
    assert arrived == message
    location = arrived[1 if kind is m.Dir else 0][0][1]
    assert all(type(life) is Life for life in (location.term.owner, *location.backups))


def test_a_session_that_was_written_whole_has_no_name_for_it():
    patch = m.Patch(KEY, TERM, 1, None, 1, 2, {WHOLE: b"all of it"}, None)
    assert decode(encode(patch)) == patch


def test_who_does_not_know_the_sender_cannot_read_what_is_said_of_it():
    with pytest.raises(CodecError, match="an array of 2 expected, not NoneType"):
        decode(encode(m.Locations(entries_of(2)), LIFE))
    with pytest.raises(CodecError, match="the sender, which is not known"):
        decode(encode(m.Locations(entries_of(1)), LIFE))


@pytest.mark.parametrize(
    ("path", "value", "error"),
    [
        ((1, 3, 0), 1, "an index below 1 expected, not int 1"),
        ((1, 3, 0), -1, "a whole number expected"),
        ((1, 3, 0), False, "a whole number expected"),
        ((1, 3), [0, 0], "2 session keys expected"),
        ((1, 2), b"k" * 15, "1 session keys expected"),
        ((1, 2), "k" * 16, "bytes expected"),
        ((1, 1, 0, 1), 2, "an index below 2 expected, not int 2"),
        ((1, 1, 0, 3), [5], "an index below 2 expected, not int 5"),
        ((1, 1, 0, 3), 5, "an array expected"),
        ((1, 1, 0, 4), 0, "true or false expected"),
        ((1, 1, 0), [1, 0, 1, []], "an array of 5 expected"),
        ((1, 0), {}, "an array expected"),
        ((1,), [], "an array of 4 expected"),
        ((1,), None, "an array of 4 expected"),
    ],
)
def test_entries_that_refer_to_nothing_are_refused(path, value, error):
    for sender in (None, Life("node3", 1)):
        with pytest.raises(CodecError, match=error):
            decode(tampered(packed(m.Locations(entries_of(1))), path, value), sender)
