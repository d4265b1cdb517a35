"""Servers of many tempers: how the next server might read the bytes that the balancer sends it.

Smuggling needs two servers that disagree. So the bytes of one connection are read by every combination of the
liberties that servers have been found to take, by h11 (strict) and by llhttp with all its leniencies. Where all of
them see the same requests, no server behind us can be made to see others. Nothing here shares code with the balancer.
"""

import itertools
import re
from collections.abc import Callable
from typing import NamedTuple

import h11

from tests.conformance import by_llhttp
from tests.conformance.messages import Message

Reader = Callable[[bytes], list[Message]]
"""The complete requests at the beginning of a stream. What is malformed or incomplete ends the reading."""


class Temper(NamedTuple):
    """One combination of liberties, none of which RFC 9112 allows."""

    lone_ends: bool = False
    """LF or CR alone ends a line, and folded lines are joined."""
    length_wins: bool = False
    """Content-Length counts, whatever Transfer-Encoding says; the last of several."""
    any_chunked: bool = False
    """Whatever contains "chunked" is chunked, and the name of a field ends before blanks and control characters."""
    loose_names: bool = False
    """Underscores are hyphens, as in CGI's variables."""
    loose_chunks: bool = False
    """A chunk's size is the digits that its line begins with; what follows a chunk is skipped to the line's end."""

    def __call__(self, stream: bytes) -> list[Message]:
        found: list[Message] = []
        position = 0
        while True:
            try:
                message, position = self._message(stream, position)
            except (ValueError, IndexError):  # malformed or not all there
                return found
            found.append(message)

    def _line(self, stream: bytes, position: int) -> tuple[bytes, int]:
        end = re.compile(rb"\r\n|\n|\r" if self.lone_ends else rb"\r\n").search(stream, position)
        if end is None:
            raise ValueError("no line")
        return stream[position : end.start()], end.end()

    def _message(self, stream: bytes, position: int) -> tuple[Message, int]:
        line = b""
        while not line:
            line, position = self._line(stream, position)
        method, target, _version = line.split(b" ", 2)
        fields, position = self._section(stream, position)
        codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
        lengths = [value for name, value in fields if name == b"content-length"]
        chunked = any(
            b"chunked" in coding if self.any_chunked else coding == b"chunked" for coding in codings
        )
        if chunked and not (self.length_wins and lengths):
            body, position = self._chunks(stream, position)
        elif lengths:
            length = int(lengths[-1])
            body = stream[position : position + length]
            position += length
            if len(body) < length:
                raise ValueError("more to come")
        else:
            body = b""
        return Message(method, target, tuple(fields), body), position

    def _section(self, stream: bytes, position: int) -> tuple[list[tuple[bytes, bytes]], int]:
        fields: list[tuple[bytes, bytes]] = []
        while True:
            line, position = self._line(stream, position)
            if not line:
                return fields, position
            if self.lone_ends and line[:1] in b" \t" and fields:
                name, value = fields.pop()
                fields.append((name, value + b" " + line.strip()))
                continue
            name, colon, value = line.partition(b":")
            if not colon:
                raise ValueError("no field")
            name = name.lower()
            if self.any_chunked:
                name = re.sub(rb"[\x00-\x20]+$", b"", name)
            if self.loose_names:
                name = name.replace(b"_", b"-")
            fields.append((name, value.strip(b" \t")))

    def _chunks(self, stream: bytes, position: int) -> tuple[bytes, int]:
        body = b""
        while True:
            line, position = self._line(stream, position)
            digits = re.match(rb"[0-9A-Fa-f]+" if self.loose_chunks else rb"[0-9A-Fa-f]+(?=;|$)", line)
            if digits is None:
                raise ValueError("no size")
            size = int(digits[0], 16)
            if size == 0:
                return body, self._section(stream, position)[1]
            if len(stream) < position + size + 2:
                raise ValueError("more to come")
            body += stream[position : position + size]
            position += size
            if self.loose_chunks:
                position = self._line(stream, position)[1]
            elif stream[position : position + 2] != b"\r\n":
                raise ValueError("no end of chunk")
            else:
                position += 2


plain = Temper()
"""Takes no liberty, and leaves most of what is malformed to others."""


def h11_reads(stream: bytes) -> list[Message]:
    """What a strict implementation sees."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(stream)
    found: list[Message] = []
    request, body = None, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                found.append(Message(request.method, request.target, tuple(request.headers), body))
                answer_and_go_on(connection)
            else:
                return found
    except h11.RemoteProtocolError:
        return found


def answer_and_go_on(connection: h11.Connection) -> None:
    """Have h11 look at the next request of a connection."""
    connection.send(h11.Response(status_code=204, headers=[]))
    connection.send(h11.EndOfMessage())
    if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
        connection.start_next_cycle()


def lenient_llhttp_reads(stream: bytes) -> list[Message]:
    """What llhttp sees with every leniency that it has, in a server that declines to leave HTTP."""
    reading = by_llhttp.requests(stream, lenient=True)
    return reading.messages + (lenient_llhttp_reads(reading.rest) if reading.rest else [])


TEMPERS: dict[str, Reader] = {
    **{
        "+".join(name for name, taken in zip(Temper._fields, liberties, strict=True) if taken) or "plain": Temper(*liberties)
        for liberties in itertools.product((False, True), repeat=len(Temper._fields))
    },
    "h11": h11_reads,
    "lenient llhttp": lenient_llhttp_reads,
}  # fmt: skip


def readings(stream: bytes) -> dict[str, list[tuple[bytes, bytes, bytes]]]:
    """How each of them reads a stream: method, target and body of its requests."""
    return {
        name: [(message.method, message.target, message.body) for message in read(stream)]
        for name, read in TEMPERS.items()
    }


def disagreements(stream: bytes) -> list[str]:
    """Who reads the stream otherwise than the plain server, and how."""
    seen = readings(stream)
    return [f"{name}: {reading}" for name, reading in seen.items() if reading != seen["plain"]]
