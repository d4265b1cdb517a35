"""A primary's list of backups: how it grows and shrinks (protocol 2.4), and that it is told (protocol 3.1).

Invariant: changes are append-only. A newcomer is added and counts at once; a member leaves only by its own word
(RELEASED) or by death, and counts until then, however slow it is. Who is a good member is `candidates`' to say, when
lists are gone through without a write `upkeep`'s, `reprotection`'s and `rebalancing`'s.
"""

from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.copies import Copy, Follower, Role
from sessiond.core.table import Table
from sessiond.core.types import Key, Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Lists:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self.repairing: dict[Key, float] = {}
        """Primaries whose list is not as it should be and can be mended, and when they were last looked at."""

        self.unprotected: Table[None] = Table()
        """Primaries with fewer backups in step than configured, whether that can be mended or not."""

    def forget(self, key: Key) -> None:
        """This node is not the session's primary any more."""
        self.repairing.pop(key, None)
        self.unprotected.pop(key)

    def maintain(self, copy: Copy) -> None:
        """Bring a primary's list towards the backups in step that are wanted, then release what may go.

        Append-only: a newcomer is added and counts at once; a slow or surplus member is asked to leave and
        counts until it has left.
        """
        machine = self._machine
        now = machine.now
        leads = copy.leads
        changed = machine.lease.is_held() and self._drop_dead(copy)
        sent = copy.sent.version
        for life, follower in leads.followers.items():
            if follower.acked >= sent:
                follower.slow = False
                follower.waiting_since = now
            elif now - follower.waiting_since > machine.options.ack_timeout_s:
                follower.slow = True
                machine.candidates.was_late(life)
            elif life in machine.candidates.late:
                follower.slow = True  # another session has waited for it already
        wanted = self._wanted(copy)
        changed |= self._extend(copy, wanted)
        self._release_surplus(copy, wanted)
        sent = copy.sent.version  # a newcomer's copy has carried what was kept back
        for life, follower in leads.followers.items():
            if follower.acked < sent and self.may_resend(follower):
                machine.replication.send_copy(copy, life)
        if changed:
            self.announce(copy)
        in_step = self.in_step(copy)
        if in_step < machine.candidates.least and not self._is_being_created(copy, wanted):
            self.unprotected[copy.key] = None
        else:
            self.unprotected.pop(copy.key)
        as_wanted = len(copy.backups) == wanted and in_step == wanted
        if leads.handoff is None and (
            as_wanted or not (copy.backups or machine.candidates.beside(copy.key, copy.backups))
        ):
            self.repairing.pop(copy.key, None)
        else:
            self.repairing.setdefault(copy.key, now)
        machine.replication.progress(copy)
        if leads.resting is not None and machine.storing is not None:
            machine.storing.resting.go_on(copy)

    def _wanted(self, copy: Copy) -> int:
        """How many backups a session is to have: none while it is put away in the store."""
        storing = self._machine.storing
        if copy.leads.resting is not None and storing is not None and storing.resting.is_on(copy):
            return 0
        return self._machine.candidates.wanted(copy)

    def _is_being_created(self, copy: Copy, wanted: int) -> bool:
        """Whether its first copies are under way, so that nothing of it has been promised to anybody yet."""
        machine = self._machine
        is_young = machine.now - copy.leads.since <= machine.options.ack_timeout_s
        return is_young and copy.term.epoch == 1 and copy.seq == wanted == len(copy.backups)

    def in_step(self, copy: Copy, without: Life | None = None) -> int:
        """How many of a primary's backups stay and have all that was sent; one, who is lost, is not counted."""
        return sum(
            follower.acked >= copy.sent.version and follower.released_at is None and life != without
            for life, follower in copy.leads.followers.items()
        )

    def may_resend(self, follower: Follower) -> bool:
        """Whether a member that stays should have answered by now."""
        overdue = self._machine.now - follower.sent_at > self._machine.options.ack_timeout_s
        return overdue and follower.released_at is None

    def _drop_dead(self, copy: Copy) -> bool:
        is_dead = self._machine.membership.is_dead
        dead = [life for life in copy.backups if is_dead(life)]
        if dead:
            copy.backups = tuple(life for life in copy.backups if life not in dead)
            copy.seq += 1
            for life in dead:
                copy.leads.followers.pop(life, None)
        return bool(dead)

    def _extend(self, copy: Copy, wanted: int) -> bool:
        candidates = self._machine.candidates
        good = sum(candidates.is_good(life, follower) for life, follower in copy.leads.followers.items())
        missing = wanted - good
        if missing <= 0:
            return False
        newcomers = candidates.beside(copy.key, copy.backups)[:missing]
        for name in newcomers:
            self._add(copy, name)
        return bool(newcomers)

    def _add(self, copy: Copy, name: str) -> None:
        machine = self._machine
        life = machine.membership.life_of(name)
        copy.seq += 1
        copy.backups = (*copy.backups, life)
        copy.leads.followers[life] = Follower(added_seq=copy.seq, waiting_since=machine.now)
        machine.stats.backups_added += 1
        machine.replication.send_copy(copy, life)

    def misplaced(self, copy: Copy) -> list[str]:
        """Names of members that `placement` wants in a list and that are not in it."""
        held = {life.name for life in copy.backups}
        return [name for name in self._machine.candidates.best(copy.key) if name not in held]

    def move(self, copy: Copy, to: list[str]) -> bool:
        """Begin to move backups of a list that is as it should be; False if it is not, and has to settle first.

        Nothing is given up for it: the better ones are added, and when they are in step `maintain` releases others.
        """
        machine = self._machine
        leads, sent = copy.leads, copy.sent.version
        candidates = machine.candidates
        in_step = all(follower.acked >= sent for follower in leads.followers.values())
        is_full = candidates.takes_everybody or len(copy.backups) == candidates.least
        if leads.handoff is not None or not is_full or not in_step:
            return False
        for name in to:
            self._add(copy, name)
        self.announce(copy)
        self.repairing.setdefault(copy.key, machine.now)
        return True

    def _release_surplus(self, copy: Copy, wanted: int) -> None:
        machine = self._machine
        leads = copy.leads
        for life, follower in leads.followers.items():
            asked = follower.released_at
            if asked is not None and machine.now - asked > machine.options.ack_timeout_s:
                self._release(copy, life)  # it, or its answer, may have been lost
        if machine.draining or len(copy.backups) <= wanted:
            return
        # A better one whose ack is under way is waited for until it is slow, or moving to it would be undone.
        staying = [
            life
            for life in copy.backups
            if leads.followers[life].released_at is None
            and machine.candidates.is_good(life, leads.followers[life])
        ]
        kept, sent = machine.candidates.best_of(copy.key, staying)[:wanted], copy.sent.version
        if len(kept) < wanted or any(leads.followers[life].acked < sent for life in kept):
            return
        for life in copy.backups:
            if life not in kept and leads.followers[life].released_at is None:
                self._release(copy, life)

    def _release(self, copy: Copy, life: Life) -> None:
        copy.leads.followers[life].released_at = self._machine.now
        self._machine.send((life,), m.Release(copy.key, copy.term, copy.seq))

    def announce(self, copy: Copy) -> None:
        """Tell where the session lives."""
        machine = self._machine
        machine.locating.merge(copy.key, copy.location)
        machine.announcements.add(copy.key, copy.location, copy.backups)

    def on_released(self, life: Life, released: m.Released) -> None:
        copy = self._machine.copies.get(released.key)
        if copy is None or copy.role is not Role.PRIMARY or copy.term != released.term:
            return
        follower = copy.leads.followers.get(life)
        if follower is None or released.seq < follower.added_seq:
            return
        del copy.leads.followers[life]
        copy.backups = tuple(other for other in copy.backups if other != life)
        copy.seq += 1
        self.announce(copy)
        self.maintain(copy)
