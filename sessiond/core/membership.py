"""Who is in the cluster: members, their lives, links, evidence of death and what it comes to.

Every node keeps a link to every other one, and probes some of them (`probing`). Evidence that a life has ended,
strongest first: LEAVE; another life at the same name; a link that ended and could not be made again; silence
for `silence_timeout_s`. Evidence is a vote (`ballots`); a voter refuses the accused from then on, and who was
accused in error comes back with a higher incarnation. Votes of a quorum end the life, for good.

`admission` guards the door, `joining` says when this node serves, `lease` whether it may act. What a death means
for sessions is not decided here: `Machine.life_ended` is told.
"""

from typing import TYPE_CHECKING

from sessiond.contract.cluster_view import MemberView
from sessiond.contract.placement import Candidate, NodeRole
from sessiond.core import messages as m
from sessiond.core.ballots import Ballots, CastVote
from sessiond.core.dialing import Dialer
from sessiond.core.effects import DropLink, JoinRefusedForGood
from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.core.joining import Joining
from sessiond.core.members import Member
from sessiond.core.options import DEAD_SHOWN_S
from sessiond.core.types import Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

UNREACHABLE = frozenset({"refused", "timeout", "unreachable", "name"})
"""Outcomes of a dial that say: nobody is there. A handshake that gets no answer says only: silent.

Refused says so in itself. The others may be a lost packet's fault, so they count only after the end of a link: that
both go wrong for a member that lives is another matter. And no time-out counts that this node itself slept through.
"""

RIPE_FACTOR = 1.05
"""A vote counts after the time of a lease and this much more: clocks drift by a percent at most."""


TIDY_INTERVAL_S = 1.0
"""How often dead members are looked through for those shown long enough."""


