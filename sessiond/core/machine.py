"""The core of one node: every decision of the cluster protocol, and not one byte of I/O.

Four verbs drive it: `receive`, `tick`, `next_deadline`, `take_effects`; links and the application have
plain methods beside them. Each call carries the clock's reading, does everything that can be done, and
leaves effects to be carried out *in order*, at once. Randomness comes from the `Random` passed in.

This module owns the dispatch, and what the parts share: copies, directory, effects. The rules are
in the parts: `membership`, `absence`, `admission`, `operations`, `replication`, `lists`, `backing`, `takeover`, `lookup`,
`links`, `flushing`, `rotation`, `forwarding`, `expiry`, `upkeep`, `reprotection`, `rebalancing` and `draining`; of the directory in
`locating`, `announcements`, `snapshots`, `repair`, `confirming`, `denials` and `forgetting`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, TypeAlias

from sessiond.backend import Whereabouts
from sessiond.contract.cluster_view import ClusterView, MemberState
from sessiond.contract.drain_view import DrainView
from sessiond.core import messages as m
from sessiond.core import views
from sessiond.core.absence import Absence
from sessiond.core.admission import AdmissionDesk
from sessiond.core.announcements import Announcements
from sessiond.core.backing import Backing
from sessiond.core.candidates import Candidates
from sessiond.core.checkout import Checkout
from sessiond.core.confirming import Confirming
from sessiond.core.copies import Copy, CopyStore, Role
from sessiond.core.denials import Denials
from sessiond.core.directory import Directory
from sessiond.core.draining import Draining
from sessiond.core.effects import Effect, Log, MembersChanged, NewLife, Send
from sessiond.core.expiry import Expiry
from sessiond.core.flushing import Flushing
from sessiond.core.forgetting import Forgetting
from sessiond.core.forwarding import Forwarding
from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.core.lease import Lease
from sessiond.core.links import Links
from sessiond.core.lists import Lists
from sessiond.core.locating import Locating
from sessiond.core.lookup import LookupDesk
from sessiond.core.membership import Membership
from sessiond.core.operations import Operations
from sessiond.core.options import Options
from sessiond.core.probing import Probing
from sessiond.core.rebalancing import Rebalancing
from sessiond.core.recall import Outcome
from sessiond.core.repair import Repair
from sessiond.core.replication import Replication
from sessiond.core.reprotection import Reprotection
from sessiond.core.rotation import Aliases
from sessiond.core.snapshots import Snapshots
from sessiond.core.stall import StallGuard
from sessiond.core.stats import Stats
from sessiond.core.storing import Storing
from sessiond.core.takeover import Takeover
from sessiond.core.touches import Touches
from sessiond.core.types import Key, Life
from sessiond.core.upkeep import Upkeep

Changes: TypeAlias = Mapping[str, bytes | None]
"""Encoded values by attribute name; None deletes."""


class Machine:
    def __init__(
        self, identity: Identity, options: Options, seeds: tuple[str, ...], rng: Random, now: float
    ) -> None:
        self.identity = identity
        self.options = options
        self.rng = rng
        self.now = now
        self.left = False
        self.stats = Stats()
        self.copies = CopyStore()
        self.directory = Directory(options.tombstone_ttl_s)
        self._effects: list[Effect] = []
        self._deadline = now
        self._members_changed = False
        self.links = Links(self)
        self.probing = Probing(self)
        self.membership = Membership(self, seeds)
        self.lease = Lease(self)
        self.stall = StallGuard(self)
        self.absence = Absence(self)
        self.admission = AdmissionDesk(self)
        self.announcements = Announcements(self)
        self.locating = Locating(self)
        self.snapshots = Snapshots(self)
        self.repair = Repair(self)
        self.confirming = Confirming(self)
        self.denials = Denials(self)
        self.forgetting = Forgetting(self)
        self.candidates = Candidates(self)
        self.lists = Lists(self)
        self.storing = Storing(self) if options.store_kind else None
        self.replication = Replication(self)
        self.flushing = Flushing(self)
        self.touches = Touches(self)
        self.backing = Backing(self)
        self.aliases = Aliases(self)
        self.takeover = Takeover(self)
        self.lookup = LookupDesk(self)
        self.forwarding = Forwarding(self)
        self.expiry = Expiry(self)
        self.upkeep = Upkeep(self)
        self.reprotection = Reprotection(self)
        self.rebalancing = Rebalancing(self)
        self.drain = Draining(self)
        self.operations = Operations(self)
        self._handlers: dict[type, Callable[[Life, Any], object]] = {
            m.Ping: self.probing.on_probe,
            m.Pong: self.probing.on_probe,
            m.PingRequest: self.probing.on_message,
            m.Relayed: self.probing.on_message,
            m.Vote: lambda _, msg: self.membership.on_vote(msg, self.now),
            m.Roll: lambda life, msg: self.membership.on_roll(life, msg, self.now),
            m.Leave: lambda _, msg: self.membership.on_leave(msg.life),
            m.LeaseAsk: self.lease.on_ask,
            m.LeaseAnswer: self.lease.on_answer,
            m.StandingAsk: lambda life, _: self.send((life,), m.StandingAnswer(counts=True)),
            m.StandingAnswer: lambda _life, _msg: None,  # too late: it goes on, or in another life
            m.SnapshotRequest: self.snapshots.on_request,
            m.Snapshot: self.snapshots.on_snapshot,
            m.Locations: self.locating.on_locations,
            m.Denied: self.denials.on_denied,
            m.Digest: self.repair.on_digest,
            m.Dir: self.repair.on_dir,
            m.Aliases: lambda _, msg: self.aliases.on_aliases(msg),
            m.Put: lambda life, msg: self.links.numbered(life, msg, self.backing.on_put),
            m.Patch: lambda life, msg: self.links.numbered(life, msg, self.backing.on_patch),
            m.Ack: self.links.on_ack,
            m.Nack: self.links.on_nack,
            m.Gap: self.replication.on_gap,
            m.Fenced: self.replication.on_fenced,
            m.Release: self.backing.on_release,
            m.Released: self.lists.on_released,
            m.Confirm: self.replication.on_confirm,
            m.Resigned: self.takeover.on_resigned,
            m.Touch: lambda _, msg: self.backing.on_touch(msg),
            m.Forward: self.forwarding.on_forward,
            m.ForwardResult: lambda _, msg: self.forwarding.on_result(msg),
            m.Who: self.lookup.rounds.on_who,
            m.Here: self._on_here,
            m.Claim: self.takeover.on_claim,
            m.Grant: self.takeover.on_grant,
            m.Refer: self.takeover.on_refer,
            m.Offer: self.takeover.on_offer,
            m.OfferOk: lambda _, msg: self.takeover.on_offer_ok(msg),
        }

    @property
    def life(self) -> Life:
        return self.identity.life

    @property
    def zone(self) -> str:
        return self.identity.zone

    # --- the four verbs -------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin: dial the seeds. Call once, when the links can be made."""
        self.now = now
        self.membership.start(now)

    def receive(self, peer: Life, message: m.Message, now: float) -> None:
        """A message came by the link to `peer`."""
        if not self._enter(now):
            self._receive_in_doubt(peer, message)
        elif self.membership.heard(peer):  # else its next handshake tells it that it was buried
            self._handlers[type(message)](peer, message)

    def tick(self, now: float) -> None:
        """Do what time asks for. Early and repeated calls do no harm."""
        if not self._enter(now):
            self.membership.redial(now)
            self.stall.tick(now)
            self._deadline = self._next_deadline_in_doubt()
            return
        parts: tuple[Any, ...] = (
            self.lease,
            self.membership,
            self.probing,
            self.admission,
            self.locating,
            self.announcements,
            self.repair,
            self.confirming,
            self.denials,
            self.forgetting,
            self.lookup,
            self.forwarding,
            self.flushing,
            self.expiry,
            self.absence,
            self.directory,
            self.aliases,
            self.touches,
            self.upkeep,
            self.reprotection,
            self.rebalancing,
        )
        if self.storing is not None:
            parts = (*parts, self.storing, self.storing.resting)
        for part in parts:
            part.tick(now)
        self.operations.tick()
        deadlines = (part.next_deadline() for part in parts)
        self._deadline = min(deadline for deadline in deadlines if deadline is not None)

    def next_deadline(self) -> float:
        """When `tick` wants to be called at the latest."""
        return self._deadline

    def take_effects(self) -> list[Effect]:
        """What is to be done now, in this order. Acks of what was applied since come last."""
        if self.storing is not None:
            self.storing.pay()
        self.links.pay()
        if self._members_changed:
            self._members_changed = False
            self._effects.append(MembersChanged())
        effects, self._effects = self._effects, []
        return effects

    # --- standing still -------------------------------------------------------------------------------

    def _enter(self, now: float) -> bool:
        """At the entry of every verb: whether it may be processed now (see `stall`)."""
        gap_s, self.now = now - self.now, now
        if (
            gap_s > self.options.lease_s
            and self.membership.joined
            and not self.left
            and not self.stall.is_active
        ):
            self.stall.begin(gap_s)
            self._deadline = self._next_deadline_in_doubt()
        return not self.stall.is_active

    def _next_deadline_in_doubt(self) -> float:
        times = (self.stall.next_deadline(), self.membership.next_dial())
        return min((at for at in times if at is not None), default=self.now)

    def _receive_in_doubt(self, peer: Life, message: m.Message) -> None:
        if isinstance(message, m.StandingAnswer):
            self.stall.answered(peer, counts=message.counts)
        elif isinstance(message, m.StandingAsk):
            self.send((peer,), m.StandingAnswer(counts=False))
        else:
            self.stall.hold(lambda: self.receive(peer, message, self.now), of_link=True)

    # --- what the parts use ---------------------------------------------------------------------------

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def send(self, to: tuple[Life, ...], message: m.Message) -> None:
        if to:
            if len(self.aliases):
                self.aliases.precede(to, message)
            self._effects.append(Send(to, message))

    def log(self, level: str, event: str, **fields: Any) -> None:
        self._effects.append(Log(level, event, fields))

    def due(self, at: float) -> None:
        """Something wants `tick` at this time."""
        self._deadline = min(self._deadline, at)

    def members_changed(self) -> None:
        self._members_changed = True

    def status(self) -> m.Status:
        counts = self.copies.counts
        return m.Status(
            joined=self.membership.joined,
            draining=self.draining,
            full=self.copies.bytes >= self.options.memory_bytes_max,
            primaries=counts[Role.PRIMARY],
            backups=counts[Role.BACKUP],
            unprotected=self.unprotected,
        )

    def drop_copy(self, key: Key) -> None:
        self.reprotection.orphans.pop(key)
        copy = self.copies.remove(key)
        if copy is not None and copy.leadership is not None:
            self.replication.abandon(copy)
        self.locating.forget_if_unneeded(key)

    def quarantine(self, copy: Copy) -> None:
        """This copy may be out of date: it acts no more until it knows its place."""
        self.reprotection.orphans.pop(copy.key)
        if copy.leadership is not None:
            self.replication.abandon(copy)
        self.takeover.granting.pop(copy.key, None)
        self.stats.quarantined += copy.role is not Role.QUARANTINED
        self.copies.set_role(copy, Role.QUARANTINED)
        self.reprotection.look_after(copy.key)

    @property
    def asks_for_locations(self) -> bool:
        """Whether nodes ask for sessions that are not theirs, instead of being told of each."""
        return self.options.location == "query"

    # --- links ----------------------------------------------------------------------------------------

    def admit(self, number: int, identity: Identity, now: float) -> None:
        """Somebody has proven to know the secret; the answer is an `Admission` with this number."""
        if not self._enter(now):
            self.stall.hold(lambda: self.admit(number, identity, self.now))
            return
        self.admission.admit(number, identity, now)
        self.due(now)

    def link_opened(self, identity: Identity, address: str | None, now: float) -> None:
        """A link exists; what was under way on an older one to this life is unknown and goes again.

        `address`: the one this node dialed, if it did.
        """
        life = identity.life
        if not self._enter(now):
            self.stall.link_opened(life)
            self.stall.hold(lambda: self.link_opened(identity, address, self.now), of_link=True)
            return
        if self.membership.refuses(life):
            return
        self.links.opened(life)
        if address is not None:
            self.membership.dialed(address)
        self.membership.link_opened(identity, now)
        self.links.resend(life)
        self.reprotection.standing_changed(life)  # it may be what a list without a choice has waited for
        self.aliases.tell(life)
        # What was lost with an older link may have been news of a session, or the end of a backup's part.
        self.repair.compare_soon(life)
        self.confirming.begin(life)
        self.lookup.resolve_all()

    def link_closed(self, life: Life, now: float) -> None:
        if not self._enter(now):
            self.membership.reach(life)
            self.stall.hold(lambda: self.link_closed(life, self.now), of_link=True)
            return
        self.links.closed(life)
        self.snapshots.link_closed(life)
        self.membership.link_closed(life, now)

    def dial_failed(self, address: str, kind: str, detail: str, refusal: Refusal | None, now: float) -> None:
        if not self._enter(now) and (refusal is None or refusal.code is not RefusalCode.DEAD):
            if kind == "refused":
                self.stall.process_gone(address)
            self.stall.hold(partial(self._dial_failed, address, kind, detail, refusal))
            return
        self._dial_failed(address, kind, detail, refusal)

    def _dial_failed(self, address: str, kind: str, detail: str, refusal: Refusal | None) -> None:
        self.membership.dial_failed(address, kind, detail, refusal, self.now)
        self.due(self.now)

    def refused(self, refusal: Refusal, now: float) -> None:
        """A node that dialed this one would not have a link with it, and says why."""
        self._enter(now)
        self.membership.refused("", refusal, now)
        self.due(now)

    # --- the store ------------------------------------------------------------------------------------

    def store_opened(self, now: float) -> None:
        """The store can be used."""
        self._of_store(now, lambda storing: storing.opened())

    def stored(self, number: int, refused: Collection[Key], now: float) -> None:
        """A batch was written; `refused`: the keys of which the store has a higher stamp."""
        self._of_store(now, lambda storing: storing.stored(number, refused))

    def store_failed(self, number: int, reason: str, now: float) -> None:
        """A batch may or may not have been written."""
        self._of_store(now, lambda storing: storing.failed(number, reason))

    def store_read(self, key: Key, outcome: Outcome, now: float) -> None:
        """What came of a read."""
        self._of_store(now, lambda storing: storing.recall.on_read(key, outcome))

    def _of_store(self, now: float, do: Callable[[Storing], None]) -> None:
        assert self.storing is not None, "only a store that there is says something"
        if self._enter(now):
            do(self.storing)
        else:
            self.stall.hold(partial(do, self.storing))

    # --- events of the membership ---------------------------------------------------------------------

    def joined(self) -> None:
        """This node is part of the cluster: say so, and say what it has."""
        self.membership.say_status()
        self.members_changed()
        self.lookup.resolve_all()

    def lease_gained(self) -> None:
        """This node may act again: answers that waited for it go out, and look-ups go on."""
        self.log("info", "lease.gained", members=self.membership.size)
        self.probing.lease_gained()
        self.members_changed()
        for key in list(self.replication.waiting):
            copy = self.copies.get(key)
            if copy is not None and copy.role is Role.PRIMARY:
                self.lists.maintain(copy)
        self.lookup.resolve_all()

    def standing_changed(self, life: Life) -> None:
        self.reprotection.standing_changed(life)

    def life_ended(self, life: Life, *, left: bool) -> None:
        """A member's life is over: free who waits for it now, queue the rest."""
        self.stats.deaths += not left
        self.links.closed(life)
        self.forwarding.life_ended(life)
        for key in [*self.replication.waiting, *self.lists.repairing]:
            copy = self.copies.get(key)
            if copy is not None and copy.role is Role.PRIMARY:
                self.lists.maintain(copy)
        for key in list(self.takeover.granting):
            copy = self.copies.get(key)
            if copy is not None and copy.is_granting:
                self.takeover.continue_grant(copy)
        self.confirming.life_ended(life)
        self.takeover.life_ended(life)
        self.lookup.resolve_all()
        self.reprotection.life_ended(life)

    def rejoin(self, floor: int, why: str) -> None:
        """The others have buried this node's life: go on under a new one, with every copy in doubt first."""
        old = self.life
        if floor < old.incarnation or self.left:
            return  # about an earlier life, or the end of this one as it wanted
        self.stats.rejoins += 1
        life = Life(old.name, floor + 1)
        self.log("warning", "node.rejoins", incarnation=life.incarnation, why=why, copies=len(self.copies))
        self.identity = replace(self.identity, life=life)
        for copy in self.copies.values():
            if copy.role is not Role.QUARANTINED:
                self.quarantine(copy)
        self.links.forget()
        self.emit(NewLife(life))
        self.takeover.life_ended(old)
        self.lease.forget()
        self.probing.begin_life()
        self.membership.forget_links(self.now)
        self.members_changed()
        self.stall.life_began()

    # --- messages -------------------------------------------------------------------------------------

    def _on_here(self, life: Life, here: m.Here) -> None:
        self.lookup.rounds.on_here(life, here)
        self.forgetting.on_here(life, here)

    # --- the application: see `operations` ---------------------------------------------------------------

    def try_open(self, key: Key, now: float) -> Checkout | None:
        """The session, if this node is its primary and nothing stands in the way."""
        return self.operations.try_open(key) if self._enter(now) else None

    def open(self, operation: int, key: Key, now: float, *, may_refer: bool) -> None:
        """Get hold of a session; resolved with a `Checkout`, `Elsewhere`, None (no such session) or an error."""
        if self._enter(now):
            self.operations.open(operation, key, may_refer=may_refer)
        else:
            self.stall.hold(partial(self.operations.open, operation, key, may_refer=may_refer))

    def create(
        self,
        operation: int,
        key: Key,
        changes: Changes,
        now: float,
        after: int = 0,
        *,
        flush: bool = False,
    ) -> None:
        """Make a session with its first write, version `after` + 1; resolved with `Committed` or an error."""
        if self._enter(now):
            self.operations.create(operation, key, changes, after, flush=flush)
        else:
            self.stall.hold(partial(self.operations.create, operation, key, changes, after, flush=flush))

    def commit(
        self,
        operation: int,
        key: Key,
        changes: Changes,
        if_version: int | None,
        now: float,
        *,
        flush: bool = False,
    ) -> None:
        """Write; resolved with `Committed` or an error. No changes: wait for what is shown to be applied.

        `flush`: send it now and wait, whatever the settings.
        """
        if self._enter(now):
            self.operations.commit(operation, key, changes, if_version, flush=flush)
        else:
            self.stall.hold(partial(self.operations.commit, operation, key, changes, if_version, flush=flush))

    def invalidate(self, operation: int, key: Key, now: float) -> None:
        """End a session for good; resolved with None or an error."""
        if self._enter(now):
            self.operations.invalidate(operation, key)
        else:
            self.stall.hold(partial(self.operations.invalidate, operation, key))

    def rotate(self, operation: int, key: Key, successor: Key, if_version: int, now: float) -> None:
        """End a session that goes on under another key; resolved with None or an error."""
        if self._enter(now):
            self.operations.rotate(operation, key, successor, if_version)
        else:
            self.stall.hold(partial(self.operations.rotate, operation, key, successor, if_version))

    def is_over(self, key: Key) -> bool:
        """Whether it is known that no session has this key any more, though its successor may answer to it."""
        return key in self.aliases or self.directory.is_gone(key)

    def is_settled(self, key: Key, now: float) -> bool:
        """Whether all that this node shows of a session has been applied by the whole list."""
        return self._enter(now) and self.operations.is_settled(key)

    # --- leaving --------------------------------------------------------------------------------------

    def begin_drain(self, now: float, *, for_good: bool = False) -> None:
        """Take no new sessions and hand every one over; `for_good` if the process ends afterwards.

        Nothing is handed over before the next `tick`, so a node in doubt may be told as well.
        """
        self._enter(now)
        self.drain.begin(for_good=for_good)

    def abort_drain(self, now: float) -> bool:
        """Serve again. False if the drain is for good."""
        self._enter(now)
        return self.drain.abort()

    @property
    def draining(self) -> bool:
        return self.drain.is_on

    @property
    def drained(self) -> bool:
        """Nothing is left here that another node could take."""
        return self.drain.may_leave

    def leave(self, now: float) -> None:
        """The last word: this life ends in order."""
        self.now = now
        self.left = True
        self.flushing.flush_all()
        self.announcements.flush()
        self.touches.flush()
        self.send(self.membership.linked(), m.Leave(self.life))

    # --- views ----------------------------------------------------------------------------------------

    @property
    def may_act(self) -> bool:
        """Whether this node may serve: it knows enough, a quorum stands behind it, it has not just stood still."""
        return self.membership.joined and self.lease.is_held() and not self.stall.is_active

    @property
    def state(self) -> MemberState:
        if not self.membership.joined:
            return MemberState.JOINING
        if not self.may_act:
            return MemberState.SUSPECT
        return MemberState.DRAINING if self.draining else MemberState.ALIVE

    @property
    def unprotected(self) -> int:
        """Sessions here with fewer backups in step than configured, and those to be taken over from the dead."""
        return self.reprotection.unprotected

    def cluster_view(self) -> ClusterView:
        return views.cluster_view(self)

    def drain_view(self) -> DrainView:
        return views.drain_view(self)

    def locate(self, key: Key) -> Whereabouts | None:
        """Where a session lives: from the own copy if there is one, else from the directory."""
        return views.locate(self, key)

    def check_invariants(self) -> None:
        """What must hold after every verb; for tests."""
        self.copies.check_invariants()
        self.directory.check_invariants()
        self.probing.check_invariants()
        self.flushing.check_invariants()
        if self.storing is not None:
            self.storing.check_invariants()
        for copy in self.copies.values():
            assert self.life not in copy.backups or copy.role is not Role.PRIMARY, "a primary backs itself up"
            if copy.role is Role.PRIMARY:
                assert copy.term.owner == self.life, "a primary acts in a term of another life"
                assert set(copy.leads.followers) == set(copy.backups), "list and followers differ"
                assert not copy.leads.pending or copy.key in self.replication.waiting, (
                    "nobody will come back to answers"
                )
            else:
                assert copy.leadership is None or copy.is_granting, "a backup leads"
