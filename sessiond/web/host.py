"""Serves the hosted application on the node's `http` port: sessions, health, and an end without broken answers.

``/_sessiond/…`` is the balancer's, whatever the application's routes and middlewares are; the balancer lets
nobody else in. Everything else is the application's.
"""

import asyncio
from collections.abc import Awaitable, Iterator

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sessiond.adapters.aiohttp import installed_in, setup
from sessiond.contract.address import Address
from sessiond.contract.cluster_view import Load, MemberState
from sessiond.contract.names import CHECKER_HEADER, HEALTH_PATH, INTERNAL_PREFIX
from sessiond.ports import Sample, WebNode
from sessiond.web.health import health_response, health_view
from sessiond.web.listener import Listener
from sessiond.web.load import Meter
from sessiond.web.notice import Notice

CHECKER_NAME_MAX = 64
"""Characters of a checker's name that tell it from others."""

log = structlog.get_logger()


class Host:
    """An application on a node. `start`, serve, `drain`, `stop`."""

    def __init__(self, app: web.Application, node: WebNode) -> None:
        self._node = node
        self._sessions = installed_in(app) or setup(app, node)
        self._listener = Listener(app, "--http", node.settings.http)
        self._meter = Meter()
        self._notice = Notice()
        self._noticed = asyncio.Event()
        # Before all middlewares, so that no log-in of the application answers the balancer.
        app.middlewares.insert(0, self._gate())

    @property
    def address(self) -> Address:
        """Where the application is served."""
        return self._listener.address

    @property
    def in_flight(self) -> int:
        """Requests whose answer has not begun."""
        return self._sessions.in_flight

    @property
    def load(self) -> Load:
        """What the balancer is told."""
        meter = self._meter
        return Load(self.in_flight, round(1000 * meter.lag_s, 1), round(meter.cpu, 3))

    async def start(self) -> None:
        """Start the application and open the port. Raises ConfigurationError if the port cannot be had."""
        await self._listener.start()
        self._meter.start()

    async def drain(self, timeout_s: float) -> None:
        """Return when the balancers know and every answer has begun, after `timeout_s` at the latest.

        The port stays open, so that requests on their way are answered; every answer closes its connection.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._until_noticed()
                await self._sessions.wait_idle()
        except TimeoutError:
            log.warning("host.drain_cut_short", in_flight=self.in_flight, timeout_s=timeout_s)

    async def stop(self) -> None:
        """Close the port, and streams that are still open; nothing to do if it never started."""
        self._meter.stop()
        await self._listener.stop()

    def samples(self) -> Iterator[Sample]:
        """The application port's numbers for `/metrics`."""
        yield Sample(
            "sessiond_http_requests_total",
            "counter",
            "Requests to the application port, health checks included.",
            self._listener.requests,
            {},
        )
        yield Sample(
            "sessiond_http_in_flight", "gauge", "Requests whose answer has not begun.", self.in_flight, {}
        )
        yield Sample(
            "sessiond_shared_objects_total",
            "counter",
            "Pairs of attributes that were committed with an object in common, which a takeover separates.",
            self._sessions.sessions.shared_objects.count,
            {},
        )
        yield Sample("sessiond_load", "gauge", "0 idle to 1 and above, busy.", self.load.figure, {})

    @property
    def is_noticed(self) -> bool:
        """Whether everybody who asks for health regularly has heard that the node is draining."""
        return self._notice_s() <= 0

    def _notice_s(self) -> float:
        return self._notice.left_s(asyncio.get_running_loop().time())

    async def _until_noticed(self) -> None:
        wait_s = self._notice_s()
        if wait_s <= 0:
            return
        self._noticed.clear()
        try:
            async with asyncio.timeout(wait_s):
                await self._noticed.wait()
        except TimeoutError:
            log.warning("host.drain_unnoticed", waited_s=round(wait_s, 3))

    def _gate(self) -> Middleware:
        # No coroutine of its own: it costs every request.
        @web.middleware
        def gate(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
            if request.path.startswith(INTERNAL_PREFIX):
                return self._internal(request)
            return handler(request)

        return gate

    async def _internal(self, request: web.Request) -> web.StreamResponse:
        if request.path != HEALTH_PATH:
            raise web.HTTPNotFound
        if request.method not in {"GET", "HEAD"}:
            raise web.HTTPMethodNotAllowed(request.method, ("GET", "HEAD"))
        view = health_view(self._node, self.load)
        asker = request.headers.get(CHECKER_HEADER) or request.remote or ""
        now = asyncio.get_running_loop().time()
        self._notice.asked(asker[:CHECKER_NAME_MAX], now, draining=view.state is MemberState.DRAINING)
        if self.is_noticed:
            self._noticed.set()
        return health_response(view, serving=self._node.is_serving())
