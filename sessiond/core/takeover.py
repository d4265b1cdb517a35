"""How a session gets another primary: one routine, `grant`, for failover, handoff and drain (protocol 4).

Who may grant is unique at every moment: the primary, or, once its term has ended, the first member of the
list that still holds an active copy. The granter fences the other holders before the new primary hears of
its term, so of any number of askers one wins and every other one is referred to it.
"""

from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.copies import Copy, Follower, GrantState, Handoff, Leadership, Pending, Role
from sessiond.core.types import Alias, Key, Life, Location, Stamp, Term

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

RESIGNED_MAX = 10_000
"""Resigned terms remembered at most. Who has forgotten one hears it again when its copy asks (`confirming`)."""


class Takeover:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._resigned: dict[Key, Term] = {}
        """Terms given up by owners that live on, the last one of each session; the oldest first."""

        self.granting: dict[Key, None] = {}
        """Copies that grant and wait for the other holders."""

    def has_ended(self, key: Key, term: Term) -> bool:
        """A term has ended when its owner's life is over, or has resigned it."""
        return self._machine.membership.is_dead(term.owner) or self._resigned.get(key) == term

    def forget(self, key: Key) -> None:
        """The session has ended, and all its terms with it."""
        self._resigned.pop(key, None)

    def life_ended(self, life: Life) -> None:
        """What a life has resigned says no more than its end."""
        for key in [key for key, term in self._resigned.items() if term.owner == life]:
            del self._resigned[key]

    # --- asking ---------------------------------------------------------------------------------------

    def claim(self, key: Key, round_number: int) -> m.Claim:
        """The message by which this node asks to be primary."""
        machine = self._machine
        copy, location = machine.copies.get(key), machine.directory.get(key)
        floor = max((known.term for known in (copy, location) if known is not None), default=None)
        installed = copy.term if copy is not None else None
        return m.Claim(key, machine.life, installed, floor, round_number, location)

    # --- granting -------------------------------------------------------------------------------------

    def on_claim(self, life: Life, claim: m.Claim) -> None:
        machine = self._machine
        key, asker = claim.key, claim.asker
        if claim.location is not None:
            machine.locating.merge(key, claim.location)
        location = machine.directory.get(key)
        if location is not None and location.gone:
            machine.send((life,), m.Locations(((key, location),)))
            return
        copy = machine.copies.get(key)
        if copy is None or copy.role is Role.QUARANTINED:
            if copy is not None:
                machine.lookup.resolve(key)
            elif machine.storing is not None:
                machine.storing.recall.claimed(key)
            hint = location if copy is None else None
            machine.send((life,), m.Refer(key, hint, empty=True, round=claim.round))
        elif not machine.lease.is_held():
            pass  # who may not act may not say who may; the asker asks again
        elif copy.role is Role.PRIMARY:
            if not copy.tombstone and copy.leads.handoff is None:
                self.hand_off(copy, asker)
        elif copy.is_granting:
            pass  # one winner: whoever asks again later is referred to it
        elif asker == copy.term.owner:
            self._repeat_grant(copy, life, claim)
        elif not self.has_ended(key, copy.term):
            machine.send((life,), m.Refer(key, copy.location, empty=False, round=claim.round))
        elif self.arbiter(copy) == machine.life:
            self.grant(copy, asker, claim.floor)
        else:
            machine.lookup.resolve(key)

    def _repeat_grant(self, copy: Copy, life: Life, claim: m.Claim) -> None:
        """The owner of this very term asks: the grant was lost, or it knows of a higher term."""
        machine = self._machine
        if claim.floor is not None and claim.floor > copy.term:
            self.grant(copy, claim.asker, claim.floor)
        elif claim.installed is None or claim.installed < copy.term:
            arbiter = self.arbiter(copy)
            is_active = copy.seq > 0 or copy.last.term == copy.term  # a list or a write of its owner has come
            if arbiter == machine.life and is_active and machine.asks_for_locations:
                machine.quarantine(copy)  # its owner has given the session up since, and knows not for whom
            elif arbiter == machine.life and not is_active:
                self._begin_fencing(copy, claim.asker)
            elif arbiter is not None and arbiter != machine.life:
                machine.send((life,), m.Refer(copy.key, copy.location, empty=False, round=claim.round))
                machine.send((arbiter,), claim)

    def arbiter(self, copy: Copy) -> Life | None:
        """The first member of the list that still holds an active copy, as far as is known."""
        machine = self._machine
        empty = machine.lookup.known_empty(copy.key)
        for life in copy.backups:
            if life == machine.life or not (machine.membership.is_dead(life) or life in empty):
                return life
        return None

    def hand_off(self, copy: Copy, to: Life) -> None:
        """Give a session away while its primary, this node, lives."""
        machine = self._machine
        freeze_at = max(machine.now, copy.leads.since + machine.options.tenure_min_s)
        copy.leads.handoff = Handoff(to, freeze_at, freeze_at + machine.options.handoff_wait_s)
        machine.lists.repairing.setdefault(copy.key, machine.now)
        machine.due(freeze_at)
        self.continue_handoff(copy)

    def continue_handoff(self, copy: Copy) -> None:
        """Grant once requests in flight are done, or out of time, and everything written is applied."""
        machine = self._machine
        leads = copy.leads
        handoff = leads.handoff
        if handoff is None or machine.now < handoff.freeze_at:
            return
        if machine.membership.is_dead(handoff.to):
            leads.handoff = None
            machine.lookup.serve(copy)
        elif leads.unsent is not None:
            machine.replication.answer_when_applied(copy, Pending(None, 0))  # and come back here
        elif not leads.pending and (leads.in_flight == 0 or machine.now >= handoff.deadline):
            machine.stats.handoffs += 1
            self.grant(copy, handoff.to, None)

    def grant(self, copy: Copy, to: Life, floor: Term | None) -> None:
        """Begin a new term for `to`, above every epoch that this node and the asker know."""
        machine = self._machine
        location = machine.directory.get(copy.key)
        epoch = max(
            copy.term.epoch,
            floor.epoch if floor is not None else 0,
            location.term.epoch if location is not None else 0,
        )
        backups = tuple(life for life in copy.backups if life != to and not machine.membership.is_dead(life))
        if copy.role is Role.PRIMARY:
            backups = tuple(life for life in backups if life != machine.life)
            if to != machine.life:
                backups = (machine.life, *backups)
        elif to == machine.life:
            backups = tuple(life for life in backups if life != machine.life)
        machine.stats.grants += to != machine.life
        if copy.leadership is not None:
            machine.replication.abandon(copy)
        if copy.role is not Role.PRIMARY:
            copy.accessed_at = machine.now  # its primary may have served it to the end, untold (`expiry`)
        machine.copies.set_role(copy, Role.BACKUP)
        copy.term, copy.seq, copy.backups = Term(epoch + 1, to), 0, backups
        self._begin_fencing(copy, to)

    def _begin_fencing(self, copy: Copy, to: Life) -> None:
        machine = self._machine
        leads = Leadership(since=machine.now, grant=GrantState(to, machine.now))
        for life in copy.backups:
            if life != machine.life and not machine.membership.is_dead(life):
                leads.followers[life] = Follower(added_seq=0, waiting_since=machine.now)
        copy.leadership = leads
        self.granting[copy.key] = None
        machine.due(machine.now + machine.options.ack_timeout_s)
        self.continue_grant(copy)

    def continue_grant(self, copy: Copy) -> None:
        """Send the grant, or become primary, once every other living holder has taken the new term."""
        machine = self._machine
        leads = copy.leads
        grant = leads.grant
        assert grant is not None, "called for copies that grant"
        location = machine.directory.get(copy.key)
        if location is not None and location.term > copy.term and self.has_ended(copy.key, location.term):
            self.grant(copy, grant.to, None)  # a holder that knows that term refuses this one: go above it
            return
        waits = False
        for life in list(leads.followers):
            if machine.membership.is_dead(life):
                del leads.followers[life]
                continue
            follower = leads.followers[life]
            if follower.acked < copy.version:
                waits = True
                if machine.now - follower.sent_at > machine.options.ack_timeout_s:
                    machine.replication.send_copy(copy, life)
        if waits or not machine.lease.is_held():
            return
        self.granting.pop(copy.key, None)
        if grant.to == machine.life:
            self._become_primary(copy, applied=copy.version)
            return
        copy.leadership = None
        machine.reprotection.orphans.pop(copy.key)
        machine.send((grant.to,), m.Grant(copy.key, copy.term, copy.backups, copy.data(machine.now)))
        machine.lookup.resolve(copy.key)
        machine.operations.release_deferred(copy.key)

    def grant_ended(self, copy: Copy, location: Location) -> None:
        """The term that is being granted, perhaps once more, is active already.

        Who was fenced for it anew may have left its list since, and where nothing is broadcast would not hear of that.
        """
        machine = self._machine
        holders = {location.term.owner, *location.backups}
        fenced = tuple(life for life in copy.leads.followers if life not in holders)
        self.granting.pop(copy.key, None)
        machine.replication.abandon(copy)
        if machine.asks_for_locations:
            machine.send(fenced, m.Locations(((copy.key, location),)))

    # --- becoming primary -----------------------------------------------------------------------------

    def on_grant(self, life: Life, grant: m.Grant) -> None:
        machine = self._machine
        key, term = grant.key, grant.term
        location = machine.directory.get(key)
        if location is not None and location.gone:
            machine.send((life,), m.Locations(((key, location),)))
            return
        if term.owner != machine.life or self._resigned.get(key) == term:
            return
        old = machine.copies.get(key)
        if old is not None and (old.term > term or (old.term == term and old.role is not Role.QUARANTINED)):
            if old.role is Role.PRIMARY:
                # A grant that crossed our claim: who was fenced for it anew may have left the list since.
                machine.send((life, *grant.backups), m.Locations(((key, old.location),)))
            return
        if location is not None and location.term > term:
            # Somebody acts in a higher term already; with this floor the granter goes above it.
            machine.send((life,), self.claim(key, 0))
            return
        copy = Copy(key, Role.BACKUP, term, machine.now)
        copy.backups = grant.backups
        copy.load(grant.data, machine.now)
        if old is not None:
            copy.alias = copy.alias or old.alias
            if (
                old.tombstone and not copy.tombstone
            ):  # an end that the others have not heard of is a write of this term
                copy.tombstone = True
                copy.version += 1
                copy.last = Stamp(term, copy.version)
            if old.leadership is not None:
                machine.replication.abandon(old)
        machine.copies.put(copy)
        self._become_primary(copy, applied=grant.data.version)
        if old is not None and machine.copies.get(key) is copy:
            machine.replication.merge(copy, old.data(machine.now), None)

    def _become_primary(self, copy: Copy, applied: int) -> None:
        """Activate the copy's term: from here on this node serves, and says so.

        `applied`: the version that the backups took when they were fenced.
        """
        machine = self._machine
        before = copy.leadership
        leads = copy.leadership = Leadership(since=machine.now)
        machine.copies.set_role(copy, Role.PRIMARY)
        machine.reprotection.orphans.pop(copy.key)
        copy.seq += 1
        for life in copy.backups:
            if before is not None and life in before.followers:
                leads.followers[life] = before.followers[life]
            else:
                leads.followers[life] = Follower(added_seq=0, acked=applied, waiting_since=machine.now)
        if copy.tombstone:
            # A successor completes the end of a session that its predecessor began.
            leads.pending.append(Pending(None, copy.version, tombstone=True))
            machine.replication.waiting.setdefault(copy.key, machine.now)
        machine.stats.takeovers += 1
        machine.expiry.watch(copy)
        if machine.storing is not None:
            machine.storing.note(copy)
        machine.lists.announce(copy)
        machine.lists.repairing.setdefault(copy.key, machine.now)
        machine.lookup.serve(copy)
        if machine.copies.get(copy.key) is copy and copy.role is Role.PRIMARY:
            machine.lists.maintain(copy)
        machine.operations.release_deferred(copy.key)

    def on_refer(self, life: Life, refer: m.Refer) -> None:
        machine = self._machine
        if refer.location is not None and (refer.location.seq > 0 or refer.location.gone):
            machine.locating.merge(refer.key, refer.location)
        machine.lookup.referred(life, refer)

    def on_resigned(self, life: Life, resigned: m.Resigned) -> None:
        if resigned.term.owner == life:
            self._note_resigned(resigned.key, resigned.term)
            self._machine.lookup.resolve(resigned.key)

    def resign(self, holder: Life, key: Key, term: Term) -> None:
        """This node was primary in a term and is not any more: it says so, and never installs the term again."""
        self._note_resigned(key, term)
        self._machine.send((holder,), m.Resigned(key, term))

    def _note_resigned(self, key: Key, term: Term) -> None:
        self._resigned.pop(key, None)
        self._resigned[key] = term
        if len(self._resigned) > RESIGNED_MAX:
            del self._resigned[next(iter(self._resigned))]

    # --- quarantined copies ---------------------------------------------------------------------------

    def on_offer(self, life: Life, offer: m.Offer) -> None:
        """A quarantined copy may hold news: merge it, and let it go once the list has the result."""
        machine = self._machine
        key = offer.key
        location = machine.directory.get(key)
        if location is not None and location.gone:
            machine.send((life,), m.Locations(((key, location),)))
            return
        copy = machine.copies.get(key)
        if copy is None:
            return
        if copy.is_granting:
            if life in copy.leads.followers:
                copy.backups = tuple(other for other in copy.backups if other != life)
                del copy.leads.followers[life]
                self.continue_grant(copy)
            return
        if copy.role is not Role.PRIMARY or copy.tombstone or not machine.lease.is_held():
            return
        leads, replication, lists = copy.leads, machine.replication, machine.lists
        if any(pending.offered_by == life for pending in leads.pending):
            return
        if life in leads.followers and offer.term == copy.term:
            # A member of the list that doubts its copy of this very term: what it acked does not count any more.
            leads.followers[life].acked = -1
            if leads.followers[life].released_at is not None:
                return  # asked to leave, it would get a copy after it has left
            lists.repairing.setdefault(key, machine.now)
            replication.send_copy(copy, life)
            return
        if offer.term >= copy.term:
            copy.term = Term(offer.term.epoch + 1, machine.life)
            copy.seq = 1
            for other in copy.backups:
                leads.followers[other] = Follower(added_seq=0, waiting_since=machine.now)
            replication.send_all(copy, copy.version)
            lists.announce(copy)
            if machine.storing is not None:
                leads.stored = -1
                machine.storing.note(copy)
        if offer.data.tombstone:
            alias = offer.data.alias
            replication.begin_tombstone(
                copy, Pending(None, 0), None if alias is None else Alias(alias[0], machine.now + alias[1])
            )
        else:
            replication.merge(copy, offer.data, life)

    def on_offer_ok(self, offer_ok: m.OfferOk) -> None:
        machine = self._machine
        copy = machine.copies.get(offer_ok.key)
        if copy is None or copy.role is not Role.QUARANTINED:
            return
        location = machine.directory.get(copy.key)
        if location is not None:
            self.tell_superseded(copy, location)
        machine.drop_copy(copy.key)

    def tell_superseded(self, copy: Copy, location: Location) -> None:
        """This copy's term gives way: who acts in it, and who backs it up, must not go on.

        Where nothing is broadcast nobody else tells them.
        """
        machine = self._machine
        if not machine.asks_for_locations:
            return
        known = {location.term.owner, *location.backups, machine.life}
        misled = tuple(life for life in (copy.term.owner, *copy.backups) if life not in known)
        if location.seq > 0:
            machine.send(misled, m.Locations(((copy.key, location),)))
        elif copy.term.owner in misled and location.term > copy.term:
            machine.send((copy.term.owner,), m.Fenced(copy.key, location))

    def reactivate(self, copy: Copy, epoch: int) -> None:
        """Nobody has an active copy, and this quarantined one is the best there is."""
        machine = self._machine
        machine.log("warning", "session.reactivated", key=copy.key.hex(), version=copy.version)
        copy.term = Term(epoch, copy.term.owner)
        copy.backups = ()
        self.grant(copy, machine.life, None)
