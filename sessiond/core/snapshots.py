"""The directory on its way to a joiner, one chunk after the other (protocol 1.7 and 3).

The joiner asks for each chunk when it has merged the one before, so neither side ever has more than a few in
hand, however large the directory: one of each of `STRIPES` parts, so that the wait for one chunk is filled by
the others. A chunk is a run of whole buckets: entries never change their bucket, so the giver keeps nothing
between two chunks, and the joiner's cursors are all there is to a transfer. What changes meanwhile is announced
to the joiner as to everybody; merging makes the order irrelevant. What it misses before its links to all members
are made, `repair` finds.

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

STRIPES = 4
"""Parts of the directory that are loaded side by side."""

STRIPE_BUCKETS = BUCKETS // STRIPES

SNAPSHOT_WAIT_S = 2.0
"""A giver gets so long for a chunk before the transfer starts anew."""


class Snapshots:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._giver: Life | None = None
        self._cursors: set[int] = set()
        """The next bucket of each stripe that has not ended."""

        self._heard_at = 0.0

    # --- the joiner -----------------------------------------------------------------------------------

    def load(self, givers: list[Life]) -> None:
        """Load the directory of one of these members; if that is under way and goes well, let it go on."""
        machine = self._machine
        if self._giver in givers and machine.now - self._heard_at <= SNAPSHOT_WAIT_S:
            return
        others = [life for life in givers if life != self._giver]
        self._giver = machine.rng.choice(others or givers)
        self._heard_at = machine.now
        self._cursors = set(range(0, BUCKETS, STRIPE_BUCKETS))
        for first in range(0, BUCKETS, STRIPE_BUCKETS):
            machine.send((self._giver,), m.SnapshotRequest(first))

    def link_closed(self, life: Life) -> None:
        """What was on its way may be lost."""
        if life == self._giver:
            self._giver = None

    def on_snapshot(self, life: Life, snapshot: m.Snapshot) -> None:
        machine = self._machine
        machine.locating.learn(snapshot.locations)
        for dead in snapshot.dead:
            if dead.name != machine.life.name:
                machine.membership.bury(dead, "known to the cluster", certain=True)
        for acquaintance in snapshot.roster:
            machine.membership.learn(acquaintance.life, acquaintance.cluster, machine.now)
        if life != self._giver or snapshot.first not in self._cursors or snapshot.end <= snapshot.first:
            return  # of a transfer that was given up, or a member's roster alone
        self._heard_at = machine.now
        self._cursors.remove(snapshot.first)
        if not snapshot.last:
            self._cursors.add(snapshot.end)
            machine.send((life,), m.SnapshotRequest(snapshot.end))
        elif not self._cursors:
            self._giver = None
            machine.membership.joining.snapshot_received(life)

    # --- the giver ------------------------------------------------------------------------------------

    def on_request(self, life: Life, request: m.SnapshotRequest) -> None:
        machine = self._machine
        if not machine.membership.joined:
            return
        first = request.first
        limit = first - first % STRIPE_BUCKETS + STRIPE_BUCKETS
        end = limit if machine.asks_for_locations else first
        locations: list[tuple[Key, Location]] = []
        while end < limit and len(locations) < SNAPSHOT_CHUNK:
            locations += machine.directory.bucket(end)
            end += 1
        last = end == limit
        # With the first chunk the joiner begins to make its links, with the last ones it is up to date.
        tells_members = last or first == 0
        roster = machine.membership.roster() if tells_members else ()
        dead = machine.membership.dead_lives() if tells_members else ()
        machine.send((life,), m.Snapshot(tuple(locations), last, roster, dead, first, end))
