"""A node at its limit: who waits, who goes elsewhere, and who is told to come back."""

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from balancer.core.health import Patience
from balancer.core.node_spec import NodeSpec
from balancer.core.pool import NodeState
from tests.balancer.proxy.stage import OK, Client, Connection, ScriptedNode, Stage, cookie, get, until

STICKY = get(b"/", cookie("node1"))
UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket\r\n"


class Gate:
    """A node's script that answers when told, and counts how many requests it has at a time."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(0)
        self.here = 0
        self.most = 0

    async def __call__(self, connection: Connection) -> None:
        while await connection.request():
            self.here += 1
            self.most = max(self.most, self.here)
            await self.places.acquire()
            self.here -= 1
            await connection.say(OK)

    def let(self, count: int) -> None:
        for _ in range(count):
            self.places.release()


async def asking(stage: Stage, count: int, request: bytes = STICKY) -> list[Client]:
    """Clients that have sent a request each, in this order."""
    clients = []
    for number in range(count):
        client = await stage.client()
        wanted = stage.service.totals.requests + 1
        await client.send(request.replace(b"GET /", b"GET /%d" % number))
        await until(partial(lambda wanted: stage.service.totals.requests == wanted, wanted))
        clients.append(client)
    return clients


async def test_requests_beyond_the_limit_wait_and_are_served_in_the_order_of_coming() -> None:
    gate = Gate()
    node = ScriptedNode("node1", gate)
    async with Stage(node, node_connections_max=2) as stage:
        clients = await asking(stage, 5)
        assert (stage["node1"].active, stage["node1"].queued) == (2, 3)
        gate.let(5)
        assert [(await client.answer())[0] for client in clients] == [200] * 5
        assert [request.line.split()[1] for request in node.requests][2:] == [b"/2", b"/3", b"/4"]
        assert gate.most == 2
        assert (stage["node1"].active, stage["node1"].queued) == (0, 0)
        assert node.connections == 2


async def test_a_request_for_which_there_is_no_room_in_the_queue_is_told_to_come_back() -> None:
    gate = Gate()
    async with Stage(ScriptedNode("node1", gate), node_connections_max=1, node_queue_max=1) as stage:
        clients = await asking(stage, 3)
        status, head, _ = await clients[2].answer()
        assert (status, b"Retry-After: 1" in head) == (503, True)
        assert stage["node1"].counters.queue_overflows == 1
        assert stage.service.totals.failures == 1
        gate.let(3)
        assert [(await client.answer())[0] for client in clients[:2]] == [200] * 2
        await clients[2].send(STICKY)  # its connection is as good as before
        assert (await clients[2].answer())[0] == 200


async def test_a_request_that_waited_too_long_is_told_to_come_back() -> None:
    gate = Gate()
    node = ScriptedNode("node1", gate)
    async with Stage(node, node_connections_max=1, node_queue_timeout_s=0.05) as stage:
        first, second = await asking(stage, 2)
        status, head, _ = await second.answer()
        assert (status, b"Retry-After: 1" in head) == (503, True)
        assert (stage["node1"].counters.queue_timeouts, stage["node1"].queued) == (1, 0)
        gate.let(1)
        assert (await first.answer())[0] == 200
        assert len(node.requests) == 1


async def test_a_slow_body_does_not_prolong_the_wait() -> None:
    gate = Gate()
    async with Stage(
        ScriptedNode("node1", gate), node_connections_max=1, node_queue_timeout_s=0.3, body_idle_timeout_s=20
    ) as stage:
        (first,) = await asking(stage, 1)
        slow = await stage.client()
        await slow.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n" + cookie("node1") + b"\r\n"
        )

        async def trickle() -> None:
            while True:
                await slow.send(b"x")
                await asyncio.sleep(0.01)

        task = asyncio.create_task(trickle())
        assert (await slow.answer())[0] == 503
        task.cancel()
        gate.let(1)
        assert (await first.answer())[0] == 200


async def test_a_client_that_leaves_gives_its_place_in_the_queue_up() -> None:
    gate = Gate()
    node = ScriptedNode("node1", gate)
    async with Stage(node, node_connections_max=1) as stage:
        first, second, third = await asking(stage, 3)
        second.reset()
        await until(lambda: stage["node1"].queued == 1)
        gate.let(2)
        assert [(await client.answer())[0] for client in (first, third)] == [200, 200]
        assert [request.line.split()[1] for request in node.requests] == [b"/0", b"/2"]


async def test_new_sessions_and_those_of_dead_nodes_go_where_there_is_room() -> None:
    gate = Gate()
    full, free = ScriptedNode("node1", gate), ScriptedNode("node2")
    async with Stage(full, free, node_connections_max=1) as stage:
        (first,) = await asking(stage, 1)
        for request in (get(b"/"), get(b"/", cookie("node9"))):
            for _ in range(4):  # one after the other: else node2 is full as well
                (client,) = await asking(stage, 1, request)
                assert (await client.answer())[0] == 200
        assert (len(full.requests), len(free.requests)) == (1, 8)
        gate.let(1)
        assert (await first.answer())[0] == 200


async def test_new_sessions_wait_where_there_is_room_to_wait() -> None:
    gate = Gate()
    nodes = [ScriptedNode(f"node{i}", gate) for i in (1, 2)]
    async with Stage(*nodes, node_connections_max=1, node_queue_max=1) as stage:
        clients = await asking(stage, 5, get(b"/"))
        assert [(node.active, node.queued) for node in stage.pool.nodes.values()] == [(1, 1), (1, 1)]
        assert (await clients[4].answer())[0] == 503
        gate.let(4)
        assert [(await client.answer())[0] for client in clients[:4]] == [200] * 4


async def test_who_waits_for_a_node_that_is_taken_out_goes_elsewhere_and_pays_no_retry() -> None:
    gate = Gate()
    leaving, staying = ScriptedNode("node1", gate), ScriptedNode("node2")
    async with Stage(leaving, staying, node_connections_max=1, retry_reserve=0, retry_share=0.0) as stage:
        first, second = await asking(stage, 2)
        stage.pool.set_nodes([NodeSpec("node2", staying.address)], Patience(rise=1, fall=3, request_fall=10))
        assert (await second.answer())[0] == 200
        assert len(staying.requests) == 1
        gate.let(1)
        assert (await first.answer())[0] == 200
        assert stage.service.totals.retries == 0


async def test_who_waits_for_the_last_node_as_it_is_taken_out_is_told_so() -> None:
    gate = Gate()
    async with Stage(ScriptedNode("node1", gate), node_connections_max=1) as stage:
        first, second = await asking(stage, 2)
        stage.pool.set_nodes([], Patience(rise=1, fall=3, request_fall=10))
        assert (await second.answer())[0] == 503
        gate.let(1)
        assert (await first.answer())[0] == 200


async def test_who_waits_for_the_last_node_as_it_begins_to_drain_waits_on_in_turn() -> None:
    gate = Gate()
    node = ScriptedNode("node1", gate)
    async with Stage(node, node_connections_max=1) as stage:
        clients = await asking(stage, 3)
        stage.pool.set_order(stage["node1"], NodeState.DRAINING)
        stage.service.connections["node1"].queue.turn_away("set by the operator")
        assert stage["node1"].queued == 2
        clients += await asking(stage, 1)
        gate.let(4)
        assert [(await client.answer())[0] for client in clients] == [200] * 4
        assert [request.line.split()[1] for request in node.requests] == [b"/0", b"/1", b"/2", b"/0"]


async def test_a_repetition_keeps_its_place() -> None:
    gate = Gate()
    served = 0

    async def script(connection: Connection) -> None:
        nonlocal served
        await connection.request()
        served += 1
        if served == 1:
            await connection.say(OK)
            await connection.request()
            return  # closes the connection that has served before, with a request on it
        gate.here += 1
        gate.most = max(gate.most, gate.here)
        await gate.places.acquire()
        gate.here -= 1
        await connection.say(OK.replace(b"Content-Length", b"Connection: close\r\nContent-Length"))

    node = ScriptedNode("node1", script)
    async with Stage(node, node_connections_max=1) as stage:
        client = await stage.client()
        await client.send(STICKY)
        await client.answer()
        await client.send(STICKY)
        await until(lambda: gate.here == 1)
        (waiting,) = await asking(stage, 1)
        assert stage["node1"].queued == 1
        gate.let(2)
        assert (await client.answer())[0] == 200
        assert (await waiting.answer())[0] == 200
        assert gate.most == 1


async def test_a_tunnel_takes_a_place_until_it_ends() -> None:
    async def script(connection: Connection) -> None:
        while request := await connection.request():
            if b"upgrade" in request.fields:
                await connection.say(
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
                )
                await connection.closed()
                return
            await connection.say(OK)

    async with Stage(ScriptedNode("node1", script), node_connections_max=1) as stage:
        tunnel = await stage.client()
        await tunnel.send(get(b"/", cookie("node1"), UPGRADE))
        await tunnel.until(b"\r\n\r\n")
        (waiting,) = await asking(stage, 1)
        assert (stage["node1"].active, stage["node1"].queued) == (1, 1)
        tunnel.close()
        assert (await waiting.answer())[0] == 200


async def test_who_waits_for_a_node_that_dies_goes_elsewhere() -> None:
    gate = Gate()
    dying, live = ScriptedNode("node1", gate), ScriptedNode("node2")
    async with Stage(dying, live, node_connections_max=1) as stage:
        clients = await asking(stage, 3)
        await dying.stop()
        assert [(await client.answer())[0] for client in clients] == [200] * 3
        assert stage["node1"].state is NodeState.DOWN
        assert len(live.requests) == 3


@pytest.mark.parametrize("limit", [3, 0])
async def test_who_waits_gets_a_place_as_soon_as_the_limit_is_raised_or_lifted(limit: int) -> None:
    gate = Gate()
    async with Stage(ScriptedNode("node1", gate), node_connections_max=1) as stage:
        clients = await asking(stage, 3)
        assert (stage["node1"].active, stage["node1"].queued) == (1, 2)
        stage.service.configure(replace(stage.service.settings, node_connections_max=limit), None)
        await until(lambda: gate.here == 3)
        gate.let(3)
        assert [(await client.answer())[0] for client in clients] == [200] * 3


async def test_a_limit_that_is_set_while_requests_are_served_holds_for_those_that_come_then() -> None:
    gate = Gate()
    async with Stage(ScriptedNode("node1", gate)) as stage:
        clients = await asking(stage, 2)
        stage.service.configure(replace(stage.service.settings, node_connections_max=1), None)
        clients += await asking(stage, 1)
        assert (stage["node1"].active, stage["node1"].queued) == (2, 1)
        gate.let(1)
        assert (await clients[0].answer())[0] == 200
        assert (stage["node1"].active, stage["node1"].queued) == (1, 1)
        gate.let(2)
        assert [(await client.answer())[0] for client in clients[1:]] == [200] * 2


async def test_a_shorter_wait_holds_for_those_who_wait_already() -> None:
    gate = Gate()
    async with Stage(ScriptedNode("node1", gate), node_connections_max=1, node_queue_timeout_s=60) as stage:
        first, second = await asking(stage, 2)
        stage.service.configure(replace(stage.service.settings, node_queue_timeout_s=0.05), None)
        assert (await second.answer())[0] == 503
        gate.let(1)
        assert (await first.answer())[0] == 200
