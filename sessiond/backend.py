"""What a session asks of the node it lives on: the seam between `session` and `node`.

`node.Node` is the real one; tests of the web side use a small one in memory.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sessiond.contract.session_id import Key

WHOLE = ""
"""The name of what holds all attributes at once (`granularity`). No attribute has it: their names are not empty."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The session has a live primary on another node, and the request can be sent there."""

    owner: str


class Committed(NamedTuple):
    """`version` after the write; `protected` is False if no other node could take a copy."""

    version: int
    protected: bool


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a session's copies are, as far as this node knows. Names of nodes; `epoch` of the term."""

    primary: str
    backups: tuple[str, ...]
    epoch: int
    version: int | None


class Checkout(Protocol):
    """A session held by a request in flight; the node does not give the session away meanwhile (for long)."""

    @property
    def key(self) -> Key: ...

    @property
    def version(self) -> int:
        """Number of committed writes so far."""

    def names(self) -> Iterable[str]:
        """Names of the attributes, in no particular order."""

    def read(self, name: str) -> bytes | None:
        """The encoded value of an attribute as last committed; None if there is none."""

    def release(self) -> None:
        """The request is done with the session. Calling it again does nothing."""


class Backend(Protocol):
    """The session operations of a node. All values are encoded; the node never looks into them."""

    @property
    def name(self) -> str:
        """The node's name, the suffix of the ids that it gives out."""

    def try_open(self, key: Key) -> Checkout | None:
        """`open` for the common case, in which nothing has to be waited for: this node is the session's primary.

        None says nothing about the session: ask `open`.
        """

    async def open(self, key: Key, *, may_refer: bool = False) -> Checkout | Elsewhere | None:
        """Make this node the session's primary, if need be, and hold the session for a request.

        None: there is no such session. `Elsewhere` only if `may_refer`. Raises `Unavailable`.
        """

    async def commit(
        self,
        key: Key,
        changes: Mapping[str, bytes | None],
        *,
        create: bool = False,
        after: int = 0,
        if_version: int | None = None,
        flush: bool = False,
    ) -> Committed:
        """Write `changes` (None deletes an attribute) and wait until every backup has applied them.

        The settings `ack` and `flush` can have it wait for less; with `flush` it waits whatever they say.

        With no changes it waits until what this node shows of the session is applied everywhere: a read's
        answer must not show what could still be lost. `create`: the session must not exist yet; its
        first version is `after` + 1. Raises `Conflict`, `SessionGone`, `SessionTooLarge`, `MemoryFull`, `Unavailable`.
        """

    async def invalidate(self, key: Key) -> None:
        """End the session everywhere; returns when no copy can come back. Raises `Unavailable`."""

    async def rotate(self, key: Key, successor: Key, if_version: int) -> None:
        """End a session that goes on as `successor`, which has its content of `if_version`.

        For `rotate_grace_s` everything asked of the old key is then done with the new one. Raises `Conflict` if
        somebody wrote since, `SessionGone`, `Unavailable`.
        """

    def is_over(self, key: Key) -> bool:
        """Whether this key's token is worth nothing any more, or will be when the grace of its rotation ends."""

    def locate(self, key: Key) -> Whereabouts | None:
        """Where the session lives, from this node's own knowledge."""
