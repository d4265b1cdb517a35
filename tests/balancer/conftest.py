"""Nodes, a balancer in front of them, and a browser for tests of the balancer as a whole."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from balancer.server import Balancer
from tests.balancer.proxy.stage import ScriptedNode
from tests.balancer.running import serve, settings_for


@pytest.fixture
async def nodes() -> AsyncIterator[list[ScriptedNode]]:
    nodes = [ScriptedNode(f"node{i}", serve) for i in (1, 2)]
    for node in nodes:
        await node.start()
    yield nodes
    for node in nodes:
        await node.stop()


@pytest.fixture
async def balancer(nodes: list[ScriptedNode]) -> AsyncIterator[Balancer]:
    balancer = Balancer(settings_for(nodes))
    await balancer.start()
    yield balancer
    await balancer.stop()


@pytest.fixture
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session
