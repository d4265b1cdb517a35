"""What supervisor and worker say to each other: MessagePack maps, in order, over a socket pair.

    to the worker    settings   how to run, and all orders that hold: the first message, before it serves; again after
                                a reload
                     order      what the operator wants of a node now; answered by `ordered`
                     orders     what holds for some nodes from now on, an empty order if nothing does; not answered
                     check      another worker noticed something about these nodes
    from the worker  report     its nodes, totals and numbers; nodes whose state changed since the last one
                     ordered    the order, and that it was carried out, or why it was not

The end of the stream is a message too: the other process is gone.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgpack
import structlog

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""A report of a thousand nodes is about 1 MiB."""

UNSENT_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
"""Beyond this the other process does not read, and nothing more is queued for it."""

Message = dict[str, Any]

log = structlog.get_logger("balancer.workers")


class Channel(asyncio.Protocol):
    """`on_message(message)` for each that arrives, `on_end()` once, when there will be none any more; not after `close`."""

    def __init__(self, on_message: Callable[[Message], None], on_end: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._unpacker = msgpack.Unpacker(max_buffer_size=MESSAGE_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._is_closed = False

    def send(self, message: Message) -> bool:
        """Whether it was queued. If not, the other process is gone or reads nothing."""
        transport = self._transport
        if (
            transport is None
            or transport.is_closing()
            or transport.get_write_buffer_size() > UNSENT_BYTES_MAX
        ):
            return False
        transport.write(msgpack.packb(message))
        return True

    def close(self) -> None:
        """Send what was queued, and hear of nothing any more, the end included."""
        self._is_closed = True
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a socket's transport is one

    def data_received(self, data: bytes) -> None:
        try:
            self._unpacker.feed(data)
            messages = list(self._unpacker)
        except (ValueError, msgpack.exceptions.UnpackException):
            # Only a fault of ours makes such a message; the stream cannot be read any further.
            log.exception("channel.unreadable")
            if self._transport is not None:
                self._transport.close()
            return
        for message in messages:
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._is_closed:
            self._on_end()
