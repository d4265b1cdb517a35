"""Where a request goes: its session's node if that counts as up, else a live one, in our own zone if one is up there.

Draining nodes are chosen only when no node is up, since an answer from them is better than none; where there are none
either, nodes that were not checked yet. Nodes that are known to be down, or in maintenance, are never chosen.
"""

from collections.abc import Callable, Collection
from random import Random

from balancer.core.algorithms import AlgorithmName, algorithm, weighted
from balancer.core.pool import Node, Pool


class Router:
    """`route_of` finds the node that a request asks for (`balancer.core.sticky`)."""

    def __init__(
        self,
        pool: Pool,
        route_of: Callable[[bytes, bytes], str | None],
        rng: Random,
        for_new: AlgorithmName = "round-robin",
    ) -> None:
        self._pool = pool
        self._route_of = route_of
        self._for_new = algorithm(for_new, rng)
        self._failover = weighted(rng)

    def first(self, cookie: bytes, target: bytes) -> Node | None:
        """The node for a request; None when there is none at all."""
        route = self._route_of(cookie, target)
        if route is None:
            candidates = self._pool.near or self._pool.last_resort
            return self._for_new(candidates) if candidates else None
        node = self._pool.nodes.get(route)
        if node is not None and node.is_up:
            return node
        return self.another(())

    def another(self, tried: Collection[Node]) -> Node | None:
        """A live node outside `tried`, for failover and retries."""
        pool = self._pool
        for group in (pool.near, pool.usable, pool.last_resort):
            candidates = [node for node in group if node not in tried]
            if candidates:
                return self._failover(candidates)
        return None

    def owner(self, name: str) -> Node | None:
        """The node that a 421 refers to, if it may be sent requests."""
        node = self._pool.nodes.get(name)
        return node if node is not None and node.is_up else None
