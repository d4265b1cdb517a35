"""One of several processes: a whole balancer without an admin port, which a supervisor started and speaks for.

It lives between two ends of its channel: it serves when the first message has said how, and ends in peace when the
supervisor is gone, so that no worker is ever left over. Each worker checks the nodes for itself; what the others
notice only makes it look sooner.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog

from balancer.admin.source import UnknownNode
from balancer.core.pool import Node, NodeState
from balancer.errors import ConfigurationError
from balancer.server import Balancer
from balancer.settings import Settings
from balancer.workers.channel import Channel, Message
from balancer.workers.orders import Order
from balancer.workers.packing import unpacked_settings
from sessiond.contract import logs
from sessiond.contract.process import EXIT_FAILED, run_process

REPORT_INTERVAL_MAX_S = 1.0
"""Longest time between two reports; it is half a health interval if that is shorter."""

REPORT_SPACING_S = 0.02
"""Least time between two reports, however much changes."""

log = structlog.get_logger("balancer.workers")


class Worker:
    """`channel_socket` leads to the supervisor; `sockets` are those to serve. Used once: `await run(told)`."""

    def __init__(self, channel_socket: socket.socket, sockets: Sequence[socket.socket]) -> None:
        self._channel_socket = channel_socket
        self._sockets = sockets
        self._channel = Channel(self._received, self._abandoned)
        self._instructed: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._balancer: Balancer | None = None
        self._orders: dict[str, Order] = {}  # all that hold, for nodes that we do not know yet too
        self._changed: set[str] = set()
        self._report_now = asyncio.Event()
        self._told = asyncio.Event()
        self._later: asyncio.Queue[Message] = asyncio.Queue()  # settings to go on with

    async def run(self, told: asyncio.Event) -> None:
        """Serve until `told`, or until the supervisor is gone."""
        self._told = told
        await asyncio.get_running_loop().create_unix_connection(
            lambda: self._channel, sock=self._channel_socket
        )
        instructed = await self._wait_for_settings()
        if instructed is None:
            return
        settings: Settings = unpacked_settings(instructed["settings"])
        _configure_logs(settings, instructed["worker"])
        self._balancer = balancer = Balancer(settings, self._sockets, self._node_changed)
        reloading: asyncio.Task[None] | None = None
        reporting = asyncio.create_task(self._report(balancer), name="reports")
        try:
            await balancer.start(self._orders)
            balancer.pool.follow(self._nodes_changed)
            self._report_now.set()
            reloading = asyncio.create_task(self._follow_settings(balancer), name="settings")
            await told.wait()
        finally:
            await balancer.stop()
            tasks = [task for task in (reporting, reloading) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tell()  # what was counted to the very end
            self._channel.close()

    async def _wait_for_settings(self) -> Message | None:
        """None: it is to end before it began."""
        ending = asyncio.ensure_future(self._told.wait())
        instructed: asyncio.Future[Any] = self._instructed
        await asyncio.wait([ending, instructed], return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        return self._instructed.result() if self._instructed.done() else None

    def _received(self, message: Message) -> None:
        match message["kind"]:
            case "settings" if not self._instructed.done():
                self._orders = message["orders"]
                self._instructed.set_result(message)
            case "settings":
                self._orders = message["orders"]
                self._later.put_nowait(message)
            case "orders":
                self._orders_changed(message["orders"])
            case "order":
                answer = self._ordered(message)
                self._tell()  # first, so that whoever has the answer sees what it did
                self._channel.send(answer)
            case "check" if self._balancer is not None:
                for name in message["nodes"]:
                    self._balancer.check_soon(name)

    async def _follow_settings(self, balancer: Balancer) -> None:
        while True:
            message = await self._later.get()
            settings = unpacked_settings(message["settings"])
            number = message["worker"]
            try:
                _configure_logs(
                    settings, number
                )  # first: whoever writes many lines binds a logger when it is configured
                await balancer.reload(settings)
                self._obey(self._nodes)
            except ConfigurationError as error:
                # The supervisor found them good: a file has changed since. It stays with what it had.
                _configure_logs(balancer.settings, number)
                log.error("configuration.refused", reason=str(error))  # noqa: TRY400 - no fault of ours to be traced
            except Exception:
                # A fault of ours must not end the following for good; the next settings may do.
                _configure_logs(balancer.settings, number)
                log.exception("configuration.failed")

    def _ordered(self, message: Message) -> Message:
        """Carry an order out; the answer, which repeats it."""
        answer = {**message, "kind": "ordered"}
        try:
            if self._balancer is None:
                raise AssertionError("an order before the first report")
            row = self._balancer.source.order_now(message["node"], message["order"])
        except UnknownNode as error:
            return {**answer, "unknown": str(error)}
        except (ValueError, TypeError) as error:
            return {**answer, "refused": str(error)}
        return {**answer, "row": row}

    @property
    def _nodes(self) -> Sequence[Node]:
        return tuple(self._balancer.pool.nodes.values()) if self._balancer is not None else ()

    def _orders_changed(self, orders: dict[str, Order]) -> None:
        """What holds for some nodes; empty if nothing does any more."""
        for name, order in orders.items():
            if order:
                self._orders[name] = order
            else:
                self._orders.pop(name, None)
        self._obey([node for node in self._nodes if node.name in orders])

    def _nodes_changed(self, gone: Sequence[Node], come: Sequence[Node]) -> None:
        self._obey(come)
        if gone:
            self._report_now.set()  # with a node its orders may end

    def _obey(self, nodes: Sequence[Node]) -> None:
        """Give nodes the state and weight that are wanted; without an order, what they have by themselves."""
        if self._balancer is None:
            return
        pool = self._balancer.pool
        for node in nodes:
            order = self._orders.get(node.name, {})
            pool.set_weight(node, order.get("weight", node.spec.weight))
            pool.set_order(node, NodeState(order.get("state", NodeState.UP)))

    def _abandoned(self) -> None:
        """The supervisor is gone. If it had asked us to end before, somebody wants that at once."""
        if self._told.is_set():
            os._exit(EXIT_FAILED)
        self._told.set()

    def _node_changed(self, node: Node) -> None:
        self._changed.add(node.name)
        self._report_now.set()

    async def _report(self, balancer: Balancer) -> None:
        while True:
            interval_s = min(balancer.settings.health_interval_s / 2, REPORT_INTERVAL_MAX_S)
            try:
                async with asyncio.timeout(interval_s):
                    await self._report_now.wait()
            except TimeoutError:
                pass
            self._report_now.clear()
            self._tell()
            await asyncio.sleep(REPORT_SPACING_S)

    def _tell(self) -> None:
        """Report now, if there is anything yet."""
        if self._balancer is None or not self._balancer.has_begun:
            return
        source = self._balancer.source
        try:
            self._channel.send(
                {
                    "kind": "report",
                    "nodes": source.nodes(),
                    "totals": source.totals(),
                    "hindrance": source.hindrance(),
                    "numbers": source.numbers(),
                    "changed": list(self._changed),
                }
            )
        except Exception:
            # A fault of ours must neither end the reports for good nor keep an order from its answer.
            log.exception("report.failed")
        else:
            self._changed.clear()


def _configure_logs(settings: Settings, worker: str) -> None:
    logs.configure(settings.log_format, settings.log_level, may_change=True, worker=worker)


def main(channel: int, listening: Sequence[int]) -> int:
    """Run a worker on file descriptors that it inherited; the exit code."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # reloading is the supervisor's part
    sockets = [socket.socket(fileno=each) for each in listening]
    return run_process(partial(_serve, socket.socket(fileno=channel), sockets), ())


async def _serve(channel: socket.socket, sockets: Sequence[socket.socket], told: asyncio.Event) -> None:
    await Worker(channel, sockets).run(told)
