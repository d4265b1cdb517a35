"""No byte of any kind of response leaves before its session is committed, seen at the socket."""

import asyncio

import pytest
from aiohttp import WSMsgType, web

from sessiond.adapters.aiohttp import get_session, setup, without_session
from sessiond.errors import Unavailable
from sessiond.values import decode
from tests.support.fake_backend import FakeNode
from tests.support.wire import Wire, connect, cookies_set, fetch, serving

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
KINDS = ("plain", "stream", "file", "websocket", "redirect", "compressed")


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
async def port(node, tmp_path):
    async def write(request: web.Request) -> None:
        session = await get_session(request)
        session["n"] = session.get("n", 0) + 1

    async def plain(request: web.Request) -> web.Response:
        await write(request)
        return web.Response(text="hello")

    async def redirect(request: web.Request) -> web.Response:
        await write(request)
        raise web.HTTPFound("/elsewhere")

    async def stream(request: web.Request) -> web.StreamResponse:
        await write(request)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"hel")
        await response.write(b"lo")
        await response.write_eof()
        return response

    async def compressed(request: web.Request) -> web.StreamResponse:
        await write(request)
        response = web.StreamResponse()
        response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        await response.write(b"hello")
        return response

    async def file(request: web.Request) -> web.FileResponse:
        await write(request)
        (tmp_path / "hello.txt").write_text("hello")
        return web.FileResponse(tmp_path / "hello.txt")

    async def websocket(request: web.Request) -> web.WebSocketResponse:
        await write(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data.upper())
        return socket

    async def read(request: web.Request) -> web.Response:
        return web.json_response((await get_session(request)).get("n"))

    @without_session
    async def apart(_request: web.Request) -> web.Response:
        return web.Response(text="apart")

    app = web.Application()
    handlers = (plain, redirect, stream, compressed, file, websocket, read, apart)
    app.add_routes([web.get(f"/{handler.__name__}", handler) for handler in handlers])
    setup(app, node)
    async with serving(app) as port:
        yield port


def ask(wire: Wire, kind: str, **headers: str) -> None:
    wire.send(f"/{kind}", **headers, **(UPGRADE if kind == "websocket" else {}))


async def nothing_leaves(wire: Wire, port: int) -> None:
    """After a full round trip on another connection there is still no byte on this one."""
    first_byte = asyncio.create_task(wire.reader.read(1))
    assert (await fetch(port, "/apart")).text == "apart"
    assert not first_byte.done()
    first_byte.cancel()
    await asyncio.gather(first_byte, return_exceptions=True)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_answer_to_a_first_write_waits_for_its_commit(node, port, kind):
    async with connect(port) as wire:
        with node.held():
            ask(wire, kind)
            await node.until_waiting()
            await nothing_leaves(wire, port)
        answer = await wire.head()
        assert answer.status == {"websocket": 101, "redirect": 302}.get(kind, 200)
        token, _, route = cookies_set(answer)["SESSIONID"].partition(".")
        assert route == "node1"
        assert decode(node.stored[node.keyring.key_of(token)].attributes["n"]) == 1


@pytest.mark.parametrize("kind", [*KINDS, "read"])
async def test_the_answer_of_a_known_session_waits_too_even_if_it_only_reads(node, port, kind):
    token, _key = node.new_session(n=b"\x05")
    async with connect(port) as wire:
        with node.held():
            ask(wire, kind, Cookie=f"SESSIONID={token}.node1")
            await node.until_waiting()
            await nothing_leaves(wire, port)
        answer = await wire.head()
        assert answer.status < 400
        assert answer.all("Set-Cookie") == []


@pytest.mark.parametrize("kind", [*KINDS, "read"])
async def test_a_commit_that_fails_is_the_answer_and_nothing_else_leaves(node, port, kind):
    token, _key = node.new_session(n=b"\x05")
    node.commit_error = Unavailable("no backup answered", retry_after_s=2.5)
    async with connect(port) as wire:
        ask(wire, kind, Cookie=f"SESSIONID={token}.node1")
        answer = await wire.answer()
        assert answer.status == 503
        assert answer.header("Retry-After") == "3"
        assert answer.text == "no backup answered\n"
        assert answer.all("Set-Cookie") == answer.all("Content-Encoding") == []
    assert node.holds == 0


async def test_a_failed_stream_closes_its_connection_without_another_byte(node, port):
    node.commit_error = Unavailable("no backup answered")
    async with connect(port) as wire:
        ask(wire, "stream")
        answer = await wire.answer()
        assert (answer.status, answer.header("Connection")) == (503, "close")
        assert await wire.is_closed()


async def test_a_failed_stream_that_only_its_head_was_asked_for_has_no_body(node, port):
    node.commit_error = Unavailable("no backup answered")
    async with connect(port) as wire:
        wire.send("/stream", method="HEAD")
        answer = await wire.head()
        assert (answer.status, answer.header("Content-Length")) == (503, str(len("no backup answered\n")))
        assert await wire.is_closed()


async def test_a_websocket_goes_on_after_its_commit_and_holds_nothing(node, port):
    async with connect(port) as wire:
        ask(wire, "websocket")
        assert (await wire.head()).status == 101
        wire.writer.write(b"\x81\x82\x00\x00\x00\x00hi")
        assert await wire.reader.readexactly(4) == b"\x81\x02HI"
        assert node.holds == 0


async def test_bodies_are_complete_after_the_wait(port):
    for kind in ("plain", "stream", "file"):
        assert (await fetch(port, f"/{kind}")).text == "hello"
