"""Values come back as they were, or are refused with the place named."""

import enum
import threading
from collections import OrderedDict, namedtuple
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond import values
from sessiond.errors import ValueNotReadable, ValueNotStorable
from sessiond.values import LISTS_DEEP_MAX, TUPLES_DEEP_MAX, decode, encode, register

offsets = st.integers(-86399, 86399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**62, max_value=2**300),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.datetimes(),
    st.datetimes(timezones=offsets),
    st.dates(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
hashables = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
storable = st.recursive(
    hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=4),
    ),
    max_leaves=12,
)


NAIVE = datetime.fromisoformat("2024-10-27T02:30")


def typed(value: object) -> object:
    """A value with the types of all its parts, and the order of its dicts, since 1 == True == 1.0."""
    match value:
        case dict():
            return (dict, [(typed(key), typed(item)) for key, item in value.items()])
        case list() | tuple():
            return (type(value), [typed(item) for item in value])
        case set() | frozenset():
            return (type(value), sorted(repr(typed(item)) for item in value))
        case datetime():
            return (datetime, value, value.utcoffset(), value.fold)
        case _:
            return (type(value), value)


@given(storable)
def test_every_value_comes_back_with_the_types_it_had(value):
    assert typed(decode(encode("a", value))) == typed(value)


@given(st.lists(st.integers() | st.text() | st.tuples(st.text()), max_size=40))
def test_sets_with_the_same_elements_have_the_same_bytes(elements):
    backwards = elements[::-1]
    assert encode("a", set(elements)) == encode("a", set(backwards))


@pytest.mark.parametrize(
    "number", [2**63, 2**64 - 1, 2**64, 2**64 + 1, -(2**63), -(2**63) - 1, 10**100, -(10**100)]
)
def test_integers_have_no_largest_one(number):
    assert decode(encode("a", number)) == number
    assert decode(encode("a", [number])) == [number]


@pytest.mark.parametrize("special", [float("inf"), float("-inf"), -0.0, Decimal("-0.00"), Decimal("1E+40")])
def test_special_numbers_keep_their_form(special):
    assert repr(decode(encode("a", special))) == repr(special)


def test_not_a_number_comes_back_as_one():
    assert repr(decode(encode("a", [float("nan"), Decimal("NaN")]))) == "[nan, Decimal('NaN')]"


def test_the_second_two_oclock_of_a_clock_change_stays_the_second():
    assert decode(encode("a", NAIVE.replace(fold=1))).fold == 1


def test_an_aware_datetime_keeps_its_offset():
    moment = datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    back = decode(encode("a", moment))
    assert (back, back.utcoffset()) == (moment, timedelta(hours=5, minutes=30))
    assert decode(encode("a", datetime(2024, 5, 1, tzinfo=UTC))).tzinfo is UTC


def test_dates_and_datetimes_are_told_apart():
    assert type(decode(encode("a", date(1, 2, 3)))) is date
    assert type(decode(encode("a", NAIVE))) is datetime


def test_a_changed_part_changes_the_bytes():
    value = {"items": [{"n": 1}, (1, {2, 3})]}
    before = encode("a", value)
    assert encode("a", value) == before
    value["items"][1][1].add(4)
    assert encode("a", value) != before


Point = namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1


