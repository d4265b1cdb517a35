"""An open link: frames to and from one life of another node.

Frames that are sent in one turn of the event loop leave in one write; payloads that one read completes
arrive in one call. Invariant: once a link is closed nothing of it is delivered or sent, and it is never
used again: what the peer has missed is sent anew on another link. The bytes waiting for a peer are limited.

What the payloads mean, when a link is made, and which of two is kept is not known here.
"""

import asyncio
from collections.abc import Callable

from sessiond.core.identity import Identity
from sessiond.net.framing import HEADER_BYTES, FrameTooLarge, Splitter, header
from sessiond.net.limits import LinkLimits

QUEUE_FULL = "queue full"
CLOSED_BY_PEER = "closed by the peer"


class Link(asyncio.Protocol):
    """One connection to one life. `dialed`: the address that we dialed to make it; None if the peer dialed us.

    `deliver` gets the payloads of each read; `lost` is called once, when the connection has ended, whoever
    ended it. The counters count frames, bytes of payload, and writes to the transport.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        peer: Identity,
        dialed: str | None,
        limits: LinkLimits,
        *,
        deliver: Callable[["Link", list[bytes]], None],
        lost: Callable[["Link"], None],
    ) -> None:
        self.peer = peer
        self.dialed = dialed
        self.frames_in = 0
        self.frames_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.writes = 0
        self.close_reason: str | None = None
        self._transport = transport
        self._deliver = deliver
        self._lost = lost
        self._splitter = Splitter(limits.frame_bytes_max)
        self._frame_bytes_max = limits.frame_bytes_max
        self._queue_bytes_max = limits.queue_bytes_max
        self._queue: list[bytes] = []
        self._queue_bytes = 0
        self._unwritten_bytes = (
            0  # in the transport's buffer, when last asked; it only shrinks until we write
        )
        self._call_soon = asyncio.get_running_loop().call_soon

    def __repr__(self) -> str:
        arrow = "to" if self.initiated_by_us else "from"
        state = "open" if self.is_open else f"closed: {self.close_reason}"
        return f"<Link {arrow} {self.peer.life} {state}>"

    @property
    def initiated_by_us(self) -> bool:
        return self.dialed is not None

    @property
    def is_open(self) -> bool:
        return self.close_reason is None

    def send(self, frame: bytes) -> None:
        """Queue a payload; it leaves at the end of this turn of the loop. Does nothing on a closed link.

        Raises FrameTooLarge; nothing was queued then. A peer that takes too little closes the link.
        """
        size = len(frame)
        if size > self._frame_bytes_max:
            raise FrameTooLarge(size, self._frame_bytes_max)
        if self.close_reason is not None:
            return
        queue = self._queue
        if not queue:
            self._call_soon(self._flush)
        queue += (header(size), frame)
        self._queue_bytes += HEADER_BYTES + size
        if self._unwritten_bytes + self._queue_bytes > self._queue_bytes_max:
            self._unwritten_bytes = self._transport.get_write_buffer_size()
            if self._unwritten_bytes + self._queue_bytes > self._queue_bytes_max:
                self.close(QUEUE_FULL)

    def close(self, reason: str) -> None:
        """End the link now; what is queued is dropped. `lost` is called in a later turn of the loop."""
        if self.close_reason is None:
            self.close_reason = reason
            self._queue.clear()
            self._transport.abort()

    def finish(self, reason: str) -> None:
        """End the link when all that is queued has left. Nothing more is delivered or taken."""
        if self.close_reason is None:
            self._flush()
            self.close_reason = reason
            self._transport.close()

    def abort(self) -> None:
        """Give up waiting for a `finish`."""
        self._transport.abort()

    def _flush(self) -> None:
        queue = self._queue
        if not queue:  # closed meanwhile, or finished
            return
        frames = len(queue) // 2
        self.frames_out += frames
        self.bytes_out += self._queue_bytes - HEADER_BYTES * frames
        self.writes += 1
        self._transport.write(b"".join(queue))
        queue.clear()
        self._queue_bytes = 0
        self._unwritten_bytes = self._transport.get_write_buffer_size()

    def data_received(self, data: bytes) -> None:
        if self.close_reason is not None:
            return
        try:
            frames = self._splitter.feed(data)
        except FrameTooLarge as error:
            self.close(str(error))
            return
        if frames:
            self.frames_in += len(frames)
            self.bytes_in += sum(map(len, frames))
            self._deliver(self, frames)

    def eof_received(self) -> None:
        # At once: the default would first try to write what the peer is no longer there to read.
        self.close(CLOSED_BY_PEER)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.close_reason is None:
            self.close_reason = CLOSED_BY_PEER if exc is None else f"connection lost: {exc}"
        self._queue.clear()
        self._lost(self)
