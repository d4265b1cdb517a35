"""What the operator wants of the nodes: held by the supervisor, followed by every worker, whenever it was started.

An order holds until a later one takes its place, and ends as it does in a balancer of one process: all of it when its node
has left the list, a weight also when the configuration gives the node another one than before. Workers learn of the list
by themselves and not at the same moment, so a node has left when the last worker that had it has it no more.

An order counts once one worker has carried it out, whether or not the others confirm it; they are told, and so are those
that are starting. No I/O: the supervisor passes messages on.
"""

from collections.abc import Iterable
from typing import Any

from balancer.core.node_spec import NodeSpec

Order = dict[str, Any]
"""`state`, `weight`, or both, as in the body of a PUT."""


class Orders:
    """Those that hold. `given`, `reweighted` and `ended` say what has happened; what happened later has a higher number,
    though word of it may come earlier."""

    def __init__(self) -> None:
        # By node and key: the number that the value is from, and the value; None if nothing holds any more.
        self._wanted: dict[str, dict[str, tuple[int, Any]]] = {}

    def of(self, name: str) -> Order:
        """What is wanted of one node; empty if nothing."""
        wanted = self._wanted.get(name, {})
        return {key: value for key, (_, value) in wanted.items() if value is not None}

    def all(self) -> dict[str, Order]:
        return {name: order for name in self._wanted if (order := self.of(name))}

    def given(self, number: int, name: str, order: Order) -> None:
        """A worker has carried the order of that number out."""
        wanted = self._wanted.setdefault(name, {})
        for key, value in order.items():
            if value is not None and number >= wanted.get(key, (0, None))[0]:
                wanted[key] = (number, value)

    def reweighted(self, number: int, before: Iterable[NodeSpec], after: Iterable[NodeSpec]) -> None:
        """The configuration has changed. A node that it does not name has weight 1, if there is one by discovery."""
        old, new = ({spec.name: spec.weight for spec in specs} for specs in (before, after))
        for name, wanted in self._wanted.items():
            if old.get(name, 1) != new.get(name, 1):
                wanted["weight"] = (number, None)

    def ended(self, names: Iterable[str]) -> list[str]:
        """These nodes have left the list; those of them for which there were orders."""
        return [name for name in names if self._wanted.pop(name, None) is not None]
