"""How long a node is kept out whose requests failed while its health checks go on passing (Envoy's outlier detection).

Each ejection of a node lasts longer than the one before, by the same step; one that kept well for as long as the longest
lasts starts from the beginning. Only a share of all nodes is ejected at a time: when most fail, the fault is likelier in
what they share, and who is left would be crushed. So a node that stands alone is never ejected.

An ejection ends early, and is not held against the node, when nobody can connect to it or its checks fail as well: then it
is dead, and what comes back is another process.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from balancer.core.pool import Node


class Ejections:
    """`step_s`: of the first one, and what each repetition adds, up to `longest_s`. `share_max`: of all nodes."""

    def __init__(self, step_s: float, longest_s: float, share_max: float) -> None:
        self._step_s = step_s
        self._longest_s = longest_s
        self._share_max = share_max
        self._until: dict[Node, float] = {}
        self._served: dict[Node, tuple[int, float]] = {}  # ejections in a row, and the end of the last

    def has_room(self, nodes: int) -> bool:
        """Whether one more of so many nodes may be ejected."""
        return len(self._until) + 1 <= self._share_max * nodes

    def begin(self, node: "Node", now: float) -> float:
        """Eject it; for so many seconds."""
        repeats, over_at = self._served.get(node, (0, now))
        if now - over_at >= self._longest_s:
            repeats = 0
        self._served[node] = (repeats, over_at)
        seconds = min(self._longest_s, self._step_s * (repeats + 1))
        self._until[node] = now + seconds
        return seconds

    def over(self, now: float) -> list["Node"]:
        """Those that have served their time by now."""
        done = [node for node, until in self._until.items() if until <= now]
        for node in done:
            repeats, _ = self._served[node]
            self._served[node] = (repeats + 1, self._until.pop(node))
        return done

    def pardon(self, node: "Node") -> None:
        """It is down for another reason."""
        self._until.pop(node, None)

    def forget(self, node: "Node") -> None:
        """There is no such node any more."""
        self._until.pop(node, None)
        self._served.pop(node, None)

    def __contains__(self, node: "Node") -> bool:
        return node in self._until
