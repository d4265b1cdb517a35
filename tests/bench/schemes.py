"""The schemes of a cluster as data: which settings make each, for benches that put one beside the other.

A scheme is one line of `SCHEMES`. Options are those of `sessiond run`; ``{directory}`` stands for the node's own
directory, ``{store}`` for the URL of the store that all nodes of a run share.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scheme:
    """`states`: how many of the nodes are state servers. `store`: which kind of store the nodes want, if any."""

    name: str
    options: tuple[str, ...] = ()
    states: int = 0
    store: str = ""
    zones: bool = False
    """Every second node is in another zone."""

    differs_on_wire: bool = True
    """Whether its traffic between nodes is not that of another scheme."""

    def application_nodes(self, size: int) -> int:
        """How many of `size` nodes serve users."""
        return size - self.state_nodes(size)

    def state_nodes(self, size: int) -> int:
        """Of two nodes only one can be a state server."""
        return min(self.states, size - 1)


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("backup"),
        Scheme("backup, query", ("--location=query",)),
    )
}
