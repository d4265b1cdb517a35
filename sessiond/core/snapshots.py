"""The directory on its way to a joiner, one chunk after the other (protocol 1.7 and 3).

The joiner asks for each chunk when it has merged the one before, so neither side ever has more than one in
hand, however large the directory. A chunk is a run of whole buckets: entries never change their bucket, so
the giver keeps nothing between two chunks, and the joiner's cursor is all there is to a transfer. What
changes meanwhile is announced to the joiner as to everybody; merging makes the order irrelevant. What it
misses before its links to all members are made, `repair` finds.

A transfer starts anew, with another giver if there is one, when the giver is lost or keeps silent: what it
announced meanwhile may be lost with it. With `location="query"` there is nothing to transfer but the roster.
"""

from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.directory import BUCKETS
from sessiond.core.options import SNAPSHOT_CHUNK
from sessiond.core.types import Key, Life, Location

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

SNAPSHOT_WAIT_S = 2.0
"""A giver gets so long for a chunk before the transfer starts anew."""


class Snapshots:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._giver: Life | None = None
        self._next_bucket = 0
        self._asked_at = 0.0

    # --- the joiner -----------------------------------------------------------------------------------

    def load(self, givers: list[Life]) -> None:
        """Load the directory of one of these members; if that is under way and goes well, let it go on."""
        machine = self._machine
        if self._giver in givers and machine.now - self._asked_at <= SNAPSHOT_WAIT_S:
            return
        others = [life for life in givers if life != self._giver]
        self._giver = machine.rng.choice(others or givers)
        self._next_bucket = 0
        self._ask()

    def _ask(self) -> None:
        if self._giver is not None:
            self._asked_at = self._machine.now
            self._machine.send((self._giver,), m.SnapshotRequest(self._next_bucket))

    def on_snapshot(self, life: Life, snapshot: m.Snapshot) -> None:
        machine = self._machine
        machine.learn_locations(snapshot.locations)
        for dead in snapshot.dead:
            if dead.name != machine.life.name:
                machine.membership.bury(dead, "known to the cluster", certain=True)
        for acquaintance in snapshot.roster:
            machine.membership.learn(acquaintance.life, acquaintance.cluster, machine.now)
        if life != self._giver or snapshot.first != self._next_bucket or machine.membership.joined:
            return  # of a transfer that was given up, or a member's roster alone
        if snapshot.last:
            self._giver = None
            machine.membership.joining.snapshot_received(life)
        else:
            self._next_bucket = snapshot.end
            self._ask()

    # --- the giver ------------------------------------------------------------------------------------

    def on_request(self, life: Life, request: m.SnapshotRequest) -> None:
        machine = self._machine
        if not machine.membership.joined:
            return
        first, end = request.first, BUCKETS
        locations: list[tuple[Key, Location]] = []
        if not machine.asks_for_locations:
            end = first
            while end < BUCKETS and len(locations) < SNAPSHOT_CHUNK:
                locations += machine.directory.bucket(end)
                end += 1
        last = end >= BUCKETS
        # With the first chunk the joiner begins to make its links, with the last one it is up to date.
        tells_members = last or first == 0
        roster = machine.membership.roster() if tells_members else ()
        dead = machine.membership.dead_lives() if tells_members else ()
        machine.send((life,), m.Snapshot(tuple(locations), last, roster, dead, first, end))
