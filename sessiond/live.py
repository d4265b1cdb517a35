"""One session while requests on this node have it: what they share.

Owns who holds the session, whose turn it is to commit, and the version that this node has seen. What the application
reads and writes of it is its `granularity.Content`.

It never talks to the node: `session.Session` commits, and reports here what was committed.
"""

import asyncio
from collections.abc import Mapping, Sequence, Set
from typing import Protocol

from sessiond.backend import Checkout
from sessiond.content import Content, Detached, Snapshot
from sessiond.contract.session_id import Key

NAME_BYTES_MAX = 255
"""Longest attribute name, in UTF-8."""

DETACHED_KEPT_MAX = 16
"""Overwritten values that are watched for one request, the latest ones; only a WebSocket can come to more."""

NOTHING: frozenset[str] = frozenset()


class View(Protocol):
    """One request's part in a `Live`."""

    touched: set[str]
    """Attributes that the request read or wrote."""

    undone: Set[str]
    """Attributes of these whose uncommitted changes another request took along when it failed."""

    detached: Sequence[Detached]
    """Values of these that the request may hold, and change, though somebody else has written the attributes."""


class Live:
    """One session while requests have it."""

    __slots__ = (
        "committing",
        "content",
        "foreign",
        "holders",
        "idle",
        "key",
        "undone_meanwhile",
        "version",
        "views",
    )

    def __init__(self, key: Key | None, content: Content) -> None:
        self.key = key
        """None before the session is created."""
        self.content = content
        self.version = content.source.version
        self.foreign = 0
        """Times that somebody beyond this node's requests was seen to have written."""
        self.views: tuple[View, ...] = ()
        self.holders = 0
        """Views whose request holds the session; the others answer already, and go on without it."""
        self.committing = False
        self.idle: asyncio.Event | None = None
        """Set when a commit ends; made by the first that waits."""
        self.undone_meanwhile = False

    # --- keeping up with what was committed ----------------------------------------------------------------

    def committed(self, changes: Mapping[str, bytes | None], version: int) -> None:
        """A commit of `changes` made the session's `version`. Changes made while it ran stay changes."""
        is_next = version == self.version + bool(changes)
        self.version = version
        self.foreign += not is_next
        content = self.content
        if type(content.source) is Snapshot:
            content.source.apply(changes, version)
        if detached := content.committed(changes, is_all=is_next and not self.undone_meanwhile):
            self._let_go(detached)

    def adopt(self, checkout: Checkout) -> None:
        """Another request opened the session: its checkout replaces ours, and may know of newer writes."""
        content = self.content
        earlier, content.source = content.source, checkout
        # While a commit of ours waits for its acks, the checkout shows it already; `committed` will tell whose
        # the newer version is. But others may have written as well, if the session was away meanwhile: what was
        # read here before is not to be shown any more.
        if self.committing:
            self._let_go(content.refresh())
        else:
            self.catch_up()
        earlier.release()

    def catch_up(self) -> None:
        """If the source is at another version, somebody beyond this node's requests has written: take that over."""
        version = self.content.source.version
        if version != self.version:
            self.foreign += 1
            self.version = version
            self._let_go(self.content.refresh())

    def _let_go(self, detached: Sequence[Detached]) -> None:
        """Who has read these values is to hear of it if he changes them now, where nobody would see it."""
        for view in self.views:
            held = [each for each in detached if each.name in view.touched]
            view.detached = (*view.detached, *held)[-DETACHED_KEPT_MAX:]

    def undo(self, view: View) -> None:
        """Take back the uncommitted changes of what `view` touched.

        Whose an in-place change was cannot be told, so other requests that touched the same attribute lose
        theirs as well; they hear of it when they commit, and nothing is acknowledged that was lost.
        """
        lost = self.content.undo(view.touched)
        if lost:
            self.undone_meanwhile = self.committing
            for other in self.views:
                if other is not view and not lost.isdisjoint(other.touched):
                    other.undone = other.undone | (lost & other.touched)
        view.touched -= lost
        view.undone = NOTHING

    # --- who has it -------------------------------------------------------------------------------------

    def leave_hold(self) -> None:
        """A request lets go. With the last one the checkout goes; who still looks sees the session as it is now."""
        self.holders -= 1
        if self.holders == 0:
            content = self.content
            checkout, content.source = content.source, Snapshot.of(content.source)
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
