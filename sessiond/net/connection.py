"""A connection between its first byte and its end or its becoming a link: runs the handshake over TCP.

Input is bounded before anything is proven: a message over the handshake's small limit ends the connection as
soon as its length is read, and one timer bounds the whole. When we refuse, the farewell still leaves.

Whether a proven peer is wanted, and what an open link is for, is decided by the owner (the hub).
"""

import asyncio
from typing import Protocol, cast

from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.net.events import DialFailure, DialFailureKind
from sessiond.net.framing import FrameTooLarge, header, take_frame
from sessiond.net.greetings import MESSAGE_BYTES_MAX
from sessiond.net.handshake import Handshake, HandshakeRefused, Stage
from sessiond.net.link import Link

_NOT_THE_PROTOCOL = "that is not the cluster protocol: a cluster address (--cluster, --join) belongs here"


class ConnectionOwner(Protocol):
    """What a connection reports to. Of `opened` and `failed` at most one is called, once."""

    def connected(self, connection: "Connection") -> None:
        """It holds a socket from now on."""

    def disconnected(self, connection: "Connection") -> None:
        """It holds no socket any more."""

    def proven(self, connection: "Connection", peer: Identity) -> None:
        """The other side has proven itself; answer by `decide`, now or later."""

    def opened(self, connection: "Connection", peer: Identity, transport: asyncio.Transport) -> Link:
        """The handshake is done; the returned link takes the transport over."""

    def failed(self, connection: "Connection", failure: DialFailure) -> None:
        """There will be no link."""


class Connection(asyncio.Protocol):
    """One attempt to make a link. `dialed`: the address if we dialed; None if the other side did.

    `began`: the acceptor's moment of `Rivals`, kept for the owner.
    """

    def __init__(
        self,
        handshake: Handshake,
        timeout_s: float,
        owner: ConnectionOwner,
        *,
        dialed: str | None,
        began: int = 0,
    ) -> None:
        self.dialed = dialed
        self.began = began
        self.is_over = False
        self._handshake = handshake
        self._timeout_s = timeout_s
        self._owner = owner
        self._input = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def identity(self) -> Identity:
        """Who we said we are, on this connection."""
        return self._handshake.identity

    @property
    def peer(self) -> Identity | None:
        """Who the other side is, once it has proven itself."""
        return self._handshake.peer

    @property
    def remote(self) -> str:
        """The other side's socket, for logs."""
        address = self._transport.get_extra_info("peername") if self._transport else None
        return f"{address[0]}:{address[1]}" if address else "unknown"

    def decide(self, refusal: Refusal | None) -> None:
        """The answer to `proven`: None takes the peer."""
        if self.is_over:
            return
        self._say(self._handshake.decide(refusal))
        if refusal is not None:
            self._refused(refusal, by_us=True)
        elif self._handshake.stage is Stage.OPEN:
            self._open()

    def fail(self, kind: DialFailureKind, detail: str) -> None:
        """Give up at once, and report it."""
        if not self.is_over:
            self.abort()
            self._owner.failed(self, DialFailure(kind, detail))

    def abort(self) -> None:
        """Give up at once, without a report."""
        self.is_over = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # TCP is a stream; uvloop's transports do not derive from asyncio's class of that name.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        self._owner.connected(self)
        if self.is_over:
            transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._timed_out)
        if self.dialed is not None:
            self._say(self._handshake.begin())

    def data_received(self, data: bytes) -> None:
        if self.is_over:
            return
        self._input += data
        try:
            while not self.is_over and (message := take_frame(self._input, MESSAGE_BYTES_MAX)) is not None:
                self._say(self._handshake.receive(message))
                if self._handshake.stage is Stage.OPEN:
                    self._open()
                elif self._handshake.stage is Stage.DECISION and self.peer is not None:
                    self._owner.proven(self, self.peer)
        except FrameTooLarge:
            refused = self._handshake.refuse(RefusalCode.PROTOCOL, _NOT_THE_PROTOCOL)
            self._say(refused.farewell)
            self._refused(refused.refusal, by_us=True)
        except HandshakeRefused as refused:
            self._say(refused.farewell)
            self._refused(refused.refusal, by_us=refused.by_us)

    def eof_received(self) -> None:
        self.fail(DialFailureKind.HANDSHAKE, "the other side hung up during the handshake")

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(DialFailureKind.HANDSHAKE, f"the connection was lost during the handshake: {exc}")
        if self._timer is not None:
            self._timer.cancel()
        self._owner.disconnected(self)

    def _timed_out(self) -> None:
        self.fail(DialFailureKind.HANDSHAKE, f"the handshake took longer than {self._timeout_s:g} s")
        self.abort()  # also a connection that was refused, whose farewell nobody takes

    def _say(self, message: bytes) -> None:
        if message and self._transport is not None:
            self._transport.write(header(len(message)) + message)

    def _refused(self, refusal: Refusal, *, by_us: bool) -> None:
        """One side has said no. The connection ends when that has left."""
        self.is_over = True
        if self._transport is not None:
            self._transport.close()
        if by_us and self.dialed is not None and refusal.code is RefusalCode.PROTOCOL:
            # A node of another version tells so itself; what answers like this is something else, for now.
            failure = DialFailure(DialFailureKind.HANDSHAKE, refusal.detail)
        else:
            failure = DialFailure(DialFailureKind.REFUSAL, refusal.detail, refusal, by_us)
        self._owner.failed(self, failure)

    def _open(self) -> None:
        transport, peer = self._transport, self.peer
        assert transport is not None, "the welcome came or went by it"
        assert peer is not None, "a welcome follows an introduction"
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._owner.disconnected(self)
        link = self._owner.opened(self, peer, transport)
        if self._input:  # frames that came in one read with the welcome
            link.data_received(bytes(self._input))
