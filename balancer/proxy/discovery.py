"""Follows the cluster's own list of members: asks its nodes in turn for `GET /v1/cluster`, each interval.

In turn, because one node may have a wrong view for as long as it is cut off. Those asked are the seeds and, once they
are known, all members; so the seeds may die one by one. When nobody answers, the last list stays.
"""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus

import aiohttp
import structlog

from balancer.core.discovery import Members, WrongCluster
from balancer.core.health import Fitness
from balancer.core.node_list import NodeList
from balancer.core.pool import Node, Pool
from balancer.settings import Settings, discover_token, seeds
from sessiond.contract.address import Address
from sessiond.contract.cluster_view import ClusterView

ASK_TIMEOUT_S = 2.0
"""A node that has not told its view after so long is passed over."""

ASKED_MAX = 5
"""Nodes asked in one round; the next round goes on with those after them."""

VIEW_BYTES_MAX = 4_194_304
"""A view is read up to this: some ten thousand members."""

log = structlog.get_logger("balancer.discovery")


class NoView(Exception):
    """A node did not tell its view; the text says why."""


class Discovery:
    """`start` asks once and then goes on by itself. `check_soon(node)`: its state is about to change.

    Raises `ConfigurationError` if there is no such token.
    """

    def __init__(
        self, settings: Settings, pool: Pool, node_list: NodeList, check_soon: Callable[[Node], None]
    ) -> None:
        self._pool = pool
        self._node_list = node_list
        self._check_soon = check_soon
        self._members = Members(settings.discover_forget_s, self._is_up)
        self._seeds: tuple[Address, ...] = ()
        self._turn = 0
        self._is_cluster_open = True  # a seed's next view may be of any cluster
        self._task: asyncio.Task[None] | None = None
        self._wanted_now = asyncio.Event()
        self._troubles: dict[str, str] = {}
        self.rounds_failed = 0
        """Rounds since start in which nobody answered."""
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Follow like this from now on. Members that are known stay so, whatever the next view says of them.

        Other seeds may be of another cluster, as the first ones were of any: the first view of one of them decides.
        Raises `ConfigurationError`, and then nothing has changed.
        """
        token, others = discover_token(settings), seeds(settings)
        if set(others) != set(self._seeds):
            self._is_cluster_open = True
            self._turn = 0
        self._token, self._seeds, self._interval_s = token, others, settings.discover_interval_s
        self._members.forget_s = settings.discover_forget_s
        self._wanted_now.set()

    async def start(self) -> None:
        """Returns when the members are known, or nobody was there to tell them."""
        self._wanted_now.clear()
        await self._round()
        self._task = asyncio.create_task(self._follow(), name="discovery")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._wanted_now.wait()
            except TimeoutError:
                pass
            self._wanted_now.clear()
            await self._round()

    async def _round(self) -> None:
        try:
            await self._ask_somebody()
        except Exception:
            # A fault of ours must not end the following for good; the list stays as it is.
            log.exception("discovery.failed")

    async def _ask_somebody(self) -> None:
        sources = list(dict.fromkeys((*self._seeds, *self._members.apis)))
        for _ in range(min(ASKED_MAX, len(sources))):
            source = sources[self._turn % len(sources)]
            self._turn += 1
            try:
                self._heard(await self._view_of(source), source)
            except (NoView, WrongCluster) as error:
                self._note(str(source), str(error))
            else:
                self._note(str(source), "")
                return
        self.rounds_failed += 1

    def _heard(self, view: ClusterView, source: Address) -> None:
        """Raises `WrongCluster`."""
        decides = self._is_cluster_open and source in self._seeds
        now = asyncio.get_running_loop().time()
        try:
            problems = self._members.heard(view, now)
        except WrongCluster:
            if not decides:
                raise
            self._members = Members(self._members.forget_s, self._is_up)
            problems = self._members.heard(view, now)
        if decides:
            self._is_cluster_open = False
        self._note(f"members by {view.node}", "; ".join(problems))
        self._node_list.set_discovered(self._members.specs)
        for name in self._members.draining:
            node = self._pool.nodes.get(name)
            if node is not None and node.is_up:
                self._check_soon(node)

    async def _view_of(self, source: Address) -> ClusterView:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token is not None else {}
        # A new session each time: the name is to be looked up anew, and no connection to be kept.
        connector = aiohttp.TCPConnector(use_dns_cache=False, force_close=True)
        timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as web,
                web.get(f"http://{source}/v1/cluster", allow_redirects=False) as answer,
            ):
                return await self._read(answer)
        except TimeoutError:
            raise NoView(f"no answer within {ASK_TIMEOUT_S} s") from None
        except aiohttp.ClientOSError as error:
            raise NoView(error.strerror or str(error)) from error
        except aiohttp.ClientError as error:
            raise NoView(str(error)) from error

    async def _read(self, answer: aiohttp.ClientResponse) -> ClusterView:
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise NoView("it wants the nodes' API token: give it with discover_token_file")
        if answer.status != HTTPStatus.OK:
            raise NoView(f"/v1/cluster answered {answer.status}: is this a node's API port (--api)?")
        body = bytearray()
        async for piece in answer.content.iter_any():
            body += piece
            if len(body) > VIEW_BYTES_MAX:
                raise NoView(f"its view is longer than {VIEW_BYTES_MAX} bytes")
        try:
            return ClusterView.from_json(json.loads(body))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise NoView(f"its answer is no view of a cluster: {error!r}") from error

    def _note(self, source: str, trouble: str) -> None:
        """Log what is new."""
        if trouble and self._troubles.get(source) != trouble:
            log.warning("discovery.trouble", source=source, reason=trouble)
        elif not trouble and source in self._troubles:
            log.info("discovery.trouble_over", source=source)
        if trouble:
            self._troubles[source] = trouble
        else:
            self._troubles.pop(source, None)

    def _is_up(self, name: str) -> bool:
        node = self._pool.nodes.get(name)
        return node is not None and node.health.fitness is Fitness.UP
