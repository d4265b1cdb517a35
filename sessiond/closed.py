"""Why no session can begin on a node, in words: the one place that says so, to visitors and in health alike.

Each text goes on after the node's name. It says what is so now; what to do about it is for whoever passes it on.
"""

from sessiond.core.machine import Machine

STARTS = "is still starting"
LEFT = "has left the cluster"
STATE_ROLE = "holds copies for others (--role state) and serves no users"
JOINING = "is still joining the cluster"
STOOD_STILL = "has just stood still, and waits for the others to say whether it still counts"
DRAINING = "is draining, and takes no new sessions"


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
        # Links say nothing here: those to the silent stay for as long as no majority can declare them dead.
        return f"gets no answer from a majority of the {machine.membership.size} members"
    return DRAINING if machine.draining else ""
