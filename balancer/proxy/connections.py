"""The connections to one node: a stack of idle ones, and connects under way.

The most recently used idle connection is taken first, so that a quiet node's surplus ages and is closed at its
idle limit, before the node does so itself. A connection that a node closes without having been asked is news
about the node: it is checked at once.

Nobody waits for a node that is known to be gone: its connects are given up as soon as it is down, and requests that
it has not begun to answer once it is known to be silent.
"""

import asyncio
import ssl
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from balancer.core.pool import Node, Pool
from balancer.core.reader import Limits
from balancer.proxy.deadlines import Deadlines
from balancer.proxy.faults import is_our_own
from balancer.proxy.outbox import Outbox
from balancer.proxy.patience import Patience
from balancer.proxy.queue import NodeQueue
from balancer.proxy.upstream import Upstream

if TYPE_CHECKING:
    from balancer.proxy.exchange import Exchange

log = structlog.get_logger("balancer.proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """How connections to nodes are made and kept. `limits`: of the answers; `tls`: None for plain TCP."""

    limits: Limits
    connect_timeout_s: float
    idle_timeout_s: float
    idle_max: int
    tls: ssl.SSLContext | None


class NodeConnections:
    """`options` may be replaced at any time, for connections from then on. `on_suspicion(node)` is called when the node
    closed a connection that nobody used. `queue`: None without a cap."""

    def __init__(
        self,
        node: Node,
        pool: Pool,
        deadlines: Deadlines,
        outbox: Outbox,
        options: ConnectionOptions,
        *,
        on_suspicion: Callable[[Node], None],
        queue: NodeQueue | None = None,
    ) -> None:
        self.options = options
        self.node = node
        self.queue = queue
        self.active_max = queue.active_max if queue is not None else sys.maxsize
        self.outbox = outbox
        self._pool = pool
        self._deadlines = deadlines
        self._on_suspicion = on_suspicion
        self._idle: deque[Upstream] = deque()
        self._connects: dict[Exchange, asyncio.Task[None]] = {}
        self._open: set[Upstream] = set()
        deadlines.add_reaper(self._reap)

    @property
    def idle_count(self) -> int:
        return len(self._idle)

    def take(self) -> Upstream | None:
        """An idle connection, now the caller's."""
        while self._idle:
            upstream = self._idle.pop()
            if not upstream.transport.is_closing():
                return upstream
        return None

    def release(self, upstream: Upstream) -> None:
        """Take a connection (back) that has no exchange."""
        if len(self._idle) >= self.options.idle_max:
            upstream.transport.close()
            return
        upstream.idle_until = self._deadlines.now + self.options.idle_timeout_s
        self._idle.append(upstream)

    def opened(self, upstream: Upstream) -> None:
        """The connection is there."""
        self._open.add(upstream)

    def forget(self, upstream: Upstream) -> None:
        """The connection carries no answers any more."""
        self._open.discard(upstream)

    def lost(self, upstream: Upstream) -> None:
        """The connection is gone, by whoever's doing."""
        self.forget(upstream)
        try:
            self._idle.remove(upstream)
        except ValueError:
            return  # it was in use, or closed by us
        self._on_suspicion(self.node)

    def connect(self, exchange: "Exchange") -> None:
        """Make a connection for the exchange, which hears `connected` or `connect_failed` unless it `is_over`."""
        self._connects[exchange] = asyncio.get_running_loop().create_task(self._connect(exchange))

    async def _connect(self, exchange: "Exchange") -> None:
        options = self.options
        host, port = self.node.address
        began = monotonic()
        try:
            # The name is looked up each time: a container that came back has another address.
            async with Patience(options.connect_timeout_s):
                _, upstream = await asyncio.get_running_loop().create_connection(
                    lambda: Upstream(self, options.limits), host, port, ssl=options.tls
                )
        except TimeoutError:
            self._failed(exchange, f"no connection within {options.connect_timeout_s} s")
        except OSError as error:
            self._failed(exchange, error.strerror or str(error), is_ours=is_our_own(error))
        except Exception as error:
            # No error that we know of (a name that cannot be encoded, say). The client must not wait for it.
            self._failed(exchange, f"{type(error).__name__}: {error}")
            raise
        else:
            self._connects.pop(exchange, None)
            self.node.counters.connects.observe(monotonic() - began)
            if exchange.is_over:
                self.release(upstream)
            else:
                exchange.connected(upstream)

    def _failed(self, exchange: "Exchange", reason: str, *, is_ours: bool = False) -> None:
        self._connects.pop(exchange, None)
        if is_ours:
            log.warning("connect.failed_here", node=self.node.name, reason=reason)
        else:
            self._pool.unreachable(self.node, reason)
        if not exchange.is_over:
            exchange.connect_failed(reason)

    def give_up_connects(self, reason: str) -> None:
        """The node is down: who waits for a connection to it goes elsewhere now."""
        waiting, self._connects = self._connects, {}
        for exchange, task in waiting.items():
            task.cancel()
            if not exchange.is_over:
                exchange.connect_failed(reason)

    def give_up_requests(self, reason: str) -> None:
        """The node does not answer anybody: requests whose answer has not begun end as if it had hung up."""
        for upstream in tuple(self._open):
            upstream.give_up(reason)

    def retire(self, reason: str) -> None:
        """The node was taken out of the list: requests that it has finish there, nothing else happens."""
        self.options = replace(self.options, idle_max=0)
        self._deadlines.remove_reaper(self._reap)
        self.close_idle()
        self.give_up_connects(reason)
        if self.queue is not None:
            self.queue.retire(reason)

    def close_idle(self) -> None:
        idle, self._idle = self._idle, deque()
        for upstream in idle:
            upstream.transport.close()

    def close(self) -> None:
        for task in self._connects.values():
            task.cancel()
        self.close_idle()

    def _reap(self, now: float) -> None:
        while self._idle and self._idle[0].idle_until <= now:
            self._idle.popleft().transport.close()
