"""A supervisor with two workers."""

from collections.abc import AsyncIterator

import pytest

from balancer.workers.supervisor import Supervisor
from tests.balancer.proxy.stage import ScriptedNode
from tests.balancer.running import settings_for


@pytest.fixture
async def supervisor(nodes: list[ScriptedNode]) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(settings_for(nodes, workers=2))
    await supervisor.start()
    yield supervisor
    await supervisor.stop()
    assert [keeper.pid for keeper in supervisor.keepers] == [None, None]
