"""What came in time counts, even if the loop sees it too late."""

import asyncio

import pytest

from balancer.proxy.patience import Patience
from tests.balancer.proxy.stage import ScriptedNode, Stage, cookie, get

AT_ONCE = 1e-9
"""Over before the loop looks at a socket again, as after a long pause of the loop."""


async def test_whoever_never_comes_is_waited_for_no_longer() -> None:
    with pytest.raises(TimeoutError):
        async with Patience(AT_ONCE):
            await asyncio.Event().wait()


async def test_what_ends_in_time_is_not_disturbed_later() -> None:
    async with Patience(AT_ONCE):
        pass
    for _ in range(100):
        await asyncio.sleep(0)


async def test_being_cancelled_is_no_time_out() -> None:
    async def wait() -> None:
        async with Patience(60.0):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_node_that_took_the_connection_is_not_blamed_for_a_pause_of_the_balancer() -> None:
    async with Stage(ScriptedNode("node1"), connect_timeout_s=AT_ONCE) as stage:
        client = await stage.client()
        await client.send(get(b"/", cookie("node1")))
        assert (await client.answer())[0] == 200
        assert stage["node1"].counters.failures == 0
