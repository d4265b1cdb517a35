"""Every wait has an end, and the client learns whose fault it was where that is still possible."""

import asyncio
import gc
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from balancer.core.pool import NodeState
from tests.balancer.proxy.stage import (
    OK,
    Client,
    Connection,
    ScriptedNode,
    Stage,
    cookie,
    get,
    tight_connection,
    until,
)

pytestmark = pytest.mark.over_tls

SHORT = 0.3
GET = get(b"/", cookie("node1"))
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n" + cookie("node1") + b"\r\nab"


async def silent(connection: Connection) -> None:
    await connection.request()
    await connection.closed()


async def test_a_slow_head_is_answered_408() -> None:
    async with Stage(ScriptedNode("node1"), request_head_timeout_s=SHORT) as stage:
        client = await stage.client()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nA:")
        assert (await client.reader.read()).startswith(b"HTTP/1.1 408 ")
        await until(lambda: not stage.service.active_connections)


async def test_more_bytes_of_a_head_do_not_extend_its_time() -> None:
    async with Stage(ScriptedNode("node1"), request_head_timeout_s=SHORT) as stage:
        client = await stage.client()

        async def drip() -> None:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
            while True:
                await client.send(b"A: b\r\n")
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        assert (await client.everything()).startswith(b"HTTP/1.1 408 ")
        dripping.cancel()


async def test_a_connection_on_which_nothing_is_said_is_closed() -> None:
    async with Stage(ScriptedNode("node1"), request_head_timeout_s=SHORT) as stage:
        client = await stage.client()
        assert await client.everything() == b""


async def test_an_idle_connection_is_closed() -> None:
    async with Stage(ScriptedNode("node1"), client_keepalive_timeout_s=SHORT) as stage:
        client = await stage.client()
        await client.send(get())
        assert await client.reader.read() == OK  # in order: a reset would raise


async def everything(raw: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(raw, 65_536):
        pass


@pytest.mark.plain
async def test_an_answer_that_its_client_does_not_take_to_its_end_does_not_look_complete() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000)

    async with (
        Stage(ScriptedNode("node1", script), response_idle_timeout_s=SHORT) as stage,
        tight_connection(stage) as (raw, downstream),
    ):
        downstream.transport.set_write_buffer_limits(1_000_000)  # all of the answer is here in the end
        await asyncio.get_running_loop().sock_sendall(raw, get())
        await until(lambda: downstream._is_ending)
        await until(lambda: not stage.service.active_connections)
        with pytest.raises(ConnectionResetError):
            await everything(raw)


async def test_a_body_that_stops_is_answered_408_and_not_blamed_on_the_node() -> None:
    node = ScriptedNode("node1")
    async with Stage(node, body_idle_timeout_s=SHORT) as stage:
        client = await stage.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert (await client.everything()).startswith(b"HTTP/1.1 408 ")
        assert node.requests == []
        assert stage["node1"].counters.failures == 0


async def test_a_body_that_trickles_is_answered_408_and_not_blamed_on_the_node() -> None:
    async def trickle(client: Client) -> None:
        while True:
            await client.send(b"1\r\nx\r\n")
            await asyncio.sleep(SHORT / 10)

    node = ScriptedNode("node1")
    async with Stage(node, body_idle_timeout_s=SHORT, body_rate_min=1_000_000) as stage:
        client = await stage.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        trickling = asyncio.create_task(trickle(client))
        assert (await client.answer())[0] == 408
        trickling.cancel()
        assert node.requests == []
        assert stage["node1"].counters.failures == 0


async def test_what_came_of_a_body_earns_time_for_the_rest_up_to_the_idle_limit() -> None:
    async with Stage(ScriptedNode("node1"), body_idle_timeout_s=30, body_rate_min=10) as stage:
        client = await stage.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        await until(lambda: [each for each in stage.service._clients if each._body_due])
        (downstream,) = stage.service._clients
        downstream._body_due = late = stage.service.deadlines.now + 5  # as if the client had been slow so far
        await client.send(b"x" * 100)
        await until(lambda: downstream._body_due == late + 10)
        assert downstream.deadline == downstream._body_due
        await client.send(b"x" * 400)
        await until(lambda: downstream._body_due > late + 10)
        assert downstream._body_due <= stage.service.deadlines.now + 30


async def test_a_node_that_does_not_answer_in_time_is_a_504_and_not_tried_elsewhere() -> None:
    other = ScriptedNode("node2")
    async with Stage(ScriptedNode("node1", silent), other, response_head_timeout_s=SHORT) as stage:
        client = await stage.client()
        await client.send(get(b"/", cookie("node1")))
        assert (await client.answer())[0] == 504
        assert other.requests == []
        assert stage["node1"].counters.failures == 1
        await client.send(get(b"/", cookie("node2")))
        assert (await client.answer())[0] == 200


async def test_an_answer_that_stops_is_cut_off() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await connection.closed()

    async with Stage(ScriptedNode("node1", script), response_idle_timeout_s=SHORT) as stage:
        client = await stage.client()
        await client.send(get())
        assert (await client.everything()).endswith(b"abc")
        assert stage["node1"].counters.failures == 1


async def test_a_client_that_stops_reading_is_cut_off_and_not_blamed_on_the_node() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            await connection.say(b"x" * 1_000_000)

    async with Stage(ScriptedNode("node1", script), body_idle_timeout_s=SHORT) as stage:
        client = await stage.client()
        await client.send(get())
        await until(lambda: stage.service.active_connections == 0)
        assert stage["node1"].counters.failures == 0


