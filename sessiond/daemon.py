"""One process of `sessiond run`: a node, the application it hosts, and its API port, from start to exit.

It owns the order of things. Start: the application is loaded before a port is opened, and the ports are open
before the cluster hears of the node. End, on SIGTERM or SIGINT: health says draining and no session begins
here; requests in flight finish while sessions are handed to their backups; then the ports close and the node
leaves, whatever the application's clean-up does. `drain_timeout_s` bounds the first part, `PORTS_TIMEOUT_S` and
`NODE_TIMEOUT_S` the second. Another signal exits at once.

It decides nothing about sessions, which is the node's, nor what the ports answer, which is web's.
"""

import asyncio
from typing import Protocol

import structlog
from aiohttp import web

from sessiond.collector import Collector
from sessiond.contract.address import Address
from sessiond.demo.app import create_app
from sessiond.loading import load_application
from sessiond.node import Node
from sessiond.settings import Settings
from sessiond.web.api import Api
from sessiond.web.host import Host

PORTS_TIMEOUT_S = 0.85
"""Closing the ports, and the application's clean-up, get so long before the node leaves, and go on while it does: longer
than the two time-outs of a port of its own (`web.listener`)."""

NODE_TIMEOUT_S = 1.1
"""The node's own, whatever the ports took: longer than the default of `store_timeout_s`, in which the store gets what
it lacks. With a whole drain, late sessions and the ports' time below the compose file's 12 seconds."""

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
    collector = Collector(node.objects)
    collector.start()
    try:
        await serve(node, host, Api(node, host), told, settings.drain_timeout_s)
    finally:
        collector.stop()


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
        errors = await _stop(node, host, api)
    if errors:
        raise errors[0]


async def _stop(node: NodePart, host: HostPart, api: WebPart) -> list[Exception]:
    """Stop the ports, then the node, whatever becomes of the others; what went wrong, which is logged."""
    errors: list[Exception] = []
    async with asyncio.TaskGroup() as closing:
        ports = {
            name: closing.create_task(_stop_part(name, part, errors))
            for name, part in (("host", host), ("api", api))
        }
        await asyncio.wait(ports.values(), timeout=PORTS_TIMEOUT_S)
        try:
            async with asyncio.timeout(NODE_TIMEOUT_S):
                await _stop_part("node", node, errors)
        except TimeoutError:
            log.warning("daemon.stop_cut_short", part="node", timeout_s=NODE_TIMEOUT_S)
        for name, task in ports.items():
            if task.cancel():
                log.warning("daemon.stop_cut_short", part=name, timeout_s=PORTS_TIMEOUT_S)
    return errors


async def _stop_part(name: str, part: Part, errors: list[Exception]) -> None:
    task = asyncio.current_task()
    try:
        await part.stop()
    except asyncio.CancelledError:
        if task is not None and task.cancelling():
            raise
        # Nobody cancelled it: a clean-up awaited a task that it had cancelled itself.
        log.exception("daemon.part_did_not_stop", part=name)
        errors.append(RuntimeError(f"the clean-up of the {name} ended as if it was cancelled"))
    except Exception as error:
        log.exception("daemon.part_did_not_stop", part=name)
        errors.append(error)


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
