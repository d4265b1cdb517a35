"""The decoded state of one session, shared by all its requests on this node.

Invariant: for every attribute that was read or written, `base` holds its encoded bytes as they were committed
when it was read, so that "changed" means: encodes to other bytes than the base. In-place changes need no help
from the application; attributes that nobody read cost nothing.

It never talks to the node: `session.Session` commits, and reports here what was committed.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, Protocol

from sessiond.backend import Checkout
from sessiond.contract.session_id import Key
from sessiond.errors import SessionTooLarge, ValueNotReadable
from sessiond.values import SCALARS, decode, encode

NAME_BYTES_MAX = 255
"""Longest attribute name, in UTF-8."""

ABSENT: Any = object()
"""In `Live.values`: the attribute was deleted."""

_UNREAD: Any = object()


NOTHING: frozenset[str] = frozenset()


class Source(Protocol):
    """Where attributes that were not read yet come from: a checkout, or what was saved from one."""

    @property
    def version(self) -> int: ...

    def names(self) -> Iterable[str]: ...

    def read(self, name: str) -> bytes | None: ...

    def release(self) -> None: ...


class Snapshot:
    """Encoded attributes as last committed, for a session that no request holds, or that has just been created."""

    __slots__ = ("_attributes", "version")

    def __init__(self, version: int, attributes: Mapping[str, bytes]) -> None:
        self.version = version
        self._attributes = dict(attributes)

    @classmethod
    def of(cls, source: Source) -> "Snapshot":
        pairs = ((name, source.read(name)) for name in source.names())
        return cls(source.version, {name: data for name, data in pairs if data is not None})

    def names(self) -> Iterable[str]:
        return self._attributes

    def read(self, name: str) -> bytes | None:
        return self._attributes.get(name)

    def release(self) -> None:
        """Nothing is held."""

    def apply(self, changes: Mapping[str, bytes | None], version: int) -> None:
        self.version = version
        for name, data in changes.items():
            if data is None:
                self._attributes.pop(name, None)
            else:
                self._attributes[name] = data


class View(Protocol):
    """One request's part in a `Live`."""

    touched: set[str]
    """Attributes that the request read or wrote."""

    undone: Set[str]
    """Attributes of these whose uncommitted changes another request took along when it failed."""


