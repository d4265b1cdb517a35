"""Clients that pipeline, check that each answer is theirs, and hang up when they please."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from tests.balancer.proxy.stage import DEADLINE_S, reset
from tests.conformance.tagged.wire import HEAD_END, Tagged, is_filled, length_of, tag_of

PIPELINED_MAX = 6
ABORTS_OF_100 = 4
"""So many of a hundred batches end with the client gone."""


class End(StrEnum):
    """What became of a request, as its client sees it."""

    ANSWERED = "answered with its own tag"
    BALANCER = "answered by the balancer (502)"
    CUT = "answer cut, or connection closed before it"
    ABORTED = "given up by the client"


class Client:
    """Sends its share of requests. `ends`: what became of them; `crossed`: answers that were not its own."""

    def __init__(
        self, name: str, where: tuple[str, int], rng: random.Random, take: Callable[[int], int]
    ) -> None:
        self._name = name
        self._where = where
        self._rng = rng
        self._take = take  # how many more requests there are, of so many wanted
        self._sent = 0
        self.ends: Counter[End] = Counter()
        self.aborts = 0
        self.connections = 0
        self.crossed: list[str] = []

    async def run(self) -> None:
        """Until there is nothing left to send."""
        while count := self._take(self._rng.randint(1, PIPELINED_MAX)):
            reader, writer = await asyncio.open_connection(*self._where)
            self.connections += 1
            try:
                while count and await self._batch(reader, writer, count):
                    count = self._take(self._rng.randint(1, PIPELINED_MAX))
            finally:
                reset(writer)

    async def _batch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: int) -> bool:
        """Send requests at once and read their answers; whether the connection is still good."""
        rng = self._rng
        batch = [self._request() for _ in range(count)]
        data = b"".join(request.message for request in batch)
        aborts = rng.randrange(100) < ABORTS_OF_100
        if aborts:
            self.aborts += 1
            data = data[: rng.randint(1, len(data))]
        writer.write(data)
        expected = rng.randint(0, count - 1) if aborts else count
        for index in range(expected):
            if aborts and not self._is_whole(batch, index, len(data)):
                break
            async with asyncio.timeout(DEADLINE_S):
                end = await self._answer(reader, batch[index])
            self.ends[end] += 1
            if end is End.CUT:
                self.ends[End.CUT] += count - index - 1
                return False
        else:
            index = expected
        if not aborts:
            return True
        self.ends[End.ABORTED] += count - index
        if rng.random() < 0.5:
            await asyncio.sleep(rng.uniform(0, 0.01))  # hang up at some moment of the exchange
        return False

    @staticmethod
    def _is_whole(batch: list[Tagged], index: int, sent: int) -> bool:
        return sum(len(request.message) for request in batch[: index + 1]) <= sent

    def _request(self) -> Tagged:
        self._sent += 1
        method = self._rng.choice((b"GET", b"GET", b"GET", b"HEAD", b"POST"))
        return Tagged(f"{self._name}.{self._sent}.".encode(), method)

    async def _answer(self, reader: asyncio.StreamReader, request: Tagged) -> End:
        """Read one answer, and see that nothing in it, whole or not, is about another request."""
        try:
            head = await reader.readuntil(HEAD_END)
        except (asyncio.IncompleteReadError, ConnectionError):
            return End.CUT
        tag = tag_of(head)
        if not tag and head.startswith(b"HTTP/1.1 502 "):
            if request.method != b"HEAD":
                await reader.readexactly(length_of(head) or 0)
            return End.CUT if b"\r\nConnection: close\r\n" in head else End.BALANCER
        body, is_whole = b"", True
        if request.method != b"HEAD":
            body, is_whole = await self._body(reader, head)
        if tag != request.tag or not is_filled(tag, body):
            self.crossed.append(f"{request.tag!r} was answered {head!r} {body[:100]!r}")
        return End.ANSWERED if is_whole else End.CUT

    @staticmethod
    async def _body(reader: asyncio.StreamReader, head: bytes) -> tuple[bytes, bool]:
        """The body, or what came of it, and whether it is whole."""
        body = b""
        try:
            length = length_of(head)
            if length is not None:
                return await reader.readexactly(length), True
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        except asyncio.IncompleteReadError as error:
            return body + (error.partial if length is not None else b""), False
        except ConnectionError:
            return body, False
        return body, True
