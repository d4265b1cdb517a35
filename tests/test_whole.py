"""A whole session as one value: what is one object stays one."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.errors import SessionTooLarge, ValueNotReadable, ValueNotStorable
from sessiond.whole import pack, unpack
from tests.support.school import School, Student

LIMIT = 1_000_000


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.tuples(inner, inner)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=12,
)


def there_and_back(attributes):
    return unpack(pack(attributes, LIMIT))


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=5), values, max_size=4))
def test_what_is_read_equals_what_was_written_in_order_and_writes_the_same_bytes(attributes):
    data = pack(attributes, LIMIT)
    read = unpack(data)
    assert read == attributes
    assert list(read) == list(attributes)
    assert pack(read, LIMIT) == data  # the types are the same, too


@settings(deadline=None)
@given(values, values)
def test_two_attributes_that_are_one_object_are_so_afterwards(value, other):
    box = [value]
    read = there_and_back({"first": box, "other": {"k": other, "in": (box,)}, "last": box})
    assert read["first"] is read["last"] is read["other"]["in"][0]
    assert read["first"] == box


def test_objects_of_registered_types_are_shared_too():
    school = School("Old")
    read = there_and_back({"student": Student("Ann", school), "school": school})
    assert read["student"].school is read["school"]


def test_a_shared_object_inside_a_shared_object_stays_both():
    inner = {"deep": [1]}
    outer = {"inner": inner}
    read = there_and_back({"a": outer, "b": [outer, inner], "c": inner["deep"]})
    assert read["a"] is read["b"][0]
    assert read["a"]["inner"] is read["b"][1]
    assert read["a"]["inner"]["deep"] is read["c"]


def test_sharing_within_one_attribute_stays():
    line = [1, 2]
    read = there_and_back({"grid": [line, line, [1, 2]]})
    assert read["grid"][0] is read["grid"][1]
    assert read["grid"][2] is not read["grid"][0]


def test_a_hashable_object_is_shared_through_keys_and_sets():
    school = School("Old")
    read = there_and_back({"by": {school: 1}, "all": {school}, "one": school})
    assert next(iter(read["by"])) is read["one"]
    assert next(iter(read["all"])) is read["one"]


def test_equal_objects_stay_two():
    read = there_and_back({"a": [1], "b": [1]})
    assert read["a"] is not read["b"]


def test_every_scalar_keeps_its_type_beside_shared_objects():
    box: list[object] = []
    there = {
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "price": Decimal("1.50"),
        "big": 2**70,
        "a": box,
        "b": box,
    }
    assert there_and_back(there) == there


def test_a_list_as_deep_as_a_single_attribute_may_be_is_read_back():
    deep: list[object] = []
    for _ in range(1022):
        deep = [deep]
    data = pack({"a": deep, "b": 1}, LIMIT)
    assert pack(unpack(data), LIMIT) == data


@pytest.mark.parametrize("through", ["itself", "another attribute"])
def test_what_contains_itself_is_refused_with_its_place(through):
    one: list[object] = []
    other = one if through == "itself" else [one]
    one.append(other)
    with pytest.raises(ValueNotStorable, match=r"'one': one\[0\].* contains itself"):
        pack({"n": 1, "one": one, "other": other}, LIMIT)


def test_a_value_without_an_encoding_is_refused_with_its_place():
    box = [object()]
    with pytest.raises(ValueNotStorable, match=r"session attribute 'a': a\[0\] holds a object"):
        pack({"a": box, "b": box}, LIMIT)


def test_an_attribute_beyond_the_limit_is_refused_by_name_and_shares_count_once():
    box = ["x" * 600]
    assert there_and_back({"small": 1, "a": box, "b": [box]})
    pack({"a": box, "b": box}, 700)
    with pytest.raises(SessionTooLarge, match=r"'a'.*attribute_bytes_max"):
        pack({"small": 1, "a": box, "b": box}, 500)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91", b"\x01", b"\x92\xc0", pack({"a": [1]}, LIMIT)[:-1]])
def test_damaged_bytes_are_an_error_of_ours(data):
    with pytest.raises(ValueNotReadable):
        unpack(data)
