"""What a node asks of a store, whichever kind it is: records by key, fenced by their stamps.

A store keeps at most one record of a key. Its one decision is fencing: a record gives way to one of an equal or
higher stamp only, decided and written in one step at the place where the records are, so that a node that was
cut off cannot put an old copy over a newer one. A record that has expired fences nothing, is never handed out,
and may be removed at any time.

Stores know nothing of sessions: `data` is opaque to them, and tokens never reach them.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

KEY_BYTES = 16

Stamp: TypeAlias = tuple[int, str, int, int]


@dataclass(frozen=True, slots=True)
class Record:
    """The stored copy of one session, or its tombstone."""

    key: bytes
    """16 bytes: the keyed hash of the token."""

    epoch: int
    """With the next three the stamp of the content. Numbers are at least 0 and below 2**63."""

    owner: str
    incarnation: int
    version: int

    expires_at: float
    """Unix time in seconds; from then on the record means nothing and may be removed."""

    data: bytes | None
    """Opaque content; None: a tombstone, this session has ended."""

    @property
    def stamp(self) -> Stamp:
        return self.epoch, self.owner, self.incarnation, self.version


class Store(Protocol):
    """A place for records. Calls may run at the same time; each ends within a bounded time.

    Every method raises StoreUnavailable when the place does not answer as it should, and StoreUnusable when that
    will not change by waiting. A call that was cut short (an error, a time-out, a cancellation) may or may not have
    been carried out; to repeat it is always safe.
    """

    shared: bool
    """Whether every node that is configured with this URL sees the same records."""

    damaged: int
    """Unreadable records that `read` and `scan` have met since the store was made."""

    async def open(self) -> None:
        """Connect; create or migrate what is there. After StoreUnavailable it may be called again."""

    async def write(self, records: Sequence[Record]) -> set[bytes]:
        """Store records; the keys of those refused, because a higher stamp is there.

        All or nothing for each record, and durable when it returns, as far as the place can be: docs/schemes.md
        says how far for each. Of several records of one key the one with the highest stamp counts. A damaged
        record fences like any other while its stamp can be read, and is replaced like any other.
        """

    async def read(self, key: bytes) -> Record | None:
        """The record of a key; None if there is none, or it has expired.

        Raises DamagedRecord for one that cannot be read: NewerRecord if a newer program has written it.
        """

    async def delete(self, keys: Sequence[bytes]) -> None:
        """Forget keys, whatever their stamps; those that are not there are no error."""

    async def remove_expired(self, now: float, most: int) -> int:
        """Remove records that expired at or before `now`, at most `most` of them; how many it were.

        Fewer than `most` means that no more were left.
        """

    def scan(self) -> AsyncIterator[Record]:
        """Every live record, tombstones too, in pages of bounded size and no order.

        What is there from start to end comes at least once, whatever is written meanwhile; what is written or
        deleted meanwhile may come or not. Damaged records are skipped and counted in `damaged`.
        """

    async def close(self) -> None:
        """End: calls under way are finished or fail with StoreUnavailable, later ones fail. Repeating it is no error."""


def latest(records: Sequence[Record]) -> list[Record]:
    """One record for each key, the one with the highest stamp (of equals the last), ordered by key.

    The order keeps two writers of the same keys from waiting for each other in a circle.
    """
    chosen: dict[bytes, Record] = {}
    for record in records:
        there = chosen.get(record.key)
        if there is None or there.stamp <= record.stamp:
            chosen[record.key] = record
    return [chosen[key] for key in sorted(chosen)]
