"""A TCP proxy that stands before a node's cluster port and misbehaves on command.

The node advertises the proxy's address, so every link that another node makes to it runs through here. Bytes are
never changed, lost or reordered, since TCP does not do that either: they come late, they do not come on, the
connection is reset, or ends in one direction.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

from tests.e2e.processes import Place

CHUNK_BYTES = 65_536
CONNECT_TIMEOUT_S = 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Way(Enum):
    """A direction of a connection."""

    IN = "to the node"
    OUT = "from the node"


@dataclass(eq=False, slots=True)
class _Connection:
    writers: dict[Way, asyncio.StreamWriter]
    """Where the bytes of each direction go."""
    pumps: dict[Way, asyncio.Task[None]] = field(default_factory=dict)


class ChaosProxy:
    """Listens at a port of `place` and connects to `port` there."""

    def __init__(self, place: Place, port: int) -> None:
        self.port = place.take()
        self._place = place
        self._target = (place.host, port)
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay_s = 0.0
        self._flowing = {way: asyncio.Event() for way in Way}

    @property
    def address(self) -> str:
        return f"{self._place.host}:{self.port}"

    @property
    def connections(self) -> int:
        """Open now."""
        return len(self._connections)

    async def start(self) -> None:
        self.behave()
        listener = self._place.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self._place.host, self.port))
        self._server = await asyncio.start_server(self._accepted, sock=listener)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.reset()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- commands -------------------------------------------------------------------------------------------

    def behave(self) -> None:
        """No delay and no stall any more. What was held back goes on."""
        self._delay_s = 0.0
        for flowing in self._flowing.values():
            flowing.set()

    def delay(self, seconds: float) -> None:
        """Every piece of every connection, in both directions, is passed on so much later, in its order."""
        self._delay_s = seconds

    def stall(self, way: Way) -> None:
        """Nothing passes in this direction until `behave`, and nobody is told."""
        self._flowing[way].clear()

    def half_close(self, way: Way) -> None:
        """This direction of every connection ends; the other one stays open."""
        for connection in self._connections:
            connection.pumps[way].cancel()
            _end(connection.writers[way])

    def reset(self) -> None:
        """Both ends of every connection get a reset."""
        for connection in tuple(self._connections):
            for writer in connection.writers.values():
                if not writer.transport.is_closing():
                    raw = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                    writer.transport.abort()

    # --- connections ----------------------------------------------------------------------------------------

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "the server runs this in a task"
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # `close`; asyncio would report it as an error
        except OSError:
            pass  # the node is not there, or an end was reset: whoever dialed sees its connection end
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = self._place.socket()
        own.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().sock_connect(own, self._target)
                node_reader, node_writer = await asyncio.open_connection(sock=own)
        except BaseException:
            own.close()
            raise
        connection = _Connection({Way.IN: node_writer, Way.OUT: writer})
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as tasks:
                connection.pumps[Way.IN] = tasks.create_task(self._pump(reader, node_writer, Way.IN))
                connection.pumps[Way.OUT] = tasks.create_task(self._pump(node_reader, writer, Way.OUT))
        finally:
            self._connections.discard(connection)
            node_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await asyncio.sleep(self._delay_s)
                await self._flowing[way].wait()
                if writer.transport.is_closing():
                    return
                writer.write(data)
                await writer.drain()
            await self._flowing[way].wait()
            _end(writer)


def _end(writer: asyncio.StreamWriter) -> None:
    if not writer.transport.is_closing():
        with suppress(OSError):
            writer.write_eof()
