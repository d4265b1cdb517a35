"""What nodes say to each other: one value per kind of message.

Names are those of the protocol. Messages are tuples, so that packing them costs nothing; `codec` gives
each its number on the wire and checks what comes in. PUT and PATCH are *numbered* frames: each is either
covered by a later cumulative `Ack` or named by a `Nack` that stands before that Ack in the same stream.
"""

from typing import NamedTuple

from sessiond.core.types import Attribute, Key, Life, Location, Stamp, Term

# --- membership -------------------------------------------------------------------------------------


class Status(NamedTuple):
    """What a node says of itself on each PING and PONG."""

    joined: bool
    draining: bool
    full: bool
    primaries: int
    backups: int
    unprotected: int


class Rumour(NamedTuple):
    """Gossip about a life: `accusers` cannot reach it; none: it is alive, and refutes what is said with less.

    `number` is the accused's refutation number. Only the accused raises it, and only within one life.
    """

    life: Life
    number: int
    accusers: tuple[Life, ...]


class Ping(NamedTuple):
    """Asks for a `Pong` with the same number: is this very process alive?"""

    number: int
    status: Status
    rumours: tuple[Rumour, ...]


class Pong(NamedTuple):
    number: int
    status: Status
    rumours: tuple[Rumour, ...]


class PingRequest(NamedTuple):
    """Ping `life` for me, and tell me with this number what came of it."""

    number: int
    life: Life


class Relayed(NamedTuple):
    """Answers a `PingRequest`. Not `answered`: the relay is well, and has not heard from `life` in time."""

    number: int
    life: Life
    answered: bool


class Vote(NamedTuple):
    """`voter`, the sender or somebody it has heard, has evidence since `age_s` that `life` is dead.

    `certain`: more than silence; the process, and what it held, is gone.
    """

    life: Life
    voter: str
    age_s: float
    certain: bool


class Leave(NamedTuple):
    """`life`, the sender or somebody it has heard, has handed everything over and ends."""

    life: Life


class Roll(NamedTuple):
    """For a member that is met: whom the cluster counts (dead ones too), and all votes, which it may have missed."""

    names: tuple[str, ...]
    votes: tuple[Vote, ...]


class LeaseAsk(NamedTuple):
    """Under `majority`: do I count with you? Answered by who does not take the sender for dead."""

    round: int


class LeaseAnswer(NamedTuple):
    """Yes. `size`: how many members the sender counts."""

    round: int
    size: int


class StandingAsk(NamedTuple):
    """I stood still: does this life of mine still count?"""


class StandingAnswer(NamedTuple):
    """`counts`: I do not take you for dead. False as well if I stood still myself and cannot say."""

    counts: bool


class Acquaintance(NamedTuple):
    """A member as others may reach it."""

    life: Life
    cluster: str


# --- names ------------------------------------------------------------------------------------------


class Lives(NamedTuple):
    """From now on, on this link, the sender may say the next free numbers for these lives: 0, 1, ….

    The two ends of a link keep this to themselves (`sessiond.wire`): no core hears of it.
    """

    lives: tuple[Life, ...]


# --- directory --------------------------------------------------------------------------------------


class SnapshotRequest(NamedTuple):
    """A joiner asks for the directory from this bucket on; it gets a part of the stripe and asks for the next one."""

    first: int


class Snapshot(NamedTuple):
    """A part of the sender's directory: buckets `first` to before `end`. `last`: it ends a stripe of them.

    Roster and dead lives come with the first part and with the last ones. `dead`: for each name, the highest
    incarnation known to be dead.
    """

    locations: tuple[tuple[Key, Location], ...]
    last: bool
    roster: tuple[Acquaintance, ...]
    dead: tuple[Life, ...]
    first: int = 0
    end: int = 0


class Locations(NamedTuple):
    """Announced locations; merged in any order, any number of times."""

    entries: tuple[tuple[Key, Location], ...]


class Denied(NamedTuple):
    """Sessions that nobody holds, with the places of which the sender, their owner or who has asked everybody, knows that."""

    entries: tuple[tuple[Key, Term, int], ...]


class Digest(NamedTuple):
    """Digests of the sender's directory: of every group of buckets, or of the buckets of one group."""

    group: int | None
    digests: bytes


class Dir(NamedTuple):
    """Entries of one bucket: all that the sender has if it is `whole`, else what it knows better."""

    bucket: int
    entries: tuple[tuple[Key, Location], ...]
    whole: bool


class Aliases(NamedTuple):
    """Rotated sessions: old key, new key, and for how many seconds the old one answers still."""

    entries: tuple[tuple[Key, Key, float], ...]


# --- replication ------------------------------------------------------------------------------------


