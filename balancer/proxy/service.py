"""What all connections of one event loop share, as the server that aiohttp's runner hosts.

`web.ServerRunner` asks of a server that it makes a protocol for each connection when called, and that it can be
shut down in two steps. Sites, TLS and sockets are aiohttp's; everything after accept is here.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass

from balancer.core.pool import Node, Pool
from balancer.core.reader import Limits
from balancer.core.retry import Budget
from balancer.core.routing import Router
from balancer.proxy.access_log import AccessLog
from balancer.proxy.connections import NodeConnections
from balancer.proxy.deadlines import Deadlines
from balancer.proxy.downstream import Downstream
from balancer.proxy.outbox import Outbox
from balancer.proxy.tunnel import Tunnel
from balancer.proxy.upstream import Upstream
from balancer.settings import Settings, trusted_networks


@dataclass(slots=True)
class Totals:
    """Counts since start. `failures`: answers that we gave because no node did; `refused`: because of the client."""

    requests: int = 0
    failures: int = 0
    retries: int = 0
    refused: int = 0


class ProxyService:
    """Made within the loop that it runs in. `on_suspicion(node)` asks for a check of the node at once."""

    def __init__(
        self, settings: Settings, pool: Pool, router: Router, on_suspicion: Callable[[Node], None]
    ) -> None:
        self.settings = settings
        self.pool = pool
        self.router = router
        self.on_suspicion = on_suspicion
        self.totals = Totals()
        self.budget = Budget(settings.retry_share, settings.retry_reserve)
        self.access_log = AccessLog() if settings.access_log else None
        self.trusted_networks = trusted_networks(settings)
        self.deadlines = Deadlines(asyncio.get_running_loop())
        self.outbox = Outbox(asyncio.get_running_loop())
        self.is_listening = False  # set by whoever opens the port
        self.is_stopping = False
        self.request_limits = Limits(
            head_bytes_max=settings.request_head_bytes_max,
            header_count_max=settings.header_count_max,
            body_bytes_max=settings.body_bytes_max,
            line_bytes_max=settings.line_bytes_max,
        )
        response_limits = Limits(
            head_bytes_max=settings.response_head_bytes_max,
            header_count_max=settings.header_count_max,
            body_bytes_max=sys.maxsize,  # an answer is streamed, however long
        )
        self.connections = {
            node.name: NodeConnections(
                node,
                pool,
                self.deadlines,
                self.outbox,
                response_limits,
                connect_timeout_s=settings.connect_timeout_s,
                idle_timeout_s=settings.node_keepalive_timeout_s,
                idle_max=settings.node_idle_connections_max,
                on_suspicion=on_suspicion,
            )
            for node in pool.nodes.values()
        }
        self._clients: set[Downstream] = set()
        self._tunnels: set[Tunnel] = set()
        self._all_left = asyncio.Event()

    @property
    def active_connections(self) -> int:
        """Client connections open now, tunnels included."""
        return len(self._clients) + len(self._tunnels)

    def start(self) -> None:
        self.deadlines.start()

    # The server, as aiohttp's runner knows it.

    def __call__(self) -> Downstream:
        return Downstream(self)

    def pre_shutdown(self) -> None:
        """No new connections come any more. Idle ones are closed; others get to finish their request."""
        self.is_stopping = True
        for client in tuple(self._clients):
            if client.is_idle:
                client.close()
        self._note_if_all_left()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the runner's signature
        """Wait for the requests in flight, then cut what is left: tunnels, which have no end of their own, too."""
        try:
            async with asyncio.timeout(timeout):
                await self._all_left.wait()
        except TimeoutError:
            for client in tuple(self._clients):
                client.abort()
        for tunnel in tuple(self._tunnels):
            tunnel.close()
        for connections in self.connections.values():
            connections.close()
        self.deadlines.stop()

    # The connections.

    def joined(self, client: Downstream) -> None:
        self._clients.add(client)
        self.deadlines.watch(client)

    def left(self, client: Downstream) -> None:
        self._clients.discard(client)
        self.deadlines.forget(client)
        self._note_if_all_left()

    def open_tunnel(self, node: Node, client: Downstream, upstream: Upstream, head: bytes) -> None:
        """Join the two connections for good. The node counts as active until they part."""
        node.active += 1
        self.outbox.flush()

        def close(tunnel: Tunnel) -> None:
            node.active -= 1
            self._tunnels.discard(tunnel)

        tunnel = Tunnel(
            self.deadlines, self.settings.tunnel_idle_timeout_s, client.transport, upstream.transport, close
        )
        self._tunnels.add(tunnel)
        from_node = head + upstream.hand_over()
        tunnel.open(
            client.hand_over(), from_node, client_is_full=client.is_full, node_is_full=upstream.is_full
        )

    def _note_if_all_left(self) -> None:
        if self.is_stopping and not self._clients:
            self._all_left.set()
