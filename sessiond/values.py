"""How attribute values become bytes and values again: MessagePack, with our own types as extensions.

Invariant: `decode(encode(name, value))` equals `value` in value *and type*, nested anywhere, or `encode`
raises `ValueNotStorable`; nothing changes its type on the way. Equal values that were built the same way give
equal bytes (a set is ordered by its elements' bytes, a dict keeps its order), so that an in-place change shows
as a change of bytes. Plain values of JSON cost one call into C.

Types: None, bool, int of any size, float, str, bytes, list, dict with any hashable key of these types, tuple,
set, frozenset, datetime (an aware one keeps its offset, not the name of its zone), date, Decimal, UUID, and
what `register` adds. A subclass of one of them is refused: it would come back as its base.

What several attributes of a session share is written once by `whole`, which puts `Shared` in its other places.

No pickle: what is read here can only build the types above. Sizes are limited by the caller.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import msgpack
from msgpack import ExtType

from sessiond.errors import ValueNotReadable, ValueNotStorable

__all__ = [
    "LISTS_DEEP_MAX",
    "SCALARS",
    "TUPLES_DEEP_MAX",
    "Plain",
    "Shared",
    "decode",
    "encode",
    "plain_of",
    "reader",
    "register",
    "resolving",
]

T = TypeVar("T")

LISTS_DEEP_MAX = 1023
"""Lists and dicts nested directly in each other: what msgpack's C code reads back."""

TUPLES_DEEP_MAX = 16
"""Tuples, sets and registered types nested in each other: every level is an encoding of its own."""

PACKER_BYTES_KEPT = 1 << 20
"""A packer whose buffer grew beyond this is thrown away, so that one huge value does not stay in memory."""

SCALARS = frozenset({type(None), bool, int, float, str, bytes, datetime, date, Decimal, UUID})
"""Types whose values cannot change in place: no need to encode them again to see whether they did."""

# Extension codes are part of the stored format: add, never reuse.
_INT, _TUPLE, _SET, _FROZENSET, _DATETIME, _DATE, _DECIMAL, _UUID, _REGISTERED = range(1, 10)
_SHARED = 10
_CONTAINERS = (list, dict, tuple, set, frozenset)
_NATIVE = frozenset({type(None), bool, int, float, str, bytes, list, dict})
_ATOMS = frozenset(
    {type(None), bool, int, float, str, bytes}
)  # that hold nothing else, and pack in one C call
_FOLD = "F"  # marks the second occurrence of an hour that the clocks repeat


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """Stands for an object that is written elsewhere, by its number among those of its session."""

    index: int


@dataclass(frozen=True, slots=True, eq=False)
class Plain:
    """Stands for a value of a registered type: what its registration turns it into."""

    tag: str
    value: Any


class _Registration(NamedTuple):
    type: type
    tag: str
    to_plain: Callable[[Any], Any]
    from_plain: Callable[[Any], Any]


_by_type: dict[type, _Registration] = {}
_by_tag: dict[str, _Registration] = {}


def register(cls: type[T], tag: str, to_plain: Callable[[T], object], from_plain: Callable[[Any], T]) -> None:
    """Make values of exactly `cls` storable, under a `tag` that is the same on every node and in every version.

    `to_plain` gives a value of storable types (other registered ones included) that `from_plain` turns back.
    Every node that may serve the session has to register the type. Raises ValueError if the type is storable
    already or the tag belongs to another type.
    """
    if cls in SCALARS or cls in _CONTAINERS:
        raise ValueError(f"{cls.__name__} is storable as it is")
    known = _by_tag.get(tag)
    if known is not None and _name_of(known.type) != _name_of(cls):
        raise ValueError(
            f"tag {tag!r} belongs to {_name_of(known.type)}; choose another one for {_name_of(cls)}"
        )
    registration = _Registration(cls, tag, to_plain, from_plain)
    _by_type[cls] = registration
    _by_tag[tag] = registration


def plain_of(value: object) -> Plain | None:
    """What a value of a registered type is written as; None for all others."""
    registration = _by_type.get(type(value))
    return None if registration is None else Plain(registration.tag, registration.to_plain(value))


def encode(name: str, value: object) -> bytes:
    """The bytes of attribute `name`'s value. Raises `ValueNotStorable`, naming the place inside the value."""
    if type(value) in _NUMBERS:
        try:
            return _pack_number(value)
        except OverflowError:
            pass  # an int of more than 64 bits, which is an extension
    try:
        return _of_thread.encoder.encode(value)
    except Exception as error:
        place, fault = _find_fault(name, value, error)
        raise ValueNotStorable(f"session attribute {name!r}: {place} {fault}; nothing was written") from error


