"""The balancer of one process as one object: data plane, health checks and admin port, started and stopped together.

Start: the cluster is asked for its members, nodes are checked once, then the port opens, so the first request finds
the nodes known. Stop: the port closes, requests in flight finish within `drain_timeout_s`, the admin port goes last so
that it can be watched.
"""

import random
from collections.abc import Callable, Sequence

import structlog

from balancer import tls
from balancer.admin.port import AdminPort
from balancer.admin.source import LocalSource
from balancer.core.health import Patience
from balancer.core.likely_backup import likely_backup
from balancer.core.node_list import NodeList
from balancer.core.pool import Node, NodeState, Pool
from balancer.core.routing import Router
from balancer.core.sticky import route_finder, session_finder
from balancer.proxy.checks import HealthChecker
from balancer.proxy.discovery import Discovery
from balancer.proxy.listening import Listener, Sockets, address_of, open_sockets
from balancer.proxy.service import ProxyService
from balancer.reloading import merged
from balancer.settings import (
    Settings,
    client_tls,
    keyring,
    listen_address,
    node_tls,
    nodes,
    policy,
    validated,
)
from sessiond.contract.address import Address

log = structlog.get_logger("balancer")


class Balancer:
    """`await start()`, later `await stop()`; not to be started again. Raises `ConfigurationError` before it listens.

    A worker's has no admin port: it is given `sockets` that were opened for it, and `on_change(node)` to tell of nodes.
    """

    def __init__(
        self,
        settings: Settings,
        sockets: Sockets | None = None,
        on_change: Callable[[Node], None] | None = None,
    ) -> None:
        self.settings = validated(settings)
        self.pool = Pool((), self._node_changed, policy(settings))
        self.node_list = NodeList(self.pool, nodes(settings), _patience(settings))
        self._node_tls = node_tls(settings)
        self._checker = HealthChecker(settings, self.pool, self._node_silent, self._node_tls)
        self._was_panicking = False
        self._discovery: Discovery | None = None
        if settings.discover:
            self._discovery = Discovery(settings, self.pool, self.node_list, self._checker.check_soon)
        self._tls = client_tls(settings)
        self._sockets = sockets
        self._on_change = on_change
        self._orders: dict[str, dict[str, object]] = {}
        self._service: ProxyService | None = None
        self._listener: Listener | None = None
        self._admin: AdminPort | None = None
        self._source: LocalSource | None = None
        self._listen_address: Address | None = None

    @property
    def listen_address(self) -> Address:
        """Where browsers are served; the port is the real one even if 0 was asked for."""
        if self._listen_address is None:
            raise RuntimeError("not started")
        return self._listen_address

    @property
    def admin_address(self) -> Address:
        if self._admin is None:
            raise RuntimeError("not started, or without an admin port")
        return self._admin.address

    @property
    def has_begun(self) -> bool:
        """Whether there is a `source`."""
        return self._source is not None

    @property
    def source(self) -> LocalSource:
        """What there is to see, and takes orders. From `start` on."""
        if self._source is None:
            raise RuntimeError("not started")
        return self._source

    async def start(self, orders: dict[str, dict[str, object]] | None = None) -> None:
        """Returns when requests are served. Raises `ConfigurationError` if an address cannot be listened at.

        `orders`: what the operator wants of nodes, by name, from when they are known.
        """
        settings = self.settings
        self.pool.follow(self._nodes_changed)
        self._service = service = ProxyService(
            settings, self.pool, _router(settings, self.pool), self._checker.check_soon, self._node_tls
        )
        service.discovery = self._discovery
        self._source = LocalSource(self.pool, service)
        self._orders = dict(orders or {})
        self.pool.follow(self._carry_out_orders)
        self.pool.follow(lambda _gone, _come: self._choices_changed())
        try:
            if self._sockets is None:
                self._admin = AdminPort(settings, self._source)
                await self._admin.start()
            if self._discovery is not None:
                await self._discovery.start()
            await self._checker.start()
            service.start()
            if self._sockets is None:
                (self._sockets,) = await open_sockets(listen_address(settings.listen, "listen"))
            self._listen_address = address_of(self._sockets)
            self._listener = Listener(service, self._sockets, self._tls)
            await self._listener.start()
        except BaseException:
            await self.stop()
            raise
        if self._admin is not None:
            log.info("balancer.started", listen=str(self.listen_address), admin=str(self.admin_address))

    async def stop(self) -> None:
        """Take no more connections, let requests in flight finish, close everything. May be called twice."""
        if self._listener is not None:
            await self._listener.close()
        if self._service is not None:
            self._service.pre_shutdown()
            await self._service.shutdown(self.settings.drain_timeout_s)
        if self._admin is not None:
            await self._admin.stop()
        if self._discovery is not None:
            await self._discovery.stop()
        await self._checker.stop()

    async def reload(self, settings: Settings) -> list[str]:
        """Go on with other settings; the names of those that need a restart. No connection is touched.

        Raises `ConfigurationError`, and then nothing has changed.
        """
        service = self._service
        if service is None:
            raise RuntimeError("not started")
        settings, waiting = merged(self.settings, validated(settings))
        towards_nodes, router = node_tls(settings), _router(settings, self.pool)
        if self._tls is not None and settings.tls_certificate_file is not None:
            tls.show(self._tls, settings.tls_certificate_file, settings.tls_key_file)
        self.settings = settings
        self._node_tls = towards_nodes
        service.router = router
        service.configure(settings, towards_nodes)
        self._checker.configure(settings, towards_nodes)
        if self._admin is not None:
            self._admin.configure(settings)
        self.pool.set_policy(policy(settings))
        self._choices_changed()
        # The list last, and never without one of its sources: a node that changes from one to the other stays.
        if settings.discover:
            await self._discover(settings)
        self.node_list.set_fixed(nodes(settings), _patience(settings))
        if not settings.discover:
            await self._end_discovery()
        service.discovery = self._discovery
        return waiting

    async def _discover(self, settings: Settings) -> None:
        """Files are read anew even if their names stay: a token may have been rotated."""
        if self._discovery is not None:
            self._discovery.configure(settings)
        else:
            self._discovery = Discovery(settings, self.pool, self.node_list, self._checker.check_soon)
            await self._discovery.start()

    async def _end_discovery(self) -> None:
        if self._discovery is not None:
            await self._discovery.stop()
            self._discovery = None
            self.node_list.set_discovered(())

    def check_soon(self, name: str) -> None:
        """Somebody else noticed something about the node: look at once, for hearsay is no evidence."""
        if name in self.pool.nodes:
            self._checker.check_soon(self.pool.nodes[name])

    def _node_changed(self, node: Node) -> None:
        state = node.state
        event = log.warning if state is NodeState.DOWN else log.info
        why = {"reason": node.reason} if node.reason else {}
        event(f"node.{state.value}", node=node.name, address=str(node.address), **why)
        self._choices_changed()
        if self._service is not None and state is not NodeState.UP:
            connections = self._service.connections[node.name]
            connections.close_idle()
            if state is NodeState.DOWN:
                connections.give_up_connects(node.reason)
        if self._admin is not None:
            self._admin.changed()
        if self._on_change is not None:
            self._on_change(node)

    def _choices_changed(self) -> None:
        """Others than before may be chosen. That may concern any node, since a panic ends for all at once: who waits for
        one that takes no requests any more goes elsewhere."""
        pool = self.pool
        if pool.is_panicking is not self._was_panicking:
            self._was_panicking = pool.is_panicking
            up, known = len(pool.up), len(pool.nodes)
            log.warning("pool.panic" if self._was_panicking else "pool.panic_over", up=up, nodes=known)
        if self._service is None:
            return
        for node in tuple(pool.nodes.values()):
            queue = self._service.connections[node.name].queue if node.queued else None
            if queue is not None and not pool.takes_requests(node):
                queue.turn_away(node.reason)

    def _nodes_changed(self, gone: Sequence[Node], come: Sequence[Node]) -> None:
        for node in gone:
            log.info("node.removed", node=node.name, address=str(node.address), active=node.active)
        for node in come:
            log.info("node.added", node=node.name, address=str(node.address), weight=node.weight)
        if self._admin is not None:
            self._admin.changed()

    def _carry_out_orders(self, _gone: Sequence[Node], come: Sequence[Node]) -> None:
        """What was ordered before we knew the nodes."""
        for node in come:
            order = self._orders.pop(node.name, None)
            if order is not None and self._source is not None:
                self._source.order_now(node.name, order)

    def _node_silent(self, node: Node) -> None:
        if self._service is not None and self.pool.nodes.get(node.name) is node:
            self._service.connections[node.name].give_up_requests(node.reason)


def _router(settings: Settings, pool: Pool) -> Router:
    """Raises `ConfigurationError`."""
    rng = random.Random()  # noqa: S311 - spreads load
    backup = None
    if settings.failover == "backup":
        backup = likely_backup(
            session_finder(settings.cookie_name), keyring(settings).key_of, settings.placement
        )
    return Router(pool, route_finder(settings.cookie_name), rng, settings.algorithm, backup)


def _patience(settings: Settings) -> Patience:
    return Patience(rise=settings.health_rise, fall=settings.health_fall, request_fall=settings.request_fall)
