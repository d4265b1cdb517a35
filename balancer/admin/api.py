"""The admin port's application: nodes to look at and to give orders to, events, metrics, probes, dashboard.

With a token everything but metrics and probes asks for it, on loopback too, for a proxy there may bring anybody: as a
bearer token, or as the password of HTTP's basic authentication, which browsers know how to ask for and to repeat for
event streams. What a browser is made to send by a foreign page is refused (`balancer.admin.cross_site`).
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
from balancer.admin.source import Source, UnknownNode
from balancer.core.histogram import BOUNDS_S

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

    def __init__(self, source: Source) -> None:
        self._source = source
        self.token: str | None = None
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
        if self.token is not None and request.path not in OPEN_PATHS and not self._knows_token(request):
            return _problem(
                401, "unauthorized", "send the admin token as a bearer token or as a password",
                headers={"WWW-Authenticate": 'Basic realm="balancer"'},
            )  # fmt: skip
        if request.method not in SAFE_METHODS:
            why = objection(request.headers, has_token=self.token is not None)
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
        return hmac.compare_digest(credentials.strip().encode(), (self.token or "").encode())

    async def _nodes(self, _request: web.Request) -> web.Response:
        return web.json_response({"nodes": self._source.nodes()})

    async def _order(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        try:
            row = await self._source.order(name, await request.json())
        except UnknownNode as error:
            return _problem(404, "unknown_node", str(error))
        except (ValueError, TypeError) as error:
            return _problem(400, "bad_order", str(error))
        except TimeoutError as error:
            return _problem(504, "not_confirmed", str(error))
        log.info("node.ordered", node=name, state=row["state"], weight=row["weight"])
        return web.json_response(row)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._watchers) >= EVENT_STREAMS_MAX:
            return _problem(503, "too_many_watchers", f"{EVENT_STREAMS_MAX} event streams are open already")
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            async with sse_response(request) as stream:
                while not self._closing:
                    changed.clear()
                    await stream.send(json.dumps(self._event()))
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

    def _event(self) -> dict[str, Any]:
        """`bounds_s`: of the buckets of latencies but the last, which has none."""
        return {"nodes": self._source.nodes(), "bounds_s": BOUNDS_S, "totals": self._source.totals()}

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._source.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _request: web.Request) -> web.Response:
        hindrance = self._source.hindrance()
        if hindrance is not None:
            return _problem(503, *hindrance)
        nodes_up = sum(node["state"] == "up" for node in self._source.nodes())
        return web.json_response({"status": "ready", "nodes_up": nodes_up})

    async def _close(self, _app: web.Application) -> None:
        self._closing = True
        self.changed()


def _problem(status: int, error: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": error, "message": message}, status=status, headers=headers)
