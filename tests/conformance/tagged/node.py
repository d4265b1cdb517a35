"""A node that answers with the request's tag, and mistreats its connections at random."""

import asyncio
import random
from collections import Counter

from sessiond.contract.address import Address
from tests.conformance.tagged.wire import HEAD_END, WEIGHTS, Mishap, answer_to, is_filled, length_of, tag_of

SLOW_S_MAX = 0.02
"""The longest pause within an answer, and before an idle connection is closed."""

_MISHAPS, _WEIGHTS = tuple(WEIGHTS), tuple(WEIGHTS.values())


class TaggedNode:
    """To be put on a stage. `mishaps`: what it did; `crossed`: requests that were mixed up on their way here."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name = name
        self.address = Address("127.0.0.1", 0)
        self.errors: list[BaseException] = []
        self.rng = rng
        self.mishaps: Counter[Mishap] = Counter()
        self.crossed: list[str] = []
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), self.address.host, self.address.port
        )
        self.address = Address(*self._server.sockets[0].getsockname()[:2])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in tuple(self.connections):
            connection.transport.abort()


class _Connection(asyncio.Protocol):
    """One request at a time, as the balancer sends them."""

    def __init__(self, node: TaggedNode) -> None:
        self._node = node
        self._buffer = b""
        self._is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # a socket's transport is one
        self._node.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._node.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._is_busy:
            self._node.crossed.append(f"{data[:100]!r} came before the answer to the request before it")
            return
        self._buffer += data
        head, found, rest = self._buffer.partition(HEAD_END)
        if not found or len(rest) < (length_of(head + found) or 0):
            return
        self._buffer = b""
        tag, method = tag_of(head + found), head.partition(b" ")[0]
        if head.split(b" ", 2)[1] != b"/" + tag or not is_filled(tag, rest):
            self._node.crossed.append(f"{head!r} with {rest[:100]!r}")
        self._answer(tag, method)

    def _answer(self, tag: bytes, method: bytes) -> None:
        node, transport, rng = self._node, self.transport, self._node.rng
        mishap = rng.choices(_MISHAPS, _WEIGHTS)[0]
        node.mishaps[mishap] += 1
        answer = answer_to(tag, method, rng)
        head_size = answer.index(HEAD_END) + len(HEAD_END)
        later = asyncio.get_running_loop().call_later
        match mishap:
            case Mishap.RESET_BEFORE:
                transport.abort()
            case Mishap.RESET_IN_HEAD:
                transport.write(answer[: rng.randrange(1, head_size)])
                transport.abort()
            case Mishap.RESET_IN_BODY:
                transport.write(answer[: rng.randint(head_size, len(answer))])
                transport.abort()
            case Mishap.CLOSED_SILENTLY:
                transport.write(answer)
                transport.close()
            case Mishap.CLOSED_LATER:
                transport.write(answer)
                later(rng.uniform(0, SLOW_S_MAX), transport.close)
            case Mishap.SLOW:
                cut = rng.randrange(len(answer))
                transport.write(answer[:cut])
                self._is_busy = True
                later(rng.uniform(0, SLOW_S_MAX), self._say_rest, answer[cut:])
            case Mishap.NONE:
                transport.write(answer)

    def _say_rest(self, rest: bytes) -> None:
        self._is_busy = False
        if not self.transport.is_closing():
            self.transport.write(rest)
