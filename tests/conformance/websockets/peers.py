"""The websockets library at both ends of a connection, without its own I/O, so that every byte can be compared."""

import asyncio
import codecs
import contextlib
import random
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import websockets.frames
import websockets.utils
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from tests.balancer.proxy.stage import DEADLINE_S, Connection, ScriptedNode, until

MESSAGE_BYTES_MAX = 8 * 1024 * 1024
SUBPROTOCOLS = ["chat.v2", "chat.v1"]
BYTEWISE_MAX = 4096
"""Larger writes go out at once even where bytes go out singly: their size is the point."""

_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


def make_keys_predictable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks and keys of the library come from the same numbers in every run."""
    rng = random.Random(1)
    predictable = SimpleNamespace(token_bytes=rng.randbytes)
    monkeypatch.setattr(websockets.frames, "secrets", predictable)
    monkeypatch.setattr(websockets.utils, "secrets", predictable)


@dataclass
class Recorded:
    """One end's view: the bytes that came after the handshake, its head, and whether the other end finished."""

    head: bytes = b""
    stream: bytearray = field(default_factory=bytearray)
    ended: bool = False

    def add(self, data: bytes) -> None:
        if not self.stream and b"\r\n\r\n" not in self.head:
            head, found, rest = (self.head + data).partition(b"\r\n\r\n")
            self.head = head + found
            self.stream += rest
        else:
            self.stream += data


async def _flush(
    protocol: ClientProtocol | ServerProtocol, writer: asyncio.StreamWriter, *, bytewise: bool
) -> None:
    """Send what the library has to say, the end of the stream (an empty piece) too."""
    for data in protocol.data_to_send():
        if not data:
            with contextlib.suppress(OSError, RuntimeError):  # the other end was faster
                writer.write_eof()
            continue
        step = 1 if bytewise and len(data) <= BYTEWISE_MAX else len(data)
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            if step == 1:
                await asyncio.sleep(0)


@dataclass
class EchoNode(ScriptedNode):
    """Echoes frame by frame. Of a text that begins with a colon it does what it says: ping, close CODE, drop."""

    deflate: bool = False
    bytewise: bool = False
    recorded: Recorded = field(default_factory=Recorded)

    def __post_init__(self) -> None:
        self.script = self._serve_websocket

    async def _serve_websocket(self, connection: Connection) -> None:
        protocol = ServerProtocol(
            subprotocols=SUBPROTOCOLS[1:],
            extensions=[ServerPerMessageDeflateFactory()] if self.deflate else None,
            max_size=MESSAGE_BYTES_MAX,
        )
        reader, writer = connection.reader, connection.writer
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_text = False
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                self.recorded.add(data)
                protocol.receive_data(data)
                for event in protocol.events_received():
                    self._react(protocol, event)
                await _flush(protocol, writer, bytewise=self.bytewise)
        self.recorded.ended = True
        protocol.receive_eof()
        await _flush(protocol, writer, bytewise=False)

    def _react(self, protocol: ServerProtocol, event: Frame | Request) -> None:
        if isinstance(event, Request):
            answer = protocol.accept(event)
            answer.headers["Date"] = "x"  # which would differ from run to run
            protocol.send_response(answer)
            return
        if protocol.state is not State.OPEN or event.opcode not in _DATA:
            return
        self._is_text = event.opcode is Opcode.TEXT or (self._is_text and event.opcode is Opcode.CONT)
        if self._is_text and not self._is_utf_8(event):
            protocol.fail(CloseCode.INVALID_DATA)  # which the library leaves to its I/O layer
        elif event.data.startswith(b":ping"):
            protocol.send_ping(event.data[5:])
        elif event.data.startswith(b":close"):
            protocol.send_close(int(event.data[6:]), "as you wish")
        elif event.opcode is Opcode.TEXT:
            protocol.send_text(event.data, fin=event.fin)
        elif event.opcode is Opcode.BINARY:
            protocol.send_binary(event.data, fin=event.fin)
        else:
            protocol.send_continuation(event.data, fin=event.fin)

    def _is_utf_8(self, frame: Frame) -> bool:
        try:
            self._decoder.decode(bytes(frame.data), final=frame.fin)
        except UnicodeDecodeError:
            return False
        return True


class Client:
    """One end of a connection that is open once `connect` has returned."""

    def __init__(self, *, deflate: bool, bytewise: bool) -> None:
        self.protocol = ClientProtocol(
            parse_uri("ws://site/chat"),
            subprotocols=SUBPROTOCOLS,
            extensions=[ClientPerMessageDeflateFactory()] if deflate else None,
            max_size=MESSAGE_BYTES_MAX,
        )
        self.frames: list[Frame] = []
        self.recorded = Recorded()
        self._bytewise = bytewise
        self._is_open = False
        self._sending = (
            asyncio.Lock()
        )  # what the reader has to say must not get between the bytes of a message

    async def connect(self, host: str, port: int) -> None:
        self._reader, self.writer = await asyncio.open_connection(host, port)
        self.protocol.send_request(self.protocol.connect())
        await self.flush()
        self._pump = asyncio.create_task(self._read())
        await until(lambda: self._is_open)

    async def flush(self) -> None:
        async with self._sending:
            await _flush(self.protocol, self.writer, bytewise=self._bytewise)

    async def raw(self, data: bytes) -> None:
        """Send what the library would not."""
        self.writer.write(data)
        await self.writer.drain()

    async def frames_reach(self, count: int) -> None:
        """Wait for so many frames in all."""
        await until(lambda: len(self.frames) >= count)

    async def over(self) -> None:
        """Wait for the end of what the server says, and close."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._pump
        finally:
            self.writer.close()
            with contextlib.suppress(ConnectionError):
                await self.writer.wait_closed()

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(65536):
                self.recorded.add(data)
                self.protocol.receive_data(data)
                for event in self.protocol.events_received():
                    if isinstance(event, Response):
                        assert event.status_code == 101, event
                        self._is_open = True
                    else:
                        self.frames.append(event)
                await self.flush()
        self.recorded.ended = True
        self.protocol.receive_eof()
        await self.flush()
