"""One request and its answer: which node it is sent to, what is kept for a repetition, how it may end.

The exchange stands between a `Downstream`, which reads the request, and an `Upstream`, which reads the answer. It owns
the attempts (one at a time) and the bytes of the request that could be needed again. It ends exactly once: the
answer was delivered, the balancer answered by itself, the connections became a tunnel, or the client is gone.

    UNSENT --connected--> SENT --head--> ANSWERING --last byte--> over
       |                    |                 |
       +--<--- retry --<----+                 +--> cut short: the client sees its connection aborted
"""

from time import monotonic
from typing import TYPE_CHECKING

import structlog

from balancer.core.framing import Refused
from balancer.core.headers import REPLAY_LINE
from balancer.core.pool import Node
from balancer.core.request import RequestHead
from balancer.core.response import ResponseHead
from balancer.core.retry import REFERRALS_MAX, Failure, Phase, Remedy, may_leave_unavailable, remedy
from balancer.proxy.notes import Note
from balancer.proxy.queue import NodeQueue
from balancer.proxy.upstream import Upstream

if TYPE_CHECKING:
    from balancer.proxy.downstream import Downstream
    from balancer.proxy.service import ProxyService

log = structlog.get_logger("balancer.proxy")

REQUEST_TIMEOUT, MISDIRECTED = 408, 421
BAD_GATEWAY, UNAVAILABLE, GATEWAY_TIMEOUT = 502, 503, 504


