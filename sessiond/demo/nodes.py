"""How a member of the cluster looks on the page. A node's colour follows from its name alone, so that every node,
every page and the balancer's dashboard paint it alike without asking each other.
"""

from typing import Any

from sessiond.contract.cluster_view import ClusterView, MemberState, MemberView

COLOURS = 10
"""How many node colours the style sheets define (`.hue-0` …); one for each last digit of a name."""


def colour_of(name: str) -> int:
    """Number of the node's colour: its last digit, so that node1 … node9 differ; else a sum over its letters."""
    if name[-1:] in set("0123456789"):
        return int(name[-1])
    return sum(map(ord, name)) % COLOURS


GONE = frozenset({MemberState.DEAD, MemberState.LEFT})


def strip(view: ClusterView) -> list[dict[str, Any]]:
    """The nodes as the page shows them, in the order of their names; counts are None where there is nothing to count."""
    return [_row(member) for member in view.members]


def _row(member: MemberView) -> dict[str, Any]:
    gone = member.state in GONE
    return {
        "name": member.name,
        "state": member.state.value,
        "primaries": None if gone else member.primaries,
        "backups": None if gone else member.backups,
        "colour": colour_of(member.name),
    }
