"""Leaving in order (protocol 6): a node hands over what it has, and knows when nothing of it is left.

From `begin` on this node takes no new sessions and takes nothing over. It hands each primary to a backup that is
in step and stays; the primaries elsewhere replace the copies that it backs up (`replication`). `abort` undoes
the intention, not the deeds: what was handed over stays where it is.

Two questions, which differ when too few nodes stay to hold `copies` backups:

- `may_leave`, for a process that was told to end: everything that somebody could take has been taken.
- `is_safe_to_stop`, for people: nothing is left here. Every copy was released by a primary whose list is complete
  without it, so a node that holds none takes nothing along, however it ends.
"""

from typing import TYPE_CHECKING

from sessiond.core.copies import Copy, Role
from sessiond.core.table import Walk
from sessiond.core.types import Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

HANDED_OVER_PER_TICK = 500
"""Sessions whose handoff begins at once."""

LOOKED_AT_PER_TICK = 5000
"""Most copies looked at in one go, to find those that can be handed over."""


class Draining:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self.is_on = False
        self._walk: Walk | None = None
        self.is_for_good = False
        """The process ends afterwards: there is no way back."""

        self._has_copies_of_others = True

    def begin(self, *, for_good: bool) -> None:
        """Leave from now on. Again: nothing but that it may now be for good."""
        self.is_for_good = self.is_for_good or for_good
        if not self.is_on:
            self.is_on = True
            self._standing_changed()

    def abort(self) -> bool:
        """Serve again; handoffs that have not begun are not begun. False if the process ends already."""
        if self.is_for_good:
            return False
        if self.is_on:
            self.is_on = False
            self._standing_changed()
            # A leaving node lets lists be longer than they should. (Its look-ups go on with their next rounds.)
            for copy in self._machine.copies.values():
                if copy.role is Role.PRIMARY and len(copy.backups) > self._machine.candidates.wanted(copy):
                    self._machine.reprotection.look_after(copy.key)
        return True

    def _standing_changed(self) -> None:
        machine = self._machine
        machine.log(
            "info", "node.draining" if self.is_on else "node.drain_aborted", copies=len(machine.copies)
        )
        machine.membership.say_status()
        machine.members_changed()
        machine.due(machine.now)

    # --- handing over ---------------------------------------------------------------------------------

    def heir(self) -> str | None:
        """The name of a member that stays, for a visitor whom this node does not take; None if nobody does."""
        membership = self._machine.membership
        heirs = [life for life in membership.staying() if membership.role_of(life.name) == "app"]
        return self._machine.rng.choice(heirs).name if heirs else None

    def hand_over(self) -> None:
        """Begin the handoff of what can be handed over now; called again and again while the drain is on."""
        machine = self._machine
        self._look_at_copies()
        may_rest = machine.storing is not None and machine.storing.resting.may_rest
        if not (machine.copies.counts[Role.PRIMARY] and (may_rest or machine.membership.staying())):
            return  # a last node may wait like this for long, with very many sessions
        walk = self._walk
        if walk is None or walk.is_over:
            self._walk = walk = machine.copies.walk()
        begun, looked_at, takers = 0, 0, self._takers()
        while begun < HANDED_OVER_PER_TICK and looked_at < LOOKED_AT_PER_TICK and not walk.is_over:
            for key in walk.take(HANDED_OVER_PER_TICK - begun):
                looked_at += 1
                copy = machine.copies.get(key)
                if copy is not None and copy.role is Role.PRIMARY and not copy.tombstone:
                    is_free = copy.leads.handoff is None
                    begun += is_free and (
                        self._hand_over(copy, takers) or (may_rest and self._put_away(copy))
                    )

    def _put_away(self, copy: Copy) -> bool:
        """Leave a session that no node can take a copy of to the store; False if one has or can."""
        machine = self._machine
        candidates = machine.candidates
        has_choice = candidates.least and candidates.beside(copy.key, copy.backups)
        if machine.storing is None or copy.backups or has_choice or copy.leads.resting is not None:
            return False
        machine.storing.resting.begin(copy)
        return True

    def _takers(self) -> list[Life]:
        """Who takes sessions without having held a copy: nobody, unless it is so that nobody holds copies."""
        machine = self._machine
        membership = machine.membership
        if machine.candidates.members():
            return []
        heirs = [member.name for member in membership.backup_candidates() if member.role == "app"]
        return [life for life in membership.staying() if life.name in heirs]

    def _hand_over(self, copy: Copy, takers: list[Life]) -> bool:
        """Hand a session to one of its backups that is in step and stays, or to a taker; False if there is none yet."""
        machine = self._machine
        for life in copy.backups:
            follower = copy.leads.followers[life]
            in_step = follower.acked >= copy.sent.version and follower.released_at is None
            if in_step and machine.membership.is_linked(life) and not machine.membership.is_draining(life):
                machine.takeover.hand_off(copy, life)
                return True
        if takers:
            machine.takeover.hand_off(copy, machine.rng.choice(takers))
        return bool(takers)

    # --- the end --------------------------------------------------------------------------------------

    @property
    def may_leave(self) -> bool:
        """Nothing is left here that another node could take."""
        machine = self._machine
        counts = machine.copies.counts
        is_open = counts[Role.QUARANTINED] or machine.takeover.granting
        if machine.storing is not None and (
            is_open or not machine.storing.is_idle or machine.reprotection.is_taking_over
        ):
            return False
        if not machine.membership.staying():
            return not machine.membership.is_reconnecting()
        if counts[Role.PRIMARY] or is_open:
            return False
        return counts[Role.BACKUP] == 0 or not self._copies_can_move

    @property
    def _copies_can_move(self) -> bool:
        """Whether enough nodes stay to hold what this one backs up: beside the primary, if that could hold copies too."""
        machine = self._machine
        candidates = machine.candidates
        if not candidates.least:
            return (
                True  # what is left of a handoff is given back: whoever takes the session wants no copy of it
            )
        holders = sum(candidates.may_hold(life) for life in machine.membership.staying())
        return holders > candidates.least or (holders == candidates.least and self._has_copies_of_others)

    def _look_at_copies(self) -> None:
        """Whether this node backs up sessions of nodes that hold no copies themselves: those of a central scheme."""
        machine = self._machine
        self._has_copies_of_others = machine.options.placement == "central" and any(
            copy.role is Role.BACKUP and not machine.candidates.may_hold(copy.term.owner)
            for copy in machine.copies.values()
        )

    @property
    def is_safe_to_stop(self) -> bool:
        """No copy is left, and nothing that this node has begun for a session is under way."""
        machine = self._machine
        return (
            self.is_on
            and not machine.stall.is_active
            and not len(machine.copies)
            and machine.lookup.is_idle
            and machine.operations.is_idle
            and machine.forwarding.is_idle
            and machine.announcements.is_idle
            and (machine.storing is None or machine.storing.is_idle)
        )

    @property
    def hindrance(self) -> str:
        """Why what is left here cannot go, in words; empty if it can, or if nothing is left."""
        machine = self._machine
        left, stay = len(machine.copies), len(machine.membership.staying())
        if not self.is_on or not left:
            return ""
        if not machine.lease.is_held():
            return f"{_live(left)} here and cannot move: this node is cut off from the majority"
        if machine.storing is not None and machine.storing.is_down:
            return f"{_live(left)} here, and the store does not answer: {machine.storing.reason}"
        if not stay and not machine.membership.linked():
            return f"{_live(left)} only here: there is no other node to take them; start one"
        if not stay:
            return f"{_live(left)} only on nodes that leave: start another one, or abort a drain"
        if not machine.membership.backup_candidates():
            return f"{_live(left)} here and cannot move: the nodes that stay take no more copies; start another one"
        if machine.copies.counts[Role.PRIMARY] or self._copies_can_move:
            return ""
        if machine.options.placement == "central":
            return (
                f"{_live(left)} with too few copies once this node is gone: the state nodes that stay are not enough "
                f"for --copies {machine.options.copies}; start another one"
            )
        nodes = "node that stays is" if stay == 1 else f"{stay} nodes that stay are"
        return (
            f"{_live(left)} with too few copies once this node is gone: the {nodes} not enough for a primary "
            f"and --copies {machine.options.copies}; start another one"
        )


def _live(count: int) -> str:
    return "1 session lives" if count == 1 else f"{count} sessions live"
