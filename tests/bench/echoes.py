"""WebSockets for a bench: nodes that echo, and clients that each send a message when they have the last one back.

``python -m tests.bench.echoes serve PORT PORT`` listens as node1 and node2 until SIGTERM; ``… load PORT CONNECTIONS
SECONDS COOKIE…`` prints the line that `wrk.parse` reads. All messages have one size, so that neither end takes frames
apart: what is measured is the proxy between them.
"""

import asyncio
import base64
import hashlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial

import uvloop

from tests.bench.wrk import MARK

PAYLOAD = b"x" * 64
KEY = bytes(4)
"""Masks nothing; a client's frame must carry one all the same."""
FRAME = bytes((0x82, 0x80 | len(PAYLOAD))) + KEY + PAYLOAD
ECHO = bytes((0x82, len(PAYLOAD))) + PAYLOAD
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONNECT_DEADLINE_S = 20


def accept_of(key: bytes) -> bytes:
    """The answer to Sec-WebSocket-Key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())


class Node(asyncio.Protocol):
    """Agrees to every handshake; answers other requests with its name."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._is_open = False
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a socket's transport is one
        self._head = b""

    def data_received(self, data: bytes) -> None:
        if self._is_open:
            self._received += len(data)
            count, self._received = divmod(self._received, len(FRAME))
            self._transport.write(ECHO * count)
            return
        self._head += data
        if not self._head.endswith(b"\r\n\r\n"):
            return
        fields = dict(line.lower().partition(b": ")[::2] for line in self._head.split(b"\r\n"))
        keys = [
            line[19:] for line in self._head.split(b"\r\n") if line[:19].lower() == b"sec-websocket-key: "
        ]
        self._head = b""
        if fields.get(b"upgrade") == b"websocket":
            self._is_open = True
            self._transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept_of(keys[0])
            )
        else:
            self._transport.write(b"HTTP/1.1 200 OK\r\nX-Node: %b\r\nContent-Length: 0\r\n\r\n" % self._name)


class Client(asyncio.Protocol):
    """Sends, waits for the echo, notes how long it took, sends again until `stop`."""

    def __init__(self, cookie: str, times_s: list[float]) -> None:
        self._cookie = cookie
        self._times_s = times_s
        self._received = 0
        self._stopped = False
        self.is_open = asyncio.get_running_loop().create_future()
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a socket's transport is one
        self._head = b""
        self._transport.write(
            b"GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\nCookie: %b\r\n\r\n"
            % (base64.b64encode(bytes(16)), self._cookie.encode())
        )

    def data_received(self, data: bytes) -> None:
        if not self.is_open.done():
            self._head += data
            if self._head.endswith(b"\r\n\r\n"):
                self.is_open.set_result(self._head.startswith(b"HTTP/1.1 101 "))
            return
        self._received += len(data)
        if self._received == len(ECHO):
            self._times_s.append(time.perf_counter() - self._sent_at)
            if not self._stopped:
                self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = not self._stopped
        if not self.is_open.done():
            self.is_open.set_result(False)

    def send(self) -> None:
        self._received = 0
        self._sent_at = time.perf_counter()
        self._transport.write(FRAME)

    def stop(self) -> None:
        self._stopped = True
        self._transport.close()


async def serve(ports: Sequence[int]) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    for number, port in enumerate(ports, 1):
        await loop.create_server(partial(Node, f"node{number}"), "127.0.0.1", port, backlog=1024)
    await ended.wait()


async def load(port: int, connections: int, seconds: int, cookies: Sequence[str]) -> None:
    times_s: list[float] = []
    clients: list[Client] = []
    loop = asyncio.get_running_loop()
    for number in range(connections):
        made = partial(Client, cookies[number % len(cookies)], times_s)
        clients.append((await loop.create_connection(made, "127.0.0.1", port))[1])
    async with asyncio.timeout(CONNECT_DEADLINE_S):
        refused = [await client.is_open for client in clients].count(False)
    began = time.perf_counter()
    for client in clients:
        client.send()
    await asyncio.sleep(seconds)
    lost = sum(client.is_lost for client in clients)
    for client in clients:
        client.stop()
    took_s = time.perf_counter() - began
    times_s.sort()
    result = {
        "requests": len(times_s),
        "seconds": took_s,
        "p50_ms": times_s[len(times_s) // 2] * 1000 if times_s else 0.0,
        "p99_ms": times_s[len(times_s) * 99 // 100] * 1000 if times_s else 0.0,
        "errors": {"connect": refused, "read": lost, "write": 0, "status": 0, "timeout": 0},
    }
    sys.stdout.write(f"{MARK}{json.dumps(result)}\n")


if __name__ == "__main__":
    what, *numbers_and_cookies = sys.argv[1:]
    if what == "serve":
        uvloop.run(serve([int(port) for port in numbers_and_cookies]))
    else:
        port, connections, seconds = (int(number) for number in numbers_and_cookies[:3])
        uvloop.run(load(port, connections, seconds, numbers_and_cookies[3:]))
