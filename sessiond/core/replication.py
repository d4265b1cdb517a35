"""Writes, the primary's side (protocol 2), and the announcing of lists (protocol 3); `backing` is the other side.

Invariants: an answer is released only when every member of the list has *applied* the version that it
shows, or when no node could hold a copy; a member leaves the list only by its own word (RELEASED) or by
death.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sessiond.backend import Committed
from sessiond.core import messages as m
from sessiond.core.acks import Applied
from sessiond.core.copies import Copy, Follower, Leadership, Pending, Role, newer
from sessiond.core.effects import Resolve
from sessiond.core.options import TOUCH_CHUNK
from sessiond.core.types import Alias, Key, Life, Location, Stamp, Term
from sessiond.errors import SessionGone, Unavailable

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

UNKNOWN = "this node lost the session to another one meanwhile: the write may or may not have been applied"


OUTVOTED = "no majority answers this node any more: the write may or may not have been applied"


class Replication:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self.waiting: dict[Key, float] = {}
        """Primaries with answers that wait for acks, and since when; the longest wait comes first."""

        self.repairing: dict[Key, float] = {}
        """Primaries whose list is not as it should be and can be mended, and when they were last looked at."""

        self.unprotected: dict[Key, None] = {}
        """Primaries with fewer backups in step than configured, whether that can be mended or not."""

        self._touched: dict[Key, None] = {}

    # --- the primary: writing ------------------------------------------------------------------------

    def create(self, key: Key, after: int = 0) -> Copy:
        """A new session, empty, with this node as its primary; its first write is version `after` + 1."""
        machine = self._machine
        copy = Copy(key, Role.PRIMARY, Term(1, machine.life), machine.now)
        copy.version = after
        copy.leadership = Leadership(since=machine.now)
        machine.copies.put(copy)
        machine.stats.sessions_created += 1
        machine.expiry.watch(copy)
        return copy

    def write(
        self, copy: Copy, changes: Mapping[str, bytes | None], pending: Pending, write_id: bytes | None = None
    ) -> None:
        """Apply changes and send them to the list; the answer waits in `pending`. No changes: a read's barrier."""
        if changes:
            machine = self._machine
            machine.stats.writes += 1
            base = copy.last
            bytes_before = copy.bytes
            copy.apply(changes, Stamp(copy.term, copy.version + 1), write_id)
            machine.copies.reweigh(bytes_before, copy)
            if copy.backups:
                self._send_patch(copy, base, changes, write_id)
        self.answer_when_applied(copy, pending)

    def answer_when_applied(self, copy: Copy, pending: Pending) -> None:
        pending.version = copy.version
        copy.leads.pending.append(pending)
        self.waiting.setdefault(copy.key, self._machine.now)
        if copy.backups and self._machine.candidates.late.isdisjoint(copy.backups):
            self.progress(copy)
        else:
            self.maintain(copy)

    def begin_tombstone(self, copy: Copy, pending: Pending, alias: Alias | None = None) -> None:
        """End the session: a versioned write of the copy first, final once every backup holds it.

        With an `alias` it goes on under another key, and the old one says so for a while.
        """
        copy.tombstone = True
        copy.alias = alias
        copy.version += 1
        copy.last = Stamp(copy.term, copy.version)
        pending.tombstone = True
        self._send_all(copy)
        self.answer_when_applied(copy, pending)

    def merge(self, copy: Copy, data: m.CopyData, offered_by: Life | None) -> None:
        """Take over what another copy has that is newer than ours, attribute by attribute."""
        machine = self._machine
        news = newer(data.attributes, copy.attributes)
        if news:
            machine.stats.merged += 1
            machine.log("warning", "session.fork_merged", key=copy.key.hex(), attributes=sorted(news))
            bytes_before = copy.bytes
            copy.absorb(news, Stamp(copy.term, max(copy.version, data.version) + 1))
            machine.copies.reweigh(bytes_before, copy)
            self._send_all(copy)
        if offered_by is not None:
            self.answer_when_applied(copy, Pending(None, copy.version, offered_by=offered_by))
        if copy.role is Role.PRIMARY:  # an answer can be what a handoff waited for
            self.maintain(copy)

    def _send_patch(
        self, copy: Copy, base: Stamp, changes: Mapping[str, bytes | None], write_id: bytes | None
    ) -> None:
        machine = self._machine
        now = machine.now
        to = []
        for life, follower in copy.leads.followers.items():
            if follower.acked >= base.version:
                follower.waiting_since = now
            if follower.released_at is None:
                follower.sent_at = now
                ledger = machine.ledgers.get(life)
                if ledger is not None:  # without a link it gets the whole session when the link is back
                    ledger.sent(Applied(copy.key, copy.term, copy.seq, copy.version))
                    to.append(life)
        base_term = None if base.term == copy.term else base.term
        patch = m.Patch(
            copy.key, copy.term, copy.seq, base_term, base.version, copy.version, dict(changes), write_id
        )
        machine.send(tuple(to), patch)

    def _send_all(self, copy: Copy) -> None:
        for life, follower in copy.leads.followers.items():
            if follower.acked >= copy.version - 1:
                follower.waiting_since = self._machine.now
            if follower.released_at is None:
                self.send_copy(copy, life)

    def send_copy(self, copy: Copy, life: Life) -> None:
        """Send the whole session to one member of the list."""
        machine = self._machine
        copy.leads.followers[life].sent_at = machine.now
        ledger = machine.ledgers.get(life)
        if ledger is not None:
            ledger.sent(Applied(copy.key, copy.term, copy.seq, copy.version))
            machine.send((life,), m.Put(copy.key, copy.term, copy.seq, copy.backups, copy.data(machine.now)))

    # --- the primary: its list ------------------------------------------------------------------------

    def maintain(self, copy: Copy) -> None:
        """Bring a primary's list towards `copies` backups in step, then release what may go.

        Append-only: a newcomer is added and counts at once; a slow or surplus member is asked to leave and
        counts until it has left.
        """
        machine = self._machine
        now, wanted = machine.now, machine.options.copies
        leads = copy.leads
        changed = machine.lease.is_held() and self._drop_dead(copy)
        for life, follower in leads.followers.items():
            if follower.acked >= copy.version:
                follower.slow = False
                follower.waiting_since = now
            elif now - follower.waiting_since > machine.options.ack_timeout_s:
                follower.slow = True
                machine.candidates.was_late(life)
            elif life in machine.candidates.late:
                follower.slow = True  # another session has waited for it already
        changed |= self._extend(copy)
        self._release_surplus(copy)
        for life, follower in leads.followers.items():
            if follower.acked < copy.version and self._may_resend(follower):
                self.send_copy(copy, life)
        if changed:
            self.announce(copy)
        in_step = sum(f.acked >= copy.version and f.released_at is None for f in leads.followers.values())
        if in_step < wanted and not self._is_being_created(copy):
            self.unprotected[copy.key] = None
        else:
            self.unprotected.pop(copy.key, None)
        as_wanted = len(copy.backups) == wanted and in_step == wanted
        if leads.handoff is None and (
            as_wanted or not (copy.backups or machine.candidates.beside(copy.key, copy.backups))
        ):
            self.repairing.pop(copy.key, None)
        else:
            self.repairing.setdefault(copy.key, now)
        self.progress(copy)

    def _is_being_created(self, copy: Copy) -> bool:
        """Whether its first copies are under way, so that nothing of it has been promised to anybody yet."""
        machine = self._machine
        wanted = machine.options.copies
        is_young = machine.now - copy.leads.since <= machine.options.ack_timeout_s
        return is_young and copy.term.epoch == 1 and copy.seq == wanted == len(copy.backups)

    def _may_resend(self, follower: Follower) -> bool:
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

    def _extend(self, copy: Copy) -> bool:
        machine = self._machine
        leads = copy.leads
        good = sum(
            not follower.slow and not machine.membership.is_draining(life)
            for life, follower in leads.followers.items()
        )
        missing = machine.options.copies - good
        if missing <= 0:
            return False
        candidates = machine.candidates.beside(copy.key, copy.backups)[:missing]
        for name in candidates:
            self._add(copy, name)
        return bool(candidates)

    def _add(self, copy: Copy, name: str) -> None:
        machine = self._machine
        life = machine.membership.life_of(name)
        copy.seq += 1
        copy.backups = (*copy.backups, life)
        copy.leads.followers[life] = Follower(added_seq=copy.seq, waiting_since=machine.now)
        machine.stats.backups_added += 1
        self.send_copy(copy, life)

    def misplaced(self, copy: Copy) -> list[str]:
        """Names of members that `placement` wants in a list and that are not in it."""
        best = self._machine.candidates.best(copy.key)[: self._machine.options.copies]
        held = {life.name for life in copy.backups}
        return [name for name in best if name not in held]

    def move(self, copy: Copy, to: list[str]) -> bool:
        """Begin to move backups of a list that is as it should be; False if it is not, and has to settle first.

        Nothing is given up for it: the better ones are added, and when they are in step `maintain` releases others.
        """
        machine = self._machine
        leads = copy.leads
        in_step = all(follower.acked >= copy.version for follower in leads.followers.values())
        if leads.handoff is not None or len(copy.backups) != machine.options.copies or not in_step:
            return False
        for name in to:
            self._add(copy, name)
        self.announce(copy)
        self.repairing.setdefault(copy.key, machine.now)
        return True

    def _release_surplus(self, copy: Copy) -> None:
        machine = self._machine
        leads, wanted = copy.leads, machine.options.copies
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
            and not leads.followers[life].slow
            and not machine.membership.is_draining(life)
        ]
        kept = machine.candidates.best_of(copy.key, staying)[:wanted]
        if len(kept) < wanted or any(leads.followers[life].acked < copy.version for life in kept):
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
        machine.merge_location(copy.key, copy.location)
        machine.announcements.add(copy.key, copy.location, copy.backups)

    # --- the primary: answers -------------------------------------------------------------------------

    def progress(self, copy: Copy) -> None:
        """Release, in order, the answers whose version the whole list has applied."""
        machine = self._machine
        leads = copy.leads
        pending = leads.pending
        followers = leads.followers
        if not machine.lease.is_held():
            return  # others may act in a higher term already: what is shown here could be old by now
        while pending:
            version = pending[0].version
            for life, follower in followers.items():
                if follower.acked < version:
                    if machine.membership.is_dead(life):
                        self.maintain(copy)  # it died before this write, and its turn had not come yet
                    return
            if not followers and machine.options.copies and machine.candidates.beside(copy.key, copy.backups):
                self.repairing.setdefault(copy.key, machine.now)
                self.maintain(copy)  # a node could hold a copy: the answer waits until it does
                return
            first = pending.pop(0)
            if first.tombstone:
                self._commit_tombstone(copy, first)
                return
            self._answer(copy, first, protected=bool(followers))
        self.waiting.pop(copy.key, None)
        if leads.handoff is not None:
            machine.takeover.continue_handoff(copy)

    def _answer(self, copy: Copy, pending: Pending, *, protected: bool) -> None:
        machine = self._machine
        if pending.offered_by is not None:
            machine.send((pending.offered_by,), m.OfferOk(copy.key))
            return
        if not protected and machine.options.copies:
            machine.stats.writes_unprotected += 1
        if pending.forwarded is not None:
            life, write_id = pending.forwarded
            machine.send((life,), m.ForwardResult(write_id, "ok", pending.version, protected, ""))
        elif pending.operation is not None:
            machine.emit(Resolve(pending.operation, Committed(pending.version, protected)))

    def _commit_tombstone(self, copy: Copy, tombstone: Pending) -> None:
        """Every backup holds the tombstone: the session is gone for good, and that is announced."""
        machine = self._machine
        location = Location(copy.term, copy.seq, (), gone=True)
        rest = [tombstone, *copy.leads.pending]
        copy.leads.pending.clear()
        machine.drop_copy(copy.key)
        if copy.alias is not None:
            machine.aliases.begin(copy.key, copy.alias)
        machine.merge_location(copy.key, location)
        machine.announcements.add(copy.key, location, copy.backups)
        for pending in rest:
            if pending.tombstone and pending.operation is not None:
                machine.emit(Resolve(pending.operation, None))
            elif pending.forwarded is not None:
                life, write_id = pending.forwarded
                outcome = "ok" if pending.tombstone else "gone"
                machine.send((life,), m.ForwardResult(write_id, outcome, pending.version, True, ""))
            elif pending.operation is not None:
                machine.emit(
                    Resolve(pending.operation, SessionGone("the session has ended; nothing was written"))
                )
        machine.operations.release_deferred(copy.key)
        machine.lookup.resolve(copy.key)

    def abandon(self, copy: Copy) -> None:
        """The copy leads no more: what waited for its acks can only be told "unknown"."""
        leads, copy.leadership = copy.leadership, None
        self.waiting.pop(copy.key, None)
        self.repairing.pop(copy.key, None)
        self.unprotected.pop(copy.key, None)
        for pending in leads.pending if leads is not None else ():
            self._answer_unknown(pending, UNKNOWN)

    def give_up_waiting(self) -> None:
        """A majority has been out of reach for a while: nobody waits for it any longer, the writes stay."""
        for key in list(self.waiting):
            copy = self._machine.copies.get(key)
            for pending in copy.leads.pending if copy is not None and copy.leadership is not None else ():
                self._answer_unknown(pending, OUTVOTED)
                pending.operation, pending.forwarded = None, None

    def _answer_unknown(self, pending: Pending, why: str) -> None:
        if pending.forwarded is not None:
            life, write_id = pending.forwarded
            self._machine.send((life,), m.ForwardResult(write_id, "unknown", 0, False, why))
        elif pending.operation is not None:
            self._machine.emit(Resolve(pending.operation, Unavailable(why)))

    # --- the primary: what backups say ----------------------------------------------------------------

    def on_applied(self, life: Life, applied: Applied) -> None:
        copy = self._machine.copies.get(applied.key)
        if copy is None or copy.leadership is None or copy.term != applied.term:
            return
        follower = copy.leadership.followers.get(life)
        if follower is None or applied.seq < follower.added_seq:
            return  # of an earlier stint in the list
        follower.acked = max(follower.acked, applied.version)
        machine = self._machine
        if life in machine.candidates.late and (
            machine.now - follower.waiting_since < machine.options.ack_timeout_s / 2
        ):
            machine.candidates.was_prompt(life)
        if copy.is_granting:
            self._machine.takeover.continue_grant(copy)
        elif applied.key in self.repairing:
            self.maintain(copy)
        else:
            self.progress(copy)

    def on_gap(self, life: Life, gap: m.Gap) -> None:
        copy = self._machine.copies.get(gap.key)
        if copy is None or copy.leadership is None or copy.term != gap.term:
            return
        follower = copy.leadership.followers.get(life)
        if follower is not None and follower.released_at is None:
            self.send_copy(copy, life)

    def on_fenced(self, _life: Life, fenced: m.Fenced) -> None:
        machine = self._machine
        copy = machine.copies.get(fenced.key)
        if copy is not None and copy.leadership is not None and fenced.location.term > copy.term:
            machine.stats.fenced += 1
            machine.log(
                "warning",
                "session.fenced",
                key=copy.key.hex(),
                term=str(copy.term),
                by=str(fenced.location.term),
            )
            machine.quarantine(copy)
        if fenced.location.seq > 0:
            machine.merge_location(fenced.key, fenced.location)

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

    def on_confirm(self, life: Life, confirm: m.Confirm) -> None:
        """A backup asks whether it still counts; every answer leads it to where it belongs."""
        machine = self._machine
        key, term = confirm.key, confirm.term
        copy = machine.copies.get(key)
        location = machine.directory.get(key)
        if location is not None and location.gone:
            machine.send((life,), m.Locations(((key, location),)))
        elif copy is not None and copy.role is Role.PRIMARY:
            follower = copy.leads.followers.get(life)
            if follower is None:
                machine.send((life,), m.Locations(((key, copy.location),)))
            elif (term, confirm.last) != (copy.term, copy.last):
                if self._may_resend(follower):
                    self.send_copy(copy, life)
            elif confirm.seq != copy.seq:
                machine.send((life,), m.Locations(((key, copy.location),)))
        elif (
            copy is not None
            and copy.role is Role.QUARANTINED
            and copy.term == term
            and term.owner == machine.life
        ):
            machine.takeover.resign(life, key, term)
        elif term.owner == machine.life and (copy is None or copy.term < term):
            machine.send((life,), machine.takeover.claim(key, 0))  # a grant that never arrived
        elif location is not None and (location.term, location.seq) > (term, confirm.seq):
            machine.send((life,), m.Locations(((key, location),)))

    # --- last use -------------------------------------------------------------------------------------

    def touch(self, copy: Copy) -> None:
        """The session is used: its time-out starts anew, and its backups will hear of it."""
        copy.accessed_at = self._machine.now
        self._touched[copy.key] = None

    def flush_touches(self) -> None:
        """Tell the backups, in batches, which sessions were used since the last time."""
        machine = self._machine
        batches: dict[Life, list[tuple[Key, float]]] = {}
        for key in self._touched:
            copy = machine.copies.get(key)
            if copy is not None and copy.role is Role.PRIMARY:
                for life in copy.backups:
                    batches.setdefault(life, []).append((key, machine.now - copy.accessed_at))
        self._touched.clear()
        for life, batch in batches.items():
            for start in range(0, len(batch), TOUCH_CHUNK):
                machine.send((life,), m.Touch(tuple(batch[start : start + TOUCH_CHUNK])))