class CopyData(NamedTuple):
    """A whole session. Durations, never clock readings: `age_s` since creation, `idle_s` since last use."""

    attributes: dict[str, Attribute]
    version: int
    last: Stamp
    tombstone: bool
    age_s: float
    idle_s: float
    write_ids: tuple[bytes, ...]
    alias: tuple[Key, float] | None = None
    """Of a tombstone: the key under which the session goes on, and for how many seconds to say so."""


class Put(NamedTuple):
    """Be a backup of this session, with this content. seq 0: fences on behalf of a grant."""

    key: Key
    term: Term
    seq: int
    backups: tuple[Life, ...]
    data: CopyData


class Patch(NamedTuple):
    """Apply `changes` to the copy whose last stamp is exactly `base`; the result has stamp (term, version).

    `base_term` None stands for `term`, which is nearly always so.
    """

    key: Key
    term: Term
    seq: int
    base_term: Term | None
    base_version: int
    version: int
    changes: dict[str, bytes | None]
    write_id: bytes | None

    @property
    def base(self) -> Stamp:
        return Stamp(self.base_term or self.term, self.base_version)


class Ack(NamedTuple):
    """Every numbered frame up to `frame` has been *applied*, but for those a Nack named before."""

    frame: int


class Nack(NamedTuple):
    """Numbered frame `frame` was not applied; the message that follows says why."""

    frame: int


class Gap(NamedTuple):
    """I do not hold what your PATCH builds on: send the whole session."""

    key: Key
    term: Term


class Fenced(NamedTuple):
    """You are not the primary any more: here is who is."""

    key: Key
    location: Location


class Release(NamedTuple):
    """Drop your copy; the list has enough others."""

    key: Key
    term: Term
    seq: int


class Released(NamedTuple):
    key: Key
    term: Term
    seq: int


class Confirm(NamedTuple):
    """A backup asks its owner whether it still counts."""

    key: Key
    term: Term
    seq: int
    last: Stamp


class Resigned(NamedTuple):
    """The owner of this term has given it up and will never act in it again."""

    key: Key
    term: Term


class Touch(NamedTuple):
    """Seconds since the last use of sessions that the receiver backs up."""

    idle_s: tuple[tuple[Key, float], ...]


class Forward(NamedTuple):
    """A commit made on a node that is no longer the primary. `invalidate` ends the session instead.

    `successor`: with `invalidate`, the key under which the session goes on.
    """

    key: Key
    write_id: bytes
    changes: dict[str, bytes | None]
    if_version: int | None
    invalidate: bool
    successor: Key | None = None


class ForwardResult(NamedTuple):
    """`outcome`: ok, gone, conflict, refused (not primary; nothing was written), limit. `version`: after, or found."""

    write_id: bytes
    outcome: str
    version: int
    protected: bool
    detail: str


# --- takeover ---------------------------------------------------------------------------------------


class Who(NamedTuple):
    """Who has this key?"""

    key: Key
    round: int


class Held(NamedTuple):
    """A copy as its holder describes it. `role`: P, B or Q."""

    role: str
    term: Term
    seq: int
    backups: tuple[Life, ...]
    last: Stamp


class Here(NamedTuple):
    """Answers `Who`. `decides`: with a copy in doubt the sender is about to act, and has not seen the asker's copy.

    `unread`: the sender has a store of its own that it cannot read, so the session may lie there.
    """

    key: Key
    round: int
    held: Held | None
    location: Location | None
    decides: bool = False
    unread: bool = False


class Claim(NamedTuple):
    """`asker` wants to be primary. `installed`: the term of its own copy. `floor`: the highest term it knows."""

    key: Key
    asker: Life
    installed: Term | None
    floor: Term | None
    round: int
    location: Location | None


class Grant(NamedTuple):
    """You are the primary in `term`; everybody else who could act is fenced."""

    key: Key
    term: Term
    backups: tuple[Life, ...]
    data: CopyData


class Refer(NamedTuple):
    """Not I: look there. `empty`: I hold no active copy of it."""

    key: Key
    location: Location | None
    empty: bool
    round: int


class Offer(NamedTuple):
    """A quarantined copy's content, for the primary to merge."""

    key: Key
    term: Term
    data: CopyData


class OfferOk(NamedTuple):
    """The offered content is in the primary's copy and on its backups: drop yours."""

    key: Key


Message = (
    Ping
    | Pong
    | PingRequest
    | Relayed
    | Vote
    | Leave
    | Roll
    | LeaseAsk
    | LeaseAnswer
    | StandingAsk
    | StandingAnswer
    | SnapshotRequest
    | Snapshot
    | Locations
    | Denied
    | Digest
    | Dir
    | Aliases
    | Put
    | Patch
    | Ack
    | Nack
    | Gap
    | Fenced
    | Release
    | Released
    | Confirm
    | Resigned
    | Touch
    | Forward
    | ForwardResult
    | Who
    | Here
    | Claim
    | Grant
    | Refer
    | Offer
    | OfferOk
)
