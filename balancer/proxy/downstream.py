"""One client connection: reads requests, one exchange at a time, and writes the answers.

Pipelined requests wait, unread beyond a limit, until the answer before theirs is complete; so answers are always in
order and belong to their requests. After a message that was refused, nothing that follows it is looked at.

    HEAD --request--> EXCHANGE --answer--> HEAD … --> LINGERING --> closed
"""

import asyncio
from typing import TYPE_CHECKING

from balancer.core.framing import Refused
from balancer.core.request import RequestHead, RequestReader
from balancer.proxy.answers import answer
from balancer.proxy.exchange import Exchange
from balancer.proxy.progress import Progress
from balancer.proxy.resets import reset

if TYPE_CHECKING:
    from balancer.proxy.service import ProxyService

PIPELINED_BYTES_MAX = 65_536
"""Bytes received beyond the current request before the client is no longer read. One read may overshoot it."""

LINGER_S = 2.0
"""After an answer that ends the connection early, what the client still sends is read and thrown away for so long:
closing with unread bytes would reset the connection, and the client might never see the answer."""

NOT_FOUND, REQUEST_TIMEOUT = 404, 408


class Downstream(asyncio.Protocol):
    """`deadline` is when `expired` is due, in the time of the service's clock.

    `client`: its address, where the peer is a proxy that told us.
    `is_full`: the client reads too slowly. `is_half_closed`: it has nothing more to say, and may be gone.
    """

    __slots__ = (
        "_body_due", "_client", "_exchange", "_head_began", "_is_ending", "_is_last", "_is_reading", "_is_serving", "_progress",
        "_reader", "_service", "deadline", "forwarding", "is_full", "is_half_closed", "transport",
    )  # fmt: skip

    def __init__(self, service: "ProxyService", client: str | None = None) -> None:
        self._service = service
        self._client = client
        self._exchange: Exchange | None = None
        self._body_due = 0.0  # when the body so far would be too slow
        self._head_began = False
        self._is_last = False  # the connection closes after the current answer
        self._is_ending = False  # the last answer was given: what still comes is thrown away
        self._is_reading = True
        self._is_serving = False
        self._progress: Progress | None = None  # of a client that is full
        self.is_full = False
        self.is_half_closed = False
        self.deadline = 0.0

    @property
    def is_idle(self) -> bool:
        return self._exchange is None and not self._reader.pending_bytes

    @property
    def _has_waiting(self) -> bool:
        """Whether requests, or the beginning of one, wait until the client has read what it was answered."""
        return self.is_full and not self._is_ending and self._reader.pending_bytes > 0

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # a socket's transport is one
        service = self._service
        peer, ours = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.forwarding = service.forwarding(
            self._client or (peer[0] if peer else "unknown"),
            f"[{ours[0]}]:{ours[1]}" if ":" in ours[0] else f"{ours[0]}:{ours[1]}",
        )
        self._reader = RequestReader(service.request_limits, self.forwarding)
        # A client that connects and says nothing gets no longer than one that is slow to say it.
        self.wait(service.settings.request_head_timeout_s)
        service.joined(self)

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            return
        if self._exchange is None and not self.is_full:
            request = self._reader.whole(data)
            if request is not None:
                self._exchange = exchange = Exchange(self._service, self, request[0])
                exchange.start(request[1], complete=True)
                return
        self._reader.feed(data)
        if self._exchange is None:
            self._serve()
        elif self._exchange.request_is_complete:
            self.adjust_reading()
        else:
            self._pass_body(self._exchange)

    def eof_received(self) -> bool:
        """The client closed its side: for good, or only because it has sent all it wanted to."""
        exchange = self._exchange
        # Without an exchange there may be requests still that wait until the client has read the answers before theirs.
        is_served = exchange.request_is_complete if exchange is not None else self._has_waiting
        if not is_served or not self.transport.can_write_eof():
            return False  # the transport closes, `connection_lost` follows; so it does with TLS, always
        self.is_half_closed = True
        self.wait(self._service.settings.half_close_timeout_s)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.left(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()

    def pause_writing(self) -> None:
        self.is_full = True
        self._progress = Progress(self.transport)
        self.wait(self._service.settings.body_idle_timeout_s)
        if self._exchange is not None:
            self._exchange.client_pausing(paused=True)

    def resume_writing(self) -> None:
        self.is_full = False
        self._progress = None
        if self._exchange is not None:
            self.wait(self._service.settings.response_idle_timeout_s)
            self._exchange.client_pausing(paused=False)
        else:
            self._serve()

    def expired(self) -> None:
        if self._progress is not None and self._reads_on(self._progress):
            self.wait(self._service.settings.body_idle_timeout_s)
        elif self._exchange is not None:
            self._exchange.expired()
        elif self._reader.pending_bytes and not self._is_ending and not self.is_full:
            self._refuse(REQUEST_TIMEOUT, "the request did not arrive in time")
        else:
            self.abort()

    def _reads_on(self, progress: Progress) -> bool:
        """Whether a client that is full is slow and steady. A byte now and then would hold its connection for ever."""
        settings = self._service.settings
        waited_s = settings.body_idle_timeout_s
        if self.is_half_closed:
            waited_s = min(waited_s, settings.half_close_timeout_s)
        return progress.goes_on(max(1.0, settings.body_rate_min * waited_s))

    # What the exchange asks for.

    def wait(self, seconds: float) -> None:
        """Give the present step so long from now."""
        if self.is_half_closed:
            seconds = min(seconds, self._service.settings.half_close_timeout_s)
        self.deadline = self._service.deadlines.now + seconds

    def may_stay(self, exchange: Exchange) -> bool:
        """Whether the connection can go on after this exchange's answer."""
        return exchange.head.keeps_alive and exchange.request_is_complete and not self._service.is_stopping

    def close_after_answer(self) -> None:
        self._is_last = True

    def send(self, data: bytes) -> None:
        if data:
            self._service.outbox.write(self.transport, data)

    def close(self) -> None:
        """Close when all that was sent is out. What comes until then is not looked at."""
        self._is_ending = True
        self._service.outbox.close(self.transport)

    def answered(self, *, request_is_complete: bool) -> None:
        """The answer was delivered in full."""
        self._exchange = None
        if not request_is_complete:
            self._linger()
        elif self._is_last:
            self.close()
        else:
            self._await_request()

    def own_answer(
        self, status: int, detail: str, *, close: bool, without_body: bool = False, name: bytes = b""
    ) -> tuple[bytes, bool]:
        """An answer instead of a node's, and whether the connection closes after it. `name`: a line with the request's id."""
        exchange = self._exchange
        close = close or self._service.is_stopping
        if exchange is not None:
            close = close or exchange.head.is_http_1_0 or not self.may_stay(exchange)
            without_body = exchange.head.method == b"HEAD"
        return answer(status, detail, close=close, without_body=without_body, name=name), close

    def give(self, text: bytes, *, close: bool) -> None:
        """Send an answer of our own."""
        self._exchange = None
        self.send(text)
        if close:
            self._linger()
        else:
            self._await_request()

    def abort(self) -> None:
        """End the connection now. Where that cuts an answer, the client must be able to tell, even if the answer ends with the
        connection: only a reset says so."""
        self._service.outbox.flush()
        if self._exchange is not None or self.transport.get_write_buffer_size():
            reset(self.transport)
        else:
            self.transport.abort()

    def adjust_reading(self) -> None:
        """Read from the client only what there is room for."""
        exchange = self._exchange
        if exchange is None:
            wanted = not self._has_waiting or self._reader.pending_bytes < PIPELINED_BYTES_MAX
        elif exchange.request_is_complete:
            wanted = self._reader.pending_bytes < PIPELINED_BYTES_MAX
        else:
            wanted = exchange.takes_body
        if wanted != self._is_reading and not self.transport.is_closing():
            self._is_reading = wanted
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()
            if exchange is not None and not exchange.request_is_complete:
                # It was not the client that was slow, or will be: its time begins anew.
                self.wait(self._service.settings.body_idle_timeout_s)
                self._body_due = max(self._body_due, self.deadline)

    def hand_over(self) -> bytes:
        """The connection leaves HTTP; the bytes that came after the request."""
        self._service.left(self)
        self._exchange = None
        return self._reader.rest()

    # The requests.

    def _await_request(self) -> None:
        """Between two requests."""
        self._head_began = False
        self.wait(self._service.settings.client_keepalive_timeout_s)
        if self._reader.pending_bytes:
            self._serve()
        elif self.is_half_closed or self._service.is_stopping:
            self.close()
        elif not self._is_reading:
            self.adjust_reading()

    def _serve(self) -> None:
        """Begin with the requests that are here, until one has to be waited for."""
        if self._is_serving:
            return  # an answer of our own brought us back here: the loop below goes on
        self._is_serving = True
        try:
            while self._exchange is None and not self._is_ending and not self.is_full:
                head = self._reader.head()
                if head is None:
                    self._await_rest()
                    break
                if head.internal:
                    self._refuse(NOT_FOUND, "no such page", without_body=head.method == b"HEAD")
                    break
                self._begin(head)
        except Refused as refused:
            self._refuse(refused.status, refused.reason)
        finally:
            self._is_serving = False
        self.adjust_reading()

    def _refuse(self, status: int, reason: str, *, without_body: bool = False) -> None:
        """What came is no request that a node could get."""
        self._service.totals.refused += 1
        if self._service.notes is not None:
            self._service.notes.refused(self.forwarding, status, reason)
        text, _ = self.own_answer(status, reason, close=True, without_body=without_body)
        self.give(text, close=True)

    def _await_rest(self) -> None:
        """Half a head is here, or nothing."""
        if self.is_half_closed:
            self.close()
        elif self._reader.pending_bytes and not self._head_began:
            self._head_began = True
            self.wait(self._service.settings.request_head_timeout_s)

    def _begin(self, head: RequestHead) -> None:
        self._head_began = False
        self._reader.advance()
        complete = self._reader.complete
        self._exchange = exchange = Exchange(self._service, self, head)
        exchange.start(self._reader.take(), complete=complete)
        if not complete and self._exchange is exchange:
            self._body_due = self._service.deadlines.now + self._service.settings.body_idle_timeout_s
            self._await_body(0)

    def _pass_body(self, exchange: Exchange) -> None:
        try:
            self._reader.advance()
        except Refused as refused:
            exchange.refuse_body(refused)
            return
        complete, data = self._reader.complete, self._reader.take()
        if complete:
            self.wait(self._service.settings.response_head_timeout_s)
        else:
            self._await_body(len(data))
        exchange.add_body(data, complete=complete)
        self.adjust_reading()

    def _await_body(self, received: int) -> None:
        """More of the body is due soon, and sooner if it was slow so far."""
        settings = self._service.settings
        self.wait(settings.body_idle_timeout_s)
        if settings.body_rate_min:
            # Never later than the idle limit allows: a fast beginning must not pay for hours of trickle.
            self._body_due = min(self._body_due + received / settings.body_rate_min, self.deadline)
            self.deadline = self._body_due

    def _linger(self) -> None:
        """Close, but not before the client could read the answer."""
        if self.transport.is_closing():
            return
        if self.is_half_closed or not self.transport.can_write_eof():
            self.close()
            return
        self._is_ending = True
        self._service.outbox.flush()
        self.transport.write_eof()
        self.adjust_reading()
        self.wait(LINGER_S)
