"""A whole session as one value, in which an object that occurs in several places is one object still.

The form is MessagePack: an array of the shared objects, each after those that it refers to, and last of all a map of the
attributes. A shared object is written once; wherever it occurs an extension stands for it (`values.Shared`). Lists,
dicts, tuples, sets and values of registered types are shared by identity; scalars are not, since nobody can tell.

Invariant: `unpack(pack(m))` equals `m`, and of any two places in it, what was one object is one object. What refers to
itself has no form, in here as in a single attribute: `ValueNotStorable` names the place.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgpack

from sessiond.errors import SessionTooLarge, ValueNotReadable, ValueNotStorable
from sessiond.values import SCALARS, Plain, Shared, encode, plain_of, reader, resolving

ALONE = msgpack.Packer().pack_array_header(1)
"""Begins what has no shared objects: nothing but the map of the attributes."""


def pack(attributes: Mapping[str, Any], attribute_bytes_max: int) -> bytes:
    """The bytes of all attributes. A shared object counts for the first attribute that has it.

    Raises `ValueNotStorable` and `SessionTooLarge`.
    """
    head = msgpack.Packer()
    try:
        graph = _Graph(attributes)
        shared = [(owner, encode(owner, value)) for owner, value in graph.shared]
        own = [(name, encode(name, graph.stand_in(value))) for name, value in attributes.items()]
    except Exception as error:
        for name, value in attributes.items():
            encode(name, value)  # which names the place in what the application knows
        raise ValueNotStorable(f"the session cannot be encoded: {error}; nothing was written") from error
    sizes = dict.fromkeys(attributes, 0)
    for name, data in (*shared, *own):
        sizes[name] += len(data)
    for name, size in sizes.items():
        if size > attribute_bytes_max:
            raise SessionTooLarge.of_attribute(name, size, attribute_bytes_max)
    parts = [head.pack_array_header(len(shared) + 1), *(data for _, data in shared)]
    parts.append(head.pack_map_header(len(own)))
    for name, data in own:
        parts += (head.pack(name), data)
    return b"".join(parts)


def unpack(data: bytes) -> dict[str, Any]:
    """The attributes of `pack`ed bytes. Raises `ValueNotReadable`."""
    try:
        with resolving() as shared:
            source = reader(data)
            for _ in range(source.read_array_header() - 1):
                shared.append(source.unpack())
            return {source.unpack(): source.unpack() for _ in range(source.read_map_header())}
    except Exception as error:
        raise ValueNotReadable(
            f"the stored session cannot be read here: {error or type(error).__name__}"
        ) from error


def has_shared(data: bytes) -> bool:
    """Whether `pack`ed bytes hold an object that occurs in several places."""
    return not data.startswith(ALONE)


class _Endless(Exception):
    """An object contains itself."""


class _Graph:
    """The containers of some attributes, and which of them occur more than once.

    `shared`: each with the first attribute that has it, in an order in which none refers to a later one.
    """

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self._found: dict[int, tuple[str, Any]] = {}
        """By identity, children first. Holds the objects, so that no identity is used twice."""
        self._plain: dict[int, Plain] = {}
        self._twice: set[int] = set()
        self._replaced: dict[int, Any] = {}
        self.shared: list[tuple[str, Any]] = []
        for name, value in attributes.items():
            self._walk(name, value)
        if self._twice:
            self._replace()

    def stand_in(self, value: Any) -> Any:
        """What is written where this value occurs."""
        return self._replaced.get(id(value), value)

    def _walk(self, name: str, value: Any) -> None:
        # Depth first, without recursion, since values may be deeper than Python's own stack.
        if not self._is_new(value):
            return
        path: dict[int, tuple[Any, Iterator[Any]]] = {id(value): (value, self._parts(value))}
        while path:
            item, parts = path[next(reversed(path))]
            for part in parts:
                if id(part) in path:
                    raise _Endless(f"attribute {name!r} holds an object that contains itself")
                if self._is_new(part):
                    path[id(part)] = (part, self._parts(part))
                    break
            else:
                self._found[id(item)] = (name, item)
                del path[id(item)]

    def _is_new(self, value: Any) -> bool:
        cls = type(value)
        if cls in SCALARS or (
            cls in (tuple, frozenset) and not value
        ):  # the empty ones are one object anyhow
            return False
        if id(value) not in self._found:
            return True
        self._twice.add(id(value))
        return False

    def _parts(self, item: Any) -> Iterator[Any]:
        cls = type(item)
        if cls is dict:
            yield from item
            yield from item.values()
        elif cls in (list, tuple, set, frozenset):
            yield from item
        elif (plain := plain_of(item)) is not None:
            self._plain[id(item)] = plain
            yield plain.value

    def _replace(self) -> None:
        """Put numbers in the place of shared objects, and copies in that of whatever has such places."""
        for identity, (name, item) in self._found.items():
            written = self._rebuilt(item)
            if identity in self._twice:
                self._replaced[identity] = Shared(len(self.shared))
                self.shared.append((name, written))
            elif written is not item:
                self._replaced[identity] = written

    def _rebuilt(self, item: Any) -> Any:
        cls, stand_in = type(item), self.stand_in
        plain = self._plain.get(id(item))
        if plain is not None:
            return Plain(plain.tag, stand_in(plain.value))
        if not any(id(part) in self._replaced for part in self._parts(item)):
            return item
        if cls is dict:
            return {stand_in(key): stand_in(value) for key, value in item.items()}
        return cls(stand_in(part) for part in item)
