"""nginx, HAProxy and Apache in the balancer's place, with the configurations of deploy/.

That a session survives its node's death behind each of them is shown in test_failover_cases.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from sessiond.contract.names import COOKIE_NAME, REPLAY_HEADER
from tests.e2e.client import Browser, Cookie, NotAnswered
from tests.e2e.cluster import Cluster
from tests.e2e.foreign import HIDDEN, KINDS, NODES, Foreign, require, start_foreign
from tests.e2e.load import Customer, audit
from tests.e2e.processes import HOST
from tests.e2e.waiting import DEADLINE_S, wait_until

pytestmark = [pytest.mark.process, pytest.mark.parametrize("kind", list(KINDS))]

APP = "tests.e2e.apps:create_app"
LEAVING = "node1"
CUSTOMERS = 30
PROBES_ELSEWHERE = 20
"""Answers in a row from other nodes that say that a proxy has left a node: old workers may linger for a moment."""


@pytest.fixture
async def proxy(kind: str, start_cluster: Callable[..., Awaitable[Cluster]]) -> Foreign:
    installed = require(kind)
    return await start_foreign(installed, await start_cluster(nodes=NODES, app=APP))


@pytest.fixture
def cluster(proxy: Foreign) -> Cluster:
    return proxy.cluster


async def test_every_request_goes_to_the_node_that_the_id_names(proxy: Foreign, cluster: Cluster) -> None:
    for name in cluster.nodes:
        first = cluster.browser_at(name)
        (await first.post("/number/1")).good()
        visitor = cluster.browser_to(proxy.port, first.cookie)
        for number in range(2, 8):
            assert (await visitor.post(f"/number/{number}")).good() == {"node": name, "number": number - 1}


async def test_newcomers_are_spread_over_all_nodes(proxy: Foreign, cluster: Cluster) -> None:
    homes = set()
    for _ in range(4 * NODES):
        newcomer = cluster.browser_to(proxy.port)
        homes.add((await newcomer.post("/number/1")).good()["node"])
        await newcomer.close()
    assert homes == set(cluster.nodes)


@pytest.mark.parametrize(
    "path", ["/_sessiond/health", "/%5fsessiond/health", "/_sessiond/x/../health", "//_sessiond/health"]
)
async def test_the_nodes_own_pages_are_not_for_visitors(proxy: Foreign, cluster: Cluster, path: str) -> None:
    answer = await cluster.browser_to(proxy.port).get(path)
    assert answer.status in HIDDEN
    assert b"primaries" not in answer.body


async def test_a_visitor_cannot_ask_for_referrals_that_the_proxy_does_not_follow(
    proxy: Foreign, cluster: Cluster
) -> None:
    first = cluster.browser_at("node1")
    (await first.post("/number/1")).good()
    stray = cluster.browser_to(proxy.port, Cookie(f"{first.cookie.token}.node2"))
    answer = await stray.get("/number", **{REPLAY_HEADER.replace("-", "_"): "1"})
    assert answer.good() == {"node": "node2", "number": 1}, "the session came to the node that was asked"


async def test_websockets_and_events_pass_without_delay(proxy: Foreign, cluster: Cluster) -> None:
    visitor = cluster.browser_to(proxy.port)
    home = (await visitor.post("/number/7")).good()["node"]
    url = f"http://{HOST}:{proxy.port}"
    headers = {"Cookie": f"{COOKIE_NAME}={visitor.cookie.session_id}"}
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession(url, headers=headers) as web:
        async with web.ws_connect("/echo") as line:
            assert await line.receive_str() == f"{home} 7"
            for text in ("short", "long" * 20_000):
                await line.send_str(text)
                assert await line.receive_str() == text
        async with web.get("/events") as stream:
            assert await stream.content.readuntil(b"\n\n") == b"data: first\n\n"
            (await visitor.post("/let-go")).good()
            assert await stream.content.readuntil(b"\n\n") == b"data: second\n\n"


async def test_a_node_that_is_killed_costs_no_session_and_returns(proxy: Foreign, cluster: Cluster) -> None:
    customers = [Customer(cluster, proxy.port) for _ in range(CUSTOMERS)]
    for customer in customers:
        assert await customer.write(), customer.unknown
    homeless = [customer for customer in customers if customer.cookie.node == LEAVING]
    assert len(homeless) == CUSTOMERS // NODES
    cluster.kill(LEAVING)
    # One after the other, on connections that are at rest: no request was under way, so none may fail.
    assert await audit(customers) == []
    for customer in customers:
        assert await customer.write(), customer.unknown
    assert {customer.cookie.node for customer in customers} == set(cluster.running())
    assert await audit(customers) == []

    await cluster.restart(LEAVING)

    async def serves_again() -> bool:
        newcomer = cluster.browser_to(proxy.port)
        node = (await newcomer.post("/number/1")).good()["node"]
        await newcomer.close()
        return bool(node == LEAVING)

    await wait_until(serves_again, f"{LEAVING} gets newcomers again")


async def test_no_request_fails_while_a_node_is_taken_out_drained_and_stopped(
    proxy: Foreign, cluster: Cluster
) -> None:
    stray = cluster.browser_at(LEAVING)
    (await stray.post("/number/1")).good()
    async with coming_and_going(cluster, proxy.port) as customers:
        proxy.take_out(LEAVING)
        await is_left_alone(cluster, proxy.port, stray.cookie)
        await drain(cluster)
        cluster.nodes[LEAVING].signal(signal.SIGTERM)
        assert await cluster.nodes[LEAVING].ended() == 0
        goals = [customer.kept + 3 for customer in customers]

        async def have_written() -> bool:
            return all(customer.kept >= goal for customer, goal in zip(customers, goals, strict=True))

        await wait_until(have_written, "every customer goes on")
    assert await audit(customers) == []
    assert [why for customer in customers for why in customer.unknown] == []


@asynccontextmanager
async def coming_and_going(cluster: Cluster, port: int) -> AsyncIterator[list[Customer]]:
    """Customers who write and read until the block ends, and come anew each time: a reload closes resting connections."""
    customers = [Customer(cluster, port) for _ in range(CUSTOMERS)]
    closing = asyncio.Event()

    async def visit(customer: Customer) -> None:
        while not closing.is_set():
            await customer.write()
            await customer.read()
            await customer.hang_up()

    async with asyncio.TaskGroup() as visits:
        for customer in customers:
            assert await customer.write(), customer.unknown
            await customer.hang_up()
        assert {customer.cookie.node for customer in customers} == set(cluster.nodes)
        for customer in customers:
            visits.create_task(visit(customer))
        try:
            yield customers
        finally:
            closing.set()


async def is_left_alone(cluster: Cluster, port: int, cookie: Cookie) -> None:
    """Wait until an id that names the node is served by others."""
    in_a_row = 0

    async def served_elsewhere() -> bool:
        nonlocal in_a_row
        visitor: Browser = cluster.browser_to(port, cookie.copy())
        try:
            node = (await visitor.get("/number")).good()["node"]
        except NotAnswered:
            node = LEAVING
        await visitor.close()
        in_a_row = 0 if node == LEAVING else in_a_row + 1
        return in_a_row >= PROBES_ELSEWHERE

    await wait_until(served_elsewhere, f"the proxy sends nothing to {LEAVING} any more")


async def drain(cluster: Cluster) -> None:
    """What `sessiond drain --wait` does."""
    node = cluster.nodes[LEAVING]
    url = f"http://{HOST}:{node.api}"
    async with aiohttp.ClientSession(url) as api:
        (await api.post("/v1/drain")).raise_for_status()

    async def is_safe() -> bool:
        answer = await node.ask("/v1/drain")
        return answer is not None and bool(json.loads(answer.body)["safe_to_stop"])

    await wait_until(is_safe, f"{LEAVING} is safe to stop")
