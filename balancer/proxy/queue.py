"""Requests that wait for a node which has as many as it may have (`node_connections_max`).

First come, first served, and short: who waits too long, or comes when enough are waiting, is told to come back (503 with
Retry-After) while the answer is still worth something. A request waits before it is sent, so nothing of it has happened
anywhere. `Node.queued` is always the length of the node's queue.
"""

import asyncio
from typing import TYPE_CHECKING

from balancer.core.pool import Node
from balancer.proxy.deadlines import Deadlines

if TYPE_CHECKING:
    from balancer.proxy.exchange import Exchange


class NodeQueue:
    """`active_max`: requests and tunnels that the node may have; `timeout_s`: the longest wait for a place."""

    def __init__(
        self, node: Node, deadlines: Deadlines, *, active_max: int, waiting_max: int, timeout_s: float
    ) -> None:
        self.node = node
        self._deadlines = deadlines
        self._waiting: dict[Exchange, float] = {}  # since when, in the order of coming
        self.configure(active_max=active_max, waiting_max=waiting_max, timeout_s=timeout_s)
        deadlines.add_reaper(self._reap)

    def configure(self, *, active_max: int, waiting_max: int, timeout_s: float) -> None:
        """Go by these limits from now on; the time holds for those who wait already, too."""
        self.active_max = active_max
        self._waiting_max = waiting_max
        self._timeout_s = timeout_s

    def join(self, exchange: "Exchange") -> bool:
        """Wait for `admitted`, `turned_away` or `waited_in_vain`; False if too many do so already."""
        if len(self._waiting) >= self._waiting_max:
            self.node.counters.queue_overflows += 1
            return False
        self._waiting[exchange] = self._deadlines.now
        self.node.queued += 1
        return True

    def leave(self, exchange: "Exchange") -> None:
        """Its client is gone."""
        del self._waiting[exchange]
        self.node.queued -= 1

    def admit_soon(self) -> None:
        """A place is free. Not at once: who left it may want it back, to repeat its request over a fresh connection."""
        asyncio.get_running_loop().call_soon(self._admit)

    def turn_away(self, reason: str) -> None:
        """The node takes no more requests: all go elsewhere. Who has nowhere to go may come back here, in the order of coming."""
        for _ in range(len(self._waiting)):
            self._next().turned_away(self.node, reason)

    def retire(self, reason: str) -> None:
        """There is no such node any more."""
        self._deadlines.remove_reaper(self._reap)
        self.turn_away(reason)

    def _admit(self) -> None:
        while self._waiting and self.node.active < self.active_max:
            self._next().admitted(self.node)

    def _reap(self, now: float) -> None:
        while self._waiting and next(iter(self._waiting.values())) + self._timeout_s <= now:
            self.node.counters.queue_timeouts += 1
            self._next().waited_in_vain()

    def _next(self) -> "Exchange":
        exchange = next(iter(self._waiting))
        self.leave(exchange)
        return exchange