class Exchange:
    """`is_over`: it has ended; whoever still holds it forgets it. `request_is_complete`: all of it was received."""

    __slots__ = (
        "_attempts", "_began", "_client", "_destination", "_has_delivered", "_held", "_may_have_run", "_node", "_note",
        "_offers_replay", "_phase", "_queue", "_referrals", "_replayable", "_service", "_status", "_tried", "_upstream",
        "head", "is_over", "request_is_complete",
    )  # fmt: skip

    def __init__(self, service: "ProxyService", client: "Downstream", head: RequestHead) -> None:
        self.head = head
        self.is_over = False
        self.request_is_complete = False
        self._service = service
        self._client = client
        self._began = monotonic()
        self._phase = Phase.UNSENT
        self._node: Node | None = None
        self._upstream: Upstream | None = None
        self._attempts = 0
        self._may_have_run = False  # some of it may have left in an attempt that failed
        self._queue: NodeQueue | None = None  # where it waits
        self._tried: tuple[Node, ...] = ()
        self._referrals = 0
        self._offers_replay = False  # the present attempt: the node may refer to another
        self._destination: Node | None = None  # decided by `accept`
        self._held: bytes | bytearray = b""
        self._replayable = True  # `_held` is all of the body so far
        self._status = 0
        self._has_delivered = False  # the client has got a part of the node's answer
        notes = service.notes
        self._note: Note | None = None
        if (
            notes is not None and client.forwarding.names_requests
        ):  # not so on a connection from before a reload
            self._note = notes.open(client.forwarding, head)

    # The request, from the client.

    def start(self, body: bytes, *, complete: bool) -> None:
        service = self._service
        self._held = body
        self.request_is_complete = complete
        if self._note is not None:
            self._note.received = len(body)
        service.totals.requests += 1
        service.budget.deposit()
        node = service.router.first(self.head.cookie, self.head.target)
        if node is None:
            self._answer(UNAVAILABLE, service.pool.why_none_is_up())
        else:
            self._attempt(node)

    def add_body(self, data: bytes, *, complete: bool) -> None:
        self.request_is_complete = complete
        if not data:
            return
        if self._note is not None:
            self._note.received += len(data)
        if self._replayable:
            if (
                self._upstream is None
                or self._offers_replay  # a limit that was lowered since holds for others
                or len(self._held) + len(data) <= self._service.settings.replay_bytes_max
            ):
                if isinstance(self._held, bytes):
                    self._held = bytearray(self._held)
                self._held += data
            else:
                self._replayable, self._held = False, b""
        if self._upstream is not None:
            self._upstream.send(data)

    @property
    def takes_body(self) -> bool:
        """Whether more of the request's body is welcome now."""
        if self._upstream is None:
            return len(self._held) < self._service.settings.replay_bytes_max
        return not self._upstream.is_full

    def client_pausing(self, *, paused: bool) -> None:
        """The client reads more slowly than the node sends, or has caught up."""
        if self._upstream is not None:
            if paused:
                self._upstream.pause()
            else:
                self._upstream.resume()

    def abandon(self) -> None:
        """The client is gone: so is the request, wherever it is."""
        if self.is_over:
            return
        upstream = self._upstream
        self._end()
        if upstream is not None:
            upstream.drop()

    def refuse_body(self, refused: Refused) -> None:
        """The body turned out to be malformed: nobody gets the rest. The client is told, if it was not answered yet."""
        upstream, is_answered = self._upstream, self._phase is Phase.ANSWERING
        if is_answered:
            self._service.totals.refused += 1
            self._client.abort()
            self._end()
        else:
            self._answer(refused.status, refused.reason, close=True)
        if upstream is not None:
            upstream.drop()

    def expired(self) -> None:
        """Nothing happened for longer than the present step may take."""
        upstream, node, client = self._upstream, self._node, self._client
        if client.is_half_closed:
            client.abort()  # which abandons
        elif self._queue is not None:
            self._answer(UNAVAILABLE, "the node has too much to do")
        elif upstream is not None and upstream.takes_slowly():
            client.wait(self._service.settings.body_idle_timeout_s)
        elif self._phase is Phase.ANSWERING:
            if node is not None and not client.is_full and self.request_is_complete:
                self._service.pool.request_failed(node, "fell silent within an answer")
            client.abort()
        else:
            if upstream is not None:
                upstream.drop()
            if not self.request_is_complete and self.takes_body:
                self._answer(REQUEST_TIMEOUT, "the request did not arrive in time")
                return
            # First: that a node is taken out moves on whoever waits for a connection to it, and is not over.
            self._answer(GATEWAY_TIMEOUT, "the node did not answer in time")
            if node is not None and upstream is not None:
                self._service.pool.request_failed(node, "no answer in time")

    # The attempt.

    def _attempt(self, node: Node, *, anew: bool = False, has_place: bool = False) -> None:
        """Send the request to `node`, over a new connection if `anew`; wait for a place there unless it has one."""
        self._phase = Phase.UNSENT
        self._client.wait(self._service.settings.response_head_timeout_s)
        connections = self._service.connections[node.name]
        if node.active + node.queued >= connections.active_max and not has_place:
            self._wait_at(connections.queue)
            return
        self._attempts += 1
        self._node = node
        node.active += 1
        node.counters.requests += 1
        upstream = None if anew else connections.take()
        if upstream is None:
            connections.connect(self)
        else:
            self._send(upstream)

    def _another(self, *also_tried: Node) -> Node | None:
        """A node that could answer, and was not tried."""
        head = self.head
        return self._service.router.another((*self._tried, *also_tried), head.cookie, head.target)

    def _wait_at(self, queue: NodeQueue | None) -> None:
        if queue is None or not queue.join(self):
            self._answer(UNAVAILABLE, "too many requests wait for the node already")
        else:
            self._queue = queue

    def admitted(self, node: Node) -> None:
        """Its turn has come."""
        self._queue = None
        self._attempt(node, has_place=True)

    def turned_away(self, node: Node, reason: str) -> None:
        """The node takes no more requests."""
        self._queue = None
        log.debug("attempt.turned_away", node=node.name, reason=reason)
        following = self._another(node)
        if following is None and node in self._service.pool.last_resort:
            following = node  # it still serves those who have nowhere else to go: this one waits on
        if following is None:
            self._answer(UNAVAILABLE, self._service.pool.why_none_is_up())
        else:
            self._attempt(following)

    def waited_in_vain(self) -> None:
        self._queue = None
        self._answer(UNAVAILABLE, "the node has too much to do")

    def connected(self, upstream: Upstream) -> None:
        self._send(upstream)

    def connect_failed(self, reason: str) -> None:
        """Health has heard of it already."""
        self._failed(reason, on_reused=False)

    def _send(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._phase = Phase.SENT
        head, held = self.head, self._held
        self._offers_replay = self._may_be_referred
        replay = REPLAY_LINE if self._offers_replay else b""
        note = self._note.lines if self._note is not None else b""
        upstream.begin(self, head.method, b"".join((head.forwarded, note, replay, b"\r\n", held)))
        if self._client.is_full:
            upstream.pause()
        limit = self._service.settings.replay_bytes_max
        if len(held) > limit:
            self._replayable, self._held = False, b""
        if not self.request_is_complete:
            self.adjust_reading()  # more of it may have been unwelcome while nobody took it

    @property
    def _may_be_referred(self) -> bool:
        return self._referrals < REFERRALS_MAX and self._stays_replayable()

    def _stays_replayable(self) -> bool:
        """Whether the whole request will be here when the answer begins, however much of it is still to come."""
        limit = self._service.settings.replay_bytes_max
        length = self.head.length
        if length is None:
            return self._replayable and self.request_is_complete and len(self._held) <= limit
        return self._replayable and length <= limit

    def _failed(self, reason: str, *, on_reused: bool) -> None:
        """The attempt brought no answer: repeat it, or say so."""
        node, service = self._leave_node(), self._service
        failure = Failure(self._phase, self.head.method, self._replayable, on_reused, self._attempts)
        allowed = remedy(failure)
        log.debug("attempt.failed", node=node.name, reason=reason, remedy=allowed.name)
        following: Node | None = None
        if allowed is Remedy.SAME_NODE and node.is_up:
            following = node
        elif allowed is not Remedy.NONE:
            self._tried = (*self._tried, node)
            following = self._another()
        if self._phase is not Phase.UNSENT:
            self._may_have_run = True
        if following is None or not service.budget.withdraw():
            self._answer_failure()
            return
        service.totals.retries += 1
        node.counters.retries += 1
        self._attempt(following, anew=following is node, has_place=following is node)

    def _answer_failure(self) -> None:
        """No attempt brought an answer, and there is no other one."""
        pool = self._service.pool
        if self._may_have_run:
            self._answer(BAD_GATEWAY, "the node did not answer; whether the request took effect is not known")
        else:
            self._answer(UNAVAILABLE, "no connection to the node" if pool.usable else pool.why_none_is_up())

    # The answer, from the node.

    def accept(self, head: ResponseHead) -> bool:
        """Take the answer up, if it is the one to give. If not, `go_elsewhere` follows."""
        node = self._node
        if node is None:
            raise AssertionError("an answer without an attempt")
        node.counters.answers[head.status // 100] += 1
        if node.health.requests_failed:
            node.health.request_answered()
        service = self._service
        if head.status == MISDIRECTED and head.owner and self._offers_replay:
            # The application did not run.
            node.counters.referrals += 1
            self._referrals += 1
            if head.closes:
                service.on_suspicion(node)  # a node that drains says so to whoever asks for its health
            owner = service.router.owner(head.owner.decode("latin-1").strip())
            if owner is None or owner in self._tried:
                # It has failed us, which the node that refers to it does not know yet. Without our field the next
                # node serves the session, whoever has it; not this one if another can, for it may be draining.
                self._referrals = REFERRALS_MAX
                owner = self._another(node) or service.pool.nodes.get(node.name)
            self._destination = owner
            return False
        if head.status == UNAVAILABLE and head.asks_to_wait and head.closes:
            service.on_suspicion(node)
            self._tried = (*self._tried, node)
            may_leave = may_leave_unavailable(self.head.method, self._replayable, self._attempts)
            other = self._another() if may_leave else None
            if other is not None and service.budget.withdraw():
                service.totals.retries += 1
                node.counters.retries += 1
                self._destination = other
                return False
        waited_s = monotonic() - self._began
        node.counters.latency.observe(waited_s)
        if self._note is not None:
            self._note.first_byte_s = waited_s
        self._phase = Phase.ANSWERING
        self._held, self._replayable = b"", False
        return True

    def go_elsewhere(self) -> None:
        """Send the request where `accept` decided; there is nobody if the node was the last and was taken out."""
        self._leave_node()
        node, self._destination = self._destination, None
        if node is None:
            self._answer(UNAVAILABLE, self._service.pool.why_none_is_up())
        else:
            self._attempt(node)

    def head_for_client(self, head: ResponseHead) -> bytes | None:
        """The head as the client gets it; None: as it is."""
        self._status = head.status
        request, client = self.head, self._client
        name = self._note.answer_line if self._note is not None else b""
        unchunked = request.is_http_1_0 and b"transfer-encoding" in head.fields
        stays = not unchunked and not head.ends_with_connection and client.may_stay(self)
        if not stays:
            client.close_after_answer()
            if not unchunked and not name:
                return head.closing
        elif not request.is_http_1_0:
            return None if head.is_plain and not name else head.rewritten(name=name)
        return head.rewritten(b"keep-alive" if stays else b"close", unchunked=unchunked, name=name)

    def deliver_interim(self, head: ResponseHead) -> None:
        """A 100 or 103, unless the client is too old for it (RFC 9110, 15.2). It is no answer yet."""
        if not self.head.is_http_1_0:
            self._client.send(head.rewritten())

    def deliver(self, data: bytes) -> None:
        self._has_delivered = True
        if self._note is not None:
            self._note.sent += len(data)
        client = self._client
        client.send(data)
        if not client.is_full:  # else its own time runs
            client.wait(self._service.settings.response_idle_timeout_s)

    def deliver_last(self, data: bytes) -> None:
        if self._note is not None:
            self._note.sent += len(data)
        self._client.send(data)
        self._finish()

    def upgraded(self, head: ResponseHead) -> None:
        """The node agreed to another protocol."""
        upstream, node = self._upstream, self._node
        if upstream is None or node is None:
            raise AssertionError("an answer without an attempt")
        if not self.head.upgrade:
            upstream.drop()
            self.answered_nonsense("101 without having been asked")
            return
        node.counters.answers[1] += 1
        self._status = head.status
        self._end()
        self._service.open_tunnel(node, self._client, upstream, head.rewritten())

    def answered_nonsense(self, reason: str) -> None:
        """The answer cannot be passed on, and its connection is closed."""
        if self._node is not None:
            self._service.pool.request_failed(self._node, reason)
        if self._has_delivered:
            self._client.abort()
        else:
            self._answer(BAD_GATEWAY, "the node's answer was malformed")

    def upstream_lost(self, upstream: Upstream, reason: str) -> None:
        """The connection ended before the answer did."""
        node, service = self._node, self._service
        if node is not None:
            service.on_suspicion(node)
            if not upstream.has_served or self._phase is Phase.ANSWERING:
                service.pool.request_failed(node, reason)
        if self._phase is Phase.ANSWERING:
            self._client.abort()
        else:
            if not upstream.may_have_left:
                self._phase = Phase.UNSENT  # it was closing while the request waited for the end of the turn
            self._upstream = None
            self._failed(reason, on_reused=upstream.has_served)

    def adjust_reading(self) -> None:
        self._client.adjust_reading()

    # The end.

    def _answer(self, status: int, detail: str, *, close: bool = False) -> None:
        """The balancer has the last word."""
        self._status = status
        if status >= BAD_GATEWAY:
            self._service.totals.failures += 1
        else:
            self._service.totals.refused += 1
        note, close = self._note, close or not self.request_is_complete
        name = note.answer_line if note is not None else b""
        text, closes = self._client.own_answer(status, detail, close=close, name=name)
        if note is not None:
            note.sent = len(text)
        self._end()
        self._client.give(text, close=closes)

    def _finish(self) -> None:
        """The node had it."""
        if self._node is not None:
            self._node.counters.duration.observe(monotonic() - self._began)
        self._end()
        self._client.answered(request_is_complete=self.request_is_complete)

    def _end(self) -> None:
        self.is_over = True
        if self._note is not None:
            self._close_note(self._note)
        if self._node is not None:
            self._leave_node()
        elif self._queue is not None:
            self._queue.leave(self)
        self._held = b""

    def _close_note(self, note: Note) -> None:
        notes = self._service.notes
        if notes is not None:  # a reload may have ended them
            notes.close(
                note,
                self.head,
                status=self._status,
                node=self._node.name if self._node is not None else None,
                attempts=self._attempts,
                retries=max(0, self._attempts - 1 - self._referrals),
                duration_s=monotonic() - self._began,
            )

    def _leave_node(self) -> Node:
        node = self._node
        if node is None:
            raise AssertionError("no attempt to leave")
        node.active -= 1
        if node.queued:
            self._service.admit_soon(node)
        self._node = self._upstream = None
        return node
