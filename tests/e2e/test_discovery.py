"""A balancer that knows one node's API port follows the whole cluster as it grows and shrinks, and no visit fails."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest

from tests.e2e.client import Browser
from tests.e2e.cluster import Balancer, Cluster
from tests.e2e.processes import HOST
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.process

VISITORS = 4


async def visit(browser: Browser, seen: list[str]) -> None:
    """Again and again, always with the same session."""
    visits = 0
    while True:
        visits += 1
        answer = (await browser.get("/api/session")).good()
        assert answer["visits"] >= visits  # a repeated GET counts twice
        visits = answer["visits"]
        seen.append(answer["node"])
        await asyncio.sleep(0.005)


async def test_nodes_come_and_go_and_no_visit_fails(
    start_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await start_cluster(nodes=2, drain_timeout_s=5)
    seed = cluster.nodes["node1"]
    balancer = Balancer("discovering", cluster.ports, (), cluster.directory, f"--discover={HOST}:{seed.api}")
    cluster.others.append(balancer)
    balancer.start()
    await wait_until(lambda: balancer.sends_to(cluster.nodes), "the balancer has found the nodes")
    seen: list[str] = []
    visitors = [asyncio.create_task(visit(cluster.browser_through(balancer), seen)) for _ in range(VISITORS)]

    async def new_visitor_reaches(name: str) -> bool:
        assert not any(visitor.done() for visitor in visitors)
        browser = cluster.browser_through(balancer)
        node: str = (await browser.get("/api/session")).good()["node"]
        await browser.close()
        return node == name

    async def listed() -> set[str]:
        assert not any(visitor.done() for visitor in visitors)
        return set(await balancer.nodes())

    try:
        cluster.newcomer("node3", "node3")
        await wait_until(lambda: new_visitor_reaches("node3"), "a new node gets visitors")

        async def is_forgotten() -> bool:
            return await listed() == {"node2", "node3"}

        seed.signal(signal.SIGTERM)  # the one that the balancer was told of: by now it knows the others
        await seed.ended()
        await wait_until(is_forgotten, "a node that left disappears")
        cluster.kill("node2")

        async def is_down() -> bool:
            return (await balancer.nodes())["node2"]["state"] == "down"

        await wait_until(is_down, "a dead node is down")
        assert await listed() == {"node2", "node3"}  # and stays in sight for a while
        before = len(seen)

        async def goes_on() -> bool:
            await listed()
            return len(seen) > before + 10 * VISITORS

        await wait_until(goes_on, "everybody goes on at the last node")
        assert seen[-1] == "node3"
    finally:
        for visitor in visitors:
            visitor.cancel()
        outcomes = await asyncio.gather(*visitors, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
