"""All links of a node: listens, dials, shakes hands, and keeps at most one link to each life.

Invariants: a link is open only between nodes that have proven to know a secret and that both sides admitted;
to a life there is at most one, the same on both sides (`rivals`). What is dialed again, when, and what a lost
link means is the driver's business; the payloads are opaque here.
"""

import asyncio
import contextlib
import secrets as randomness
from collections.abc import Callable, Coroutine, Sequence

import structlog

from sessiond.contract.address import parse
from sessiond.contract.listening import listening
from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.core.types import Life
from sessiond.errors import ConfigurationError
from sessiond.net.connecting import ConnectFailed, Connector
from sessiond.net.connection import Connection
from sessiond.net.events import DialFailure, DialFailureKind, LinkEvents
from sessiond.net.greetings import NONCE_BYTES, SECRETS_MAX
from sessiond.net.handshake import UNPROVEN_REFUSALS, Handshake, Role
from sessiond.net.limits import LinkLimits
from sessiond.net.link import Link
from sessiond.net.rivals import Rivals

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Hub:
    """The links of one node.

    `identity` is asked anew for each connection, so that a node may go on under another life (`drop_all`,
    then dial again). `secrets`: the cluster's, the signing one first; none: derived from the cluster's name.
    Raises ConfigurationError for more than `SECRETS_MAX` of them.
    """

    def __init__(
        self,
        identity: Callable[[], Identity],
        secrets: Sequence[bytes],
        limits: LinkLimits,
        events: LinkEvents,
    ) -> None:
        if len(secrets) > SECRETS_MAX:
            raise ConfigurationError(
                f"{len(secrets)} secrets are more than the {SECRETS_MAX} that links can offer; "
                "remove old ones (--secret-file)"
            )
        self._identity = identity
        self._secrets = tuple(secrets)
        self._limits = limits
        self._events = events
        self._connector = Connector(limits.connect_timeout_s)
        self._rivals: Rivals[Link] = Rivals()
        self._server: asyncio.Server | None = None
        self._dials: dict[str, Connection] = {}
        self._unproven: dict[Connection, None] = {}  # accepted, the oldest first
        self._sockets: set[Connection | Link] = set()  # until their connections are lost
        self._no_sockets = asyncio.Event()
        self._no_sockets.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def start(self, address: str) -> tuple[str, int]:
        """Listen at HOST:PORT; returns the bound host and port. Raises ConfigurationError, naming --cluster.

        `identity` is first asked in a later turn of the loop: the caller can still put the port into it.
        """
        try:
            host, port = parse(address, may_listen=True)
        except ValueError as error:
            raise ConfigurationError(f"--cluster: {error}") from error
        with listening("--cluster", address, ConfigurationError):
            self._server = await asyncio.get_running_loop().create_server(self._accepted, host, port)
        bound = self._server.sockets[0].getsockname()
        return bound[0], bound[1]

    def dial(self, address: str) -> None:
        """Begin to make a link with whoever answers at HOST:PORT; nothing if such a dial is under way.

        It ends in `link_opened` with this `Link.dialed`, or in `dial_failed`. If the node that answers is
        linked already, or just dialing this one, that is a `dial_failed` with RefusalCode.REDUNDANT.
        """
        if self._is_closed or address in self._dials:
            return
        connection = self._connection(Role.INITIATOR, dialed=address)
        self._dials[address] = connection
        self._spawn(self._connect(address, connection))

    def link_to(self, life: Life) -> Link | None:
        """The open link to a life."""
        return self._rivals.get(life)

    def links(self) -> list[Link]:
        """The open links, one to each life."""
        return self._rivals.links()

    def drop_all(self, reason: str) -> None:
        """Close every link and forget every dial and handshake, because this node is not who it was.

        The links get their `link_closed`, as after `Link.close`; dials end without an event.
        """
        connections = [socket for socket in self._sockets if isinstance(socket, Connection)]
        for connection in {*self._dials.values(), *connections}:
            if not connection.is_over:
                connection.abort()
                self._forget(connection)
        for link in self._rivals.links():
            link.close(reason)

    async def close(self) -> None:
        """End everything: queued frames leave within `close_timeout_s`. No event comes once this was called."""
        reason = "this node stops"
        self._is_closed = True
        for link in self._rivals.links():
            link.finish(reason)
        self.drop_all(reason)
        self._connector.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._stop_listening(self._server)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.close_timeout_s):
                await self._no_sockets.wait()
        for socket in self._sockets:
            socket.abort()
        await self._no_sockets.wait()

    @staticmethod
    async def _stop_listening(server: asyncio.Server) -> None:
        """Close the server; what it has accepted until then is with us when this returns."""
        for opened in server.sockets:
            # Nothing new, for the one turn in which asyncio would lose what it has just accepted.
            asyncio.get_running_loop().remove_reader(opened)
        await asyncio.sleep(0)
        server.close()
        await asyncio.sleep(0)

    def check_invariants(self) -> None:
        """Raises AssertionError if the parts of the hub disagree; for tests."""
        self._rivals.check_invariants()
        for life, link in ((link.peer.life, link) for link in self._rivals.links()):
            assert self._rivals.get(life) is link, life
            assert link in self._sockets, link
        assert len(self._unproven) <= self._limits.pending_handshakes_max, len(self._unproven)
        assert not any(connection.is_over for connection in (*self._unproven, *self._dials.values()))
        assert self._no_sockets.is_set() is not bool(self._sockets)

    # What connections and links report.

    def connected(self, connection: Connection) -> None:
        self._hold(connection)
        if self._is_closed or connection.identity.life != self._identity().life:
            # The latter was made for a life that ended before the loop reported the connection, so that `drop_all`
            # did not find it: whoever came in through it would know this node under that life.
            connection.abort()
        elif connection.dialed is None:
            self._unproven[connection] = None
            if len(self._unproven) > self._limits.pending_handshakes_max:
                oldest = next(iter(self._unproven))
                oldest.fail(DialFailureKind.HANDSHAKE, "it gave way to newer ones: pending_handshakes_max")

    def disconnected(self, connection: Connection) -> None:
        self._let_go(connection)

    def proven(self, connection: Connection, peer: Identity) -> None:
        self._unproven.pop(connection, None)
        self._spawn(self._decide(connection, peer))

    def opened(self, connection: Connection, peer: Identity, transport: asyncio.Transport) -> Link:
        self._forget(connection)
        link = Link(
            transport,
            peer,
            connection.dialed,
            self._limits,
            deliver=self._events.frames_received,
            lost=self._link_lost,
        )
        transport.set_protocol(link)
        self._hold(link)
        replaced = self._rivals.open(peer.life, link)
        if replaced is not None:
            replaced.close("replaced by a new link")
        log.info("link.opened", peer=str(peer.life), remote=connection.remote, dialed=connection.dialed)
        self._events.link_opened(link)
        return link

    def failed(self, connection: Connection, failure: DialFailure) -> None:
        self._forget(connection)
        if self._is_closed:
            return
        refusal = failure.refusal
        if connection.dialed is not None:
            log.debug("dial.failed", address=connection.dialed, kind=str(failure.kind), detail=failure.detail)
            self._events.dial_failed(connection.dialed, failure)
        elif refusal is None:
            log.debug("handshake.failed", remote=connection.remote, detail=failure.detail)
        else:
            write = log.warning if refusal.code.is_final else log.debug
            write(
                "handshake.refused", remote=connection.remote, code=str(refusal.code), detail=refusal.detail
            )
            if not failure.refused_by_us and refusal.code not in UNPROVEN_REFUSALS:
                self._events.link_refused(refusal)

    def _link_lost(self, link: Link) -> None:
        self._let_go(link)
        if self._rivals.forget(link.peer.life, link) and not self._is_closed:
            log.info("link.closed", peer=str(link.peer.life), reason=link.close_reason)
            self._events.link_closed(link, link.close_reason or "")

    # Making links.

    def _connection(self, role: Role, dialed: str | None) -> Connection:
        nonce = randomness.token_bytes(NONCE_BYTES)
        handshake = Handshake(role, self._identity(), self._secrets, nonce)
        return Connection(
            handshake, self._limits.handshake_timeout_s, self, dialed=dialed, began=self._rivals.moment()
        )

    def _accepted(self) -> Connection:
        return self._connection(Role.ACCEPTOR, dialed=None)

    async def _connect(self, address: str, connection: Connection) -> None:
        try:
            await self._connector.connect(address, connection)
        except (ConnectFailed, asyncio.CancelledError) as error:
            # Cut off between the connection and the loop's report of it: uvloop will not say that it ended.
            self._let_go(connection)
            if not isinstance(error, ConnectFailed):
                raise
            connection.fail(error.kind, str(error))

    async def _decide(self, connection: Connection, peer: Identity) -> None:
        """Whether to have this link: decided and reserved in one step, after the driver had its time."""
        refusal = self._objection(connection, peer)
        if refusal is None:
            try:
                refusal = await self._events.admit(peer, connection.dialed is not None)
            except Exception:
                connection.fail(
                    DialFailureKind.LOCAL, "this node failed to decide whether to admit the other one"
                )
                raise
            refusal = refusal or self._objection(connection, peer)
        if connection.is_over:
            return
        if refusal is None and connection.dialed is not None:
            self._rivals.commit(peer.life, connection)
        connection.decide(refusal)

    def _objection(self, connection: Connection, peer: Identity) -> Refusal | None:
        """The hub's own reason to refuse a proven peer."""
        own = connection.identity
        if peer.boot_id == own.boot_id:
            return Refusal(RefusalCode.SELF, "the address is the node's own")
        if connection.dialed is not None:
            is_wanted = self._rivals.may_commit(peer.life)
        else:
            peer_is_lower = (peer.life, peer.boot_id) < (own.life, own.boot_id)
            is_wanted = self._rivals.may_accept(
                peer.life, began=connection.began, peer_is_lower=peer_is_lower
            )
        if is_wanted:
            return None
        return Refusal(RefusalCode.REDUNDANT, "the two nodes have a link already, or are just making one")

    def _forget(self, connection: Connection) -> None:
        """The connection's handshake is over."""
        self._unproven.pop(connection, None)
        if connection.dialed is not None and self._dials.get(connection.dialed) is connection:
            del self._dials[connection.dialed]
        if connection.peer is not None:
            self._rivals.withdraw(connection.peer.life, connection)

    def _hold(self, socket: Connection | Link) -> None:
        self._sockets.add(socket)
        self._no_sockets.clear()

    def _let_go(self, socket: Connection | Link) -> None:
        self._sockets.discard(socket)
        if not self._sockets:
            self._no_sockets.set()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
