"""The copies that this node holds, and what they weigh.

A copy is a session's content with its place in the protocol: role, term, list. This module owns content
and accounting (bytes per node, counts per role); who may change what, and when, is `replication`'s and
`takeover`'s business. Encoded values only: nobody here looks into an attribute.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sessiond.core.messages import CopyData
from sessiond.core.options import WRITE_IDS_KEPT
from sessiond.core.table import Table, Walk
from sessiond.core.types import EPOCH_NONE, Alias, Attribute, Key, Life, Location, Stamp, Term

COPY_BYTES = 1000
"""What a copy weighs before its attributes: object, key, table entries (measured by `tests.bench.memory`). That of a
primary; a backup takes 350 bytes less, but may become a primary at any moment, and there must be room for that."""

ATTRIBUTE_BYTES = 190
"""What an attribute weighs besides the bytes of its name and value."""


class Role(StrEnum):
    PRIMARY = "P"
    BACKUP = "B"
    QUARANTINED = "Q"
    """Of unknown standing: serves and grants nothing until a primary has taken its news, or none exists."""


@dataclass(slots=True)
class Follower:
    """What a primary, or a granter that fences, knows of one member of the list."""

    added_seq: int
    """List change that added it: acks of before are of an earlier stint."""

    acked: int = -1
    """Highest version it has applied; -1: nothing yet."""

    sent_at: float = float("-inf")
    waiting_since: float = 0.0
    """Since when it owes an ack."""

    slow: bool = False
    released_at: float | None = None
    """When it was last asked to leave; it counts until it has left."""


@dataclass(slots=True)
class Pending:
    """An answer that waits until the list has applied `version`."""

    operation: int | None
    """The application's operation; None if nobody waits here."""

    version: int
    tombstone: bool = False
    offered_by: Life | None = None
    forwarded: tuple[Life, bytes] | None = None
    """Node and write id of a commit that came by FORWARD."""


@dataclass(slots=True)
class Handoff:
    """A live primary is giving the session away: no new requests from `freeze_at`, no writes from `deadline`."""

    to: Life
    freeze_at: float
    deadline: float
    installed: Term | None = None


@dataclass(slots=True)
class GrantState:
    """A term is being granted: the other holders are fenced first, then `to` gets it."""

    to: Life
    started_at: float


@dataclass(slots=True)
class Unsent:
    """What a primary has written and keeps back until its next flush (`flushing`)."""

    base: Stamp
    """Of what the backups were sent last."""

    names: dict[str, None] = field(default_factory=dict)
    """Attributes written since."""


@dataclass(slots=True)
class Leadership:
    """What only a primary, or a copy that is granting, keeps; backups stay small."""

    since: float
    followers: dict[Life, Follower] = field(default_factory=dict)
    pending: list[Pending] = field(default_factory=list)
    """The oldest first. A list, though it is taken from the front: it is short, and an empty deque takes 700 bytes."""

    handoff: Handoff | None = None
    grant: GrantState | None = None
    in_flight: int = 0
    """Requests that hold the session."""

    unsent: Unsent | None = None
    stored: int = -1
    """Highest version that the store has of this term; -1: none."""

    use_stored_at: float = float("-inf")
    """The last use that the store knows of."""

    resting: float | None = None
    """When the session was last used, if it has been chosen to rest in the store since."""


