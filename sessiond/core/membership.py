"""Who is in the cluster: members, their lives, evidence of death, joining. `admission` guards the door.

Every node keeps a link to every other one and sends a heartbeat on each. Evidence that a life has ended,
strongest first: LEAVE; another life at the same name; a link that ended and could not be made again; silence
for `silence_timeout_s`. One node's evidence counts for all (quorum `any`). A life found dead stays dead: this
node refuses it from then on, and who was accused in error comes back with a higher incarnation.

What a death means for sessions is not decided here: `Machine.life_ended` is told.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sessiond.contract.cluster_view import MemberState, MemberView
from sessiond.contract.placement import Candidate
from sessiond.core import messages as m
from sessiond.core.dialing import Dialer
from sessiond.core.effects import DropLink, JoinRefusedForGood
from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.core.options import DEAD_SHOWN_S
from sessiond.core.types import Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

UNREACHABLE = frozenset({"refused", "timeout", "unreachable", "name"})
"""Outcomes of a dial that say: nobody is there. A handshake that gets no answer says only: silent."""


@dataclass(slots=True)
class Member:
    """Another node, in its newest life that is known here."""

    life: Life
    address: str
    heard_at: float
    identity: Identity | None = None
    """What it said in its handshake; None while it is known by hearsay only."""

    linked: bool = False
    dead_at: float | None = None
    left: bool = False
    suspected: bool = False
    status: m.Status | None = None

    @property
    def is_alive(self) -> bool:
        return self.dead_at is None

    @property
    def state(self) -> MemberState:
        if self.left:
            return MemberState.LEFT
        if self.dead_at is not None:
            return MemberState.DEAD
        if self.suspected:
            return MemberState.SUSPECT
        if self.status is None or not self.status.joined:
            return MemberState.JOINING
        return MemberState.DRAINING if self.status.draining else MemberState.ALIVE


class Membership:
    """The members as this node sees them."""

    def __init__(self, machine: "Machine", seeds: tuple[str, ...]) -> None:
        self._machine = machine
        self.members: dict[str, Member] = {}
        self.joined = False
        self._dead_through: dict[str, int] = {}
        self._seeds = seeds
        self._seeds_answered: set[str] = set()
        self._own_addresses: set[str] = set()
        self._dialer = Dialer(machine.emit, machine.options.reconnect_backoff_max_s)
        self._next_heartbeat = 0.0
        self._last_tick = 0.0

    # --- what others ask ----------------------------------------------------------------------------

    def is_dead(self, life: Life) -> bool:
        """Whether this life has ended, as far as is known here. A life never heard of has not."""
        if life.name == self._machine.life.name:
            return life.incarnation < self._machine.life.incarnation
        if life.incarnation <= self._dead_through.get(life.name, 0):
            return True
        member = self.members.get(life.name)
        return member is not None and life.incarnation < member.life.incarnation

    def is_linked(self, life: Life) -> bool:
        member = self.members.get(life.name)
        return member is not None and member.life == life and member.linked

    def is_draining(self, life: Life) -> bool:
        member = self.members.get(life.name)
        return member is not None and member.status is not None and member.status.draining

    def may_have_copies(self, life: Life) -> bool:
        """Whether a member could be primary or backup of a session; a newcomer says that it is not."""
        member = self.members.get(life.name)
        status = member.status if member is not None else None
        return status is None or status.primaries > 0 or status.backups > 0

    def dead_through(self, name: str) -> int:
        """The highest incarnation of a name that is known to be over; 0 for none."""
        return self._dead_through.get(name, 0)

    def alive(self) -> list[Life]:
        """Every other life that is not known to be dead, linked or not."""
        return [member.life for member in self.members.values() if member.is_alive]

    def linked(self) -> tuple[Life, ...]:
        return tuple(member.life for member in self.members.values() if member.linked)

    def backup_candidates(self) -> list[Candidate]:
        """Members that can take a copy now."""
        return [
            Candidate(name, member.identity.zone if member.identity else "")
            for name, member in self.members.items()
            if member.linked
            and member.is_alive
            and not member.suspected
            and member.status is not None
            and not member.status.draining
            and not member.status.full
        ]

    def life_of(self, name: str) -> Life:
        return self.members[name].life

    def views(self) -> list[MemberView]:
        """The other members as rows of the cluster view."""
        rows = []
        for name, member in self.members.items():
            identity, status = member.identity, member.status if member.is_alive else None
            rows.append(
                MemberView(
                    name=name,
                    incarnation=member.life.incarnation,
                    state=member.state,
                    http=identity.http if identity else "",
                    cluster=member.address,
                    api=identity.api if identity else "",
                    zone=identity.zone if identity else "",
                    primaries=status.primaries if status else None,
                    backups=status.backups if status else None,
                    unprotected=status.unprotected if status else None,
                )
            )
        return rows

    def roster(self) -> tuple[m.Acquaintance, ...]:
        return tuple(
            m.Acquaintance(member.life, member.address) for member in self.members.values() if member.is_alive
        )

    def dead_lives(self) -> tuple[Life, ...]:
        return tuple(Life(name, incarnation) for name, incarnation in self._dead_through.items())

    # --- time ---------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        self._last_tick = now
        self._next_heartbeat = now
        for seed in self._seeds:
            self._dialer.want(seed, now)
        self._settle_join(now)

    def next_deadline(self) -> float:
        dial_at = self._dialer.next_deadline()
        return self._next_heartbeat if dial_at is None else min(self._next_heartbeat, dial_at)

    def tick(self, now: float) -> None:
        options = self._machine.options
        if now - self._last_tick > options.silence_timeout_s / 2:
            # This node stood still (stopped, suspended, starved): the others' silence is its own.
            self._machine.log("warning", "node.stood_still", seconds=round(now - self._last_tick, 3))
            for member in self.members.values():
                member.heard_at = now
        self._last_tick = now
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + options.heartbeat_interval_s
            self._heartbeat(now)
        self._dialer.tick(now)
        self._settle_join(now)

    def say_status(self) -> None:
        """Tell everybody at once that something about this node has changed."""
        self._machine.send(self.linked(), m.Heartbeat(self._machine.status()))

    def _heartbeat(self, now: float) -> None:
        self.say_status()
        options = self._machine.options
        for name, member in list(self.members.items()):
            if not member.is_alive:
                if now - (member.dead_at or now) > DEAD_SHOWN_S:
                    del self.members[name]
                    self._dialer.forget(member.address, unless=self._seeds)
                    self._machine.members_changed()
                continue
            silent_s = now - member.heard_at
            if silent_s > options.silence_timeout_s:
                self.bury(member.life, f"silent for {silent_s:.1f} s", certain=False)
            elif (silent_s > options.silence_timeout_s / 2) != member.suspected:
                member.suspected = not member.suspected
                self._machine.log("info", "peer.suspected" if member.suspected else "peer.heard", peer=name)
                self._machine.members_changed()

    # --- links --------------------------------------------------------------------------------------

    def heard(self, life: Life, now: float) -> bool:
        """Note a sign of life; False if this life is refused, because it is over."""
        member = self.members.get(life.name)
        if member is None or member.life != life or member.dead_at is not None:
            return False
        member.heard_at = now
        return True

    def link_opened(self, identity: Identity, now: float) -> None:
        """A link to this life exists, in place of an older one if there was one."""
        self.learn(identity.life, identity.cluster, now)
        member = self.members[identity.life.name]
        member.identity = identity
        member.address = identity.cluster
        member.linked = True
        member.heard_at = now
        self._dialer.reached(identity.cluster)
        for seed in self._seeds:
            if seed == identity.cluster:
                self._seeds_answered.add(seed)
        self._machine.send((identity.life,), m.Heartbeat(self._machine.status()))
        self._machine.members_changed()
        self._settle_join(now)

    def dialed(self, address: str) -> None:
        """A dial to this address made a link, whatever address the life itself gives."""
        self._dialer.reached(address)
        self._seeds_answered.add(address)

    def link_closed(self, life: Life, now: float) -> None:
        """The link ended; the next attempt to reach the life tells whether the life did."""
        member = self.members.get(life.name)
        if member is None or member.life != life:
            return
        member.linked = False
        if member.is_alive:
            self._dialer.want(member.address, now)
        self._machine.members_changed()

    def dial_failed(self, address: str, kind: str, detail: str, refusal: Refusal | None, now: float) -> None:
        """Nobody answered at `address`, or somebody answered no. `kind` is one of `net.hub`'s."""
        if refusal is None or not refusal.code.is_final:
            self._seeds_answered.add(address)  # who is refused for good ends, and starts no cluster
        self._dialer.failed(address, now)
        if refusal is not None:
            self.refused(address, refusal, now)
        elif kind in UNREACHABLE:
            for member in list(self.members.values()):
                if member.address == address and member.is_alive and not member.linked:
                    self.bury(member.life, f"link ended and reconnect failed: {detail}", certain=True)
        self._settle_join(now)

    def refused(self, address: str, refusal: Refusal, now: float) -> None:
        """The node at `address` (empty: unknown) will have no link with this one."""
        machine = self._machine
        if refusal.code is RefusalCode.SELF:
            self._dialer.forget(address)
            self._own_addresses.add(address)
        elif refusal.code is RefusalCode.REDUNDANT:
            self._dialer.reached(address)
        elif refusal.code is RefusalCode.DEAD:
            machine.rejoin(refusal.incarnation_floor, f"declared dead by the node at {address}")
        elif refusal.code is RefusalCode.DUPLICATE_NAME and self.joined:
            machine.log(
                "warning", "join.duplicate_name", address=address, detail="a newcomer has this node's name"
            )
        elif refusal.code.is_final:
            machine.log(
                "error", "join.refused", address=address, reason=refusal.code.value, detail=refusal.detail
            )
            if not self.joined:
                machine.emit(JoinRefusedForGood(refusal, address))

    def forget_links(self, now: float) -> None:
        """This node begins another life: every link is made anew."""
        for member in self.members.values():
            member.linked = False
            member.heard_at = now
            if member.is_alive:
                self._dialer.want(member.address, now)

    # --- lives and deaths ---------------------------------------------------------------------------

    def learn(self, life: Life, address: str, now: float) -> None:
        """A life exists, by its own word or by hearsay; a higher incarnation ends the older one."""
        if life.name == self._machine.life.name or life.incarnation <= self._dead_through.get(life.name, 0):
            return
        member = self.members.get(life.name)
        if member is not None and member.life.incarnation >= life.incarnation:
            return
        self.members[life.name] = Member(life, address, heard_at=now)
        self._dialer.want(address, now)
        if member is not None and member.is_alive:
            self._ended(member, "it came back in another life", certain=True)
        self._machine.log("info", "peer.met", peer=life.name, incarnation=life.incarnation, address=address)
        self._machine.members_changed()

    def bury(self, life: Life, why: str, *, certain: bool, left: bool = False) -> None:
        """There is evidence that this life has ended: refuse it from now on and tell everybody."""
        if life.incarnation <= self._dead_through.get(life.name, 0):
            return
        self._dead_through[life.name] = life.incarnation
        member = self.members.get(life.name)
        if member is not None and member.life.incarnation <= life.incarnation and member.is_alive:
            member.dead_at = self._machine.now
            member.left = left
            self._ended(member, why, certain=certain)
        if not left:
            self._machine.send(self.linked(), m.Vote(life, certain))

    def _ended(self, member: Member, why: str, *, certain: bool) -> None:
        machine = self._machine
        name = member.life.name
        self._dead_through[name] = max(self._dead_through.get(name, 0), member.life.incarnation)
        member.linked = False
        machine.emit(DropLink(member.life, why))
        machine.log(
            "info" if member.left else "warning",
            "peer.left" if member.left else "peer.dead",
            peer=name,
            incarnation=member.life.incarnation,
            why=why,
            certain=certain,
        )
        machine.life_ended(member.life, left=member.left)
        machine.members_changed()
        if not machine.admission.life_ended(name) and not member.left:
            # Where it was, it may be again: after a partition nobody else would start to talk.
            # A seed's name may lead to another address by then.
            for address in (member.address, *self._seeds):
                if address not in self._own_addresses:
                    self._dialer.want(address, machine.now)

    # --- joining ------------------------------------------------------------------------------------

    def heartbeat(self, life: Life, status: m.Status, now: float) -> None:
        member = self.members.get(life.name)
        if member is None or member.life != life or member.status == status:
            return
        before = member.status
        member.status = status
        self._machine.members_changed()
        if before is None or before._replace(primaries=0, backups=0, unprotected=0) != status._replace(
            primaries=0, backups=0, unprotected=0
        ):
            self._machine.standing_changed(life)
        if self.joined and status.joined and (before is None or not before.joined):
            # Each may have met nodes that the other has not: two clusters may have started apart.
            self._machine.send((life,), m.Snapshot((), last=True, roster=self.roster(), dead=()))
        self._settle_join(now)

    def snapshot_received(self) -> None:
        """A member's directory has been loaded: this node knows enough to serve."""
        if not self.joined:
            self._join("took the directory of a member")

    def _settle_join(self, now: float) -> None:
        """Join a cluster that exists; with nobody to join, be the first of one.

        Of several fresh nodes that see only each other, the one with the lowest name goes first: they must
        not wait for each other.
        """
        if self.joined:
            return
        peers = [member for member in self.members.values() if member.linked and member.is_alive]
        ready = [peer for peer in peers if peer.status is not None and peer.status.joined]
        if ready:
            self._machine.snapshots.load([peer.life for peer in ready])
            return
        if any(peer.status is None for peer in peers) or not self._seeds_answered.issuperset(self._seeds):
            return
        if any(member.is_alive and not member.linked for member in self.members.values()):
            return
        if all(peer.life.name > self._machine.life.name for peer in peers):
            self._join("nobody to join: first of its cluster")

    def _join(self, how: str) -> None:
        self.joined = True
        self._machine.log("info", "node.joined", how=how, members=len(self.members) + 1)
        self._machine.joined()
