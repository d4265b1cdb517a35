"""One process of `sessiond run`: a node, the application it hosts, and its API port, from start to exit.

It owns the order of things. Start: the application is loaded before a port is opened, and the ports are open
before the cluster hears of the node. End, on SIGTERM or SIGINT: health says draining and no session begins
here; requests in flight finish while sessions are handed to their backups; then the ports close and the node
leaves. `drain_timeout_s` bounds the first part, `STOP_TIMEOUT_S` the second. Another signal exits at once.

It decides nothing about sessions, which is the node's, nor what the ports answer, which is web's.
"""

import asyncio
from typing import Protocol

import structlog
from aiohttp import web

from sessiond.contract.address import Address
from sessiond.demo.app import create_app
from sessiond.loading import load_application
from sessiond.node import Node
from sessiond.settings import Settings
from sessiond.web.api import Api
from sessiond.web.host import Host

STOP_TIMEOUT_S = 1.5
"""Closing ports and links gets so long after the drain: together below Docker's 10 seconds."""

LATE_SESSIONS_S = 1.0
"""Sessions that the last requests in flight began get so long to be handed over."""

log = structlog.get_logger()


class Part(Protocol):
    """Something that opens one port of the process."""

    async def start(self) -> None:
        """Open the port; ConfigurationError if it cannot be had."""

    async def stop(self) -> None:
        """Close it, and everything behind it; nothing to do if it never started."""


class NodePart(Part, Protocol):
    """The node."""

    def bound(self, *, http: str, api: str) -> None:
        """The other ports are open at these addresses."""

    async def failed(self) -> None:
        """Wait until the node cannot go on, and raise why; for ever if all is well."""

    def begin_drain(self, *, for_good: bool) -> None:
        """From now on health says draining, no session begins here, and sessions are handed to their backups."""

    async def drain(self, timeout_s: float) -> int:
        """Wait until the sessions are handed over, for `timeout_s` at most; the number of those that end here."""


class WebPart(Part, Protocol):
    """The API port."""

    @property
    def address(self) -> Address:
        """Where it listens, once started."""


class HostPart(WebPart, Protocol):
    """The hosted application."""

    async def drain(self, timeout_s: float) -> None:
        """Return when no request is in flight, after `timeout_s` at the latest."""


async def run(settings: Settings, application: str, told: asyncio.Event) -> None:
    """Host `application` (MODULE:APP, or "" for the demo shop) on a node until `told`.

    Raises ConfigurationError and JoinRefused, which a person has to put right, and whatever else goes wrong.
    """
    hosted = await _hosted(settings, application)
    node = Node(settings)
    host = Host(hosted if hosted is not None else create_app(node), node)
    await serve(node, host, Api(node, host), told, settings.drain_timeout_s)


async def _hosted(settings: Settings, application: str) -> web.Application | None:
    """The application, None for the demo shop. A state node serves no users, so there it is not even loaded."""
    if settings.role == "state":
        return web.Application()
    return await load_application(application) if application else None


async def serve(
    node: NodePart, host: HostPart, api: WebPart, told: asyncio.Event, drain_timeout_s: float
) -> None:
    """Start everything, serve until `told` or until the node fails, drain, stop."""
    try:
        await api.start()
        await host.start()
        node.bound(http=str(host.address), api=str(api.address))
        await node.start()
        log.info("daemon.started", http=str(host.address), api=str(api.address))
        await _until_told(told, node)
        await _drain(node, host, drain_timeout_s)
    finally:
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                for part in (host, api, node):
                    await part.stop()
        except TimeoutError:
            log.warning("daemon.stop_cut_short", timeout_s=STOP_TIMEOUT_S)


async def _until_told(told: asyncio.Event, node: NodePart) -> None:
    waiting = asyncio.create_task(told.wait()), asyncio.create_task(node.failed())
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in waiting:
            task.cancel()


async def _drain(node: NodePart, host: HostPart, timeout_s: float) -> None:
    node.begin_drain(for_good=True)
    async with asyncio.TaskGroup() as both:
        both.create_task(node.drain(timeout_s))
        both.create_task(host.drain(timeout_s))
    # Requests that were in flight may have begun sessions after the others had left.
    if ended := await node.drain(LATE_SESSIONS_S):
        log.warning("node.sessions_end", sessions=ended)