class Copy:
    """One session on this node."""

    __slots__ = (
        "accessed_at",
        "alias",
        "attributes",
        "backups",
        "bytes",
        "created_at",
        "key",
        "last",
        "leadership",
        "role",
        "seq",
        "term",
        "tombstone",
        "version",
        "write_ids",
    )

    def __init__(self, key: Key, role: Role, term: Term, now: float) -> None:
        self.key = key
        self.role = role
        self.term = term
        self.seq = 0
        self.backups: tuple[Life, ...] = ()
        self.attributes: dict[str, Attribute] = {}
        self.version = 0
        self.last: Stamp = EPOCH_NONE
        self.tombstone = False
        self.alias: Alias | None = None
        """Of a tombstone: where the session goes on, for the grace of its rotation."""
        self.created_at = now
        self.accessed_at = now
        self.write_ids: tuple[bytes, ...] = ()
        self.leadership: Leadership | None = None
        self.bytes = COPY_BYTES

    @property
    def leads(self) -> Leadership:
        """The leadership of a copy that has one."""
        assert self.leadership is not None, "only a primary or a granter leads"
        return self.leadership

    @property
    def is_granting(self) -> bool:
        return self.leadership is not None and self.leadership.grant is not None

    @property
    def sent(self) -> Stamp:
        """Stamp of what the list was sent and has to ack: all but what is kept back for the next flush."""
        leads = self.leadership
        return self.last if leads is None or leads.unsent is None else leads.unsent.base

    @property
    def location(self) -> Location:
        """Where this copy says the session lives."""
        return Location(self.term, self.seq, self.backups)

    def read(self, name: str) -> bytes | None:
        attribute = self.attributes.get(name)
        return attribute.value if attribute is not None else None

    def names(self) -> Iterator[str]:
        return (name for name, attribute in self.attributes.items() if attribute.value is not None)

    def content_bytes(self) -> int:
        """Bytes of names and values, as `session_bytes_max` counts them."""
        return sum(len(name) + len(value or b"") for name, (value, _) in self.attributes.items())

    def data(self, now: float) -> CopyData:
        """The whole content, for a message."""
        return CopyData(
            dict(self.attributes),
            self.version,
            self.last,
            self.tombstone,
            max(0.0, now - self.created_at),
            max(0.0, now - self.accessed_at),
            self.write_ids,
            None if self.alias is None else (self.alias.key, max(0.0, self.alias.until - now)),
        )

    def load(self, data: CopyData, now: float) -> None:
        """Become this content."""
        self.attributes = data.attributes
        self.version = data.version
        self.last = data.last
        self.tombstone = data.tombstone
        self.alias = None if data.alias is None else Alias(data.alias[0], now + data.alias[1])
        self.created_at = now - data.age_s
        self.accessed_at = now - data.idle_s
        self.write_ids = data.write_ids
        self._weigh()

    def apply(self, changes: Mapping[str, bytes | None], stamp: Stamp, write_id: bytes | None) -> None:
        """Apply one write; the stamp becomes the copy's last one."""
        delta = 0
        for name, value in changes.items():
            old = self.attributes.get(name)
            if old is None:
                delta += ATTRIBUTE_BYTES + len(name)
            else:
                delta -= len(old.value or b"")
            delta += len(value or b"")
            self.attributes[name] = Attribute(value, stamp)
        self.bytes += delta
        self.version = stamp.version
        self.last = stamp
        if write_id is not None:
            self.write_ids = (*self.write_ids, write_id)[-WRITE_IDS_KEPT:]

    def news_over(self, other: Mapping[str, Attribute]) -> dict[str, Attribute]:
        """The attributes of this copy that were written later than those of `other`."""
        return newer(self.attributes, other)

    def absorb(self, news: Mapping[str, Attribute], stamp: Stamp) -> None:
        """Take attributes over with their own stamps; the merge itself is a write with `stamp`."""
        self.attributes.update(news)
        self.version = stamp.version
        self.last = stamp
        self._weigh()

    def fold_in(self, data: CopyData, term: Term, now: float) -> None:
        """Make of this copy and another, both in doubt, one: of each attribute the later write, of all else the higher."""
        self.attributes.update(newer(data.attributes, self.attributes))
        self.term = max(self.term, term)
        self.last = max(self.last, data.last)
        self.version = max(self.version, data.version)
        self.tombstone = self.tombstone or data.tombstone
        self.take_times(data, now)
        self.write_ids = tuple(dict.fromkeys((*data.write_ids, *self.write_ids)))[-WRITE_IDS_KEPT:]
        self._weigh()

    def take_times(self, data: CopyData, now: float) -> None:
        """Of when the session was made and last used, what this copy does not know yet."""
        self.created_at = min(self.created_at, now - data.age_s)
        self.accessed_at = max(self.accessed_at, now - data.idle_s)

    def _weigh(self) -> None:
        self.bytes = COPY_BYTES + self.content_bytes() + ATTRIBUTE_BYTES * len(self.attributes)


def newer(mine: Mapping[str, Attribute], theirs: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Attributes of `mine` that `theirs` lacks or has with an older stamp."""
    return {
        name: attribute
        for name, attribute in mine.items()
        if name not in theirs or attribute.stamp > theirs[name].stamp
    }


class CopyStore:
    """All copies of this node, by key; keeps count of bytes and roles."""

    def __init__(self) -> None:
        self._copies: Table[Copy] = Table()
        self.bytes = 0
        self.counts: dict[Role, int] = dict.fromkeys(Role, 0)
        self.get = self._copies.get  # the most frequent call there is: bound once

    def __len__(self) -> int:
        return len(self._copies)

    def __contains__(self, key: Key) -> bool:
        return key in self._copies

    def __getitem__(self, key: Key) -> Copy:
        return self._copies[key]

    def walk(self) -> Walk:
        """Go through the keys of all copies, in steps."""
        return Walk(self._copies)

    def values(self) -> Iterator[Copy]:
        """All copies; they may come and go meanwhile. It takes as long as there are copies: see `walk`."""
        return self._copies.values()

    def put(self, copy: Copy) -> None:
        """Add a copy, in place of one that is there."""
        self.remove(copy.key)
        self._copies[copy.key] = copy
        self.bytes += copy.bytes
        self.counts[copy.role] += 1

    def remove(self, key: Key) -> Copy | None:
        copy = self._copies.pop(key)
        if copy is not None:
            self.bytes -= copy.bytes
            self.counts[copy.role] -= 1
        return copy

    def set_role(self, copy: Copy, role: Role) -> None:
        self.counts[copy.role] -= 1
        copy.role = role
        self.counts[role] += 1

    def reweigh(self, bytes_before: int, copy: Copy) -> None:
        """A stored copy's content changed; it weighed `bytes_before`."""
        self.bytes += copy.bytes - bytes_before

    def check_invariants(self) -> None:
        self._copies.check_invariants()
        assert self.bytes == sum(copy.bytes for copy in self._copies.values())
        for role in Role:
            assert self.counts[role] == sum(c.role is role for c in self._copies.values())
