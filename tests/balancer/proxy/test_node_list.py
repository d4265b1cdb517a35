"""Nodes that are added, taken out and moved while requests are under way."""

import asyncio
from dataclasses import replace

from balancer.core.health import Patience
from balancer.core.node_spec import NodeSpec
from balancer.core.pool import Pool
from balancer.proxy.checks import HealthChecker
from balancer.settings import Settings
from tests.balancer.proxy.stage import OK, Connection, ScriptedNode, Stage, cookie, get, until
from tests.support import certificates

PATIENCE = Patience(rise=1, fall=3, request_fall=10)


def set_nodes(pool: Pool, *nodes: ScriptedNode) -> None:
    """The list becomes these, and the new ones are found up."""
    pool.set_nodes([NodeSpec(node.name, node.address) for node in nodes], PATIENCE)
    for node in pool.nodes.values():
        pool.check_passed(node, node.health.check_started(), sessions=None, draining=False)


async def test_a_node_that_was_taken_out_finishes_what_it_has_and_gets_nothing_more() -> None:
    may_answer = asyncio.Event()

    async def script(connection: Connection) -> None:
        while await connection.request():
            await may_answer.wait()
            await connection.say(OK)

    leaving, staying = ScriptedNode("node1", script), ScriptedNode("node2")
    async with Stage(leaving, staying) as stage:
        node = stage["node1"]
        client, other = await stage.client(), await stage.client()
        await client.send(get(b"/", cookie("node1")))
        await until(lambda: leaving.requests)
        set_nodes(stage.pool, staying)
        await other.send(get(b"/", cookie("node1")))
        assert (await other.answer())[0] == 200
        assert (len(leaving.requests), len(staying.requests)) == (1, 1)
        may_answer.set()
        assert (await client.answer())[0] == 200
        await until(lambda: leaving.leftovers == [b""])  # its connection was closed, not kept
        assert node.active == 0
        await client.send(get(b"/", cookie("node1")))  # the client's own connection goes on
        assert (await client.answer())[0] == 200
        assert len(staying.requests) == 2


async def test_idle_connections_to_a_node_that_was_taken_out_are_closed() -> None:
    leaving, staying = ScriptedNode("node1"), ScriptedNode("node2")
    async with Stage(leaving, staying) as stage:
        client = await stage.client()
        await client.send(get(b"/", cookie("node1")))
        await client.answer()
        assert stage.service.connections["node1"].idle_count == 1
        set_nodes(stage.pool, staying)
        assert stage.service.connections.keys() == {"node2"}
        await until(lambda: leaving.leftovers == [b""])
        assert stage.suspected == []


async def test_a_new_node_is_sent_its_sessions() -> None:
    old, new = ScriptedNode("node1"), ScriptedNode("node2")
    await new.start()
    try:
        async with Stage(old) as stage:
            set_nodes(stage.pool, old, new)
            client = await stage.client()
            await client.send(get(b"/", cookie("node2")))
            assert (await client.answer())[0] == 200
            assert (len(old.requests), len(new.requests)) == (0, 1)
    finally:
        await new.stop()


async def test_a_node_that_moved_is_found_at_its_new_address() -> None:
    before, after = ScriptedNode("node1"), ScriptedNode("node1")
    await after.start()
    try:
        async with Stage(before) as stage:
            client = await stage.client()
            await client.send(get(b"/", cookie("node1")))
            await client.answer()
            stage.pool.set_nodes([NodeSpec("node1", after.address)], PATIENCE)
            await client.send(get(b"/", cookie("node1")))  # not checked yet, and all there is
            assert (await client.answer())[0] == 200
            assert (len(before.requests), len(after.requests)) == (1, 1)
            assert stage["node1"].counters.requests == 2
            await until(lambda: before.leftovers == [b""])
    finally:
        await after.stop()


async def test_who_waits_for_a_connection_to_a_node_that_is_taken_out_goes_elsewhere() -> None:
    leaving, staying = ScriptedNode("node1"), ScriptedNode("node2")
    async with Stage(leaving, staying) as stage:
        # 192.0.2.0/24 is nobody's; without a route there the connect fails at once, and the request goes on as well.
        stage["node1"].address = stage["node1"].address._replace(host="192.0.2.1")
        client = await stage.client()
        await client.send(get(b"/", cookie("node1")))
        await until(lambda: stage["node1"].counters.requests)
        set_nodes(stage.pool, staying)
        assert (await client.answer())[0] == 200
        assert len(staying.requests) == 1


async def test_a_busy_node_that_is_taken_out_sends_all_its_requests_elsewhere_and_everybody_hears_of_it() -> (
    None
):
    leaving, staying, coming = (ScriptedNode(f"node{number}") for number in (1, 2, 3))
    await coming.start()
    checker: HealthChecker | None = None
    try:
        async with Stage(leaving, staying, node_connections_max=1) as stage:
            checker = HealthChecker(Settings(health_interval_s=0.01), stage.pool)
            await checker.start()
            node, connections = stage["node1"], stage.service.connections["node1"]
            # A handshake that a plain server does not answer: the connect lasts for as long as we like.
            connections.options = replace(connections.options, tls=certificates.client_context())
            clients = [await stage.client(), await stage.client()]
            for client, (active, queued) in zip(clients, ((1, 0), (1, 1)), strict=True):
                await client.send(get(b"/", cookie("node1")))
                await until(lambda wanted=(active, queued): (node.active, node.queued) == wanted)  # type: ignore[misc]
            stage.pool.set_nodes([NodeSpec(each.name, each.address) for each in (staying, coming)], PATIENCE)
            assert [(await client.answer())[0] for client in clients] == [200, 200]
            assert (node.active, node.queued) == (0, 0)
            checks = len(leaving.requests)
            await until(lambda: len(coming.requests) > 8)
            assert len(leaving.requests) <= checks + 1  # one may have been under way
            stage.pool.set_nodes([NodeSpec("node2", staying.address)], PATIENCE)
            assert [watched.name for watched in checker._watches] == ["node2"]
    finally:
        if checker is not None:
            await checker.stop()
        await coming.stop()


async def test_a_referral_to_nowhere_from_the_last_node_as_it_is_taken_out_is_answered() -> None:
    may_answer = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await may_answer.wait()
        await connection.say(b"HTTP/1.1 421 X\r\nX-Sessiond-Owner: node9\r\nContent-Length: 0\r\n\r\n")
        await connection.closed()

    last = ScriptedNode("node1", script)
    async with Stage(last) as stage:
        client = await stage.client()
        await client.send(get(b"/", cookie("node1")))
        await until(lambda: last.requests)
        set_nodes(stage.pool)
        may_answer.set()
        assert (await client.answer())[0] == 503
