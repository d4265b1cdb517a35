"""Where a message's body ends: the four framings of HTTP/1.1, as cursors over received bytes.

A framing says how many of the bytes at hand belong to the body; it copies nothing. Whether those bytes are
well formed is judged by llhttp (`balancer.core.reader`), and a chunked body is passed on only when both agree
on every byte, so that no disagreement with the next parser can be provoked through ours.
"""

from typing import Protocol

CHUNK_LINE_BYTES_MAX = 1024
"""Longest chunk-size line with its extensions, which nobody uses but attackers."""

TRAILER_BYTES_MAX = 8192
"""Longest trailer section. It is held back until it is complete."""

CRLF = b"\r\n"


class Refused(Exception):
    """A message that must not be passed on: answer `status`, then close. Nothing more of it was forwarded."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Framing(Protocol):
    """How a body is delimited.

    `complete`: its last byte has been seen. `payload`: None, or where the contents of chunks are collected,
    for a client that reads no chunks. `trailers`: the fields after the chunks, each with a CRLF before it.
    """

    complete: bool
    payload: list[bytes] | None

    @property
    def trailers(self) -> bytes: ...

    @property
    def ends_with_connection(self) -> bool: ...

    @property
    def is_chunked(self) -> bool: ...

    def advance(self, data: bytes, start: int) -> int:
        """The index in `data` after the last byte, from `start` on, that is known to be of this body.

        Bytes after it are either the next message's (`complete`) or to be handed in again with more.
        """


class Empty:
    """No body: most requests, and the answers to HEAD, 1xx, 204 and 304 whatever their headers say."""

    __slots__ = ()
    complete = True
    payload: list[bytes] | None = None
    trailers = b""
    ends_with_connection = False
    is_chunked = False

    def advance(self, data: bytes, start: int) -> int:
        return start


EMPTY = Empty()


class Sized:
    """A body of Content-Length bytes."""

    __slots__ = ("complete", "remaining")
    payload: list[bytes] | None = None
    trailers = b""
    ends_with_connection = False
    is_chunked = False

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.complete = length == 0

    def advance(self, data: bytes, start: int) -> int:
        end = min(len(data), start + self.remaining)
        self.remaining -= end - start
        self.complete = self.remaining == 0
        return end


class UntilClose:
    """An answer's body that ends when the connection does; whether it was cut short nobody can tell."""

    __slots__ = ()
    complete = False
    payload: list[bytes] | None = None
    trailers = b""
    ends_with_connection = True
    is_chunked = False

    def advance(self, data: bytes, start: int) -> int:
        return len(data)


class Chunked:
    """A chunked body with its trailers; `bytes_max` limits the sum of the chunks.

    Lines are held back until they are whole, so that half a chunk header never travels on alone.
    """

    __slots__ = ("_bytes_left", "_in_chunk", "_last", "complete", "payload", "trailers")
    ends_with_connection = False
    is_chunked = True

    def __init__(self, bytes_max: int) -> None:
        self.complete = False
        self.payload: list[bytes] | None = None
        self.trailers = b""
        self._bytes_left = bytes_max
        self._in_chunk = 0  # bytes to come of the current chunk, its CRLF included
        self._last = False  # the zero chunk was seen: trailers follow

    def advance(self, data: bytes, start: int) -> int:
        position = start
        while not self.complete:
            if self._in_chunk:
                end = min(len(data), position + self._in_chunk)
                if self.payload is not None:
                    # The chunk's own CRLF is no content: it is the last two of the bytes to come.
                    self.payload.append(data[position : min(end, position + max(self._in_chunk - 2, 0))])
                self._in_chunk -= end - position
                position = end
                if self._in_chunk:
                    return position
            elif self._last:
                return self._trailers(data, position)
            else:
                end = data.find(CRLF, position)
                if end < 0 or end - position > CHUNK_LINE_BYTES_MAX:
                    if len(data) - position > CHUNK_LINE_BYTES_MAX:
                        raise Refused(400, "chunk header too long")
                    return position
                self._open_chunk(data[position:end])
                position = end + 2
        return position

    def _open_chunk(self, line: bytes) -> None:
        digits = line.partition(b";")[0]
        # int() would also take "0x1f", "+1" and "1_000": llhttp refuses them, and so must this.
        if not digits.isalnum() or len(digits) > 16:
            raise Refused(400, "malformed chunk size")
        try:
            size = int(digits, 16)
        except ValueError:
            raise Refused(400, "malformed chunk size") from None
        if size > self._bytes_left:
            raise Refused(413, "body too large")
        self._bytes_left -= size
        if size:
            self._in_chunk = size + 2
        else:
            self._last = True

    def _trailers(self, data: bytes, position: int) -> int:
        if data.startswith(CRLF, position):
            self.complete = True
            return position + 2
        end = data.find(b"\r\n\r\n", position)
        if end < 0 or end - position > TRAILER_BYTES_MAX:
            if len(data) - position > TRAILER_BYTES_MAX:
                raise Refused(431, "trailers too large")
            return position
        self.complete = True
        self.trailers = CRLF + data[position:end]
        return end + 4
