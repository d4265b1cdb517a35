"""What a node does without being asked, at every interval: nudge what waits too long, and hand over.

What a death leaves behind is worked off by `reprotection`, what a join asks for by `rebalancing`.
"""

from typing import TYPE_CHECKING

from sessiond.core.copies import Role
from sessiond.core.options import UPKEEP_INTERVAL_S

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Upkeep:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._next_at = machine.now

    def next_deadline(self) -> float | None:
        machine = self._machine
        busy = (
            machine.replication.waiting
            or machine.lists.repairing
            or machine.takeover.granting
            or not machine.operations.is_idle
        )
        return self._next_at if busy or machine.draining else None

    def tick(self, now: float) -> None:
        machine = self._machine
        if now < self._next_at:
            return
        self._next_at = now + UPKEEP_INTERVAL_S
        self._nudge(now)
        if machine.draining:
            machine.drain.hand_over()

    def _nudge(self, now: float) -> None:
        """Look at what should have been answered by now: resend, replace, give up on the dead."""
        machine = self._machine
        replication, lists = machine.replication, machine.lists
        timeout_s = machine.options.ack_timeout_s
        if machine.lease.lost_for_s > machine.options.lease_s:
            replication.give_up_waiting()
            machine.lookup.give_up_waiting()
            machine.operations.give_up_waiting()
        for key in [key for key, since in replication.waiting.items() if now - since > timeout_s]:
            copy = machine.copies.get(key)
            if copy is not None and copy.role is Role.PRIMARY:
                lists.maintain(copy)
        for key in [key for key, seen in lists.repairing.items() if now - seen >= UPKEEP_INTERVAL_S]:
            del lists.repairing[key]
            copy = machine.copies.get(key)
            if copy is not None and copy.role is Role.PRIMARY:
                lists.maintain(copy)
        for key in list(machine.takeover.granting):
            copy = machine.copies.get(key)
            if copy is not None and copy.is_granting:
                machine.takeover.continue_grant(copy)
            else:
                machine.takeover.granting.pop(key, None)