class Word(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "place", "fault"),
    [
        (object(), "cart holds", "a object, which has no encoding"),
        ([1, 2, {"price": object()}], "cart[2].price", "no encoding"),
        ({"two words": {3: [object()]}}, "cart['two words'][3][0]", "no encoding"),
        ((1, (2, object())), "cart[1][1]", "no encoding"),
        ({"key": {(1, Colour.RED): 1}}, "cart.key, key of type tuple[1]", "a subclass of int"),
        ([OrderedDict()], "cart[0]", "collections.OrderedDict, a subclass of dict"),
        ([Colour.RED], "cart[0]", "a subclass of int"),
        (Word("x"), "cart holds", "a subclass of str"),
        (Point(1, 2), "cart holds", "a subclass of tuple"),
        ([b"ok", bytearray(b"x")], "cart[1]", "bytearray, which has no encoding"),
        ({"a": (memoryview(b"x"),)}, "cart.a[0]", "memoryview, which has no encoding"),
        (["fine", "\ud800"], "cart[1]", "lone surrogate"),
        ({frozenset({Colour.RED})}, "element", "a subclass of int"),
        ({"f": lambda: 0}, "cart.f", "function, which has no encoding"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_place(value, place, fault):
    with pytest.raises(ValueNotStorable) as refused:
        encode("cart", value)
    text = str(refused.value)
    assert text.startswith("session attribute 'cart': ")
    assert place in text
    assert fault in text
    assert "nothing was written" in text


def test_a_value_that_contains_itself_is_refused():
    loop: list[object] = [1]
    loop.append({"again": loop})
    with pytest.raises(ValueNotStorable, match=r"a\[1\].again is a list that contains itself"):
        encode("a", loop)
    tied: list[object] = []
    tied.append((tied,))
    with pytest.raises(ValueNotStorable, match=r"a\[0\]\[0\] is a list that contains itself"):
        encode("a", tied)


def test_the_same_object_twice_is_no_loop():
    part = {"n": 1}
    assert decode(encode("a", [part, part, (part,)])) == [part, part, (part,)]


def nested(depth: int, wrap) -> object:
    value: object = 7
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    ("wrap", "limit"),
    [
        (lambda value: [value], LISTS_DEEP_MAX),
        (lambda value: {"in": value}, LISTS_DEEP_MAX),
        (lambda value: (value,), TUPLES_DEEP_MAX),
    ],
)
def test_what_is_as_deep_as_allowed_can_be_read_and_deeper_is_refused(wrap, limit):
    data = encode("a", nested(limit, wrap))
    assert encode("a", decode(data)) == data
    with pytest.raises(ValueNotStorable, match="nested too deeply"):
        encode("a", nested(limit + 1, wrap))


def test_the_deepest_value_of_all_does_not_overflow_the_stack():
    def wrap(value: object) -> object:
        return (nested_lists(value),)

    def nested_lists(value: object) -> object:
        for _ in range(LISTS_DEEP_MAX - 1):
            value = [value]
        return value

    decode(encode("a", nested(TUPLES_DEEP_MAX, wrap)))


def test_a_failed_encoding_leaves_no_trace_in_the_next_one():
    good = encode("a", (1, [2, {3}]))
    with pytest.raises(ValueNotStorable):
        encode("a", (1, [2, (3, object())]))
    assert encode("a", (1, [2, {3}])) == good


def test_a_huge_value_does_not_stay_in_memory():
    packers = values._of_thread.encoder._packers
    encode("a", ["x" * (values.PACKER_BYTES_KEPT + 1)])
    kept = packers[0]
    encode("a", ["x"])
    assert packers[0] is kept
    encode("a", ["x" * (values.PACKER_BYTES_KEPT + 1)])
    assert packers[0] is not kept


def test_threads_do_not_mix_their_values():
    results: dict[int, bool] = {}

    def work(number: int) -> None:
        value = [(number, {number}, Decimal(number))] * 50
        results[number] = all(decode(encode("a", value)) == value for _ in range(50))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(4), True)


class Money:
    def __init__(self, cents: int, parts: object = None) -> None:
        self.cents = cents
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and (self.cents, self.parts) == (other.cents, other.parts)

    def __hash__(self) -> int:
        return hash(self.cents)


@pytest.fixture
def money():
    register(Money, "test.money", lambda m: [m.cents, m.parts], lambda plain: Money(*plain))
    yield Money
    del values._by_type[Money], values._by_tag["test.money"]


def test_a_registered_type_is_stored_anywhere(money):
    value = {"total": Money(5, (Money(2), Decimal(3))), "all": [Money(1)]}
    assert decode(encode("a", value)) == value


def test_a_fault_inside_a_registered_type_is_named(money):
    with pytest.raises(ValueNotStorable, match=r"a\[0\]\[1\] holds a object"):
        encode("a", [Money(1, object())])


def test_a_registered_type_is_not_readable_where_nobody_registered_it():
    register(Money, "test.money", lambda m: m.cents, Money)
    data = encode("a", Money(1))
    del values._by_type[Money], values._by_tag["test.money"]
    with pytest.raises(ValueNotReadable, match=r"no type is registered for tag 'test.money'"):
        decode(data)


def test_a_failing_conversion_is_reported_with_its_cause():
    def to_plain(_money: Money) -> object:
        raise OverflowError("too rich")

    register(Money, "test.money", to_plain, Money)
    try:
        with pytest.raises(ValueNotStorable, match="too rich") as refused:
            encode("a", [Money(1)])
    finally:
        del values._by_type[Money], values._by_tag["test.money"]
    assert isinstance(refused.value.__cause__, OverflowError)


def test_a_tag_belongs_to_one_type_and_built_in_types_need_none(money):
    register(Money, "test.money", lambda m: [m.cents, m.parts], lambda plain: Money(*plain))
    with pytest.raises(ValueError, match=r"tag 'test.money' belongs to"):
        register(Colour, "test.money", int, Colour)
    with pytest.raises(ValueError, match="list is storable as it is"):
        register(list, "test.list", list, list)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x01\x02",
        b"\x92\x01",
        b"\xdd\xff\xff\xff\xff\x01",
        b"\xdb\xff\xff\xff\xff",
        b"\x81\x90\x01",
        msgpack.packb(msgpack.ExtType(99, b"x")),
        msgpack.packb(msgpack.ExtType(6, b"not a date")),
        b"\x91" * 5000,
    ],
)
def test_bytes_that_no_encoder_made_are_refused(data):
    with pytest.raises(ValueNotReadable):
        decode(data)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_read_or_refused_and_nothing_else(data):
    with suppress(ValueNotReadable):
        decode(data)


def test_a_uuid_is_sixteen_bytes_on_the_wire():
    assert len(encode("a", UUID(int=5))) == 18
