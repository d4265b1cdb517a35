"""Why a node does not act, in words: the one place that says so, to visitors with and without a session and in health.

Each text goes on after the node's name. It says what is so now; what to do about it is for whoever passes it on.
"""

from typing import TYPE_CHECKING

from sessiond.errors import Unavailable

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

STATE_ROLE = "holds copies for others (--role state) and serves no users"
JOINING = "is still joining the cluster"
LEFT = "has left the cluster"
STOOD_STILL = "has just stood still, and waits for the others to say whether it still counts"
DRAINING = "is draining, and takes no new sessions"
LEAVING = "is leaving, and takes no sessions over"


def no_majority(machine: "Machine") -> str:
    # Links say nothing here: those to the silent stay for as long as no majority can declare them dead.
    return f"gets no answer from a majority of the {machine.membership.size} members"


def unavailable(why: str) -> Unavailable:
    """The outcome of a request that the node did not begin with."""
    return Unavailable(f"this node {why}; nothing was changed: try another node")
