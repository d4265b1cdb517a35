"""What the store has of the sessions here, and bringing it up to date: the store as one more follower of a primary.

Each primary writes its sessions. What is to be written is a *set of keys*: the content is read from the copy when its
batch begins, so writes of one session coalesce, and the queue is never longer than there are copies (and ends of
sessions, which outlive their copies here until the store has them). One batch is under way at a time: writes that come
meanwhile make up the next one.

Invariants: with `store_write="through"` and a store that keeps up, an answer is released only when the store has the
version that it shows. A primary that the store lacks something of is in the queue or in the batch, whatever happens
to the store: when it fails, answers go on without it, counted, and everything is written when it is back. A record is
stamped with the *present* term of its primary, so a store refuses a primary that has been superseded, and a refusal is
news of that (`recall`). A tombstone is written only when every backup has acked it: what is stored as ended has ended.
"""

from collections.abc import Collection, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from sessiond.core.copies import Copy, Role
from sessiond.core.effects import StoreRead, StoreWrite
from sessiond.core.recall import Recall
from sessiond.core.resting import Resting
from sessiond.core.stored import PROBE_KEY, Stored
from sessiond.core.types import Key, Location, Term

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

BATCH_RECORDS = 500
BATCH_BYTES = 4 * 1024 * 1024
"""Most of one batch: some milliseconds of encoding, and one transaction that no store minds."""

ENDS_MAX = 1_000_000
"""Ends of sessions that wait for the store; an older one is given up, loudly, when there are more."""

BACKOFF_MIN_S = 0.2
BACKOFF_MAX_S = 5.0
"""A store that failed is tried again, by one record or one read, after the first of these, twice as long each time."""

USES_STORED_PER_TIMEOUT = 4
"""The last use of a session is written anew when this part of the idle time-out has passed since it was written."""


class StoreState(StrEnum):
    """How the store does, as nodes show it."""

    UP = "up"
    BEHIND = "behind"
    """It answers, and has yet to catch up: nobody waits for it meanwhile."""

    DOWN = "down"


class _Written(NamedTuple):
    """What a batch carries of one session."""

    term: Term
    version: int
    used_at: float


class _End(NamedTuple):
    """A session that ended here; its record keeps older ones from coming back until `until`."""

    term: Term
    version: int
    until: float


class _Batch(NamedTuple):
    number: int
    since: float
    """Since when the longest waiting of them waits."""

    copies: dict[Key, _Written]
    ends: dict[Key, _End]


