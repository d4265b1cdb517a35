"""What all connections of one event loop share.

It makes a protocol for each connection of a client when called, as asyncio asks of a server, and is shut down in two steps.
Sockets and TLS are `balancer.proxy.listening`'s; everything after accept is here.
"""

import asyncio
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from balancer.core.forwarded import Forwarded
from balancer.core.headers import Forwarding
from balancer.core.pool import Node, Pool
from balancer.core.reader import Limits
from balancer.core.retry import Budget
from balancer.core.routing import Router
from balancer.proxy.connections import ConnectionOptions, NodeConnections
from balancer.proxy.deadlines import Deadlines
from balancer.proxy.discovery import Discovery
from balancer.proxy.downstream import Downstream
from balancer.proxy.notes import Notes
from balancer.proxy.outbox import Outbox
from balancer.proxy.queue import NodeQueue
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
        self,
        settings: Settings,
        pool: Pool,
        router: Router,
        on_suspicion: Callable[[Node], None],
        node_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.pool = pool
        self.router = router
        self.on_suspicion = on_suspicion
        self.totals = Totals()
        self.budget = Budget(settings.retry_share, settings.retry_reserve)
        self.deadlines = Deadlines(asyncio.get_running_loop())
        self.discovery: Discovery | None = None  # set by whoever starts it
        self.outbox = Outbox(asyncio.get_running_loop())
        self.is_listening = False  # set by whoever opens the port
        self.is_stopping = False
        self.connections: dict[str, NodeConnections] = {}
        self._clients: set[Downstream] = set()
        self._tunnels: set[Tunnel] = set()
        self._all_left = asyncio.Event()
        self.configure(settings, node_tls)
        pool.tick(self.deadlines.now)
        self.deadlines.add_reaper(pool.tick)
        pool.follow(self._nodes_changed)

    def configure(self, settings: Settings, node_tls: ssl.SSLContext | None) -> None:
        """Serve like this from now on. Open connections keep what they took from the settings before."""
        self.settings = settings
        self.budget.configure(settings.retry_share, settings.retry_reserve)
        self.notes = Notes.of(settings)
        self.scheme = "http" if settings.tls_certificate_file is None else "https"
        self.trusted_networks = trusted_networks(settings)
        self.request_limits = Limits(
            head_bytes_max=settings.request_head_bytes_max,
            header_count_max=settings.header_count_max,
            body_bytes_max=settings.body_bytes_max,
            line_bytes_max=settings.line_bytes_max,
        )
        self._connection_options = ConnectionOptions(
            limits=Limits(
                head_bytes_max=settings.response_head_bytes_max,
                header_count_max=settings.header_count_max,
                body_bytes_max=sys.maxsize,  # an answer is streamed, however long
            ),
            connect_timeout_s=settings.connect_timeout_s,
            idle_timeout_s=settings.node_keepalive_timeout_s,
            idle_max=settings.node_idle_connections_max,
            tls=node_tls,
        )
        for connections in self.connections.values():
            connections.options = self._connection_options
            self._limit(connections)

    @property
    def active_connections(self) -> int:
        """Client connections open now, tunnels included."""
        return len(self._clients) + len(self._tunnels)

    @property
    def open_tunnels(self) -> int:
        return len(self._tunnels)

    def start(self) -> None:
        self.deadlines.start()

    # The server, as whoever listens knows it.

    def __call__(self) -> Downstream:
        return Downstream(self)

    def pre_shutdown(self) -> None:
        """No new connections come any more. Idle ones are closed; others get to finish their request."""
        self.is_stopping = True
        for client in tuple(self._clients):
            if client.is_idle:
                client.close()
        self._note_if_all_left()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - what is left after it is cut
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

    def forwarding(self, client: str, default_host: str) -> Forwarding:
        """What the requests of a new connection say about where they come from."""
        kind: Callable[..., Forwarding] = Forwarding
        if self.settings.forwarded != "x-forwarded":
            kind = partial(Forwarded, beside=self.settings.forwarded == "both")
        named = self.notes is not None
        return kind(client, default_host, self.trusted_networks, self.scheme, names_requests=named)

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
            self._tunnels.discard(tunnel)
            self._leave_node(node)

        tunnel = Tunnel(
            self.deadlines, self.settings.tunnel_idle_timeout_s, client.transport, upstream.transport, close
        )
        self._tunnels.add(tunnel)
        from_node = head + upstream.hand_over()
        tunnel.open(
            client.hand_over(),
            from_node,
            client_is_full=client.is_full,
            node_is_full=upstream.is_full,
            client_has_ended=client.is_half_closed,
        )

    def _nodes_changed(self, gone: Sequence[Node], come: Sequence[Node]) -> None:
        leaving = [self.connections.pop(node.name) for node in gone]
        for node in come:
            self.connections[node.name] = NodeConnections(
                node,
                self.pool,
                self.deadlines,
                self.outbox,
                self._connection_options,
                on_suspicion=self.on_suspicion,
                queue=self._queue_for(node),
            )
        for connections in leaving:  # last, because who waits there goes to one of the others
            connections.retire("the node was taken out")

    def _queue_for(self, node: Node) -> NodeQueue | None:
        settings = self.settings
        if not settings.node_connections_max:
            return None
        return NodeQueue(
            node,
            self.deadlines,
            active_max=settings.node_connections_max,
            waiting_max=settings.node_queue_max,
            timeout_s=settings.node_queue_timeout_s,
        )

    def _limit(self, connections: NodeConnections) -> None:
        """The node may have as many requests as the settings say now; who waits for a place gets one that is free."""
        connections.active_max = self.settings.node_connections_max or sys.maxsize
        if connections.queue is None:
            connections.queue = self._queue_for(connections.node)
        else:
            connections.queue.configure(
                active_max=connections.active_max,
                waiting_max=self.settings.node_queue_max,
                timeout_s=self.settings.node_queue_timeout_s,
            )
            connections.queue.admit_soon()

    def _leave_node(self, node: Node) -> None:
        """A tunnel there is over."""
        node.active -= 1
        if node.queued:
            self.admit_soon(node)

    def admit_soon(self, node: Node) -> None:
        """A node for which requests wait has a place free; of no effect if the node is being taken out, for then all who
        wait there go elsewhere."""
        connections = self.connections.get(node.name)
        if connections is not None and connections.node is node and connections.queue is not None:
            connections.queue.admit_soon()

    def _note_if_all_left(self) -> None:
        if self.is_stopping and not self._clients:
            self._all_left.set()
