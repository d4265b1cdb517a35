"""Where every session lives, as far as this node has heard: the location of each key.

Merging takes the higher rank (gone, term, seq), so the order and repetition of messages do not matter. An
entry is a hint with one exception: a committed tombstone is final, and is kept for `tombstone_ttl_s`, or longer
(`absence`), so that no late copy brings the session back.

Entries lie in buckets by the leading bits of their key, and each bucket has a digest: the exclusive or of a
hash of every entry, so that it follows each change at once and in any order. Buckets are what a snapshot goes
through (an entry never changes its bucket) and what two nodes compare (`repair`).

Invariant: two directories have equal digests exactly if neither could learn a session's place from the other.
Hence a digest covers what merging compares, key and rank, and nothing of what it does not: not the list of
backups, and not tombstones, which nodes forget at different moments. A tombstone still corrects a node that
missed it: there the session's entry is live, so the digests differ.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from sessiond.core.types import Key, Location

BUCKET_BITS = 12
BUCKETS = 1 << BUCKET_BITS
"""At a million sessions 250 in each: little enough to send whole, and few enough digests to compare."""

GROUP_BUCKETS = 64
GROUPS = BUCKETS // GROUP_BUCKETS
"""Groups of neighbouring buckets: their digests fit into one short message."""

DIGEST_BYTES = 8

FORGOTTEN_PER_TICK = 1000
"""Tombstones forgotten in one go, so that the end of very many does not stall the loop."""

SHARED_MAX = 16_384
"""Different locations kept to be shared by entries: most sessions of one owner and backup have the same one."""


_SHIFT = 16 - BUCKET_BITS


def bucket_of(key: Key) -> int:
    return (key[0] << 8 | key[1]) >> _SHIFT


class _Bucket:
    __slots__ = ("digest", "entries")

    def __init__(self) -> None:
        self.digest = 0
        self.entries: dict[Key, Location] = {}


class Directory:
    def __init__(self, tombstone_ttl_s: float) -> None:
        self._ttl_s = tombstone_ttl_s
        self._buckets: dict[int, _Bucket] = {}
        self._group_digests = [0] * GROUPS
        self._tombstones: deque[tuple[float, Key]] = deque()
        self.kept_longer_s = 0.0
        """By so much tombstones outlive their time just now, for the sake of members that are away (`absence`)."""

        self._shared: dict[Location, tuple[Location, bytes]] = {}
        """A location → the object that stands for all equal ones, and its rank as bytes."""

        self._length = 0

    def __len__(self) -> int:
        return self._length

    def items(self) -> Iterator[tuple[Key, Location]]:
        """All entries; each bucket as it is when its turn comes, so entries may come and go meanwhile."""
        for number in range(BUCKETS):
            yield from self.bucket(number)

    def bucket(self, number: int) -> list[tuple[Key, Location]]:
        """The entries of one bucket at this moment."""
        bucket = self._buckets.get(number)
        return list(bucket.entries.items()) if bucket is not None else []

    def get(self, key: Key) -> Location | None:
        bucket = self._buckets.get(bucket_of(key))
        return bucket.entries.get(key) if bucket is not None else None

    def is_gone(self, key: Key) -> bool:
        location = self.get(key)
        return location is not None and location.gone

    # --- changes --------------------------------------------------------------------------------------

    def merge(self, key: Key, location: Location, now: float) -> bool:
        """Take a location if it ranks higher than what is known; True if it did."""
        number = bucket_of(key)
        bucket = self._buckets.get(number)
        known = bucket.entries.get(key) if bucket is not None else None
        if known is not None and (known is location or location.rank <= known.rank):
            return False
        if bucket is None:
            bucket = self._buckets[number] = _Bucket()
        shared, _ = self._share(location)
        change = self._hash(key, shared)
        if known is None:
            self._length += 1
        else:
            change ^= self._hash(key, known)
        bucket.entries[key] = shared
        self._fold(number, bucket, change)
        if location.gone:
            self._tombstones.append((now + self._ttl_s, key))
        return True

    def forget(self, key: Key) -> None:
        """Nobody holds the session, or this node need not know where it is."""
        number = bucket_of(key)
        bucket = self._buckets.get(number)
        known = bucket.entries.pop(key, None) if bucket is not None else None
        if bucket is None or known is None:
            return
        self._length -= 1
        self._fold(number, bucket, self._hash(key, known))
        if not bucket.entries:
            del self._buckets[number]

    def next_deadline(self) -> float | None:
        return self._tombstones[0][0] + self.kept_longer_s if self._tombstones else None

    def tick(self, now: float) -> None:
        """Forget tombstones whose time is over."""
        for _ in range(FORGOTTEN_PER_TICK):
            if not self._tombstones or self._tombstones[0][0] + self.kept_longer_s > now:
                return
            _, key = self._tombstones.popleft()
            if self.is_gone(key):
                self.forget(key)

    # --- digests --------------------------------------------------------------------------------------

    def group_digests(self) -> bytes:
        """The digest of every group, one after the other."""
        return _joined(self._group_digests)

    def bucket_digests(self, group: int) -> bytes:
        """The digest of every bucket of a group."""
        first = group * GROUP_BUCKETS
        buckets = (self._buckets.get(number) for number in range(first, first + GROUP_BUCKETS))
        return _joined(bucket.digest if bucket is not None else 0 for bucket in buckets)

    def _fold(self, number: int, bucket: _Bucket, change: int) -> None:
        bucket.digest ^= change
        self._group_digests[number // GROUP_BUCKETS] ^= change

    def _hash(self, key: Key, location: Location) -> int:
        """What an entry contributes to digests: nothing if it is a tombstone."""
        if location.gone:
            return 0
        rank = self._share(location)[1]
        return int.from_bytes(blake2b(key + rank, digest_size=DIGEST_BYTES).digest())

    def _share(self, location: Location) -> tuple[Location, bytes]:
        shared = self._shared.get(location)
        if shared is None:
            if len(self._shared) >= SHARED_MAX:
                self._shared.clear()
            (epoch, (name, incarnation)), seq = location.term, location.seq
            rank = f"{epoch}/{incarnation}/{seq}/{name}".encode()
            shared = self._shared[location] = (location, rank)
        return shared

    def check_invariants(self) -> None:
        """Digests and length are what recomputing them gives."""
        groups = [0] * GROUPS
        length = 0
        for number, bucket in self._buckets.items():
            digest = 0
            for key, location in bucket.entries.items():
                assert bucket_of(key) == number, "an entry lies in another bucket than its own"
                digest ^= self._hash(key, location)
            assert digest == bucket.digest, "a bucket's digest is not that of its entries"
            assert bucket.entries, "an empty bucket is kept"
            groups[number // GROUP_BUCKETS] ^= digest
            length += len(bucket.entries)
        assert groups == self._group_digests, "a group's digest is not that of its buckets"
        assert length == self._length, "entries are miscounted"


def differing(mine: bytes, theirs: bytes) -> list[int]:
    """The places at which two runs of digests of equal length differ."""
    if mine == theirs:
        return []
    return [
        start // DIGEST_BYTES
        for start in range(0, len(mine), DIGEST_BYTES)
        if mine[start : start + DIGEST_BYTES] != theirs[start : start + DIGEST_BYTES]
    ]


def _joined(digests: Iterable[int]) -> bytes:
    return b"".join(digest.to_bytes(DIGEST_BYTES) for digest in digests)
