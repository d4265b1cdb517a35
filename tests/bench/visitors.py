"""The load of benches that count instead of racing: visitors who write at a bounded rate, and check every answer.

A `Visitor` is one keep-alive connection to one node, on behalf of several sessions. The page it asks for (`apps.form`
and its twins elsewhere) answers with the number of writes of the session, so that a write that was lost, or applied
twice, is seen at once. Invariant: `writes` of a `Visit` is what the server has acknowledged to its visitor.
"""

import asyncio
import contextlib
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from tests.bench.errors import BenchError

TIMEOUT_S = 60.0


@dataclass(slots=True)
class Visit:
    """A session as its visitor knows it: the cookie, ``name=value``, and the writes that were acknowledged."""

    cookie: str = ""
    writes: int = 0


@dataclass(slots=True)
class Latencies:
    """Seconds from the moment a request was due to its answer."""

    seconds: list[float] = field(default_factory=list)

    def p(self, percent: int) -> float:
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True, slots=True)
class Pace:
    """Turn n is due n / `rate` seconds after `began`."""

    began: float
    rate: float


class Visitor:
    """A connection to the node at a port of loopback. `open` it first."""

    def __init__(self, port: int, path: str = "/") -> None:
        self.port = port
        self._path = path
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    async def ask(self, visit: Visit) -> int:
        """One request on behalf of a session; the count that the page shows. Adopts the cookie that it sets."""
        assert self._writer is not None, "open() comes first"
        cookie = f"Cookie: {visit.cookie}\r\n" if visit.cookie else ""
        self._writer.write(f"GET {self._path} HTTP/1.1\r\nHost: bench\r\n{cookie}\r\n".encode())
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status, fields, body = await self._answer()
        except TimeoutError:
            raise BenchError(f"port {self.port} did not answer within {TIMEOUT_S:.0f} s") from None
        if not status.startswith("HTTP/1.1 200"):
            raise BenchError(f"port {self.port} answered {status!r}: {body[:200].decode(errors='replace')}")
        for name, value in fields:
            if name == "set-cookie":
                visit.cookie = value.partition(";")[0]
        try:
            return int(body)
        except ValueError:
            raise BenchError(f"port {self.port} answered no count but {body[:200]!r}") from None

    async def _answer(self) -> tuple[str, list[tuple[str, str]], bytes]:
        """Status line, fields with their names in lower case, body."""
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        length = next((int(value) for name, value in fields if name == "content-length"), 0)
        return status, fields, await self._reader.readexactly(length)

    async def keep_writing(self, visits: Sequence[Visit]) -> None:
        """Write these sessions in turn until the node is gone."""
        with contextlib.suppress(OSError, EOFError):
            while True:
                for visit in visits:
                    await self.write(visit)

    async def write(self, visit: Visit) -> None:
        """`ask`, where nothing may have been lost: raises BenchError unless it counts one more than before."""
        found = await self.ask(visit)
        if found != visit.writes + 1:
            raise BenchError(
                f"port {self.port}: write {visit.writes + 1} of a session was counted as {found}"
            )
        visit.writes = found


@dataclass(slots=True)
class Crowd:
    """Visitors of several nodes, and their sessions by the node's port."""

    visitors: dict[int, list[Visitor]]
    visits: dict[int, list[Visit]]

    @classmethod
    async def at(cls, ports: Iterable[int], connections: int, sessions: int) -> Self:
        """At each port so many connections, which share so many sessions, none of them created yet."""
        ports = tuple(ports)
        visitors = {port: [await Visitor(port).open() for _ in range(connections)] for port in ports}
        return cls(visitors, {port: [Visit() for _ in range(sessions)] for port in ports})

    def close(self) -> None:
        for visitors in self.visitors.values():
            for visitor in visitors:
                visitor.close()

    async def write(self, each: int, rate: float) -> Latencies:
        """So many writes at each node, its sessions in turn, `rate` a second and node at most."""
        latencies = Latencies()
        began = time.monotonic()
        tasks = []
        for at, (port, visitors) in enumerate(self.visitors.items()):
            # Nodes are out of step, as users of different nodes are.
            pace = Pace(began + at / len(self.visitors) / rate, rate)
            for number, visitor in enumerate(visitors):
                turns = range(number, each, len(visitors))
                tasks.append(asyncio.create_task(_paced(visitor, self.visits[port], turns, pace, latencies)))
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return latencies


async def _paced(
    visitor: Visitor, visits: Sequence[Visit], turns: range, pace: Pace, latencies: Latencies
) -> None:
    """The writes whose numbers are `turns`, each when it is due or when the one before it was answered."""
    for turn in turns:
        due = pace.began + turn / pace.rate
        if (early := due - time.monotonic()) > 0:
            await asyncio.sleep(early)
        await visitor.write(visits[turn % len(visits)])
        latencies.seconds.append(time.monotonic() - due)
