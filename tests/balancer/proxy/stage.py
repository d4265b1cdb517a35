"""A stage for proxy tests: scripted nodes that record every byte, a proxy without health checks, raw clients.

All in the test's own loop, over real sockets. A node's script is a coroutine over one connection; what it does not
say, it does not do.
"""

import asyncio
import contextlib
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from balancer.core.health import Patience
from balancer.core.pool import Node, Pool
from balancer.core.routing import Router
from balancer.core.sticky import route_finder
from balancer.proxy.downstream import Downstream
from balancer.proxy.listening import Listener, address_of, open_sockets
from balancer.proxy.service import ProxyService
from balancer.settings import Settings, policy
from sessiond.contract.address import Address
from tests.support import certificates

DEADLINE_S = 20.0
"""Generous: only a hang reaches it."""

TOKEN = "A" * 28
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def cookie(node: str) -> bytes:
    return f"Cookie: SESSIONID={TOKEN}.{node}\r\n".encode()


def get(path: bytes = b"/", *fields: bytes) -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nHost: site\r\n" + b"".join(fields) + b"\r\n"


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition to become true."""

    async def holds() -> bool:
        return bool(condition())

    await eventually(holds)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """The same for one that has to ask somebody."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110 - what is waited for has no event to tell us
            await asyncio.sleep(0.002)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other end gets a reset, not an end of file."""
    raw = writer.get_extra_info("socket")
    if not writer.transport.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def shrink_buffer(transport: asyncio.BaseTransport) -> None:
    """The kernel's, so that little is enough to fill it."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)


@dataclass
class Request:
    """A request as a node received it."""

    head: bytes
    body: bytes

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def fields(self) -> dict[bytes, bytes]:
        lines = self.head.split(b"\r\n")[1:-2]
        pairs = [line.partition(b":") for line in lines]
        names = [name.lower() for name, _, _ in pairs]
        assert len(set(names)) == len(names), f"a field twice in {self.head!r}"
        return {name.lower(): value.strip() for name, _, value in pairs}


