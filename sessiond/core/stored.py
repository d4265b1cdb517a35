"""A session as a store keeps it, in the core's words: what goes out to a store, and what comes back.

Durations instead of times, as on links: the driver turns them into the clock that outlives a process, and back.
"""

from enum import StrEnum
from typing import NamedTuple

from sessiond.core.messages import CopyData
from sessiond.core.types import Key, Life, Stamp, Term


class Stored(NamedTuple):
    """A record. (term, version) is its stamp: a store lets a record give way to an equal or higher one only."""

    key: Key
    term: Term
    version: int
    lives_s: float
    """Seconds until the record means nothing any more."""

    data: CopyData | None
    """None: the session has ended."""


class Trouble(StrEnum):
    """Why a record cannot be had."""

    UNAVAILABLE = "unavailable"
    """The store does not answer; nothing is known of the session."""

    DAMAGED = "damaged"
    """What lies there is no session any more."""

    NEWER = "newer"
    """It was written by a newer release: whole, but not for this one to read."""


class Unreadable(NamedTuple):
    """The answer to a read that brought nothing."""

    trouble: Trouble
    detail: str


PROBE_KEY: Key = bytes(16)
"""No session has this key: reading it shows whether the store answers."""

NOBODY = Life("", 0)


def rank_of(term: Term, last: Stamp) -> tuple[Stamp, Term]:
    """What copies without a primary are compared by: the later write, then the later term."""
    return (last, term)
