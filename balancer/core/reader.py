"""The half of an HTTP/1.1 parser that both directions share: bytes in, heads and approved body bytes out.

llhttp (through httptools) judges the syntax; the classes of `balancer.core.framing` say where a body ends, which
httptools does not tell. Every message gets a parser of its own (0.3 µs), so no state can leak from one message
into the next, whatever the peer does. No I/O: the protocols of `balancer.proxy` feed it and act on what it finds,
and a test can feed it byte by byte.

Order of use: `feed`, then `head` until it returns one, then `advance` and `take` until `complete`; then `head`
again for the next message. `take` before the next `feed`.
"""

import sys
from dataclasses import dataclass

import httptools

from balancer.core.fields import finder
from balancer.core.framing import EMPTY, Chunked, Framing, Refused
from balancer.core.headers import ESSENTIAL, HOP_BY_HOP, OWNER, REPLAY

CARRIAGE_RETURN = 13

REMEMBERED_MAX = 1024
"""Heads, or parts of heads, whose reading is remembered, of each kind. Beyond it the oldest is forgotten."""

REMEMBERED_BYTES_MAX = 4096
"""Longer ones are read anew each time, so that memory is bounded; few are as long, and none as often the same."""

Parser = httptools.HttpRequestParser | httptools.HttpResponseParser

NO_CALLBACKS = object()
"""For a parser that is only asked whether it would accept a head. Each callback would cost a call."""


_find_forbidden_in_trailers = finder(
    ESSENTIAL | HOP_BY_HOP | {b"content-encoding", b"content-range", b"content-type", b"expect", b"trailer"},
    loose={b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", REPLAY, OWNER},
)
"""Fields that say how to frame, route, trust or read a message: too late in a trailer (RFC 9110, 6.5.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes beyond which a message is refused."""

    head_bytes_max: int
    header_count_max: int
    body_bytes_max: int
    line_bytes_max: int = sys.maxsize
    """Of the first line or a field, without its end."""


class MessageReader:
    """Received bytes, a cursor, and the message being read. Not used by itself.

    `complete` is true between messages: after the last byte of one and before the head of the next.
    """

    __slots__ = (
        "_buffer", "_end", "_framing", "_limits", "_parser", "_position", "_remembered_bytes_max", "_scanned", "_taken",
    )  # fmt: skip

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._remembered_bytes_max = min(limits.head_bytes_max, limits.line_bytes_max, REMEMBERED_BYTES_MAX)
        self._buffer = b""
        self._position = 0  # approved so far
        self._taken = 0  # handed out so far
        self._scanned = 0  # of an incomplete head: no end of it lies before this
        self._framing: Framing = EMPTY
        # For the chunks of the message being read; set by `_follow_chunks`.
        self._parser: Parser
        self._end: MessageEnd

    @property
    def complete(self) -> bool:
        return self._framing.complete

    @property
    def pending_bytes(self) -> int:
        """Bytes received and not yet approved."""
        return len(self._buffer) - self._position

    def feed(self, data: bytes) -> None:
        position = self._position
        if position == len(self._buffer):
            self._buffer = data
        else:
            self._buffer = self._buffer[position:] + data
            self._scanned = max(0, self._scanned - position)
        self._position = self._taken = 0

    def rest(self) -> bytes:
        """Everything that was not approved; the reader forgets it. For a connection that stops being HTTP."""
        rest = self._buffer[self._position :]
        self._buffer = b""
        self._position = self._taken = self._scanned = 0
        return rest

    def advance(self) -> None:
        """Approve what is here of the body. Raises `Refused`, with nothing of the bad part approved."""
        framing = self._framing
        if framing.complete:
            return
        start = self._position
        end = framing.advance(self._buffer, start)
        if framing.is_chunked and end > start:
            self._check_chunks(framing, start, end)
        self._position = end

    def unchunk(self) -> None:
        """From now on, `take` hands out what the present message's chunks contain."""
        self._framing.payload = []

    def take(self) -> bytes:
        """The approved bytes that were not yet taken."""
        payload = self._framing.payload
        if payload is None:
            taken = self._buffer[self._taken : self._position]
        else:
            taken = b"".join(payload)
            payload.clear()
        if self._position == len(self._buffer):
            # An idle connection must not keep the last thing it received.
            self._buffer = b""
            self._position = 0
        self._taken = self._position
        return taken

    def _find_head(self) -> bytes | None:
        """Cut the next head, with its empty line, off the buffer."""
        buffer, start = self._buffer, self._position
        end = buffer.find(b"\r\n\r\n", max(start, self._scanned - 3)) + 4
        if end < 4:
            self._check_partial(len(buffer))
            self._scanned = len(buffer) if start < len(buffer) else 0  # what is fed to nothing begins at 0
            return None
        if end - start > self._limits.head_bytes_max or end - start > self._limits.line_bytes_max:
            self._scanned = start
            self._check_partial(end)
        self._taken = start
        self._position = end
        self._scanned = 0
        return buffer[start:end]

    def _check_partial(self, end: int) -> None:
        """Refuse a head as soon as it is hopeless, by the same rule wherever the bytes were split."""
        buffer, start = self._buffer, self._position
        limit = start + self._limits.head_bytes_max
        scanned = max(start, self._scanned)
        line = max(start, buffer.rfind(b"\n", start, scanned) + 1)
        feed = buffer.find(b"\n", scanned, limit)
        while feed >= 0:
            self._check_line(line, feed)
            if feed == start or buffer[feed - 1] != CARRIAGE_RETURN:
                raise Refused(400, "line feed without carriage return")
            line = feed + 1
            feed = buffer.find(b"\n", line, limit)
        self._check_line(line, min(end, limit))
        if end > limit:
            if buffer.find(b"\r\n", start, limit) < 0:
                raise Refused(414, "request line too long")
            raise Refused(431, "head too large")

    def _check_line(self, line: int, end: int) -> None:
        """Refuse the line from `line` to `end` if it is too long; its last byte may be the carriage return."""
        excess = end - line - self._limits.line_bytes_max
        if excess > 1 or (excess == 1 and self._buffer[end - 1] != CARRIAGE_RETURN):
            if line == self._position:
                raise Refused(414, "request line too long")
            raise Refused(431, "header field too long")

    def _follow_chunks(self, parser_type: type[Parser], head: bytes) -> Framing:
        """A chunked body follows, which llhttp reads along; it needs the (approved) head for that."""
        self._end = MessageEnd()
        self._parser = parser_type(self._end)
        self._parser.feed_data(head)
        return Chunked(self._limits.body_bytes_max)

    def _check_chunks(self, framing: Framing, start: int, end: int) -> None:
        """Have llhttp judge the bytes that the framing found, and compare."""
        try:
            self._parser.feed_data(memoryview(self._buffer)[start:end])
        except httptools.HttpParserError as error:
            raise Refused(400, f"malformed chunked body: {error}") from error
        if self._end.seen != framing.complete:
            raise Refused(400, "malformed chunked body: its end is ambiguous")
        if framing.trailers:
            for name in _find_forbidden_in_trailers(framing.trailers):
                raise Refused(400, f"field {name.decode('ascii')} in a trailer")


class MessageEnd:
    """Where llhttp notes that it has seen the end of a message."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen = False

    def on_message_complete(self) -> None:
        self.seen = True