class Storing:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self.recall = Recall(machine, self)
        self.resting = Resting(machine, self)
        self.state = StoreState.DOWN
        self.reason = "it has not been opened yet"
        """Why it is down."""

        self.is_shared = machine.options.store_kind == "shared"
        self.is_write_through = machine.options.store_write == "through"
        self.waits = False
        """Whether answers wait for the store now."""

        self._dirty: dict[Key, float] = {}
        """Sessions that the store lacks something of, and since when; the oldest first."""

        self._ends: dict[Key, _End] = {}
        self._batch: _Batch | None = None
        self._numbers = 0
        self._is_probing = False
        self._backoff_s = BACKOFF_MIN_S
        self._probe_at: float | None = None
        """None: it is up, or its opening is under way, which the driver reports."""

        self._changed_at = machine.now

    @property
    def is_down(self) -> bool:
        return self.state is StoreState.DOWN

    @property
    def backlog(self) -> int:
        """Sessions, and ends of sessions, that the store does not have as they are."""
        under_way = self._batch.copies if self._batch is not None else ()
        return len(self._dirty) + len(self._ends) + sum(key not in self._dirty for key in under_way)

    @property
    def is_idle(self) -> bool:
        """Whether the store has everything."""
        return not (self._dirty or self._ends or self._batch)

    # --- what there is to write -----------------------------------------------------------------------

    def note(self, copy: Copy) -> None:
        """A primary may have something that the store has not."""
        if copy.leads.stored >= copy.version or copy.key in self._dirty or copy.tombstone:
            return  # a tombstone's turn comes when every backup has it: `holds_back`
        if not self._is_under_way(copy):
            self._dirty[copy.key] = self._machine.now

    def holds_back(self, copy: Copy, version: int) -> bool:
        """Whether an answer that every backup has acked waits for the store to have this version too."""
        if copy.leads.stored >= version:
            return False
        if copy.key not in self._dirty and not self._is_under_way(copy):
            self._dirty[copy.key] = self._machine.now
        return self.waits

    def has(self, copy: Copy) -> bool:
        """Whether the store has a primary's session as it is."""
        return copy.leads.stored >= copy.version

    def used(self, copy: Copy) -> None:
        """A session was used: the store learns of that now and then, for the time-out after a restart."""
        interval_s = self._machine.options.idle_timeout_s / USES_STORED_PER_TIMEOUT
        if self.has(copy) and copy.accessed_at - copy.leads.use_stored_at > interval_s:
            self._dirty.setdefault(copy.key, self._machine.now)

    def ended(self, copy: Copy) -> None:
        """The end of a session is final. If the store has not heard of it, it will, though the copy is dropped."""
        if not self.has(copy):
            self._end(copy.key, copy.term, copy.version)

    def ended_elsewhere(self, copy: Copy, location: Location) -> None:
        """Another node ended a session of which there is a copy here: what is stored of it must not come back either.

        Not even if that node dies before it has told the store, hence whoever holds a copy tells it.
        """
        version = copy.version if copy.tombstone else copy.version + 1
        self._end(copy.key, max(copy.term, location.term), version)

    def _end(self, key: Key, term: Term, version: int) -> None:
        if len(self._ends) >= ENDS_MAX:
            lost = next(iter(self._ends))
            del self._ends[lost]
            self._machine.log("error", "store.end_given_up", key=lost.hex(), ends_max=ENDS_MAX)
        self._dirty.pop(key, None)
        self._ends[key] = _End(term, version, self._machine.now + self._tombstone_lives_s())

    def _is_under_way(self, copy: Copy) -> bool:
        written = self._batch.copies.get(copy.key) if self._batch is not None else None
        return written is not None and (written.term, written.version) == (copy.term, copy.version)

    # --- batches --------------------------------------------------------------------------------------

    def pay(self) -> None:
        """At the end of a turn: begin a batch with what has gathered, if none is under way."""
        if self._batch is None and (self._dirty or self._ends) and self.state is not StoreState.DOWN:
            self._begin(BATCH_RECORDS)

    def _begin(self, most: int) -> None:
        since = next(iter(self._dirty.values()), self._machine.now)
        self._numbers += 1
        batch = _Batch(self._numbers, since, {}, {})
        records = [*self._take_ends(batch, most), *self._take_copies(batch, most)]
        if records:
            self._batch = batch
            self._machine.emit(StoreWrite(batch.number, tuple(records)))
            self._machine.due(batch.since + self._machine.options.store_timeout_s)

    def _take_ends(self, batch: _Batch, most: int) -> Iterator[Stored]:
        now = self._machine.now
        for key, end in list(self._ends.items())[:most] if self._ends else ():
            batch.ends[key] = end
            yield Stored(key, end.term, end.version, max(0.0, end.until - now), None)

    def _take_copies(self, batch: _Batch, most: int) -> Iterator[Stored]:
        machine = self._machine
        bytes_left = BATCH_BYTES
        while self._dirty and len(batch.copies) + len(batch.ends) < most and bytes_left > 0:
            key = next(iter(self._dirty))
            del self._dirty[key]
            copy = machine.copies.get(key)
            if copy is None or copy.role is not Role.PRIMARY:
                continue  # whoever has it now writes it
            if copy.tombstone and any(f.acked < copy.version for f in copy.leads.followers.values()):
                continue  # not final yet
            bytes_left -= copy.bytes
            batch.copies[key] = _Written(copy.term, copy.version, copy.accessed_at)
            yield self._record(copy)

    def _record(self, copy: Copy) -> Stored:
        machine = self._machine
        if copy.tombstone:
            return Stored(copy.key, copy.term, copy.version, self._tombstone_lives_s(), None)
        # Its last use may be known later than that, so the record outlives it: to end early is a broken promise.
        options = machine.options
        lives_s = copy.accessed_at - machine.now + options.idle_timeout_s * (1 + 1 / USES_STORED_PER_TIMEOUT)
        if options.absolute_timeout_s > 0:
            lives_s = min(lives_s, copy.created_at + options.absolute_timeout_s - machine.now)
        return Stored(copy.key, copy.term, copy.version, max(0.0, lives_s), copy.data(machine.now))

    def _tombstone_lives_s(self) -> float:
        """Until no record of the session, on whichever node's disk, can be alive any more."""
        return self._machine.options.idle_timeout_s * (1 + 2 / USES_STORED_PER_TIMEOUT)

    # --- what comes of them -----------------------------------------------------------------------------

    def stored(self, number: int, refused: Collection[Key]) -> None:
        """A batch is written, but for the keys of which the store has a higher stamp."""
        batch = self._batch
        if batch is None or batch.number != number:
            return
        self._batch = None
        machine = self._machine
        machine.stats.store_batches += 1
        machine.stats.stored += len(batch.copies) + len(batch.ends) - len(refused)
        for key, end in batch.ends.items():
            if self._ends.get(key) == end:
                del self._ends[key]
            if key in refused:
                machine.stats.stores_refused += 1
                machine.log("warning", "store.end_refused", key=key.hex(), term=str(end.term))
        self.answers()
        for key, written in batch.copies.items():
            copy = machine.copies.get(key)
            if copy is None or copy.role is not Role.PRIMARY or copy.term != written.term:
                continue
            if key in refused:
                machine.stats.stores_refused += 1
                self.recall.superseded(copy)
            else:
                self._has_stored(copy, written)

    def _has_stored(self, copy: Copy, written: _Written) -> None:
        machine, leads = self._machine, copy.leads
        leads.stored = max(leads.stored, written.version)
        leads.use_stored_at = max(leads.use_stored_at, written.used_at)
        self.note(copy)
        if copy.key in machine.replication.waiting:
            machine.replication.progress(copy)
        elif leads.resting is not None:
            self.resting.go_on(copy)

    def failed(self, number: int, reason: str) -> None:
        """A batch may or may not have been written: it goes again when the store answers."""
        batch = self._batch
        if batch is None or batch.number != number:
            return
        self._batch = None
        self._dirty = {**dict.fromkeys(batch.copies, batch.since), **self._dirty}
        self.fails(reason)

    # --- how the store does ---------------------------------------------------------------------------

    def opened(self) -> None:
        """The store has been opened: it is up unless there is something to catch up with."""
        self.answers()

    def answers(self) -> None:
        """Something that was asked of the store has succeeded."""
        self._is_probing = False
        self._probe_at = None
        self._backoff_s = BACKOFF_MIN_S
        is_behind = len(self._dirty) + len(self._ends) >= BATCH_RECORDS
        if self.state is not StoreState.UP and not is_behind:
            self._become(StoreState.UP)
        elif self.state is StoreState.DOWN:
            self._become(StoreState.BEHIND)

    def fails(self, reason: str) -> None:
        """Something that was asked of the store has failed, or took too long."""
        machine = self._machine
        machine.stats.store_failures += 1
        self._is_probing = False
        self.reason = reason
        self._probe_at = machine.now + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_MAX_S)
        machine.due(self._probe_at)
        if self.state is not StoreState.DOWN:
            self._become(StoreState.DOWN)

    def _become(self, state: StoreState) -> None:
        machine = self._machine
        before, self.state = self.state, state
        lasted_s, self._changed_at = round(machine.now - self._changed_at, 3), machine.now
        self.waits = state is StoreState.UP and self.is_write_through
        fields = {"was": str(before), "for_s": lasted_s, "backlog": self.backlog}
        if state is StoreState.DOWN:
            machine.log("error", "store.down", reason=self.reason, **fields)
        else:
            machine.log("info", f"store.{state}", **fields)
        machine.members_changed()
        if not self.waits:
            self._let_go()

    def _let_go(self) -> None:
        """Nobody waits for the store any longer."""
        machine = self._machine
        for key in list(machine.replication.waiting):
            copy = machine.copies.get(key)
            if copy is not None and copy.role is Role.PRIMARY:
                machine.replication.progress(copy)

    # --- time -----------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        if self.state is StoreState.DOWN:
            return self._probe_at
        since = self._waits_since()
        return since + self._machine.options.store_timeout_s if since is not None and self.waits else None

    def _waits_since(self) -> float | None:
        if self._batch is not None:
            return self._batch.since
        return next(iter(self._dirty.values()), None)

    def tick(self, now: float) -> None:
        since = self._waits_since()
        if self.state is StoreState.DOWN:
            if self._probe_at is not None and now >= self._probe_at:
                self._probe()
        elif self.waits and since is not None and now >= since + self._machine.options.store_timeout_s:
            self._become(StoreState.BEHIND)

    def _probe(self) -> None:
        """Ask one thing of a store that has failed."""
        self._probe_at = None
        if self._batch is None:
            self._begin(1)
        if self._batch is None:
            self._is_probing = True
            self._machine.emit(StoreRead(PROBE_KEY))

    def check_invariants(self) -> None:
        """Whatever the store lacks of a primary's session is on its way to it, or in the queue."""
        machine = self._machine
        under_way = self._batch.copies if self._batch is not None else {}
        for copy in machine.copies.values():
            if copy.role is Role.PRIMARY and not copy.tombstone and copy.leads.stored < copy.version:
                key = copy.key
                assert key in self._dirty or key in under_way or self.recall.is_reading(key), (
                    "a session is not in the store, and not on its way to it"
                )
        assert self.state is not StoreState.DOWN or not self.waits, "answers wait for a store that is down"
