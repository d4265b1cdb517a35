"""SIGTERM: a node ends without a failed request, hands its sessions over, and says so when it cannot."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

import pytest

from sessiond.contract.names import HEALTH_PATH
from tests.e2e.cluster import Cluster
from tests.e2e.kill_under_load import everybody_writes
from tests.e2e.load import audit, begin, shopping
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.process

APP = "tests.e2e.apps:create_app"
DRAIN_TIMEOUT_S = 8
LEAVING = "node1"


async def test_no_request_through_the_balancer_fails_while_a_node_ends(
    start_cluster: Callable[..., Awaitable[Cluster]], show: Callable[[str], None]
) -> None:
    cluster = await start_cluster(nodes=3, app=APP, drain_timeout_s=DRAIN_TIMEOUT_S)
    customers = await begin(cluster, 60)
    async with shopping(customers, write_pause_s=0.02, read_pause_s=0.05):
        await everybody_writes(customers, 3)
        assert sum(customer.cookie.node == LEAVING for customer in customers) == 20
        await wait_until(
            lambda: balancer_watches(cluster, 20), "the balancer asks for health again and again"
        )
        told_at = time.perf_counter()
        cluster.nodes[LEAVING].signal(signal.SIGTERM)
        assert await cluster.nodes[LEAVING].ended() == 0
        took_s = time.perf_counter() - told_at
        await everybody_writes(customers, 3)
    faults = await audit(customers)
    unanswered = [reason for customer in customers for reason in customer.unknown]
    show(
        f"SIGTERM under load: exit 0 after {took_s:.2f} s; {len(faults)} faults, {len(unanswered)} writes unanswered, "
        f"{sum(customer.kept for customer in customers)} writes and {sum(customer.reads for customer in customers)} "
        "reads answered"
    )
    assert faults == []
    assert unanswered == []
    assert took_s < DRAIN_TIMEOUT_S
    assert not cluster.nodes[LEAVING].events("node.sessions_end")
    for name in cluster.running():
        assert (await cluster.states(name))[LEAVING] == "left"
        assert not cluster.nodes[name].events("peer.dead")


async def test_a_draining_node_takes_no_new_sessions_and_finishes_the_request_in_flight(
    start_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await start_cluster(nodes=2, app=APP)
    customer = cluster.browser_at(LEAVING)
    (await customer.post("/number/1")).good()
    slow = asyncio.create_task(customer.post("/wait/2"))
    passer_by = cluster.browser_at(LEAVING)

    async def is_waiting() -> bool:
        return bool((await passer_by.get("/waiting")).good()["number"] == 1)

    await wait_until(is_waiting, "the slow request waits in its handler")
    cluster.nodes[LEAVING].signal(signal.SIGTERM)

    async def says_draining() -> bool:
        answer = await passer_by.get(HEALTH_PATH)
        return answer.status == 503 and answer.json()["state"] == "draining"

    await wait_until(says_draining, "health says 503, draining")
    newcomer = await cluster.browser_at(LEAVING).post("/number/1")
    assert newcomer.status == 503
    assert "retry-after" in newcomer.headers
    assert "set-cookie" not in newcomer.headers
    # The balancer may not have noticed yet, but it follows when the node names one that stays.
    for _ in range(2):
        assert (await cluster.browser().post("/number/1")).good()["node"] == "node2"
        assert (await cluster.browser().get("/number")).good()["node"] == "node2"

    (await passer_by.post("/let-go")).good()
    assert (await slow).good() == {"node": LEAVING, "number": 2}
    assert await cluster.nodes[LEAVING].ended() == 0
    moved = cluster.browser(customer.cookie)
    assert (await moved.get("/number")).good() == {"node": "node2", "number": 2}
    assert len(customer.cookie.tokens) == 1


async def test_the_last_node_says_how_many_sessions_end_and_does_not_wait(
    start_cluster: Callable[..., Awaitable[Cluster]], show: Callable[[str], None]
) -> None:
    cluster = await start_cluster(nodes=1, app=APP, drain_timeout_s=1000)
    for _ in range(3):
        visitor = cluster.browser()
        (await visitor.post("/number/1")).good()
        await visitor.close()
    told_at = time.perf_counter()
    node = cluster.nodes["node1"]
    node.signal(signal.SIGTERM)
    assert await node.ended() == 0
    show(f"SIGTERM to the last node: exit 0 after {time.perf_counter() - told_at:.2f} s")
    assert [event["sessions"] for event in node.events("node.sessions_end")] == [3]


async def balancer_watches(cluster: Cluster, sessions: int) -> bool:
    """It has asked since the sessions were begun, and not for the first time."""
    return bool((await cluster.balancer_nodes())[LEAVING]["sessions"] == sessions)
