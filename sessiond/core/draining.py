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

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

HANDED_OVER_PER_TICK = 500
"""Sessions whose handoff begins at once."""


class Draining:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self.is_on = False
        self.is_for_good = False
        """The process ends afterwards: there is no way back."""

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
                if copy.role is Role.PRIMARY and len(copy.backups) > self._machine.options.copies:
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
        """The name of a member that stays, for a visitor whom this node takes no more; None if nobody does."""
        heirs = self._machine.membership.staying()
        return self._machine.rng.choice(heirs).name if heirs else None

    def hand_over(self) -> None:
        """Begin the handoff of what can be handed over now; called again and again while the drain is on."""
        machine = self._machine
        may_rest = self._may_rest
        if not (machine.copies.counts[Role.PRIMARY] and (may_rest or machine.membership.staying())):
            return  # a last node may wait like this for long, with very many sessions
        begun = 0
        for copy in machine.copies.values():
            if copy.role is Role.PRIMARY and copy.leads.handoff is None and not copy.tombstone:
                begun += self._hand_over(copy) or (may_rest and self._put_away(copy))
                if begun >= HANDED_OVER_PER_TICK:
                    break

    @property
    def _may_rest(self) -> bool:
        """Whether sessions can go on from the store, on another node or on this one when it is back."""
        machine = self._machine
        storing = machine.storing
        if storing is None or storing.is_down:
            return False
        return storing.is_shared or not machine.membership.staying()

    def _put_away(self, copy: Copy) -> bool:
        """Leave a session that no node can take a copy of to the store; False if one has or can."""
        machine = self._machine
        has_choice = machine.options.copies and machine.candidates.beside(copy.key, copy.backups)
        if machine.storing is None or copy.backups or has_choice or copy.leads.resting is not None:
            return False
        machine.storing.resting.begin(copy)
        return True

    def _hand_over(self, copy: Copy) -> bool:
        """Hand a session to one of its backups that is in step and stays; False if there is none yet."""
        machine = self._machine
        for life in copy.backups:
            follower = copy.leads.followers[life]
            in_step = follower.acked >= copy.version and follower.released_at is None
            if in_step and machine.membership.is_linked(life) and not machine.membership.is_draining(life):
                machine.takeover.hand_off(copy, life)
                return True
        return False

    # --- the end --------------------------------------------------------------------------------------

    @property
    def may_leave(self) -> bool:
        """Nothing is left here that another node could take."""
        machine = self._machine
        heirs = machine.membership.staying()
        if machine.storing is not None and not machine.storing.is_idle:
            return False
        if not heirs:
            return True
        counts = machine.copies.counts
        if counts[Role.PRIMARY] or counts[Role.QUARANTINED] or machine.takeover.granting:
            return False
        # Replicas move only if enough others stay to hold them beside their primaries.
        return counts[Role.BACKUP] == 0 or len(heirs) <= machine.options.copies

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
        primaries, copies = machine.copies.counts[Role.PRIMARY], machine.options.copies
        if stay <= copies and not primaries:
            nodes = "node that stays is" if stay == 1 else f"{stay} nodes that stay are"
            return (
                f"{_live(left)} with too few copies once this node is gone: the {nodes} not enough for a primary "
                f"and --copies {copies}; start another one"
            )
        return ""


def _live(count: int) -> str:
    return "1 session lives" if count == 1 else f"{count} sessions live"