async def test_idle_connections_to_a_node_are_closed_in_time_and_bounded_in_number() -> None:
    nodes_see_close = asyncio.Event()

    async def script(connection: Connection) -> None:
        while await connection.request():
            await connection.say(OK)
        nodes_see_close.set()

    node = ScriptedNode("node1", script)
    async with Stage(node, node_keepalive_timeout_s=SHORT, node_idle_connections_max=2) as stage:
        clients = [await stage.client() for _ in range(5)]
        for client in clients:
            await client.send(get())
        for client in clients:
            await client.answer()
        assert 1 <= stage.service.connections["node1"].idle_count <= 2
        await asyncio.wait_for(nodes_see_close.wait(), 20)
        await until(lambda: stage.service.connections["node1"].idle_count == 0)
        assert stage.suspected == []


@contextmanager
def port_that_hangs() -> Iterator[int]:
    """A full backlog drops further handshakes, as a vanished container does."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as hanging, ExitStack() as fillers:
        port = hanging.getsockname()[1]
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


async def test_a_connect_that_hangs_is_given_up_and_the_request_moves() -> None:
    live = ScriptedNode("node2")
    with port_that_hangs() as port:
        async with Stage(ScriptedNode("node1"), live, connect_timeout_s=SHORT) as stage:
            stage["node1"].address = stage["node1"].address._replace(port=port)
            client = await stage.client()
            await client.send(POST)
            assert (await client.answer())[0] == 200
            assert stage["node1"].state is NodeState.DOWN
            assert "no connection within" in stage["node1"].reason
            assert len(live.requests) == 1


async def test_whoever_waits_for_a_connection_moves_as_soon_as_the_node_is_down() -> None:
    live = ScriptedNode("node2")
    with port_that_hangs() as port:
        async with Stage(ScriptedNode("node1"), live) as stage:
            node = stage["node1"]
            node.address = node.address._replace(port=port)
            client = await stage.client()
            await client.send(POST)
            await until(lambda: node.active == 1)
            stage.pool.unreachable(node, "a check could not connect")
            stage.service.connections["node1"].give_up_connects(node.reason)
            assert (await client.answer())[0] == 200
            assert len(live.requests) == 1
            assert node.active == 0


async def test_a_request_that_was_answered_504_while_it_waited_for_a_connection_goes_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = ScriptedNode("node2")
    with port_that_hangs() as port:
        async with Stage(
            ScriptedNode("node1"), live, response_head_timeout_s=SHORT, request_fall=1, eject_share_max=0.5
        ) as stage:
            node = stage["node1"]
            node.address = node.address._replace(port=port)
            give_up = stage.service.connections["node1"].give_up_connects
            monkeypatch.setattr(stage.pool, "_on_change", lambda changed: give_up(changed.reason))
            client = await stage.client()
            await client.send(get(b"/", cookie("node2")))
            await client.answer()  # leaves an idle connection to it
            await client.send(POST)
            assert (await client.answer())[0] == 504
            assert len(live.requests) == 1
            assert node.state is NodeState.UP
            assert node.counters.failures == 0


@pytest.mark.parametrize(("request_bytes", "status", "moved"), [(GET, 200, 1), (POST, 502, 0)])
async def test_a_request_at_a_silent_node_ends_when_that_is_known(
    request_bytes: bytes, status: int, moved: int
) -> None:
    stopped, live = ScriptedNode("node1", silent), ScriptedNode("node2")
    async with Stage(stopped, live) as stage:
        client = await stage.client()
        await client.send(request_bytes)
        await until(lambda: stopped.requests)
        node = stage["node1"]
        stage.pool.unreachable(node, "health not answered")
        stage.service.connections["node1"].give_up_requests(node.reason)
        assert (await client.answer())[0] == status
        assert len(live.requests) == moved


async def test_what_a_node_has_not_taken_of_a_request_is_never_delivered_once_it_is_given_up() -> None:
    ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def script(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await until(lambda: not stage["node1"].active)
        try:
            await connection.reader.read()
        except ConnectionResetError:
            ended.set_result(True)
        else:
            ended.set_result(False)

    async with Stage(ScriptedNode("node1", script)) as stage:
        client = await stage.client()
        await client.send(POST)
        await until(lambda: stage.scripted[0].connections)
        await until(lambda: stage.service.connections["node1"].idle_count == 0 and stage["node1"].active)
        stage.service.connections["node1"].give_up_requests("health not answered")
        assert (await client.answer())[0] == 502
        assert await asyncio.wait_for(ended, 20), "it was an orderly end, which comes after all that was sent"


async def test_an_answer_that_has_begun_is_not_cut_short_because_the_node_is_silent() -> None:
    more = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
        await more.wait()
        await connection.say(b"i")

    async with Stage(ScriptedNode("node1", script)) as stage:
        client = await stage.client()
        await client.send(get())
        await client.until(b"\r\n\r\nh")
        stage.service.connections["node1"].give_up_requests("health not answered")
        more.set()
        assert await client.read(1) == b"i"


async def test_an_error_that_nobody_expected_while_connecting_does_not_leave_the_client_waiting() -> None:
    live = ScriptedNode("node2")
    async with Stage(ScriptedNode("node1"), live) as stage:
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
        stage["node1"].address = stage["node1"].address._replace(host="a" * 64)  # no label is so long
        client = await stage.client()
        await client.send(POST)
        assert (await client.answer())[0] == 200
        assert len(live.requests) == 1
        gc.collect()
        await until(lambda: reported)


async def test_at_shutdown_what_is_not_done_in_time_is_cut() -> None:
    node = ScriptedNode("node1", silent)
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get())
        await until(lambda: node.requests)
        stage.service.pre_shutdown()
        await asyncio.wait_for(stage.service.shutdown(SHORT), 20)
        assert await client.everything() == b""
