"""A backup that is stopped, but not for long enough to count as dead, slows its own sessions down and no others."""

import asyncio
import signal
import time

import pytest

from tests.e2e.client import Cookie
from tests.e2e.cluster import Cluster
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.process

SICK = "node2"
HEALTHY = "node3"
SILENCE_TIMEOUT_S = 40.0
"""It must not be the sick one's death that helps."""

ACK_TIMEOUT_S = 0.3
PROMPT_S = 5.0
"""On a busy machine an answer may take longer than an idle one's milliseconds; it waits for nobody."""


async def sessions_at_node1(cluster: Cluster, count: int) -> dict[str, list[Cookie]]:
    """Visitors of node1 by the node of their backup."""
    by_backup: dict[str, list[Cookie]] = {SICK: [], HEALTHY: []}
    browser = cluster.browser_at("node1")
    for _ in range(count):
        browser.cookie = Cookie()
        (await browser.post("/number/1")).good()
        place = await cluster.locate("node1", browser.cookie.session_id)
        assert place is not None
        by_backup[place.backups[-1]].append(browser.cookie)
    return by_backup


async def write(cluster: Cluster, cookie: Cookie, number: int) -> float:
    """Seconds that a visitor's write took."""
    began = time.perf_counter()
    (await cluster.browser_at("node1", cookie).post(f"/number/{number}")).good()
    return time.perf_counter() - began


async def test_a_sick_backup_slows_its_own_sessions_down_and_no_others(start_cluster):
    cluster = await start_cluster(
        app="tests.e2e.apps:create_app",
        silence_timeout_s=SILENCE_TIMEOUT_S,
        ack_timeout_s=ACK_TIMEOUT_S,
        request_wait_s=60.0,
    )
    visitors = await sessions_at_node1(cluster, 40)
    assert len(visitors[SICK]) > 5
    assert len(visitors[HEALTHY]) > 5
    cluster.nodes[SICK].signal(signal.SIGSTOP)
    try:
        waiting = [asyncio.create_task(write(cluster, cookie, 2)) for cookie in visitors[SICK]]
        assert max([await write(cluster, cookie, 2) for cookie in visitors[HEALTHY]]) < PROMPT_S

        async def is_known() -> bool:
            return bool(cluster.nodes["node1"].events("peer.slow"))

        await wait_until(is_known, "the primary finds out")
        assert max([await write(cluster, cookie, 3) for cookie in visitors[HEALTHY]]) < PROMPT_S
        later = await sessions_at_node1(cluster, 30)
        assert later[SICK] == [], "nobody is given to it who would wait for it"
        assert not any(task.done() for task in waiting), (
            "what it has not applied, and may still show, is not acked"
        )
    finally:
        cluster.nodes[SICK].signal(signal.SIGCONT)
    await asyncio.gather(*waiting)

    async def have_moved() -> bool:
        places = [await cluster.locate("node1", cookie.session_id) for cookie in visitors[SICK]]
        return all(place is not None and place.backups == (HEALTHY,) for place in places)

    await wait_until(have_moved, "the sick one's sessions have a healthy backup only")
