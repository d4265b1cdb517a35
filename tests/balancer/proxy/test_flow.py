"""Streaming: back-pressure in both directions at bounded memory, and clients that go away."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import pytest

from tests.balancer.proxy.stage import (
    DEADLINE_S,
    OK,
    Connection,
    ScriptedNode,
    Stage,
    get,
    shrink_buffer,
    tight_connection,
    until,
)

pytestmark = pytest.mark.over_tls

BUFFERED_MAX = 96 * 1024 * 1024
"""More than the sockets between two ends can hold (Linux grows each of two receive buffers to 32 MiB), less than what the
tests send."""

PIECE = b"x" * 65_536
TOTAL = 2048 * len(PIECE)


async def pump(write: asyncio.StreamWriter, sent: list[int]) -> None:
    with contextlib.suppress(ConnectionError):
        while sent[0] < TOTAL:
            write.write(PIECE)
            sent[0] += len(PIECE)
            await write.drain()


async def standstill(sent: list[int]) -> int:
    """What was sent when nothing moved any more for a while of the loop's life."""
    last = -1
    while sent[0] != last:
        last = sent[0]
        for _ in range(50):
            await asyncio.sleep(0.002)
    return last


async def test_a_connection_that_has_served_cannot_be_paused_by_the_client_that_it_served() -> None:
    # The end of an answer fills the client's buffer when the connection is free for the next request already.
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get())
        assert (await client.answer())[0] == 200
        (idle,) = stage.service.connections["node1"]._idle
        idle.pause()
        await client.send(get())
        assert (await client.answer())[0] == 200
        assert node.connections == 1


async def test_a_client_that_does_not_read_stops_the_node() -> None:
    sent = [0]

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % TOTAL)
        await pump(connection.writer, sent)
        await connection.request()
        await connection.say(OK)
        await connection.closed()

    node = ScriptedNode("node1", script)
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get() + get())
        await client.until(b"\r\n\r\n")
        assert await standstill(sent) < BUFFERED_MAX
        received = 0
        while received < TOTAL:
            received += len(await client.read(min(len(PIECE), TOTAL - received)))
        assert await client.read(len(OK)) == OK
        assert node.connections == 1


async def test_a_node_that_does_not_read_stops_the_client() -> None:
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        received = 0
        while received < TOTAL:
            received += len(await connection.reader.read(1 << 20))
        await connection.say(OK)
        await connection.closed()

    async with Stage(ScriptedNode("node1", script)) as stage:
        client = await stage.client()
        sent = [0]
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % TOTAL)
        pumping = asyncio.create_task(pump(client.writer, sent))
        assert await standstill(sent) < BUFFERED_MAX
        go_on.set()
        assert await client.read(len(OK)) == OK
        await pumping


@pytest.mark.plain
@pytest.mark.parametrize("of_the_body", [0.9, 1.0])
async def test_a_connection_is_given_up_whose_node_answers_before_it_has_taken_the_request(
    of_the_body: float,
) -> None:
    length = 120_000
    answer, leave = asyncio.Event(), asyncio.Event()

    async def answer_and_stand_still(connection: Connection) -> None:
        connection.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.reader._limit = 1000
        if node.connections > 1:
            await connection.request()
            await connection.say(OK)
            return
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.writer.transport.pause_reading()
        await answer.wait()
        await connection.say(b"HTTP/1.1 413 X\r\nContent-Length: 2\r\n\r\nno")
        await leave.wait()

    node = ScriptedNode("node1", answer_and_stand_still)
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length)
        opened = stage.service.connections["node1"]._open
        await until(lambda: opened)
        (upstream,) = opened
        shrink_buffer(upstream.transport)
        await client.send(b"x" * int(length * of_the_body))
        await until(lambda: upstream.transport.get_write_buffer_size() > 10_000)
        (downstream,) = stage.service._clients
        if of_the_body == 1.0:
            await until(lambda: downstream._exchange is not None and downstream._exchange.request_is_complete)
        answer.set()
        status, _, body = await client.answer()
        assert (status, body) == (413, b"no")
        await until(lambda: not opened)
        other = await stage.client()
        await other.send(get())
        assert (await other.answer())[0] == 200
        leave.set()


