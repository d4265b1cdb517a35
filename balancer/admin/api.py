"""The admin port's application: nodes to look at and to give orders to, events, metrics, probes, dashboard.

Off loopback everything but metrics and probes asks for the token: as a bearer token, or as the password of
HTTP's basic authentication, which browsers know how to ask for and to repeat for event streams. What a browser is made
to send by a foreign page is refused (`balancer.admin.cross_site`).
"""

import asyncio
import base64
import binascii
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web
from aiohttp_sse import sse_response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from balancer.admin import dashboard
from balancer.admin.cross_site import objection
from balancer.admin.metrics import registry_of
from balancer.admin.view import events_view, node_view, nodes_view
from balancer.core.pool import NodeState, Pool
from balancer.proxy.service import ProxyService

EVENT_INTERVAL_S = 1.0
"""Longest time between two events: what changes all the time is sent so often."""

EVENT_SPACING_S = 0.1
"""Least time between two events, so that a storm of changes does not become a storm of events."""

EVENT_STREAMS_MAX = 100
"""Dashboards watching at a time; each costs one message a second."""

BODY_BYTES_MAX = 4096

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

OPEN_PATHS = frozenset({"/metrics", "/healthz", "/readyz"})

log = structlog.get_logger("balancer.admin")


class AdminApi:
    """`changed` is to be called when a node's state changed. `token` None: whoever gets here may do everything."""

    def __init__(self, pool: Pool, service: ProxyService, token: str | None) -> None:
        self._pool = pool
        self._service = service
        self._token = token
        self._registry = registry_of(pool, service)
        self._watchers: set[asyncio.Event] = set()
        self._closing = False

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=BODY_BYTES_MAX)
        app.add_routes(dashboard.routes())
        app.add_routes(
            [
                web.get("/v1/nodes", self._nodes),
                web.put("/v1/nodes/{name}", self._order),
                web.get("/v1/events", self._events, allow_head=False),
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
            ]
        )
        app.on_shutdown.append(self._close)
        return app

    def changed(self) -> None:
        for watcher in self._watchers:
            watcher.set()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if self._token is not None and request.path not in OPEN_PATHS and not self._knows_token(request):
            return _problem(
                401, "unauthorized", "send the admin token as a bearer token or as a password",
                headers={"WWW-Authenticate": 'Basic realm="balancer"'},
            )  # fmt: skip
        if request.method not in SAFE_METHODS:
            why = objection(request.headers, has_token=self._token is not None)
            if why is not None:
                log.warning("order.refused", path=request.path, origin=request.headers.get("Origin"))
                return _problem(403, "cross_site", why)
            if request.content_type != "application/json":
                return _problem(415, "not_json", "send the order as Content-Type: application/json")
        return await handler(request)

    def _knows_token(self, request: web.Request) -> bool:
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                credentials = base64.b64decode(credentials, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(credentials.strip().encode(), (self._token or "").encode())

    async def _nodes(self, _request: web.Request) -> web.Response:
        return web.json_response(nodes_view(self._pool, self._service))

    async def _order(self, request: web.Request) -> web.Response:
        node = self._pool.nodes.get(request.match_info["name"])
        if node is None:
            known = ", ".join(self._pool.nodes)
            return _problem(404, "unknown_node", f"there is no node of that name; the nodes are {known}")
        try:
            state, weight = _order_in(await request.json())
            if weight is not None:  # first: it may be refused, and then nothing is to change
                self._pool.set_weight(node, weight)
            if state is not None:
                self._pool.set_order(node, state)
        except (ValueError, TypeError) as error:
            return _problem(400, "bad_order", str(error))
        log.info("node.ordered", node=node.name, state=node.state.value, weight=node.weight)
        return web.json_response(node_view(node, self._service))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._watchers) >= EVENT_STREAMS_MAX:
            return _problem(503, "too_many_watchers", f"{EVENT_STREAMS_MAX} event streams are open already")
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            async with sse_response(request) as stream:
                while not self._closing:
                    changed.clear()
                    await stream.send(json.dumps(events_view(self._pool, self._service)))
                    await asyncio.sleep(EVENT_SPACING_S)
                    try:
                        async with asyncio.timeout(EVENT_INTERVAL_S - EVENT_SPACING_S):
                            await changed.wait()
                    except TimeoutError:
                        continue
        except ConnectionResetError:
            pass  # the page was closed
        finally:
            self._watchers.discard(changed)
        return stream

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        if self._service.is_stopping:
            return _problem(503, "stopping", "the balancer is stopping")
        if not self._service.is_listening:
            return _problem(503, "starting", "the balancer does not listen yet")
        if not self._pool.up:
            return _problem(503, "no_node_up", "no node is up")
        return web.json_response({"status": "ready", "nodes_up": len(self._pool.up)})

    async def _close(self, _app: web.Application) -> None:
        self._closing = True
        self.changed()


def _order_in(body: Any) -> tuple[NodeState | None, int | None]:
    """State and weight of a PUT. Raises ValueError, with a text for whoever sent it."""
    if not isinstance(body, dict) or not body or not body.keys() <= {"state", "weight"}:
        raise ValueError('the body must be {"state": …, "weight": …}, with either or both')
    state, weight = body.get("state"), body.get("weight")
    if state not in (None, "up", "draining", "maintenance"):
        raise ValueError(f"state must be up, draining or maintenance, not {state!r}")
    if weight is not None and (not isinstance(weight, int) or isinstance(weight, bool)):
        raise ValueError(f"weight must be a whole number, not {weight!r}")
    return (None if state is None else NodeState(state)), weight


def _problem(status: int, error: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": error, "message": message}, status=status, headers=headers)
