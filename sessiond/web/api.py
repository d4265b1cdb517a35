"""The API port: the cluster as this node sees it, for people, programs and monitoring.

Off loopback everything but ``/metrics``, ``/healthz`` and ``/readyz`` needs the bearer token of
`api_token_file`. Orders come from programs: on loopback any page in a browser of this machine could send them, and is
refused. Errors are JSON: ``{"error": a word for programs, "message": a sentence for people}``.
"""

import hmac
import re
from collections.abc import Iterable
from dataclasses import replace
from http import HTTPStatus
from typing import Protocol

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CONTENT_TYPE_LATEST

from sessiond.contract import session_id
from sessiond.contract.address import Address
from sessiond.contract.cluster_view import MemberState
from sessiond.contract.drain_view import DrainView
from sessiond.contract.location_view import LocationView
from sessiond.contract.session_id import KEY_BYTES, Key
from sessiond.ports import Sample, WebNode
from sessiond.settings import api_token
from sessiond.web.listener import Listener
from sessiond.web.metrics import Metrics

OPEN_PATHS = frozenset({"/metrics", "/healthz", "/readyz"})
"""Paths for probes, which carry no token."""

SAFE_METHODS = frozenset({"GET", "HEAD"})

BODY_BYTES_MAX = 64 * 1024

_HEX_KEY = re.compile(rf"[0-9a-fA-F]{{{2 * KEY_BYTES}}}")

log = structlog.get_logger()


class Host(Protocol):
    """What the API shows of the application's port."""

    @property
    def in_flight(self) -> int:
        """Requests whose answer has not begun."""

    @property
    def is_noticed(self) -> bool:
        """Whether every balancer, if there is one, has heard that this node is draining."""

    def samples(self) -> Iterable[Sample]:
        """Its numbers for `/metrics`."""


class Api:
    """The API port of a node, and of the `host` it runs on if there is one. ConfigurationError for the token file."""

    def __init__(self, node: WebNode, host: Host | None = None) -> None:
        self._node = node
        self._host = host
        self._metrics = Metrics((node.samples, host.samples) if host is not None else (node.samples,))
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.middlewares.extend((_errors_as_json, _no_orders_of_pages))
        self._listener = Listener(app, "--api", node.settings.api)
        token = api_token(node.settings.api_token_file)
        if token is not None and not self._listener.address.is_loopback:
            app.middlewares.append(_token_wanted(token))
        app.add_routes(
            [
                web.get("/v1/cluster", self._cluster),
                web.get("/v1/locate/{id}", self._locate),
                web.get("/v1/drain", self._drain),
                web.post("/v1/drain", self._begin_drain),
                web.delete("/v1/drain", self._abort_drain),
                web.get("/metrics", self._metrics_text),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
            ]
        )

    @property
    def address(self) -> Address:
        """Where the API is served."""
        return self._listener.address

    async def start(self) -> None:
        """Open the port. Raises ConfigurationError if it cannot be had."""
        await self._listener.start()

    async def stop(self) -> None:
        """Close the port; nothing to do if it never started."""
        await self._listener.stop()

    async def _cluster(self, _request: web.Request) -> web.Response:
        return web.json_response(self._node.cluster_view().to_json())

    async def _locate(self, request: web.Request) -> web.Response:
        key = self._key_of(request.match_info["id"])
        where = self._node.locate(key) if key is not None else None
        if key is None or where is None:
            raise web.HTTPNotFound(
                text=f"{self._node.name} knows no such session: give a cookie's value, or the key's 32 hex digits"
            )
        return web.json_response(
            LocationView(key.hex(), where.primary, where.backups, where.epoch, where.version).to_json()
        )

    def _key_of(self, text: str) -> Key | None:
        if _HEX_KEY.fullmatch(text):
            return bytes.fromhex(text)
        found = session_id.split(text)
        return self._node.keyring.key_of(found.token) if found is not None else None

    async def _drain(self, _request: web.Request) -> web.Response:
        return web.json_response(self._drain_view().to_json())

    async def _begin_drain(self, request: web.Request) -> web.Response:
        self._node.begin_drain()
        return await self._drain(request)

    async def _abort_drain(self, request: web.Request) -> web.Response:
        if not self._node.abort_drain():
            raise web.HTTPConflict(
                text=f"{self._node.name} was told to end: its drain cannot be aborted any more"
            )
        return await self._drain(request)

    def _drain_view(self) -> DrainView:
        view, host = self._node.drain_view(), self._host
        if host is None:
            return view
        is_quiet = host.is_noticed and not host.in_flight
        return replace(view, requests=host.in_flight, safe_to_stop=view.safe_to_stop and is_quiet)

    async def _metrics_text(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        state = self._node.health().state
        is_ready = state is MemberState.ALIVE and self._node.is_serving()
        return web.Response(
            text=f"{state}\n", status=HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        )


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        status, text = HTTPStatus(error.status), error.text
        allow = error.headers.get(hdrs.ALLOW)
    except Exception:
        log.exception("api.failed", path=request.path)
        status, text, allow = HTTPStatus.INTERNAL_SERVER_ERROR, "the log says why", None
    standard = f"{status.value}: {status.phrase}"
    message = text if text and text != standard else f"{status.phrase}: {request.method} {request.path}"
    response = web.json_response({"error": status.name.lower(), "message": message}, status=status)
    if allow is not None:
        response.headers[hdrs.ALLOW] = allow
    if status is HTTPStatus.UNAUTHORIZED:
        response.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return response


@web.middleware
async def _no_orders_of_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a browser sends for a page. The API has none itself, so this is a page of elsewhere, whatever it is
    called: a name that was pointed at this machine makes it look like one of ours."""
    origin = request.headers.get(hdrs.ORIGIN)
    is_of_page = origin is not None or request.headers.get("Sec-Fetch-Site", "none") != "none"
    if is_of_page and request.method not in SAFE_METHODS:
        log.warning("api.order_refused", path=request.path, origin=origin)
        raise web.HTTPForbidden(
            text="orders of a page in a browser are not carried out: use sessiond drain, or a program of your own"
        )
    return await handler(request)


def _token_wanted(token: str) -> Middleware:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def token_wanted(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get(hdrs.AUTHORIZATION, "").encode(errors="surrogateescape")
        if request.path not in OPEN_PATHS and not hmac.compare_digest(given, expected):
            raise web.HTTPUnauthorized(
                text="this needs the API token: Authorization: Bearer TOKEN, from --api-token-file"
            )
        return await handler(request)

    return token_wanted