async def test_a_client_that_pipelines_without_end_is_not_read_without_end() -> None:
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await go_on.wait()

    node = ScriptedNode("node1", script)
    async with Stage(node, retry_share=0.001, retry_reserve=1) as stage:
        client = await stage.client()
        await client.send(get())
        await until(lambda: node.requests)
        sent = [0]
        pumping = asyncio.create_task(pump(client.writer, sent))
        assert await standstill(sent) < BUFFERED_MAX
        pumping.cancel()
        client.reset()
        go_on.set()


async def test_a_client_that_pipelines_and_does_not_read_gets_no_more_answers_than_fit() -> None:
    body = b"y" * 500_000

    async def script(connection: Connection) -> None:
        while await connection.request():
            await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    node = ScriptedNode("node1", script)
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get() * 200)
        served = [0]

        def note() -> list[int]:
            served[0] = len(node.requests)
            return served

        last = -1
        while note()[0] != last:
            last = served[0]
            for _ in range(50):
                await asyncio.sleep(0.002)
        assert served[0] * len(body) < 2 * BUFFERED_MAX
        for _ in range(200):
            assert len((await client.answer())[2]) == len(body)


async def test_a_client_that_resets_ends_its_request_at_the_node() -> None:
    gone = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.closed()
        gone.set()

    node = ScriptedNode("node1", script)
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get())
        await until(lambda: node.requests)
        client.reset()
        await asyncio.wait_for(gone.wait(), 20)
        assert stage["node1"].counters.failures == 0


@pytest.mark.plain
async def test_a_client_that_closes_and_stays_silent_ends_its_request_after_a_while() -> None:
    gone = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.closed()
        gone.set()

    node = ScriptedNode("node1", script)
    async with Stage(node, half_close_timeout_s=0.1) as stage:
        client = await stage.client()
        await client.send(get())
        await until(lambda: node.requests)
        client.half_close()
        await asyncio.wait_for(gone.wait(), 20)
        assert await client.everything() == b""


async def test_a_client_that_goes_within_a_body_ends_the_request_at_the_node() -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        await until(lambda: node.connections == 1)
        client.close()
        await until(lambda: node.leftovers)
        assert node.requests == []


@pytest.mark.plain
async def test_a_half_closed_client_gets_the_answers_to_all_it_asked() -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get() * 3)
        client.half_close()
        assert await client.everything() == OK * 3


async def test_a_client_that_goes_while_its_node_is_being_connected_leaves_nothing_behind() -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        for _ in range(20):
            client = await stage.client()
            await client.send(get())
            client.reset()
        await until(lambda: stage.service.active_connections == 0)
        await until(lambda: stage["node1"].active == 0)


async def test_answers_never_cross_whoever_breaks_off() -> None:
    async def script(connection: Connection) -> None:
        while request := await connection.request():
            path = request.line.split(b" ")[1]
            number = int(path[1:])
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path)
            if number % 7 == 3:
                connection.reset()
                return
            await connection.say(answer)
            if number % 5 == 2:
                return

    nodes = [ScriptedNode(f"node{i}", script) for i in (1, 2)]

    async def visit(stage: Stage, start: int) -> int:
        right = 0
        for number in range(start, start + 60):
            client = await stage.client()
            await client.send(get(b"/%d" % number))
            if number % 11 == 4:
                client.reset()
                continue
            try:
                status, _, body = await client.answer()
            except (asyncio.IncompleteReadError, ConnectionError):
                continue
            if status == 200:
                assert body == b"/%d" % number
                right += 1
            client.close()
        return right

    async with Stage(*nodes, request_fall=1_000_000) as stage:
        right = await asyncio.gather(*(visit(stage, start) for start in range(0, 1200, 60)))
        assert sum(right) > 600


def pages(body: bytes) -> Callable[[Connection], Awaitable[None]]:
    """A node that answers each request with this, in one piece."""

    async def script(connection: Connection) -> None:
        while await connection.request():
            await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    return script


