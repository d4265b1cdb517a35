"""The process that keeps the workers: it opens their sockets, starts them anew when they die, and speaks for them.

It serves the one admin port, with what the workers report, and passes on what is said there; not one byte of a
request comes through it, and the workers go on serving should it stand still. What one worker notices about a node it
tells to the others, which look at once; so they agree within a health check, though each knows nodes only by itself.
"""

import asyncio
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from balancer import reloading
from balancer.admin.metrics import families
from balancer.admin.port import AdminPort
from balancer.admin.source import UnknownNode, parsed_order
from balancer.proxy.listening import address_of, open_sockets
from balancer.settings import Settings, listen_address, nodes, validated
from balancer.workers.channel import Message
from balancer.workers.keeper import Keeper
from balancer.workers.merging import Departed, merged_numbers, merged_rows, merged_totals, processes
from balancer.workers.orders import Orders
from balancer.workers.packing import packed_settings
from sessiond.contract.address import Address

START_TIMEOUT_S = 60.0
"""The workers get so long until all serve for the first time."""

ORDER_TIMEOUT_S = 5.0
"""The operator waits so long for the workers to confirm an order."""

log = structlog.get_logger("balancer")


class Supervisor(Collector):
    """As a `Balancer`: `await start()`, later `await stop()`. Raises `ConfigurationError` before it listens."""

    def __init__(self, settings: Settings) -> None:
        self.settings = validated(settings)
        self.keepers: list[Keeper] = []
        self._orders = Orders()
        self._numbers = itertools.count(1)
        self._awaited: dict[tuple[int, Keeper], asyncio.Future[Message | None]] = {}
        self._departed = Departed()
        self._latest: list[Keeper] = []  # those with a report, the newest last
        self._all_serving = asyncio.Event()
        self._is_stopping = False
        self._listen_address: Address | None = None
        self._admin = AdminPort(self.settings, self)
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    @property
    def listen_address(self) -> Address:
        """Where browsers are served; the port is the real one even if 0 was asked for."""
        if self._listen_address is None:
            raise RuntimeError("not started")
        return self._listen_address

    @property
    def admin_address(self) -> Address:
        return self._admin.address

    async def start(self) -> None:
        """Returns when all workers serve."""
        settings = self.settings
        try:
            await self._admin.start()
            opened = await open_sockets(listen_address(settings.listen, "listen"), settings.workers)
            self._listen_address = address_of(opened[0])
            for number, sockets in enumerate(opened, 1):
                keeper = Keeper(number, sockets, self._instructions, self._received, self._ended)
                self.keepers.append(keeper)
                keeper.start()
            await self._wait_until_all_serve()
        except BaseException:
            await self.stop()
            raise
        log.info(
            "balancer.started",
            listen=str(self.listen_address),
            admin=str(self.admin_address),
            workers=settings.workers,
        )

    async def stop(self) -> None:
        """Have all workers finish their requests and end; the admin port goes last. May be called twice."""
        self._is_stopping = True
        stopping = (keeper.stop(self.settings.drain_timeout_s) for keeper in self.keepers)
        failures = await asyncio.gather(*stopping, return_exceptions=True)
        for keeper, failure in zip(self.keepers, failures, strict=True):
            if failure is not None:  # which must keep nothing else from its end
                log.error("worker.not_stopped", worker=keeper.number, exc_info=failure)
        await self._admin.stop()

    async def _wait_until_all_serve(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._all_serving.wait()
        except TimeoutError:
            raise RuntimeError(
                f"the workers do not serve after {START_TIMEOUT_S:g} s; the log says why"
            ) from None

    async def reload(self, settings: Settings) -> list[str]:
        """As `Balancer.reload`. The workers follow within their next turn."""
        before = self.settings
        self.settings, waiting = reloading.merged(before, validated(settings))
        self._orders.reweighted(next(self._numbers), nodes(before), nodes(self.settings))
        self._admin.configure(self.settings)
        for keeper in self.keepers:
            keeper.send(self._instructions(keeper.number))
        return waiting

    # The source of the admin port.

    def nodes(self) -> list[dict[str, Any]]:
        return merged_rows((report["nodes"] for report in self._reports()), self._departed)

    def totals(self) -> dict[str, Any]:
        return merged_totals((report["totals"] for report in self._reports()), self._departed)

    def hindrance(self) -> tuple[str, str] | None:
        if self._is_stopping:
            return "stopping", "the balancer is stopping"
        worst = "starting", "no worker serves yet"
        for report in self._reports():
            if report["hindrance"] is None:
                return None
            worst = tuple(report["hindrance"])
        return worst

    async def order(self, name: str, order: Any) -> dict[str, Any]:
        """All workers carry it out; those that start later do so before they serve."""
        parsed_order(order)  # what nobody could carry out is not passed on
        number = next(self._numbers)
        loop = asyncio.get_running_loop()
        asked = {(number, keeper): loop.create_future() for keeper in self._latest}
        self._awaited |= asked
        for _, keeper in asked:
            keeper.send({"kind": "order", "number": number, "node": name, "order": order})
        try:
            async with asyncio.timeout(ORDER_TIMEOUT_S):
                answers = [answer for answer in await asyncio.gather(*asked.values()) if answer is not None]
        except TimeoutError:
            raise TimeoutError(
                f"a worker did not confirm within {ORDER_TIMEOUT_S:g} s; the others have it"
            ) from None
        finally:
            for key in asked:
                self._awaited.pop(key, None)
        (row,) = merged_rows(([row] for row in _rows(answers)), self._departed)
        return row

    def collect(self) -> Iterator[Metric]:
        """All metrics, the workers' added up and those of this process with them."""
        numbers = merged_numbers((report["numbers"] for report in self._reports()), self._departed)
        if numbers is not None:
            yield from families(numbers)
        workers = (keeper.pid for keeper in self.keepers)
        yield from processes([os.getpid(), *(pid for pid in workers if pid is not None)])
        yield GaugeMetricFamily("balancer_workers", "Workers that run", value=len(self._latest))
        starts = sum(keeper.starts for keeper in self.keepers)
        yield CounterMetricFamily(
            "balancer_worker_starts", "Workers started, the first ones too", value=starts
        )

    def _reports(self) -> Iterator[Message]:
        return (keeper.report for keeper in self._latest if keeper.report is not None)

    # What the keepers tell.

    def _instructions(self, number: int) -> Message:
        settings = packed_settings(self.settings)
        return {"kind": "settings", "worker": number, "settings": settings, "orders": self._orders.all()}

    def _received(self, keeper: Keeper, message: Message) -> None:
        match message["kind"]:
            case "report":
                self._reported(keeper, message)
            case "ordered":
                if "row" in message:
                    self._orders.given(message["number"], message["node"], message["order"])
                    self._tell_orders([message["node"]])
                waiting = self._awaited.get((message["number"], keeper))
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)

    def _reported(self, keeper: Keeper, report: Message) -> None:
        before, keeper.report = keeper.report, report
        if keeper in self._latest:
            self._latest.remove(keeper)
        self._latest.append(keeper)
        if before is not None:
            self._nodes_left(_names(before) - _names(report))
        if report["changed"]:
            for other in self.keepers:
                if other is not keeper:
                    other.send({"kind": "check", "nodes": report["changed"]})
            self._admin.changed()
        if all(each.is_serving for each in self.keepers):
            self._all_serving.set()

    def _nodes_left(self, names: set[str]) -> None:
        """They are gone from a worker's list, and have left unless another one has them. What a list has lacked from the
        start has not left it: perhaps nobody has told that worker of it yet."""
        gone = names.difference(*(_names(report) for report in self._reports())) if names else ()
        self._tell_orders(self._orders.ended(gone))

    def _tell_orders(self, names: Sequence[str]) -> None:
        """What holds now for these nodes."""
        if names:
            orders = {name: self._orders.of(name) for name in names}
            for keeper in self.keepers:
                keeper.send({"kind": "orders", "orders": orders})

    def _ended(self, keeper: Keeper) -> None:
        if keeper.report is not None:
            self._latest.remove(keeper)
            self._departed.add(*(keeper.report[part] for part in ("nodes", "totals", "numbers")))
        for (_, asked), waiting in self._awaited.items():
            if asked is keeper and not waiting.done():
                waiting.set_result(None)
        self._admin.changed()


def _names(report: Message) -> set[str]:
    """The nodes in a worker's list."""
    return {row["name"] for row in report["nodes"]}


def _rows(answers: Sequence[Message]) -> list[dict[str, Any]]:
    """The node's rows by those that carried an order out. Raises as `Source.order` if none did."""
    rows = [answer["row"] for answer in answers if "row" in answer]
    if rows:
        return rows  # one that does not know the node yet is told again when it does
    for answer in answers:
        if "unknown" in answer:
            raise UnknownNode(answer["unknown"])
        raise ValueError(answer["refused"])
    raise TimeoutError("no worker serves now; ask again")