class Live:
    """One session while requests have it."""

    __slots__ = (
        "base",
        "committing",
        "foreign",
        "holders",
        "idle",
        "key",
        "source",
        "suspects",
        "undone_meanwhile",
        "values",
        "version",
        "views",
    )

    def __init__(self, key: Key | None, source: Source) -> None:
        self.key = key
        """None before the session is created."""
        self.source = source
        self.version = source.version
        self.foreign = 0
        """Times that somebody beyond this node's requests was seen to have written."""
        self.values: dict[str, Any] = {}
        self.base: dict[str, bytes | None] = {}
        self.suspects: set[str] = set()
        """Attributes that may differ from their base: written, or read and mutable."""
        self.views: tuple[View, ...] = ()
        self.holders = 0
        """Views whose request holds the session; the others answer already, and go on without it."""
        self.committing = False
        self.idle: asyncio.Event | None = None
        """Set when a commit ends; made by the first that waits."""
        self.undone_meanwhile = False

    # --- the mapping ------------------------------------------------------------------------------------

    def read(self, name: str) -> Any:
        """The attribute's value, or `ABSENT`."""
        value = self.values.get(name, _UNREAD)
        if value is not _UNREAD:
            return value
        data = self.source.read(name)
        if data is None:
            return ABSENT
        try:
            value = decode(data)
        except ValueNotReadable as error:
            raise ValueNotReadable(f"session attribute {name!r}: {error}") from error
        self.values[name] = value
        self.base[name] = data
        if type(value) not in SCALARS:
            self.suspects.add(name)
        return value

    def write(self, name: str, value: Any) -> None:
        if name not in self.base:
            self.base[name] = self.source.read(name)
        self.values[name] = value
        self.suspects.add(name)

    def has(self, name: str) -> bool:
        if name in self.values:
            return self.values[name] is not ABSENT
        return self.source.read(name) is not None

    def names(self) -> Iterator[str]:
        values = self.values
        yield from [name for name, value in values.items() if value is not ABSENT]
        yield from [name for name in self.source.names() if name not in values]

    # --- what changed -----------------------------------------------------------------------------------

    def changes(self, attribute_bytes_max: int) -> dict[str, bytes | None]:
        """What a commit has to carry now: encoded values, None for deleted ones.

        Raises `ValueNotStorable` and `SessionTooLarge`.
        """
        changes: dict[str, bytes | None] = {}
        values, base = self.values, self.base
        for name in self.suspects:
            value = values[name]
            data = None if value is ABSENT else encode(name, value)
            if data == base[name]:
                continue
            if data is not None and len(data) > attribute_bytes_max:
                raise SessionTooLarge(
                    f"session attribute {name!r} encodes to {len(data)} bytes, more than attribute_bytes_max "
                    f"({attribute_bytes_max}); nothing was written: store less, or raise the setting on every node"
                )
            changes[name] = data
        return changes

    def all_attributes(self, attribute_bytes_max: int) -> dict[str, bytes]:
        """The whole session as it is now, encoded. Raises as `changes` does."""
        changed = self.changes(attribute_bytes_max)
        whole = {name: changed[name] if name in changed else self.source.read(name) for name in self.names()}
        return {name: data for name, data in whole.items() if data is not None}

    def differs(self, name: str) -> bool:
        """Whether an attribute has uncommitted changes, storable or not."""
        if name not in self.suspects:
            return False
        value = self.values[name]
        try:
            return (None if value is ABSENT else encode(name, value)) != self.base[name]
        except Exception:  # noqa: BLE001 - what cannot be encoded was never committed
            return True

    # --- keeping up with what was committed ----------------------------------------------------------------

    def committed(self, changes: Mapping[str, bytes | None], version: int) -> None:
        """A commit of `changes` made the session's `version`. Changes made while it ran stay changes."""
        is_next = version == self.version + bool(changes)
        self.version = version
        self.foreign += not is_next
        if type(self.source) is Snapshot:
            self.source.apply(changes, version)
        if is_next and not self.undone_meanwhile:
            self.base.update(changes)
        else:
            self.refresh()

    def adopt(self, checkout: Checkout) -> None:
        """Another request opened the session: its checkout replaces ours, and may know of newer writes."""
        earlier, self.source = self.source, checkout
        # While a commit of ours waits for its acks, the checkout shows it already; `committed` will tell whose
        # the newer version is. But others may have written as well, if the session was away meanwhile: what was
        # read here before is not to be shown any more.
        if self.committing:
            self.refresh()
        else:
            self.catch_up()
        earlier.release()

    def catch_up(self) -> None:
        """If the source is at another version, somebody beyond this node's requests has written: take that over."""
        if self.source.version != self.version:
            self.foreign += 1
            self.version = self.source.version
            self.refresh()

    def refresh(self) -> None:
        """Forget what somebody else has changed since it was read here; what was changed here as well stays."""
        for name, known in list(self.base.items()):
            data = self.source.read(name)
            if data == known:
                continue
            if self.differs(name):
                self.base[name] = data
            else:
                self.forget(name)

    def forget(self, name: str) -> None:
        """Back to what is committed; read anew when somebody asks."""
        self.values.pop(name, None)
        self.base.pop(name, None)
        self.suspects.discard(name)

    def undo(self, view: View) -> None:
        """Take back the uncommitted changes of what `view` touched.

        Whose an in-place change was cannot be told, so other requests that touched the same attribute lose
        theirs as well; they hear of it when they commit, and nothing is acknowledged that was lost.
        """
        for name in view.touched:
            if self.differs(name):
                self.forget(name)
                self.undone_meanwhile = self.committing
                for other in self.views:
                    if other is not view and name in other.touched:
                        other.undone = other.undone | {name}
        view.touched.clear()
        view.undone = NOTHING

    # --- who has it -------------------------------------------------------------------------------------

    def leave_hold(self) -> None:
        """A request lets go. With the last one the checkout goes; who still looks sees the session as it is now."""
        self.holders -= 1
        if self.holders == 0:
            checkout, self.source = self.source, Snapshot.of(self.source)
            checkout.release()

    async def turn(self) -> None:
        """Wait until nobody commits. One commit of a session at a time, so that none carries a change twice."""
        while self.committing:
            if self.idle is None:
                self.idle = asyncio.Event()
            await self.idle.wait()

    def begin_commit(self) -> None:
        """Take the turn; synchronously after `turn`, or when nobody commits."""
        self.committing = True
        self.undone_meanwhile = False

    def end_commit(self) -> None:
        self.committing = False
        if self.idle is not None:
            self.idle.set()
            self.idle = None


def checked_name(name: object) -> str:
    """An attribute name as an exact str, so that an enumeration's members work. Raises TypeError, ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"a session attribute's name is a str, not {type(name).__name__}")
    plain = str.__str__(name)
    if not plain:
        raise ValueError("a session attribute's name must not be empty")
    if len(plain.encode()) > NAME_BYTES_MAX:
        raise ValueError(f"the session attribute name {plain[:40]!r}… is longer than {NAME_BYTES_MAX} bytes")
    return plain
