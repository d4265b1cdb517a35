"""Whoever looks at the shop sees a kill at once: the strip of nodes is fed by `/api/events`."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.processes import HOST
from tests.e2e.waiting import DEADLINE_S

pytestmark = pytest.mark.process


async def test_a_kill_is_seen_in_the_event_stream_of_another_node(
    start_cluster: Callable[..., Awaitable[Cluster]], show: Callable[[str], None]
) -> None:
    cluster = await start_cluster(nodes=3)
    stream = f"http://{HOST}:{cluster.nodes['node2'].http}/api/events"
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as session, session.get(stream) as answer:
        assert await next_states(answer) == dict.fromkeys(cluster.nodes, "alive")
        killed_at = time.perf_counter()
        cluster.kill("node1")
        while (await next_states(answer))["node1"] != "dead":
            pass
    show(f"kill seen in the event stream after {(time.perf_counter() - killed_at) * 1000:.0f} ms")


async def next_states(answer: aiohttp.ClientResponse) -> dict[str, str]:
    while True:
        line = (await answer.content.readline()).decode()
        assert line, "the stream ended"
        if line.startswith("data:"):
            rows = json.loads(line.removeprefix("data:"))["nodes"]
            return {row["name"]: row["state"] for row in rows}
