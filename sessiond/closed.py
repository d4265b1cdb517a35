"""Why no session can begin on a node, in words that go on after its name (`core.inaction`)."""

from sessiond.core.inaction import DRAINING, JOINING, LEFT, STATE_ROLE, STOOD_STILL, no_majority
from sessiond.core.machine import Machine

STARTS = "is still starting"


def why_closed(machine: Machine, *, is_running: bool) -> str:
    """Empty if sessions can begin there. What lasts longest is said first."""
    if machine.options.role == "state":
        return STATE_ROLE
    if not is_running:
        return LEFT if machine.left else STARTS
    if not machine.membership.joined:
        return JOINING
    if machine.stall.is_active:
        return STOOD_STILL
    if not machine.lease.is_held():
        return no_majority(machine)
    return DRAINING if machine.draining else ""
