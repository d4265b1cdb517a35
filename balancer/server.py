"""The balancer as one object: data plane, health checks and admin port, started and stopped together.

Start: the cluster is asked for its members, nodes are checked once, then the port opens, so the first request finds the nodes known. Stop: the port
closes, requests in flight finish within `drain_timeout_s`, the admin port goes last so that it can be watched.
"""

import random
from collections.abc import Sequence

import structlog
from aiohttp import web

from balancer.admin.api import AdminApi
from balancer.core.health import Patience
from balancer.core.likely_backup import likely_backup
from balancer.core.node_list import NodeList
from balancer.core.pool import Node, NodeState, Pool
from balancer.core.routing import Router
from balancer.core.sticky import route_finder, session_finder
from balancer.errors import ConfigurationError
from balancer.proxy.checks import HealthChecker
from balancer.proxy.discovery import Discovery
from balancer.proxy.service import ProxyService
from balancer.settings import Settings, admin_token, keyring, listen_address, nodes, policy, validated
from sessiond.contract.address import Address
from sessiond.contract.listening import listening

BACKLOG = 1024
"""Connections that wait to be accepted while the loop is busy."""

ADMIN_SHUTDOWN_S = 1.0
"""Pages and probes get so long to finish."""

log = structlog.get_logger("balancer")


class Balancer:
    """`await start()`, later `await stop()`; not to be started again. Raises `ConfigurationError` before it listens."""

    def __init__(self, settings: Settings) -> None:
        self.settings = validated(settings)
        patience = Patience(
            rise=settings.health_rise, fall=settings.health_fall, request_fall=settings.request_fall
        )
        self.pool = Pool((), self._node_changed, policy(settings))
        self.node_list = NodeList(self.pool, nodes(settings), patience)
        self._checker = HealthChecker(settings, self.pool, self._node_silent)
        self._was_panicking = False
        self._discovery: Discovery | None = None
        if settings.discover:
            self._discovery = Discovery(settings, self.pool, self.node_list, self._checker.check_soon)
        self._service: ProxyService | None = None
        self._admin: AdminApi | None = None
        self._runners: list[web.BaseRunner] = []
        self._addresses: dict[str, Address] = {}

    @property
    def listen_address(self) -> Address:
        """Where browsers are served; the port is the real one even if 0 was asked for."""
        return self._addresses["listen"]

    @property
    def admin_address(self) -> Address:
        return self._addresses["admin"]

    async def start(self) -> None:
        """Returns when requests are served. Raises `ConfigurationError` if an address cannot be listened at."""
        settings = self.settings
        self.pool.follow(self._nodes_changed)
        rng = random.Random()  # noqa: S311 - spreads load
        backup = None
        if settings.failover == "backup":
            backup = likely_backup(session_finder(settings.cookie_name), keyring(settings).key_of)
        router = Router(self.pool, route_finder(settings.cookie_name), rng, settings.algorithm, backup)
        self._service = service = ProxyService(settings, self.pool, router, self._checker.check_soon)
        service.discovery = self._discovery
        admin_at = listen_address(settings.admin, "admin")
        token = None if admin_at.is_loopback else admin_token(settings)
        self._admin = AdminApi(self.pool, service, token)
        admin = web.AppRunner(self._admin.application(), shutdown_timeout=ADMIN_SHUTDOWN_S, access_log=None)
        try:
            await self._open("admin", admin, admin_at)
            if self._discovery is not None:
                await self._discovery.start()
            await self._checker.start()
            service.start()
            proxy = web.ServerRunner(service, shutdown_timeout=settings.drain_timeout_s)  # type: ignore[arg-type]  # any callable with pre_shutdown and shutdown
            await self._open("listen", proxy, listen_address(settings.listen, "listen"))
            service.is_listening = True
        except BaseException:
            await self.stop()
            raise
        log.info("balancer.started", listen=str(self.listen_address), admin=str(self.admin_address))

    async def stop(self) -> None:
        """Take no more connections, let requests in flight finish, close everything. May be called twice."""
        while self._runners:
            await self._runners.pop().cleanup()
        if self._discovery is not None:
            await self._discovery.stop()
        await self._checker.stop()

    async def _open(self, option: str, runner: web.BaseRunner, where: Address) -> None:
        await runner.setup()
        self._runners.append(runner)
        with listening(f"--{option}", str(where), ConfigurationError):
            await web.TCPSite(runner, where.host, where.port, backlog=BACKLOG).start()
        host, port = runner.addresses[0][:2]
        self._addresses[option] = Address(host, port)

    def _node_changed(self, node: Node) -> None:
        state = node.state
        event = log.warning if state is NodeState.DOWN else log.info
        why = {"reason": node.reason} if node.reason else {}
        event(f"node.{state.value}", node=node.name, address=str(node.address), **why)
        if self.pool.is_panicking is not self._was_panicking:
            self._was_panicking = self.pool.is_panicking
            up, known = len(self.pool.up), len(self.pool.nodes)
            log.warning("pool.panic" if self._was_panicking else "pool.panic_over", up=up, nodes=known)
        if self._service is not None and state is not NodeState.UP:
            connections = self._service.connections[node.name]
            connections.close_idle()
            if connections.queue is not None and not node.is_up:
                connections.queue.turn_away(node.reason)
            if state is NodeState.DOWN:
                connections.give_up_connects(node.reason)
        if self._admin is not None:
            self._admin.changed()

    def _nodes_changed(self, gone: Sequence[Node], come: Sequence[Node]) -> None:
        for node in gone:
            log.info("node.removed", node=node.name, address=str(node.address), active=node.active)
        for node in come:
            log.info("node.added", node=node.name, address=str(node.address), weight=node.weight)
        if self._admin is not None:
            self._admin.changed()

    def _node_silent(self, node: Node) -> None:
        if self._service is not None and self.pool.nodes.get(node.name) is node:
            self._service.connections[node.name].give_up_requests(node.reason)