def decode(data: bytes) -> Any:
    """The value of `encode`d bytes. Raises `ValueNotReadable`."""
    try:
        return msgpack.unpackb(data, ext_hook=_restore, strict_map_key=False)
    except Exception as error:
        raise ValueNotReadable(
            f"the stored value cannot be read here: {error or type(error).__name__}"
        ) from error


def reader(data: bytes) -> msgpack.Unpacker:
    """Reads encoded values that stand one after the other, and the heads of arrays and maps around them."""
    unpacker = msgpack.Unpacker(ext_hook=_restore, strict_map_key=False, max_buffer_size=max(1, len(data)))
    unpacker.feed(data)
    return unpacker


@contextmanager
def resolving() -> Iterator[list[Any]]:
    """In the block, `Shared` stands for the object of its number in this list."""
    outer, _of_thread.shared = _of_thread.shared, []
    try:
        yield _of_thread.shared
    finally:
        _of_thread.shared = outer


_NUMBERS = frozenset({type(None), bool, int, float})
_pack_number: Callable[[object], bytes] = msgpack.Packer(strict_types=True, buf_size=64).pack


class _Refused(Exception):
    """A value has no encoding; `_find_fault` says which and why."""


class _Encoder:
    """Packers, one a level, since a packer cannot be used inside its own hook. Of one thread, for the same reason."""

    __slots__ = ("_depth", "_packers")

    def __init__(self) -> None:
        self._depth = 0
        self._packers = [self._new_packer()]

    def _new_packer(self) -> msgpack.Packer:
        return msgpack.Packer(default=self._extend, strict_types=True, buf_size=1024)

    def encode(self, value: object) -> bytes:
        """The bytes of a value at the current level."""
        packer = self._packers[self._depth]
        data: bytes
        if type(value) in _ATOMS:
            data = packer.pack(value)
        else:
            # In a list, and cut out of it, since the packer goes one level deeper than the unpacker.
            data = packer.pack([value])[1:]
            # Without msgpack's markers of bytes (bin 8, 16, 32) there is nothing to look for: three fast scans.
            if (0xC4 in data or 0xC5 in data or 0xC6 in data) and _holds_foreign_buffer(value):
                raise _Refused
        if len(data) > PACKER_BYTES_KEPT:
            self._packers[self._depth] = self._new_packer()
        return data

    def _nested(self, value: object) -> bytes:
        if self._depth == TUPLES_DEEP_MAX:
            raise _Refused
        self._depth += 1
        try:
            if self._depth == len(self._packers):
                self._packers.append(self._new_packer())
            return self.encode(value)
        finally:
            self._depth -= 1

    def _extend(self, value: Any) -> ExtType:
        cls = type(value)
        if cls is tuple:
            return ExtType(_TUPLE, self._nested(list(value)))
        if cls is datetime:
            return ExtType(_DATETIME, (value.isoformat() + (_FOLD if value.fold else "")).encode())
        if cls is Decimal:
            return ExtType(_DECIMAL, str(value).encode())
        if cls is set or cls is frozenset:
            return ExtType(_SET if cls is set else _FROZENSET, self._nested(sorted(value, key=self._nested)))
        if cls is UUID:
            return ExtType(_UUID, value.bytes)
        if cls is date:
            return ExtType(_DATE, value.isoformat().encode())
        if cls is int:
            return ExtType(_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
        registration = _by_type.get(cls)
        if registration is not None:
            return ExtType(_REGISTERED, self._nested([registration.tag, registration.to_plain(value)]))
        if cls is Shared:
            return ExtType(_SHARED, value.index.to_bytes(4, "big"))
        if cls is Plain:
            return ExtType(_REGISTERED, self._nested([value.tag, value.value]))
        raise _Refused


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.encoder = _Encoder()
        self.shared: list[Any] = []


_of_thread = _OfThread()


def _holds_foreign_buffer(value: object) -> bool:
    """Whether lists and dicts hold what msgpack would take for bytes or for an extension without asking us."""
    stack = [value]
    while stack:
        item = stack.pop()
        cls = type(item)
        if cls is list:
            stack.extend(item)  # type: ignore[arg-type] # `cls is list` says what mypy does not see
        elif cls is dict:
            stack.extend(item)  # type: ignore[arg-type] # as above: the keys
            stack.extend(item.values())  # type: ignore[attr-defined] # as above
        elif cls is not bytes and isinstance(item, bytearray | memoryview | ExtType | msgpack.Timestamp):
            return True
    return False


def _unpack(data: bytes) -> Any:
    return msgpack.unpackb(data, ext_hook=_restore, strict_map_key=False)


def _restore(code: int, data: bytes) -> Any:
    """One extension's value."""
    if code == _REGISTERED:
        tag, plain = _unpack(data)
        registration = _by_tag.get(tag)
        if registration is None:
            raise ValueError(
                f"no type is registered for tag {tag!r}: call sessiond.values.register on every node"
            )
        return registration.from_plain(plain)
    restorer = _RESTORERS.get(code)
    if restorer is None:
        raise ValueError(f"extension {code} was written by a newer version")
    return restorer(data)


def _restore_datetime(data: bytes) -> datetime:
    text = data.decode()
    if text.endswith(_FOLD):
        return datetime.fromisoformat(text[:-1]).replace(fold=1)
    return datetime.fromisoformat(text)


_RESTORERS: dict[int, Callable[[bytes], Any]] = {
    _INT: lambda data: int.from_bytes(data, "big", signed=True),
    _TUPLE: lambda data: tuple(_unpack(data)),
    _SET: lambda data: set(_unpack(data)),
    _FROZENSET: lambda data: frozenset(_unpack(data)),
    _DATETIME: _restore_datetime,
    _DATE: lambda data: date.fromisoformat(data.decode()),
    _DECIMAL: lambda data: Decimal(data.decode()),
    _UUID: lambda data: UUID(bytes=data),
    _SHARED: lambda data: _of_thread.shared[int.from_bytes(data, "big")],
}


# --- what is wrong with a value that could not be encoded -------------------------------------------------

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACE_CHARS_MAX = 200


def _find_fault(name: str, value: object, error: Exception) -> tuple[str, str]:
    """The place of the first fault, as in ``cart[2].price``, and what it is."""
    # Depth first, without recursion, since the value may be deeper than Python's own stack.
    stack: list[tuple[str, object, int, int]] = [(name, value, 0, 0)]
    ancestors: list[int] = []
    while stack:
        place, item, depth, tuples = stack.pop()
        del ancestors[depth:]
        fault = _fault_of(item, depth, tuples, ancestors)
        if fault is not None:
            shown = place if len(place) <= _PLACE_CHARS_MAX else f"{place[:_PLACE_CHARS_MAX]}…"
            return shown, fault
        ancestors.append(id(item))
        nested = tuples + (type(item) not in _NATIVE)
        stack.extend((inner, part, depth + 1, nested) for inner, part in reversed(list(_parts(place, item))))
    return name, f"cannot be encoded: {error or type(error).__name__}"


def _fault_of(item: object, depth: int, tuples: int, ancestors: list[int]) -> str | None:
    cls = type(item)
    if id(item) in ancestors and cls not in SCALARS:
        return f"is a {_name_of(cls)} that contains itself"
    if depth > LISTS_DEEP_MAX or tuples > TUPLES_DEEP_MAX:
        return (
            f"is nested too deeply (lists and dicts: {LISTS_DEEP_MAX} levels, tuples, sets and registered types: "
            f"{TUPLES_DEEP_MAX})"
        )
    if cls is str:
        return None if _is_text(item) else "holds a str with a lone surrogate, which is not text"
    if cls in SCALARS or cls in _CONTAINERS or cls in _by_type:
        return None
    way_out = "convert it, or register the type with sessiond.values.register"
    base = next((base for base in cls.__mro__ if base in SCALARS or base in _CONTAINERS), None)
    if base is not None:
        return f"holds a {_name_of(cls)}, a subclass of {base.__name__}, and would come back as the base: {way_out}"
    return f"holds a {_name_of(cls)}, which has no encoding: {way_out}"


def _parts(place: str, item: object) -> Iterator[tuple[str, object]]:
    """What a container holds, with the places; the keys of a dict before its values."""
    registration = _by_type.get(type(item))
    if registration is not None:
        try:
            yield place, registration.to_plain(item)
        except Exception:  # noqa: BLE001 - the caller reports this very error, which the encoder met first
            return
    elif isinstance(item, dict):
        for key, value in item.items():
            yield f"{place}, key {_short(key)}", key
            is_attribute = type(key) is str and _IDENTIFIER.fullmatch(key) is not None
            yield (f"{place}.{key}" if is_attribute else f"{place}[{_short(key)}]"), value
    elif isinstance(item, list | tuple):
        for index, value in enumerate(item):
            yield f"{place}[{index}]", value
    elif isinstance(item, set | frozenset):
        for value in item:
            yield f"{place}, element {_short(value)}", value


def _is_text(item: object) -> bool:
    try:
        str(item).encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(value: object) -> str:
    if type(value) in SCALARS:
        text = ascii(value)
        return text if len(text) <= 40 else f"{text[:40]}…"
    return f"of type {_name_of(type(value))}"


def _name_of(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
