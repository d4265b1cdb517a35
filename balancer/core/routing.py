"""Where a request goes: its session's node if that counts as up, else a live one, in our own zone if one is up there.

Draining nodes are chosen only when no node is up, since an answer from them is better than none; where there are none
either, nodes that were not checked yet. Nodes that are known to be down, or in maintenance, are never chosen.

Where nodes may have only so many requests, one with a place free is preferred, in another zone if need be. A session's
own node is not: who has a session waits for it there.
"""

import sys
from collections.abc import Callable, Collection, Sequence
from random import Random

from balancer.core.algorithms import Algorithm, AlgorithmName, algorithm, weighted
from balancer.core.likely_backup import LikelyBackup
from balancer.core.pool import Node, Pool


class Router:
    """`route_of` finds the node that a request asks for (`balancer.core.sticky`). `likely_backup`: preferred in a failover,
    in whatever zone it is; without it, any live node."""

    def __init__(
        self,
        pool: Pool,
        route_of: Callable[[bytes, bytes], str | None],
        rng: Random,
        for_new: AlgorithmName = "round-robin",
        likely_backup: LikelyBackup | None = None,
    ) -> None:
        self._pool = pool
        self._route_of = route_of
        self._for_new = algorithm(for_new, rng)
        self._failover = weighted(rng)
        self._likely_backup = likely_backup

    def first(self, cookie: bytes, target: bytes) -> Node | None:
        """The node for a request; None when there is none at all."""
        route = self._route_of(cookie, target)
        if route is None:
            return self._choose(self._for_new, ())
        node = self._pool.nodes.get(route)
        if node is not None and node.is_up:
            return node
        # A suffix that names no node is as good as none, but for the copy that there may be of its session.
        algorithm = self._failover if node is not None else self._for_new
        return self._backup((), cookie, target) or self._choose(algorithm, ())

    def another(self, tried: Collection[Node], cookie: bytes = b"", target: bytes = b"") -> Node | None:
        """A live node outside `tried`, for failover and retries of this request."""
        return self._backup(tried, cookie, target) or self._choose(self._failover, tried)

    def _backup(self, tried: Collection[Node], cookie: bytes, target: bytes) -> Node | None:
        """The node that is likely to hold the session's copy, if it has a place free."""
        pool = self._pool
        if self._likely_backup is None:
            return None
        candidates = [node for node in pool.usable if node not in tried]
        backup = self._likely_backup(cookie, target, pool.nodes, candidates)
        if backup is None or backup.active + backup.queued >= pool.policy.active_max:
            return None
        return backup

    def _choose(self, algorithm: Algorithm, tried: Collection[Node]) -> Node | None:
        pool = self._pool
        if pool.policy.active_max != sys.maxsize:
            candidates = self._with_room(tried)
            if candidates:
                return algorithm(candidates)
        for group in (pool.near, pool.usable, pool.last_resort):
            candidates = [node for node in group if node not in tried] if tried else group
            if candidates:
                return algorithm(candidates)
        return None

    def _with_room(self, tried: Collection[Node]) -> Sequence[Node]:
        """Nodes that have a place free; if none has, those where a request may wait; near ones first in both cases."""
        policy = self._pool.policy
        for limit in (policy.active_max, policy.active_max + policy.queued_max):
            for group in (self._pool.near, self._pool.usable):
                candidates = [
                    node for node in group if node.active + node.queued < limit and node not in tried
                ]
                if candidates:
                    return candidates
        return ()

    def owner(self, name: str) -> Node | None:
        """The node that a 421 refers to, if it may be sent requests."""
        node = self._pool.nodes.get(name)
        return node if node is not None and node.is_up else None
