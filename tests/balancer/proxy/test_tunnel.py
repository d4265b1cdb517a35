"""Upgrades: what becomes a tunnel, what does not, and how tunnels end."""

import asyncio
import gc
import socket

import pytest

from balancer.proxy.tunnel import Tunnel, TunnelEnd
from balancer.proxy.upstream import Upstream
from tests.balancer.proxy.stage import (
    OK,
    Client,
    Connection,
    ScriptedNode,
    Stage,
    answering,
    get,
    shrink_buffer,
    until,
)

pytestmark = pytest.mark.over_tls

ASK = b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abc\r\n"
CHUNKED_UPGRADE = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n"
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"


async def echo(connection: Connection) -> None:
    await connection.request()
    await connection.say(AGREED)
    while data := await connection.reader.read(65536):
        await connection.say(data)
    if connection.writer.can_write_eof():
        connection.writer.write_eof()


async def open_tunnel(stage: Stage, more: bytes = b"") -> Client:
    client = await stage.client()
    await client.send(get(b"/", ASK) + more)
    head = await client.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in head
    assert b"\r\nSec-WebSocket-Accept: x\r\n" in head
    return client


async def test_after_an_upgrade_all_bytes_pass_both_ways() -> None:
    node = ScriptedNode("node1", echo)
    async with Stage(node) as stage:
        client = await open_tunnel(stage)
        assert node.requests[0].fields[b"upgrade"] == b"websocket"
        assert node.requests[0].fields[b"connection"] == b"Upgrade"
        for size in (1, 10, 100_000):
            await client.send(b"\x00\r\n\r\n" + b"z" * size)
            assert await client.read(size + 5) == b"\x00\r\n\r\n" + b"z" * size
        assert stage["node1"].active == 1
        assert stage.service.active_connections == 1
        if client.writer.can_write_eof():
            client.half_close()
            assert await client.everything() == b""


async def test_of_a_tunnel_that_has_ended_nothing_is_left_even_without_the_cyclic_collector() -> None:
    def left() -> list[object]:
        return [kept for kept in gc.get_objects() if isinstance(kept, (Upstream, Tunnel, TunnelEnd))]

    gc.collect()
    before = len(left())
    gc.disable()
    try:
        async with Stage(ScriptedNode("node1", echo)) as stage:
            client = await open_tunnel(stage)
            client.close()
            await until(lambda: not stage.service.active_connections and len(left()) == before)
    finally:
        gc.enable()


async def test_bytes_that_follow_the_handshake_at_once_are_not_lost() -> None:
    early = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await early.wait()
        await connection.say(AGREED + b"first")
        assert await connection.reader.readexactly(5) == b"hasty"
        await connection.say(b"second")

    node = ScriptedNode("node1", script)
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get(b"/", ASK) + b"hasty")
        await until(lambda: node.requests)
        early.set()
        await client.until(b"\r\n\r\n")
        assert await client.everything() == b"firstsecond"


async def test_a_node_may_decline_and_http_goes_on() -> None:
    node = ScriptedNode("node1", answering(OK))
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get(b"/", ASK) + get(b"/next"))
        assert await client.read(2 * len(OK)) == OK * 2
        assert node.requests[1].line == b"GET /next HTTP/1.1"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
        CHUNKED_UPGRADE + b"3\r\nabc\r\n0\r\n\r\n",
    ],
    ids=["HTTP/2 in a tunnel", "not named by Connection", "HTTP/1.0", "with a body", "with a chunked body"],
)
async def test_what_must_not_become_a_tunnel_is_an_ordinary_request(request_bytes: bytes) -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(request_bytes)
        assert (await client.answer())[0] == 200
        assert not {b"upgrade", b"connection", b"http2-settings"} & node.requests[0].fields.keys()
        await client.send(get(b"/next"))
        assert (await client.answer())[0] == 200
        assert len(node.requests) == 2


async def test_of_several_protocols_only_http_2_is_left_out() -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get(b"/", b"Connection: Upgrade\r\nUpgrade: h2c, websocket, chat/2\r\n"))
        await client.answer()
        assert node.requests[0].fields[b"upgrade"] == b"websocket, chat/2"


@pytest.mark.plain
async def test_half_close_passes_through_in_each_direction() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(AGREED)
        connection.writer.write_eof()
        assert await connection.reader.read() == b"still talking"

    async with Stage(ScriptedNode("node1", script)) as stage:
        client = await open_tunnel(stage)
        assert await client.everything() == b""
        await client.send(b"still talking")
        client.half_close()


@pytest.mark.plain
async def test_an_end_that_came_before_the_tunnel_passes_through_it() -> None:
    agree = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await agree.wait()
        await connection.say(AGREED)
        assert await connection.reader.read() == b"hasty"
        await connection.say(b"heard")

    node = ScriptedNode("node1", script)
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get(b"/", ASK) + b"hasty")
        client.half_close()
        (downstream,) = stage.service._clients
        await until(lambda: node.requests and downstream.is_half_closed)
        agree.set()
        await client.until(b"\r\n\r\n")
        assert await client.everything() == b"heard"


