"""A balancer in its simplest form: forwards every connection to one address, which can change."""

import asyncio
from contextlib import suppress


class Front:
    """`async with Front(port)` listens on `url`; `move(port)` cuts every connection and forwards to another port."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._pumps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Front":
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._cut()
        await self._server.wait_closed()

    def move(self, port: int) -> None:
        self._target = port
        self._cut()

    def _cut(self) -> None:
        for pump in self._pumps:
            pump.cancel()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._pumps.add(task)
        with suppress(asyncio.CancelledError, ExceptionGroup, OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(reader, far_writer))
                    both.create_task(_pump(far_reader, writer))
            finally:
                far_writer.transport.abort()
        writer.transport.abort()
        self._pumps.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise ConnectionError("one side is done, so the other is cut off")
