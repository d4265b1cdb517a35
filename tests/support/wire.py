"""HTTP by hand, for tests that care about which byte leaves when."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

DEADLINE_S = 10


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) < 2, f"{name} came more than once: {values}"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found.lower() == name.lower()]

    @property
    def text(self) -> str:
        return self.body.decode()


class Wire:
    """One connection to a server on loopback."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, target: str = "/", method: str = "GET", body: bytes = b"", **headers: str) -> None:
        """Send a request; `Cookie="a=b"` and `X_Header="…"` become header lines."""
        lines = {"Host": "test", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body:
            lines["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)

    async def head(self) -> Answer:
        """The head of the next answer."""
        async with asyncio.timeout(DEADLINE_S):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = raw.decode().split("\r\n")[:-2]
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return Answer(int(status.split()[1]), headers, b"")

    async def answer(self) -> Answer:
        """The next answer, body included."""
        answer = await self.head()
        length = answer.header("Content-Length")
        async with asyncio.timeout(DEADLINE_S):
            if length is not None:
                answer.body = await self.reader.readexactly(int(length))
            elif answer.header("Transfer-Encoding") == "chunked":
                while size := int(await self.reader.readline(), 16):
                    answer.body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readexactly(2)
        return answer

    async def get(self, target: str = "/", **headers: str) -> Answer:
        self.send(target, **headers)
        return await self.answer()

    async def is_closed(self) -> bool:
        """Whether the server ends the connection, without another byte."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read(1) == b""


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[int]:
    """Serve an application on a free port of loopback; gives the port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def fetch(
    port: int, target: str = "/", method: str = "GET", body: bytes = b"", **headers: str
) -> Answer:
    """One request on a connection of its own."""
    async with connect(port) as wire:
        wire.send(target, method, body, **headers)
        return await wire.answer()


def cookies_set(answer: Answer) -> Mapping[str, str]:
    """Values of the cookies that an answer sets."""
    return dict(line.split(";")[0].split("=", 1) for line in answer.all("Set-Cookie"))
