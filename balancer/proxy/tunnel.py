"""Two connections joined byte for byte, after a node agreed to an Upgrade: WebSockets and other protocols.

Back-pressure goes through (a full buffer on one side stops reading on the other), and so does half-close: each
direction ends on its own. The tunnel ends when either connection is lost, or when nothing was said for the idle
limit, which is short once one side has ended. Whoever does not take what was said to him last is cut off then.
"""

import asyncio
from collections.abc import Callable

from balancer.proxy.deadlines import Deadlines
from balancer.proxy.progress import Progress

HALF_CLOSED_IDLE_S = 30.0
"""A tunnel with one direction ended is closed after so much silence: its other end may never hear of it."""

FAREWELL_S = 10.0
"""A closed connection has so long for what is unsent, and again if enough of it was taken: an end that never reads, or a byte
now and then, would keep it open for good."""

FAREWELL_BYTES_MIN = 1000


class Tunnel:
    """`on_end` is called once, when it is over."""

    def __init__(
        self,
        deadlines: Deadlines,
        idle_timeout_s: float,
        client: asyncio.Transport,
        node: asyncio.Transport,
        on_end: Callable[["Tunnel"], None],
    ) -> None:
        self._deadlines = deadlines
        self._idle_timeout_s = idle_timeout_s
        self._on_end = on_end
        self._ends = (TunnelEnd(self, client), TunnelEnd(self, node))
        self._ends[0].join(self._ends[1])
        self._lost = 0
        self._farewells: list[Progress] = []
        self.touch()

    def open(
        self,
        from_client: bytes,
        from_node: bytes,
        *,
        client_is_full: bool,
        node_is_full: bool,
        client_has_ended: bool,
    ) -> None:
        """Take the connections over from the protocols that shook hands, with the bytes they had left."""
        client, node = self._ends
        for end in self._ends:
            end.transport.set_protocol(end)
        for end, is_full in ((client, client_is_full), (node, node_is_full)):
            if is_full:
                end.pause_writing()
            else:
                end.resume_writing()
        # Last: they may fill an end, which then says so itself.
        client.send(from_node)
        node.send(from_client)
        self._deadlines.watch(self)
        if client_has_ended:
            client.eof_received()  # not every loop would say so again

    def touch(self) -> None:
        self.deadline = self._deadlines.now + self._idle_timeout_s

    def shorten(self) -> None:
        """One side has said its last."""
        self._idle_timeout_s = min(self._idle_timeout_s, HALF_CLOSED_IDLE_S)
        self.touch()

    def expired(self) -> None:
        if not self._farewells:
            self.close()
        elif any(farewell.goes_on(FAREWELL_BYTES_MIN) for farewell in self._farewells):
            self.deadline = self._deadlines.now + FAREWELL_S
        else:
            self.abort()

    def close(self) -> None:
        for end in self._ends:
            if not end.transport.is_closing():
                end.transport.close()
        self._farewells = [Progress(end.transport) for end in self._ends if not end.is_lost]
        self.deadline = self._deadlines.now + FAREWELL_S

    def abort(self) -> None:
        for end in self._ends:
            end.transport.abort()

    def lost(self) -> None:
        """One of the connections is gone; the other one will be, when it has said all."""
        self._lost += 1
        if self._lost == 1:
            self.close()
            self._on_end(self)
        else:
            self._deadlines.forget(self)
            for end in self._ends:
                end.part()


class TunnelEnd(asyncio.Protocol):
    """One of the two connections; `send` writes to it."""

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.is_lost = False
        self._tunnel = tunnel
        self._has_ended = False
        self._opposite: TunnelEnd = self

    def join(self, opposite: "TunnelEnd") -> None:
        self._opposite = opposite
        opposite._opposite = self  # noqa: SLF001 - its own kind

    def part(self) -> None:
        """Both connections are gone. Let go of each other, so that all is freed now: the cyclic collector comes seldom."""
        del self._opposite, self._tunnel

    def send(self, data: bytes) -> None:
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._tunnel.touch()
        self._opposite.send(data)

    def pause_writing(self) -> None:
        if not self._opposite.transport.is_closing():
            self._opposite.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._opposite.transport.is_closing():
            self._opposite.transport.resume_reading()

    def eof_received(self) -> bool:
        """One side said all it had to say: pass that on, and keep listening to the other."""
        self._has_ended = True
        self._tunnel.shorten()
        opposite = self._opposite
        if opposite._has_ended:  # noqa: SLF001 - its own kind
            self._tunnel.close()
            return False
        if not (self.transport.can_write_eof() and opposite.transport.can_write_eof()):
            self._tunnel.close()  # TLS on either side: an end in one direction is the end
            return False
        if not opposite.transport.is_closing():
            opposite.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if exc is not None:
            self._opposite.transport.abort()
        self._tunnel.lost()