def has_stuck(stage: Stage) -> bool:
    """Whether the one client was answered more than it reads, and nothing is under way for it."""
    return any(client.is_full and client._exchange is None for client in stage.service._clients)


async def test_a_client_that_reads_none_of_its_answers_is_not_read_without_end() -> None:
    body = b"y" * 60_000
    node = ScriptedNode("node1", pages(body))
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get() * 2000)
        await until(lambda: has_stuck(stage))
        sent = [0]
        pumping = asyncio.create_task(pump(client.writer, sent))
        assert await standstill(sent) < BUFFERED_MAX
        (downstream,) = stage.service._clients
        assert downstream._reader.pending_bytes < 1 << 20
        pumping.cancel()
        client.reset()


@pytest.mark.plain
async def test_a_client_that_has_sent_all_gets_all_answers_however_late_it_reads() -> None:
    body = b"y" * 60_000
    node = ScriptedNode("node1", pages(body))
    async with Stage(node, half_close_timeout_s=60) as stage:
        client = await stage.client()
        await client.send(get() * 1500)
        await until(lambda: has_stuck(stage))
        client.half_close()
        (downstream,) = stage.service._clients
        await until(lambda: downstream.is_half_closed)
        for _ in range(1500):
            assert (await client.answer())[0] == 200
        assert await client.everything() == b""


async def read_slowly(stage: Stage, length: int) -> int:
    """How much of an answer a client gets that takes 10,000 bytes each 50 ms, and whose connection holds little."""
    loop = asyncio.get_running_loop()
    async with tight_connection(stage) as (raw, _):
        await loop.sock_sendall(raw, get())
        received = 0
        async with asyncio.timeout(DEADLINE_S):
            while received < length:
                await asyncio.sleep(0.05)  # the client's pace
                try:
                    data = await loop.sock_recv(raw, 10_000)
                except ConnectionResetError:
                    break
                if not data:
                    break
                received += len(data)
    return received


@pytest.mark.plain
async def test_a_client_that_reads_slowly_and_steadily_gets_its_answer() -> None:
    body = b"z" * 400_000  # takes twenty times the limit
    async with Stage(ScriptedNode("node1", pages(body)), body_idle_timeout_s=0.1) as stage:
        assert await read_slowly(stage, len(body)) >= len(body)


@pytest.mark.plain
async def test_a_client_that_reads_more_slowly_than_is_allowed_is_cut() -> None:
    body = b"z" * 2_000_000
    async with Stage(
        ScriptedNode("node1", pages(body)), body_idle_timeout_s=0.5, body_rate_min=10_000_000
    ) as stage:
        assert await read_slowly(stage, len(body)) < len(body)
        await until(lambda: not stage.service.active_connections)


@pytest.mark.plain
async def test_a_client_that_has_stopped_reading_is_cut() -> None:
    node = ScriptedNode("node1", pages(b"z" * 50_000_000))
    async with Stage(node, body_idle_timeout_s=0.1) as stage:
        client = await stage.client()
        await client.send(get())
        await until(lambda: stage.service.active_connections == 1)
        await until(lambda: stage.service.active_connections == 0)
        assert stage["node1"].counters.failures == 0


@pytest.mark.plain
async def test_a_node_that_takes_a_body_slowly_and_steadily_gets_it_and_is_not_blamed() -> None:
    length = 400_000

    async def script(connection: Connection) -> None:
        raw = connection.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        connection.reader._limit = 1000
        head = await connection.reader.readuntil(b"\r\n\r\n")
        assert head
        received = 0
        while received < length:
            await asyncio.sleep(0.05)
            received += len(await connection.reader.read(10_000))
        await connection.say(OK)
        await connection.closed()

    node = ScriptedNode("node1", script)
    async with Stage(node, body_idle_timeout_s=0.1, replay_bytes_max=1000) as stage:
        client = await stage.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length)
        opened = stage.service.connections["node1"]._open
        await until(lambda: opened)
        (upstream,) = opened
        shrink_buffer(upstream.transport)
        await client.send(b"u" * length)
        assert (await client.answer())[0] == 200
        assert stage["node1"].counters.failures == 0
