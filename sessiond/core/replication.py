"""Writes, the primary's side (protocol 2); `backing` is the other side, `lists` says who is there.

Invariant: an answer is released only when every member of the list has *applied* the version that it shows, or when
no node could hold a copy; and, where writes go through to a store that keeps up, when the store has it too.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sessiond.backend import Committed
from sessiond.core import messages as m
from sessiond.core.acks import Applied
from sessiond.core.copies import Copy, Leadership, Pending, Role, newer
from sessiond.core.effects import Resolve
from sessiond.core.types import Alias, Key, Life, Location, Stamp, Term
from sessiond.errors import SessionGone, Unavailable

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

UNKNOWN = "this node lost the session to another one meanwhile: the write may or may not have been applied"


OUTVOTED = "no majority answers this node any more: the write may or may not have been applied"


class Replication:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._storing = machine.storing
        self.waiting: dict[Key, float] = {}
        """Primaries with answers that wait for acks, and since when; the longest wait comes first."""

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
            base = self.apply(copy, changes, write_id)
            if copy.leads.unsent is not None:
                flushing = self._machine.flushing
                flushing.keep_back(copy, base, changes)
                flushing.flush(copy, write_id)
            elif copy.backups:
                self.send_patch(copy, base, dict(changes), write_id)
        self.answer_when_applied(copy, pending)

    def apply(self, copy: Copy, changes: Mapping[str, bytes | None], write_id: bytes | None) -> Stamp:
        """One write here; the stamp that it builds on."""
        machine = self._machine
        machine.stats.writes += 1
        base = copy.last
        bytes_before = copy.bytes
        copy.apply(changes, Stamp(copy.term, copy.version + 1), write_id)
        machine.copies.reweigh(bytes_before, copy)
        return base

    def answer_when_applied(self, copy: Copy, pending: Pending) -> None:
        leads = copy.leads
        if leads.unsent is not None:
            self._machine.flushing.flush(copy)
        pending.version = copy.version
        leads.pending.append(pending)
        self.waiting.setdefault(copy.key, self._machine.now)
        if self._storing is not None:
            self._storing.note(copy)
        self.go_on(copy)

    def go_on(self, copy: Copy) -> None:
        """Answers wait: release those that may go, or see to the list that they wait for."""
        machine = self._machine
        if copy.backups and machine.candidates.late.isdisjoint(copy.backups):
            self.progress(copy)
        else:
            machine.lists.maintain(copy)

    def begin_tombstone(self, copy: Copy, pending: Pending, alias: Alias | None = None) -> None:
        """End the session: a versioned write of the copy first, final once every backup holds it.

        With an `alias` it goes on under another key, and the old one says so for a while.
        """
        copy.tombstone = True
        copy.alias = alias
        base = copy.sent.version
        copy.version += 1
        copy.last = Stamp(copy.term, copy.version)
        pending.tombstone = True
        self.send_all(copy, base)
        self.answer_when_applied(copy, pending)

    def merge(self, copy: Copy, data: m.CopyData, offered_by: Life | None) -> None:
        """Take over what another copy has that is newer than ours, attribute by attribute, and its last use."""
        machine = self._machine
        copy.take_times(data, machine.now)
        news = newer(data.attributes, copy.attributes)
        if news:
            machine.stats.merged += 1
            machine.log("warning", "session.fork_merged", key=copy.key.hex(), attributes=sorted(news))
            bytes_before = copy.bytes
            base = copy.sent.version
            copy.absorb(news, Stamp(copy.term, max(copy.version, data.version) + 1))
            machine.copies.reweigh(bytes_before, copy)
            self.send_all(copy, base)
            if self._storing is not None:
                self._storing.note(copy)
        if offered_by is not None:
            self.answer_when_applied(copy, Pending(None, copy.version, offered_by=offered_by))
        if copy.role is Role.PRIMARY:  # an answer can be what a handoff waited for
            machine.lists.maintain(copy)

    def send_patch(
        self,
        copy: Copy,
        base: Stamp,
        changes: dict[str, bytes | None],
        write_id: bytes | None,
        beside: Life | None = None,
    ) -> None:
        """Send changes on a base to the list, but not to `beside`."""
        machine = self._machine
        now = machine.now
        to = []
        for life, follower in copy.leads.followers.items():
            if life == beside:
                continue
            if follower.acked >= base.version:
                follower.waiting_since = now
            if follower.released_at is None:
                follower.sent_at = now
                if machine.links.sends(life, Applied(copy.key, copy.term, copy.seq, copy.version)):
                    to.append(life)  # without a link it gets the whole session when the link is back
        base_term = None if base.term == copy.term else base.term
        patch = m.Patch(
            copy.key, copy.term, copy.seq, base_term, base.version, copy.version, changes, write_id
        )
        machine.send(tuple(to), patch)

    def send_all(self, copy: Copy, base: int) -> None:
        """Send the whole session to the list, which was sent version `base` before."""
        copy.leads.unsent = None
        for life, follower in copy.leads.followers.items():
            if follower.acked >= base:
                follower.waiting_since = self._machine.now
            if follower.released_at is None:
                self.send_copy(copy, life)

    def send_copy(self, copy: Copy, life: Life) -> None:
        """Send the whole session to one member of the list; the others get what they were not sent yet."""
        machine = self._machine
        if copy.leads.unsent is not None:
            machine.flushing.flush(copy, beside=life)
        copy.leads.followers[life].sent_at = machine.now
        if machine.links.sends(life, Applied(copy.key, copy.term, copy.seq, copy.version)):
            machine.send((life,), m.Put(copy.key, copy.term, copy.seq, copy.backups, copy.data(machine.now)))

    # --- the primary: answers -------------------------------------------------------------------------

    def progress(self, copy: Copy) -> None:
        """Release, in order, the answers whose version the whole list has applied."""
        machine = self._machine
        leads = copy.leads
        pending = leads.pending
        followers = leads.followers
        storing = self._storing
        if not machine.lease.is_held():
            return  # others may act in a higher term already: what is shown here could be old by now
        while pending:
            version = pending[0].version
            for life, follower in followers.items():
                if follower.acked < version:
                    if machine.membership.is_dead(life):
                        # It died before this write, and its turn had not come yet.
                        machine.lists.maintain(copy)
                    return
            if (
                not followers
                and machine.candidates.least
                and machine.candidates.beside(copy.key, copy.backups)
            ):
                machine.lists.repairing.setdefault(copy.key, machine.now)
                machine.lists.maintain(copy)  # a node could hold a copy: the answer waits until it does
                return
            if storing is not None and storing.holds_back(copy, version):
                return
            first = pending.pop(0)
            if first.tombstone:
                self._commit_tombstone(copy, first)
                return
            self._answer(copy, first, protected=self._is_protected(copy, version))
        self.waiting.pop(copy.key, None)
        if leads.handoff is not None:
            machine.takeover.continue_handoff(copy)

    def _is_protected(self, copy: Copy, version: int) -> bool:
        """Whether a version that the whole list has is anywhere but here; without one it depends on the store."""
        storing = self._storing
        if storing is None:
            return bool(copy.backups)
        is_stored = copy.leads.stored >= version
        self._machine.stats.writes_unstored += storing.is_write_through and not is_stored
        return is_stored or bool(copy.backups)

    def _answer(self, copy: Copy, pending: Pending, *, protected: bool) -> None:
        machine = self._machine
        if pending.offered_by is not None:
            machine.send((pending.offered_by,), m.OfferOk(copy.key))
            return
        if not protected and machine.candidates.least:
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
        if self._storing is not None:
            self._storing.ended(copy)
        machine.drop_copy(copy.key)
        if copy.alias is not None:
            machine.aliases.begin(copy.key, copy.alias)
        machine.locating.merge(copy.key, location)
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
        self._machine.lists.forget(copy.key)
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
        elif applied.key in machine.lists.repairing:
            machine.lists.maintain(copy)
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
            machine.locating.merge(fenced.key, fenced.location)

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
            elif (term, confirm.last) != (copy.term, copy.sent):
                if machine.lists.may_resend(follower):
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