@pytest.mark.parametrize("side", ["client", "node"])
async def test_when_one_side_is_reset_so_is_the_other(side: str) -> None:
    node_end: list[Connection] = []
    closed = asyncio.Event()

    async def script(connection: Connection) -> None:
        node_end.append(connection)
        await connection.request()
        await connection.say(AGREED)
        await connection.closed()
        closed.set()

    async with Stage(ScriptedNode("node1", script)) as stage:
        client = await open_tunnel(stage)
        if side == "client":
            client.reset()
            await asyncio.wait_for(closed.wait(), 20)
        else:
            node_end[0].reset()
            assert await client.everything() == b""
        await until(lambda: stage.service.active_connections == 0)


async def test_a_silent_tunnel_is_closed() -> None:
    async with Stage(ScriptedNode("node1", echo), tunnel_idle_timeout_s=0.2) as stage:
        client = await open_tunnel(stage)
        assert await client.everything() == b""


async def test_a_slow_reader_of_a_tunnel_stops_the_node() -> None:
    sent = 0
    total = 128 * 1024 * 1024  # Linux grows each of the two receive buffers to 32 MiB

    async def script(connection: Connection) -> None:
        nonlocal sent
        await connection.request()
        await connection.say(AGREED)
        while sent < total:
            await connection.say(b"x" * 65536)
            sent += 65536

    async with Stage(ScriptedNode("node1", script)) as stage:
        client = await open_tunnel(stage)
        last = -1
        while sent != last:
            last = sent
            for _ in range(50):
                await asyncio.sleep(0.002)
        assert sent < total * 3 // 4
        assert len(await client.everything()) == total


@pytest.mark.plain
@pytest.mark.parametrize("behind", ["client", "node"])
async def test_bytes_that_follow_the_handshake_at_once_do_not_lift_back_pressure(behind: str) -> None:
    agree, read = asyncio.Event(), asyncio.Event()
    early = b"x" * 200_000

    async def pump(writer: asyncio.StreamWriter) -> None:
        for _ in range(200):
            writer.write(b"x" * 65_536)
            await writer.drain()

    async def script(connection: Connection) -> None:
        connection.reader._limit = 1000  # it reads no further than it must
        await connection.request()
        await agree.wait()
        await connection.say(AGREED + (early if behind == "client" else b""))
        if behind == "client":
            await pump(connection.writer)
        await read.wait()

    node = ScriptedNode("node1", script)
    async with Stage(node) as stage:
        client = await stage.client()
        client.reader._limit = 1000
        await client.send(get(b"/", ASK))
        await until(lambda: node.requests)
        (downstream,) = stage.service._clients
        (upstream,) = stage.service.connections["node1"]._open
        for transport in (downstream.transport, upstream.transport):
            shrink_buffer(transport)
            transport.set_write_buffer_limits(10_000)
        if behind == "node":
            await client.send(early)
            await until(lambda: downstream._reader.pending_bytes > 65_000)
        agree.set()
        await client.until(b"\r\n\r\n")
        pumping = asyncio.create_task(pump(client.writer)) if behind == "node" else None
        (tunnel,) = stage.service._tunnels
        transport = tunnel._ends[behind == "node"].transport
        waiting = -1
        while waiting != (waiting := transport.get_write_buffer_size()):
            for _ in range(50):
                await asyncio.sleep(0.002)
        assert waiting < 1_000_000
        if pumping is not None:
            pumping.cancel()
        read.set()
        client.reset()


async def test_shutdown_does_not_wait_for_tunnels() -> None:
    async with Stage(ScriptedNode("node1", echo)) as stage:
        client = await open_tunnel(stage)
        stage.service.pre_shutdown()
        await asyncio.wait_for(stage.service.shutdown(600), 20)
        assert await client.everything() == b""


async def test_a_node_that_ends_a_tunnel_has_its_last_words_delivered() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(AGREED + b"x" * 1_000_000)

    async with Stage(ScriptedNode("node1", script)) as stage:
        client = await open_tunnel(stage)
        assert len(await client.read(1_000_000)) == 1_000_000
        if not client.writer.can_write_eof():  # with TLS there is no half a tunnel
            assert await client.everything() == b""


@pytest.mark.plain
async def test_an_end_that_never_reads_does_not_keep_its_connection_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("balancer.proxy.tunnel.FAREWELL_S", 0.2)

    async def flood(connection: Connection) -> None:
        await connection.request()
        await connection.say(AGREED)
        while True:
            await connection.say(b"x" * 1_000_000)

    async with Stage(ScriptedNode("node1", flood), tunnel_idle_timeout_s=0.2) as stage:
        await open_tunnel(stage)
        (tunnel,) = stage.service._tunnels
        client, node = tunnel._ends
        await until(lambda: client.is_lost and node.is_lost)
        assert not stage.service.deadlines._watched


@pytest.mark.plain
async def test_what_was_said_last_arrives_however_slowly_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balancer.proxy.tunnel.FAREWELL_S", 0.2)
    last = b"x" * 300_000

    async def say_it_and_leave(connection: Connection) -> None:
        await connection.request()
        await connection.say(AGREED + last)

    async with Stage(ScriptedNode("node1", say_it_and_leave)) as stage:
        client = await stage.client()
        (downstream,) = stage.service._clients
        downstream.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        await client.send(get(b"/", ASK))
        await client.until(b"\r\n\r\n")
        received = 0
        while received < len(last):
            await asyncio.sleep(0.05)  # the client's pace: all of it takes several farewells
            received += len(await client.read(min(10_000, len(last) - received)))