class Connection:
    """A node's end of one connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, node: "ScriptedNode"
    ) -> None:
        self.reader = reader
        self.writer = writer
        self._node = node

    @property
    def node_name(self) -> str:
        return self._node.name

    async def request(self) -> Request | None:
        """The next request, recorded; None when the proxy closed. Reads as the plainest of servers would."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            body = await self._body(head.lower())
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self._node.leftovers.append(getattr(error, "partial", b""))
            return None
        request = Request(head, body)
        self._node.requests.append(request)
        return request

    async def _body(self, head: bytes) -> bytes:
        if b"\r\ntransfer-encoding: chunked\r\n" in head:
            body = b""
            while True:
                line = await self.reader.readuntil(b"\r\n")
                size = int(line.partition(b";")[0], 16)
                body += line
                if size == 0:
                    break
                body += await self.reader.readexactly(size + 2)
            while not body.endswith(b"\r\n\r\n"):
                body += await self.reader.readuntil(b"\r\n")
            return body
        _, found, rest = head.partition(b"\r\ncontent-length:")
        return await self.reader.readexactly(int(rest.partition(b"\r\n")[0])) if found else b""

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def closed(self) -> bytes:
        """Everything up to the proxy's closing."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    def reset(self) -> None:
        reset(self.writer)


Script = Callable[[Connection], Awaitable[None]]


async def answer_ok(connection: Connection) -> None:
    while await connection.request():
        await connection.say(OK)


def answering(*answers: bytes) -> Script:
    """Gives these answers in turn over any number of connections, then 200 for ever."""
    left = list(answers)

    async def script(connection: Connection) -> None:
        while await connection.request():
            await connection.say(left.pop(0) if left else OK)

    return script


@dataclass
class ScriptedNode:
    """A server that follows its script on every connection."""

    name: str
    script: Script = answer_ok
    requests: list[Request] = field(default_factory=list)
    leftovers: list[bytes] = field(default_factory=list)
    connections: int = 0
    address: Address = field(default_factory=lambda: Address("127.0.0.1", 0))
    errors: list[BaseException] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def start(self) -> None:
        host, port = self.address
        self._server = await asyncio.start_server(self._serve, host, port, ssl=self.tls)
        self.address = Address(*self._server.sockets[0].getsockname()[:2])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.script(Connection(reader, writer, self))
        except asyncio.CancelledError:
            pass
        except ConnectionError:
            pass  # the proxy cut it: the test asserts what the client saw
        except Exception as error:  # noqa: BLE001 - the stage reports it at its end
            self.errors.append(error)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def stop(self) -> None:
        """As a killed process: nobody listens, every connection is reset."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Client:
    """A raw client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes, *, bytewise: bool = False) -> None:
        pieces = [data[i : i + 1] for i in range(len(data))] if bytewise else [data]
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()
                if bytewise:
                    await asyncio.sleep(0)

    async def read(self, count: int) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readexactly(count)

    async def until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readuntil(mark)

    async def answer(self, *, has_body: bool = True) -> tuple[int, bytes, bytes]:
        """Status, head, body of the next answer (with Content-Length, or without body)."""
        head = await self.until(b"\r\n\r\n")
        _, found, rest = head.lower().partition(b"\r\ncontent-length:")
        body = await self.read(int(rest.partition(b"\r\n")[0])) if found and has_body else b""
        return int(head.split(b" ")[1]), head, body

    async def everything(self) -> bytes:
        """Up to the end of the connection, however it ended."""
        received = bytearray()
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    received += data
        return bytes(received)

    def half_close(self) -> None:
        self.writer.write_eof()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        reset(self.writer)


class Stage:
    """``async with Stage(node, …, connect_timeout_s=…) as stage``: nodes listening and up, proxy serving.

    `uses_tls`, of all stages while a test runs: clients and nodes both speak TLS (`conftest.transport` sets it).
    """

    uses_tls = False

    def __init__(self, *nodes: ScriptedNode, **settings: Any) -> None:
        self.scripted = nodes
        # A busy machine must not look like a vanished node: nothing here brings a node back.
        self._settings = {"connect_timeout_s": DEADLINE_S, **settings}
        self.suspected: list[str] = []
        self._clients: list[Client] = []
        self.changes: list[str] = []

    async def __aenter__(self) -> Self:
        for node in self.scripted:
            if self.uses_tls:
                node.tls = certificates.server_context()
            await node.start()
        settings = Settings(**self._settings)
        patience = Patience(rise=1, fall=3, request_fall=settings.request_fall)
        nodes = [Node(node.name, node.address, patience) for node in self.scripted]
        self.pool = Pool(
            nodes, lambda node: self.changes.append(f"{node.name} {node.state}"), policy(settings)
        )
        for node in nodes:
            self.pool.check_passed(node, node.health.check_started(), sessions=None, draining=False)
        router = Router(self.pool, route_finder(settings.cookie_name), random.Random(1))
        self.service = ProxyService(
            settings,
            self.pool,
            router,
            lambda node: self.suspected.append(node.name),
            certificates.client_context() if self.uses_tls else None,
        )
        self.service.start()
        (sockets,) = await open_sockets(Address("127.0.0.1", 0))
        self.address = address_of(sockets)
        self._listener = Listener(
            self.service, sockets, certificates.server_context() if self.uses_tls else None
        )
        await self._listener.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._listener.close()
        for client in self._clients:
            client.reset()
        self.service.pre_shutdown()
        await self.service.shutdown(DEADLINE_S)
        for node in self.scripted:
            await node.stop()
        await until(lambda: all(node.active == node.queued == 0 for node in self.pool.nodes.values()))
        self.pool.check_invariants()
        assert self.service.active_connections == 0
        if error is None:
            assert [problem for node in self.scripted for problem in node.errors] == []

    def __getitem__(self, name: str) -> Node:
        return self.pool.nodes[name]

    async def client(self) -> Client:
        tls = certificates.client_context() if self.uses_tls else None
        client = Client(*await asyncio.open_connection(*self.address, ssl=tls))
        self._clients.append(client)
        return client


@contextlib.asynccontextmanager
async def tight_connection(stage: Stage) -> AsyncIterator[tuple[socket.socket, Downstream]]:
    """A client's socket, and the balancer's end of it, between which the kernels hold little."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, tuple(stage.address))
        await until(lambda: stage.service._clients)
        (downstream,) = stage.service._clients
        shrink_buffer(downstream.transport)
        yield raw, downstream
