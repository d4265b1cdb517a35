"""Anti-entropy: two nodes compare digests of their directories and tell each other what differs (protocol 3).

Announcements are sent once, so one that a broken link swallowed would be missing for ever. Each node compares
with a random member every `DIGEST_INTERVAL_S`, and with a member at once when a link to it opens:

    DIGEST of all groups →            one short message; equal: that was all
                         ← DIGEST of the buckets of groups that differ
    DIR, a whole bucket  →            for each bucket that differs
                         ← DIR, what the answerer knows better, or alone

Whoever learnt something compares again soon, until nothing differs. Both sides of every bucket that differs
can learn from it, so this ends. All entries that a node sends this way come out of one budget, so a
cluster of any size that heals costs each node a bounded share of its time.

A tombstone travels only to correct a live entry: who knows nothing of the session need not learn of its end
again, or a tombstone would go round for ever among nodes that forget it at different moments. An entry that names only
lives that are over is not learnt for the same reason: each node forgets it in its own time (`forgetting`).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.directory import GROUP_BUCKETS, differing
from sessiond.core.options import DIGEST_INTERVAL_S
from sessiond.core.throttle import TokenBucket
from sessiond.core.types import Key, Life, Location

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

STEP_S = 0.025
"""Time between two comparisons while there is something to repair."""

STEP_ENTRIES = 1000
"""Entries that a node sends in a step: a few milliseconds of work on either side."""

STEP_GROUPS = 8
"""Groups whose buckets are compared in a step."""


class Repair:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._round_at = machine.now + DIGEST_INTERVAL_S
        self._step_at = machine.now
        self._soon: dict[Life, None] = {}
        """Members with which to compare as soon as the pace allows, the longest wait first."""

        self._budget = TokenBucket(STEP_ENTRIES / STEP_S, STEP_ENTRIES, machine.now)

    # --- when -----------------------------------------------------------------------------------------

    def compare_soon(self, life: Life) -> None:
        """There may be something to repair between this node and `life`."""
        if not self._machine.asks_for_locations:
            self._soon[life] = None
            self._machine.due(self._step_at)

    def next_deadline(self) -> float | None:
        if self._machine.asks_for_locations:
            return None
        return min(self._step_at, self._round_at) if self._soon else self._round_at

    def tick(self, now: float) -> None:
        machine = self._machine
        if machine.asks_for_locations:
            return
        if now >= self._round_at:
            self._round_at = now + DIGEST_INTERVAL_S
            linked = machine.membership.linked()
            if linked:
                self._soon.setdefault(machine.rng.choice(linked))
        if not self._soon or now < self._step_at:
            return
        self._step_at = now + STEP_S
        if not machine.membership.joined:
            return  # a joiner compares with everybody it has met once it has loaded what one of them knows
        life = next(iter(self._soon))
        del self._soon[life]
        if machine.membership.is_linked(life):
            machine.stats.digests_compared += 1
            machine.send((life,), m.Digest(None, machine.directory.group_digests()))

    # --- how ------------------------------------------------------------------------------------------

    def on_digest(self, life: Life, digest: m.Digest) -> None:
        """Compare with the own digests; go into what differs, as far as pace and budget allow."""
        machine = self._machine
        if machine.asks_for_locations or not machine.membership.joined:
            return
        directory = machine.directory
        if digest.group is None:
            groups = differing(directory.group_digests(), digest.digests)
            # Not always the same ones first: several peers then work on different parts.
            for group in machine.rng.sample(groups, min(len(groups), STEP_GROUPS)):
                machine.send((life,), m.Digest(group, directory.bucket_digests(group)))
            return
        first = digest.group * GROUP_BUCKETS
        for place in differing(directory.bucket_digests(digest.group), digest.digests):
            entries = directory.bucket(first + place)
            if not self._budget.take(machine.now, len(entries) + 1):
                self.compare_soon(life)
                return
            machine.send((life,), m.Dir(first + place, tuple(entries), whole=True))

    def on_dir(self, life: Life, message: m.Dir) -> None:
        """Learn what `life` knows better about a bucket; if it is the whole one, answer with the rest."""
        machine = self._machine
        if machine.asks_for_locations:
            return
        better = self._better(message) if message.whole else []
        if self._learn(message.entries):
            self.compare_soon(life)
        if not better:
            return
        if self._budget.take(machine.now, len(better)):
            machine.send((life,), m.Dir(message.bucket, tuple(better), whole=False))
        else:
            self.compare_soon(life)

    def _better(self, message: m.Dir) -> list[tuple[Key, Location]]:
        """What this node's directory has in a bucket that outranks, or is missing from, the peer's."""
        theirs = {key: location.rank for key, location in message.entries}
        return [
            (key, location)
            for key, location in self._machine.directory.bucket(message.bucket)
            if (location.rank > theirs[key] if key in theirs else not location.gone)
        ]

    def _learn(self, entries: Iterable[tuple[Key, Location]]) -> bool:
        machine = self._machine
        get = machine.directory.get
        news = [
            (key, location)
            for key, location in entries
            if get(key) is not None or not (location.gone or self._is_lost(location))
        ]
        learnt = machine.locating.learn(news)
        machine.stats.locations_repaired += learnt
        return learnt > 0

    def _is_lost(self, location: Location) -> bool:
        """Whether it names only lives that are over."""
        is_dead = self._machine.membership.is_dead
        return is_dead(location.term.owner) and all(is_dead(life) for life in location.backups)
