"""One connection to a node: sends requests one at a time and reads the answers.

Invariant: it belongs to one exchange or is idle, and goes back to idle only when request and answer were both
complete and not one byte is left over; anything else closes it. So no answer can reach the wrong client.
"""

import asyncio
from typing import TYPE_CHECKING

from balancer.core.framing import Refused
from balancer.core.reader import Limits
from balancer.core.response import SWITCHING_PROTOCOLS, ResponseReader
from balancer.proxy.progress import Progress
from balancer.proxy.resets import reset

if TYPE_CHECKING:
    from balancer.core.response import ResponseHead
    from balancer.proxy.connections import NodeConnections
    from balancer.proxy.exchange import Exchange


class Upstream(asyncio.Protocol):
    """`has_served`: it has carried an answer before, so the node may be closing it for its idleness."""

    __slots__ = (
        "_connections", "_counters", "_exchange", "_flushes_before", "_head", "_is_paused", "_progress",
        "_reader", "has_served", "idle_until", "is_full", "transport",
    )  # fmt: skip

    def __init__(self, connections: "NodeConnections", limits: Limits) -> None:
        self._connections = connections
        self._counters = connections.node.counters
        self._exchange: Exchange | None = None
        self._reader = ResponseReader(limits)
        self._head: ResponseHead | None = None
        self._is_paused = False
        self._flushes_before = 0  # the present request
        self._progress: Progress | None = None  # of a node that is full
        self.has_served = False
        self.idle_until = 0.0
        self.is_full = False

    # What the exchange asks for.

    def begin(self, exchange: "Exchange", method: bytes, request: bytes) -> None:
        self._exchange = exchange
        self._head = None
        self._reader.expect(method)
        self._counters.bytes_sent += len(request)
        outbox = self._connections.outbox
        self._flushes_before = outbox.flushes
        outbox.write(self.transport, request)

    @property
    def may_have_left(self) -> bool:
        """Whether any of the present request may have left."""
        return not self._connections.outbox.surely_kept(self.transport, self._flushes_before)

    def takes_slowly(self) -> bool:
        """Whether the node is behind with reading the request, and has read on since this was last asked."""
        return self._progress is not None and self._progress.goes_on()

    def send(self, data: bytes) -> None:
        self._counters.bytes_sent += len(data)
        self._connections.outbox.write(self.transport, data)

    def drop(self) -> None:
        """The exchange wants nothing more from this connection, and nobody else may have it.

        What of the request has not reached the node must never do so: the network may be cut, and the kernel would
        deliver it when that is mended, long after the client has given up and gone on. So the connection is reset.
        """
        self._exchange = None
        if self.transport.is_closing():
            self.transport.abort()
        else:
            reset(self.transport)

    def give_up(self, reason: str) -> None:
        """Do not wait for an answer that has not begun."""
        exchange = self._exchange
        if exchange is not None and self._head is None:
            self.drop()
            exchange.upstream_lost(self, reason)

    def hand_over(self) -> bytes:
        """The connection leaves HTTP; the bytes that came after the 101. Its end is no news for us any more."""
        self._connections.forget(self)
        self._exchange = None
        return self._reader.rest()

    def pause(self) -> None:
        """Read no more for now. Of no effect between two requests: the last bytes of an answer may fill the client's
        buffer when this connection is free for others already, and nobody would ever resume it."""
        if self._exchange is not None:
            self._is_paused = True
            if not self.transport.is_closing():
                self.transport.pause_reading()

    def resume(self) -> None:
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # a socket's transport is one
        self._connections.opened(self)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            # Bytes that nobody asked for: whatever they are, no later answer from here can be trusted.
            self.transport.abort()
            return
        if self._head is None and self._flushes_before == self._connections.outbox.flushes:
            # Nor has the node been asked for these: the request waits for the end of the turn.
            self._exchange = None
            self.transport.abort()
            exchange.upstream_lost(self, "spoke before it was asked")
            return
        self._counters.bytes_received += len(data)
        try:
            head = self._reader.whole(data) if self._head is None else None
            if head is not None:
                self._receive_whole(exchange, head, data)
            else:
                self._receive(exchange, data)
        except Refused as refused:
            self._exchange = None
            self.transport.abort()
            exchange.answered_nonsense(refused.reason)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.lost(self)
        exchange = self._exchange
        if exchange is None:
            return
        self._exchange = None
        if exc is None and self._head is not None and self._head.ends_with_connection:
            exchange.deliver_last(b"")
        else:
            exchange.upstream_lost(
                self, "connection closed" if exc is None else str(exc) or type(exc).__name__
            )

    def pause_writing(self) -> None:
        self.is_full = True
        self._progress = Progress(self.transport)
        if self._exchange is not None:
            self._exchange.adjust_reading()

    def resume_writing(self) -> None:
        self.is_full = False
        self._progress = None
        if self._exchange is not None:
            self._exchange.adjust_reading()

    def _receive_whole(self, exchange: "Exchange", head: "ResponseHead", data: bytes) -> None:
        """`data` is the answer, from its first byte to its last."""
        if not exchange.accept(head):
            self._finish(exchange, head)
            exchange.go_elsewhere()
            return
        rewritten = exchange.head_for_client(head)
        self._finish(exchange, head)
        exchange.deliver_last(data if rewritten is None else rewritten + data[len(head.raw) :])

    def _receive(self, exchange: "Exchange", data: bytes) -> None:
        """`data` is a part of an answer, or more than one. Raises `Refused`."""
        reader, head, prefix = self._reader, self._head, b""
        reader.feed(data)
        if head is None:
            head = self._read_head(exchange)
            if head is None:
                return
            if not exchange.accept(head):
                self._discard_answer(exchange, head)
                return
            self._head = head
            rewritten = exchange.head_for_client(head)
            if rewritten is not None:
                prefix = rewritten
                reader.skip_head()
                if head.is_chunked and exchange.head.is_http_1_0:
                    reader.unchunk()
        reader.advance()
        data = reader.take()
        if prefix:
            data = prefix + data
        if reader.complete:
            self._finish(exchange, head)
            exchange.deliver_last(data)
        else:
            exchange.deliver(data)

    def _read_head(self, exchange: "Exchange") -> "ResponseHead | None":
        """The final answer's head, once it is there; interim ones pass through on the way."""
        while True:
            head = self._reader.head()
            if head is None:
                return None
            if head.status == SWITCHING_PROTOCOLS:
                exchange.upgraded(head)
                return None
            if not head.is_interim:
                return head
            self._reader.skip_head()
            exchange.deliver_interim(head)

    def _finish(self, exchange: "Exchange", head: "ResponseHead") -> None:
        """The answer is complete: the connection is free for others, if nothing speaks against it."""
        self._exchange = None
        self.has_served = True
        if self._is_paused:
            self.resume()
        if not exchange.request_is_complete or self.transport.get_write_buffer_size():
            # The node may never take the rest: a close would wait for that as well as the next request.
            self.drop()
        elif head.keeps_alive and not self._reader.pending_bytes:
            self._connections.release(self)
        else:
            self.transport.close()

    def _discard_answer(self, exchange: "Exchange", head: "ResponseHead") -> None:
        """The request goes elsewhere. The rest of this answer is not waited for: it is short, or not worth it."""
        self._reader.advance()
        self._reader.take()
        if self._reader.complete:
            self._finish(exchange, head)
        else:
            self.drop()
        exchange.go_elsewhere()
