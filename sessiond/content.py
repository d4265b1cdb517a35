"""The decoded state of one session on this node, over a source of what is committed: what every `granularity` provides."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, NamedTuple, Protocol

from sessiond.values import encode

ABSENT: Any = object()
"""Read for an attribute that there is not; written to delete one."""


class Source(Protocol):
    """Encoded attributes as committed: a checkout, or what was saved from one."""

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


class Detached(NamedTuple):
    """A value that the session has no more, since somebody else wrote the attribute; who read it may hold it still.

    `data`: what it encoded to when it went. Changes inside it since then go nowhere.
    """

    name: str
    value: Any
    data: bytes | None

    @property
    def has_changed(self) -> bool:
        return encoded(self.name, self.value) != self.data


def encoded(name: str, value: Any) -> bytes | None:
    """For comparisons: None for an attribute that there is not, nothing for one that cannot be encoded."""
    try:
        return None if value is ABSENT else encode(name, value)
    except Exception:  # noqa: BLE001 - what cannot be encoded was never committed
        return b""


class Content(ABC):
    """The decoded state of a session. `bytes_max`: of one encoded attribute."""

    __slots__ = ("bytes_max", "source")

    def __init__(self, source: Source, bytes_max: int) -> None:
        self.source = source
        self.bytes_max = bytes_max

    # --- the mapping ------------------------------------------------------------------------------------

    @abstractmethod
    def read(self, name: str) -> Any:
        """The attribute's value, or `ABSENT`. Raises `ValueNotReadable`."""

    @abstractmethod
    def write(self, name: str, value: Any) -> None:
        """Set an attribute, or delete it with `ABSENT`."""

    @abstractmethod
    def has(self, name: str) -> bool: ...

    @abstractmethod
    def names(self) -> Iterator[str]: ...

    # --- what changed -----------------------------------------------------------------------------------

    @abstractmethod
    def changes(self) -> dict[str, bytes | None]:
        """What a commit has to carry now: encoded values, None for deleted ones.

        Raises `ValueNotStorable` and `SessionTooLarge`.
        """

    def repeats(self, changes: Mapping[str, bytes | None]) -> bool:
        """Whether a commit of these, which are not empty, says nothing new: it must not undo what others wrote."""
        del changes
        return False

    @abstractmethod
    def differs(self, name: str) -> bool:
        """Whether an attribute has uncommitted changes, storable or not."""

    @abstractmethod
    def everything(self) -> dict[str, bytes]:
        """The session as it is now, encoded, as a commit that creates it would carry it. Raises as `changes` does."""

    @abstractmethod
    def successor(self, source: Source) -> "Content":
        """The same state over another source, which holds just this `everything`."""

    def shared(self, changed: Set[str]) -> list[tuple[str, str]]:
        """Pairs of attributes that share an object and will not after a takeover, one of them just committed."""
        del changed
        return []

    # --- keeping up with what was committed ----------------------------------------------------------------

    @abstractmethod
    def committed(self, changes: Mapping[str, bytes | None], *, is_all: bool) -> Sequence[Detached]:
        """What `changes` has returned is committed; `is_all` if nobody wrote or took anything back besides.

        Returns what `refresh` does, which was called if this was not all.
        """

    @abstractmethod
    def refresh(self) -> Sequence[Detached]:
        """Forget what somebody else has changed since it was read here; what was changed here as well stays.

        Returns what was forgotten and could still be changed in place.
        """

    @abstractmethod
    def undo(self, touched: Set[str]) -> Set[str]:
        """Take back uncommitted changes of these attributes; the names of all that others may have seen of it."""
