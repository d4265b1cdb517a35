"""Frames on a byte stream: four bytes of length, big-endian, then the payload.

Invariant: a length is checked against the limit as soon as it is read, so a stream makes this side hold at
most one frame of that limit and one read. What a payload means is not known here.
"""

import struct

from sessiond.errors import LinkError

HEADER_BYTES = 4
_HEADER = struct.Struct(">I")

header = _HEADER.pack
"""The bytes before a payload of this length."""


class FrameTooLarge(LinkError):
    """A frame is over the limit. Received: the stream is of no use any more. To be sent: nothing was sent."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a frame of {size} bytes is over the limit of {limit}")


def take_frame(stream: bytearray, frame_bytes_max: int) -> bytes | None:
    """Remove the first frame from `stream` and return its payload; None if it is not complete yet.

    For streams whose meaning may change after any frame, as in a handshake. Raises FrameTooLarge.
    """
    if len(stream) < HEADER_BYTES:
        return None
    (size,) = _HEADER.unpack_from(stream)
    if size > frame_bytes_max:
        raise FrameTooLarge(size, frame_bytes_max)
    end = HEADER_BYTES + size
    if len(stream) < end:
        return None
    payload = bytes(stream[HEADER_BYTES:end])
    del stream[:end]
    return payload


class Splitter:
    """Cuts what arrives into payloads, all complete ones of a read at once.

    A payload is copied once, out of the read that brought it; one that spans reads is collected first, so
    the work stays linear in its length however small the reads are.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._rest = bytearray()
        self._rest_needs = 0  # bytes that `_rest` must have before looking at it again is worth it

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream; return the payloads that they complete. Raises FrameTooLarge."""
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._rest_needs:
                return []
            data = bytes(rest)
            rest.clear()
        frames: list[bytes] = []
        append, unpack, limit = frames.append, _HEADER.unpack_from, self._frame_bytes_max
        start, needed, length = 0, HEADER_BYTES, len(data)
        while length - start >= HEADER_BYTES:
            (size,) = unpack(data, start)
            if size > limit:
                raise FrameTooLarge(size, limit)
            needed = HEADER_BYTES + size
            end = start + needed
            if end > length:
                break
            append(data[start + HEADER_BYTES : end])
            start = end
            needed = HEADER_BYTES
        if start < length:
            rest += data[start:]
            self._rest_needs = needed
        return frames