class Membership:
    """The members as this node sees them."""

    def __init__(self, machine: "Machine", seeds: tuple[str, ...]) -> None:
        self._machine = machine
        self._by_majority = machine.options.quorum == "majority"
        self.members: dict[str, Member] = {}
        self.joining = Joining(machine, seeds)
        self.ballots = Ballots(machine.options.lease_s * RIPE_FACTOR if self._by_majority else 0.0)
        self._dead_through: dict[str, int] = {}
        self._seeds = seeds
        self._own_addresses: set[str] = set()
        self._dialer = Dialer(machine.emit, machine.options.reconnect_backoff_max_s)
        self._next_tidy = 0.0

    # --- what others ask ----------------------------------------------------------------------------

    @property
    def joined(self) -> bool:
        """Whether this node knows enough to serve."""
        return self.joining.joined

    @property
    def size(self) -> int:
        """How many members the cluster counts, dead ones too."""
        return self.joining.size

    @property
    def quorum(self) -> int:
        """Votes that it takes to end a life."""
        return self.size // 2 + 1 if self._by_majority else 1

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
        """Whether a member could know of a session: a newcomer says that it is primary and backup of none.

        Who has returned may hold copies in doubt, and know of sessions that ended elsewhere.
        """
        member = self.members.get(life.name)
        status = member.status if member is not None else None
        if status is None or (member is not None and member.has_returned):
            return True
        return status.primaries > 0 or status.backups > 0

    def dead_through(self, name: str) -> int:
        """The highest incarnation of a name that is known to be over; 0 for none."""
        return self._dead_through.get(name, 0)

    def refuses(self, life: Life) -> bool:
        """Whether this node has nothing to do with a life any more: it is over, or accused here."""
        return self.is_dead(life) or self.ballots.has_cast(life, self._machine.life.name)

    def unaccounted(self) -> list[str]:
        """Members of which it is not known what they hold: neither here to be asked, nor certainly gone."""
        if not self._by_majority:
            return []
        silent = [
            name
            for name, member in self.members.items()
            if not member.is_alive and not member.left and not self.ballots.is_certain(member.life)
        ]
        known = {self._machine.life.name, *self.members, *self.ballots.certain_names()}
        return silent + sorted(self.joining.names - known)

    def alive(self) -> list[Life]:
        """Every other life that this node deals with, linked or not."""
        return [member.life for member in self.members.values() if member.is_alive]

    def linked(self) -> tuple[Life, ...]:
        return tuple(member.life for member in self.members.values() if member.linked)

    def is_reconnecting(self) -> bool:
        """Whether a member that serves and stays, as far as is known, has no link just now."""
        return any(member.is_alive and not member.linked and member.stays for member in self.members.values())

    def staying(self) -> list[Life]:
        """Linked members that serve, and are not about to leave."""
        return [member.life for member in self.members.values() if member.linked and member.stays]

    def heirs(self) -> list[Life]:
        """Those of `staying` that a session, or a visitor, can be sent to: who serves users, if there is any."""
        staying = self.staying()
        return [life for life in staying if self.role_of(life.name) == "app"] or staying

    def backup_candidates(self) -> list[Candidate]:
        """Members that can take a copy now, if they are of the right role: see `candidates`."""
        return [
            self.candidate(name)
            for name, member in self.members.items()
            if member.linked
            and member.is_alive
            and not member.suspected
            and member.status is not None
            and not member.status.draining
            and not member.status.full
        ]

    def candidate(self, name: str) -> Candidate:
        """A member as `placement` sees it, also one never heard of: a granted list may name somebody who has just joined."""
        member = self.members.get(name)
        zone = member.identity.zone if member is not None and member.identity is not None else ""
        return Candidate(name, zone, self.role_of(name))

    def role_of(self, name: str) -> NodeRole:
        """What a member is for; one never heard of serves users."""
        member = self.members.get(name)
        return member.role if member is not None else "app"

    def life_of(self, name: str) -> Life:
        return self.members[name].life

    def views(self) -> list[MemberView]:
        """The other members as rows of the cluster view."""
        return [member.row() for member in self.members.values()]

    def roster(self) -> tuple[m.Acquaintance, ...]:
        return tuple(
            m.Acquaintance(member.life, member.address) for member in self.members.values() if member.is_alive
        )

    def dead_lives(self) -> tuple[Life, ...]:
        return tuple(Life(name, incarnation) for name, incarnation in self._dead_through.items())

    # --- time ---------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        for seed in self._seeds:
            self._dialer.want(seed, now)
        self.joining.settle()

    def next_deadline(self) -> float | None:
        ripe_at = self.ballots.next_ripe(self.quorum, self._machine.now)
        times = (self._dialer.next_deadline(), ripe_at)
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> None:
        if now >= self._next_tidy:
            self._next_tidy = now + TIDY_INTERVAL_S
            self._tidy(now)
        for life in self.ballots.lives():
            self._count(life, "a quorum has evidence")
        self._dialer.tick(now)
        self.joining.settle()

    def reach(self, life: Life) -> None:
        """Make a link to this life again."""
        member = self.members.get(life.name)
        if member is not None and member.life == life and member.is_alive:
            self._dialer.want(member.address, self._machine.now)

    def next_dial(self) -> float | None:
        return self._dialer.next_deadline()

    def redial(self, now: float) -> None:
        """Only make links: all that a node does which stood still and asks whether it still counts."""
        self._dialer.tick(now)

    def say_status(self) -> None:
        """Tell everybody at once that something about this node has changed."""
        self._machine.probing.ask(self.linked())

    def _tidy(self, now: float) -> None:
        """Show no more who has been dead for long; a majority is one of them too, so there they stay."""
        for name, member in list(self.members.items()):
            shown_s = now - (member.dead_at or now)
            if not member.is_alive and shown_s > DEAD_SHOWN_S and not self._by_majority:
                del self.members[name]
                self._dialer.forget(member.address, unless=self._seeds)
                self._machine.members_changed()

    def suspect(self, life: Life, *, suspected: bool) -> None:
        """The failure detector has doubts about a life, or no longer."""
        member = self.members.get(life.name)
        if member is not None and member.life == life and member.suspected != suspected:
            member.suspected = suspected
            self._machine.log("info", "peer.suspected" if suspected else "peer.heard", peer=life.name)
            self._machine.members_changed()

    # --- links --------------------------------------------------------------------------------------

    def heard(self, life: Life) -> bool:
        """Note a sign of life; False if this life is refused, because it is over."""
        member = self.members.get(life.name)
        if member is None or member.life != life or not member.is_alive:
            return False
        now = self._machine.now
        if now != member.heard_at:  # the frames of one turn come with one reading: the first says it all
            member.heard_at = now
            self._machine.probing.heard(life)
        return True

    def link_opened(self, identity: Identity, now: float) -> None:
        """A link to this life exists, in place of an older one if there was one."""
        self.learn(identity.life, identity.cluster, now)
        member = self.members[identity.life.name]
        member.identity = identity
        member.address = identity.cluster
        member.linked = True
        member.hung_up = False
        self._dialer.reached(identity.cluster)
        self.joining.seed_answered(identity.cluster)
        if self._by_majority:
            self._machine.send(
                (identity.life,), m.Roll(tuple(sorted(self.joining.names)), self._all_votes(now))
            )
        self._machine.probing.heard(identity.life)
        self._machine.probing.ask((identity.life,))
        self._machine.members_changed()
        self.joining.settle()

    def dialed(self, address: str) -> None:
        """A dial to this address made a link, whatever address the life itself gives."""
        self._dialer.reached(address)
        self.joining.seed_answered(address)

    def link_closed(self, life: Life, now: float) -> None:
        """The link ended; the next attempt to reach the life tells whether the life did."""
        member = self.members.get(life.name)
        if member is None or member.life != life:
            return
        member.hung_up |= member.linked  # else this node has let go of it
        member.linked = False
        if member.is_alive:
            self._dialer.want(member.address, now)
        self._machine.members_changed()

    def dial_failed(self, address: str, kind: str, detail: str, refusal: Refusal | None, now: float) -> None:
        """Nobody answered at `address`, or somebody answered no. `kind` is one of `net.hub`'s."""
        if refusal is None or not refusal.code.is_final:
            self.joining.seed_answered(address)  # who is refused for good ends, and starts no cluster
        dialed_at = self._dialer.failed(address, now)
        if refusal is not None:
            self.refused(address, refusal, now)
        elif kind == "timeout" and dialed_at is not None and self._machine.probing.overslept_since(dialed_at):
            self._machine.log("info", "dial.overslept", address=address)
        elif kind in UNREACHABLE:
            for member in list(self.members.values()):
                if member.address != address or not member.is_alive or member.linked:
                    continue
                if kind == "refused" or member.hung_up:
                    # Only a process that has ended both hangs up and listens no more; the rest may be the network's.
                    certain = kind == "refused" and member.hung_up
                    self.accuse(member.life, f"link ended and reconnect failed: {detail}", certain=certain)
        self.joining.settle()

    def refused(self, address: str, refusal: Refusal, now: float) -> None:
        """The node at `address` (empty: unknown) will have no link with this one."""
        machine = self._machine
        if refusal.code is RefusalCode.SELF:
            self._dialer.forget(address)
            self._own_addresses.add(address)
        elif refusal.code is RefusalCode.REDUNDANT:
            self._dialer.reached(address)
        elif refusal.code is RefusalCode.DEAD:
            self._told_dead(address, refusal)
        elif refusal.code is RefusalCode.DUPLICATE_NAME and self.joined:
            machine.log(
                "warning", "join.duplicate_name", address=address, detail="a newcomer has this node's name"
            )
        elif refusal.code.is_final:
            machine.log(
                "error", "join.refused", address=address, reason=refusal.code.value, detail=refusal.detail
            )
            # Of two fresh nodes with different settings the dialed one waits: who is wrong will show.
            if not self.joined and (address or refusal.code is not RefusalCode.SETTINGS):
                machine.emit(JoinRefusedForGood(refusal, address))

    def forget_links(self, now: float) -> None:
        """This node begins another life: every link is made anew, and every dial, since none is reported on."""
        self._dialer.start_over(now)
        for member in self.members.values():
            member.linked = False
            if member.is_alive:
                self._dialer.want(member.address, now)

    def _told_dead(self, address: str, refusal: Refusal) -> None:
        """Somebody takes this life for dead. If that is mutual, the side that sees fewer members yields."""
        machine = self._machine
        accused = [
            mb for mb in self.members.values() if mb.address == address and not (mb.is_alive or mb.left)
        ]
        if accused and not self._by_majority:
            # Of two that see equally many, the higher name yields.
            if (len(self.alive()) + 1, accused[0].life.name) > (refusal.members, machine.life.name):
                return  # the other side dials too, and yields
            self._take_back()
        machine.rejoin(refusal.incarnation_floor, f"declared dead by the node at {address or 'a member'}")

    def _take_back(self) -> None:
        """Forget whom this node has found dead, so that two sides of a partition can meet again."""
        self.ballots.forget()
        for member in self.members.values():
            if member.dead_at is not None and not member.left:
                member.dead_at, member.accused, member.suspected = None, False, False
                member.hung_up = False
                self._machine.probing.watch(member.life)
                self._dead_through[member.life.name] = member.life.incarnation - 1

    # --- lives and deaths ---------------------------------------------------------------------------

    def learn(self, life: Life, address: str, now: float) -> None:
        """A life exists, by its own word or by hearsay; a higher incarnation ends the older one."""
        if life.name == self._machine.life.name or life.incarnation <= self._dead_through.get(life.name, 0):
            return
        member = self.members.get(life.name)
        if member is not None and member.life.incarnation >= life.incarnation:
            return
        self.joining.names.add(life.name)
        accused = self.ballots.has_cast(life, self._machine.life.name)
        former = member.boot_id if member is not None else b""
        self.members[life.name] = Member(life, address, former_boot_id=former, accused=accused)
        if not accused:
            self._machine.probing.watch(life)
        self._dialer.want(address, now)
        if member is not None and member.dead_at is None:
            self._ended(member, "it came back in another life", certain=True)
        self._machine.log("info", "peer.met", peer=life.name, incarnation=life.incarnation, address=address)
        self._machine.members_changed()

    def accuse(self, life: Life, why: str, *, certain: bool) -> None:
        """There is evidence that this life has ended: vote, refuse it from now on, and tell everybody.

        Under `majority` only who holds the lease votes: else the two sides of a partition bury each other.
        """
        machine = self._machine
        if self.refuses(life) or not machine.lease.is_held():
            return
        vote = CastVote(life, machine.life.name, machine.now, certain)
        self.ballots.cast(vote)
        self._shun(life, why, certain=certain)
        machine.send(self.linked(), self._message(vote, machine.now))
        self._count(life, why)

    def _shun(self, life: Life, why: str, *, certain: bool) -> None:
        """This node has voted: from now on it has nothing to do with that life, and the life is to hear of it."""
        machine = self._machine
        machine.probing.forget(life)
        member = self.members.get(life.name)
        if member is not None and member.life == life:
            member.accused = True
            member.linked = False
            machine.emit(DropLink(life, why))
            machine.lease.life_ended(life)
            if self._by_majority:
                machine.log("warning", "peer.accused", peer=life.name, why=why, certain=certain)
            # If it lives, the handshake tells it to come back in another life, even if nobody else accuses it.
            self._dialer.want(member.address, machine.now)

    def on_vote(self, vote: m.Vote, now: float) -> None:
        """Somebody has evidence. What it says of this node itself, the next handshake will tell."""
        if vote.life.name == self._machine.life.name or self.is_dead(vote.life):
            return
        cast = CastVote(vote.life, vote.voter, now - vote.age_s, vote.certain)
        if self.ballots.cast(cast):
            self._machine.send(
                self.linked(), self._message(cast, now)
            )  # who has no link to the voter hears it too
            if vote.voter == self._machine.life.name:
                # Of a former process of this name, which forgot it when it ended: the vote stands all the same.
                self._shun(vote.life, "this node had evidence before it was restarted", certain=vote.certain)
            self._count(vote.life, f"{vote.voter} has evidence")

    def on_roll(self, life: Life, roll: m.Roll, now: float) -> None:
        for name in roll.names:
            member = self.members.get(name)
            if member is not None and member.left:  # the sender was away when it left
                self._machine.send((life,), m.Leave(member.life))
            else:
                self.joining.names.add(name)
        for vote in roll.votes:
            self.on_vote(vote, now)

    def on_leave(self, life: Life) -> None:
        """A life has ended in order: everybody is to know, even who has no link to it, or takes it for dead."""
        name = life.name
        member = self.members.get(name)
        newest = max(self.dead_through(name), member.life.incarnation if member is not None else 0)
        is_known = self.is_dead(life) and name not in self.joining.names
        if name == self._machine.life.name or life.incarnation < newest or is_known:
            return
        self.joining.names.discard(name)
        if not self.is_dead(life):
            self.bury(life, "it said so", certain=True, left=True)
        elif member is not None:
            member.left = True
            self._machine.members_changed()
        self._machine.send(self.linked(), m.Leave(life))

    def _count(self, life: Life, why: str) -> None:
        if not self.is_dead(life) and self.ballots.counts(life, self.quorum, self._machine.now):
            self.bury(life, why, certain=self.ballots.is_certain(life))

    def _message(self, vote: CastVote, now: float) -> m.Vote:
        return m.Vote(vote.life, vote.voter, max(0.0, now - vote.at), vote.certain)

    def _all_votes(self, now: float) -> tuple[m.Vote, ...]:
        return tuple(self._message(vote, now) for vote in self.ballots.all())

    def bury(self, life: Life, why: str, *, certain: bool, left: bool = False) -> None:
        """This life is over."""
        if life.incarnation <= self._dead_through.get(life.name, 0):
            return
        self._dead_through[life.name] = life.incarnation
        member = self.members.get(life.name)
        if member is not None and member.life.incarnation <= life.incarnation and member.dead_at is None:
            member.dead_at = self._machine.now
            member.left = left
            self._ended(member, why, certain=certain)

    def _ended(self, member: Member, why: str, *, certain: bool) -> None:
        machine = self._machine
        name = member.life.name
        self._dead_through[name] = max(self._dead_through.get(name, 0), member.life.incarnation)
        if not member.accused:
            machine.emit(DropLink(member.life, why))
        member.linked = False
        machine.probing.forget(member.life)
        machine.lease.life_ended(member.life)
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

    def status_told(self, life: Life, status: m.Status, now: float) -> None:
        """What a member says of itself."""
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
        self.joining.settle()
