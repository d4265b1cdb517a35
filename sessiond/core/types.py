"""The words of the cluster as values: life, term, stamp, location, attribute.

All are tuples, so that they compare in the order the protocol wants and pack without conversion.
"""

from typing import NamedTuple

from sessiond.contract.session_id import Key

__all__ = ["EPOCH_NONE", "Alias", "Attribute", "Key", "Life", "Location", "Stamp", "Term"]


class Life(NamedTuple):
    """One life of a node: a restart, and a return from the dead, is another one."""

    name: str
    incarnation: int

    def __str__(self) -> str:
        return f"{self.name}/{self.incarnation}"


class Term(NamedTuple):
    """One ownership of one session. Totally ordered; one life is primary in a term, ever."""

    epoch: int
    owner: Life

    def __str__(self) -> str:
        return f"{self.epoch}@{self.owner}"


class Stamp(NamedTuple):
    """When a value was committed. Merges compare stamps, never clocks."""

    term: Term
    version: int


EPOCH_NONE = Stamp(Term(0, Life("", 0)), 0)
"""Lower than every stamp of a commit."""


class Location(NamedTuple):
    """Where a session lives. `seq` counts list changes within the term; 0: granted, not yet activated."""

    term: Term
    seq: int
    backups: tuple[Life, ...]
    gone: bool = False

    @property
    def rank(self) -> tuple[bool, Term, int]:
        """What merging compares: a committed tombstone beats every term, then the higher (term, seq)."""
        return (self.gone, self.term, self.seq)


class Alias(NamedTuple):
    """The key under which a rotated session goes on, and the reading of this node's clock until which to say so."""

    key: Key
    until: float


class Attribute(NamedTuple):
    """An encoded value and the stamp of its last write; a deleted attribute keeps its stamp (value None)."""

    value: bytes | None
    stamp: Stamp
