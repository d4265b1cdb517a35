"""Active health checks: asks every node how it is, each interval, over a connection of its own.

A check that got no answer is followed by the next one at once: it has taken its time already, and users wait. What is
suspicious about a node has it checked soon, and never more often than `CHECK_SPACING_S` says.

A node to which nobody can connect is down after one check, as it is after one request. Two things are not taken for that
and have to last for `fall` checks. One is a fault of our own machine or resolver. The other is a connect that hangs: a SYN
that was lost, or found the backlog of a busy node full, is sent again after a second, and no check waits as long. (A
request goes elsewhere at once, and the node is down for it, because a user waits.)

A new connection each time, because that is what has to work for a user's request, and because the name must be
resolved anew. A node of ours says its state, its sessions and its load; any other server is up if its status is an expected one.
"""

import asyncio
import json
import math
import secrets
import ssl
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

import structlog

from balancer.core.framing import Refused
from balancer.core.health import UNCHECKED, Fitness
from balancer.core.pool import Node, Pool
from balancer.core.reader import Limits
from balancer.core.response import ResponseHead, ResponseReader
from balancer.proxy.faults import is_our_own
from balancer.proxy.patience import Patience
from balancer.settings import Settings, expected_statuses
from sessiond.contract.cluster_view import HealthView, MemberState
from sessiond.contract.names import CHECKER_HEADER

log = structlog.get_logger("balancer.checks")

ANSWER_BYTES_MAX = 65_536
"""A health answer is read up to this; more is no health answer."""

UNAVAILABLE = 503

CHECK_SPACING_S = 0.1
"""Least time from one check of a node to the next, from beginning to beginning, however often something is suspicious:
an application can make every answer so. Shorter than any health interval that makes sense, so that it is still soon."""


class Unreachable(Exception):
    """Nobody can connect to the node; the text says why. Nothing was sent."""


class _Watch(NamedTuple):
    """The checks of one node. `wanted_now` ends the wait for the next one."""

    task: asyncio.Task[None]
    wanted_now: asyncio.Event


class HealthChecker:
    """One task a node, for as long as it is in the pool. `check_soon` cuts the waiting short. `on_silence(node)`: it is down and gives no answer."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        on_silence: Callable[[Node], None] = lambda _node: None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._name = secrets.token_hex(8)
        """A node that drains waits until each of us has heard of it, and tells us apart by this."""
        self._pool = pool
        self._on_silence = on_silence
        self._watches: dict[Node, _Watch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.configure(settings, tls)

    def configure(self, settings: Settings, tls: ssl.SSLContext | None) -> None:
        """Check like this from the next time on."""
        self._tls = tls
        self._interval_s = settings.health_interval_s
        self._timeout_s = settings.health_timeout_s
        self._path = settings.health_path
        self._expected = expected_statuses(settings)
        self._limits = Limits(
            head_bytes_max=settings.response_head_bytes_max,
            header_count_max=settings.header_count_max,
            body_bytes_max=ANSWER_BYTES_MAX,
        )

    async def start(self) -> None:
        """Returns when every node has been asked once, so that the first request finds out who is there."""
        await asyncio.gather(*(self._check(node) for node in self._pool.nodes.values()))
        self._pool.follow(self._nodes_changed)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check_soon(self, node: Node) -> None:
        """Something happened to the node: do not wait for the interval."""
        watch = self._watches.get(node)
        if watch is not None:
            watch.wanted_now.set()

    def _nodes_changed(self, gone: Sequence[Node], come: Sequence[Node]) -> None:
        for node in gone:
            self._watches.pop(node).task.cancel()
        for node in come:
            wanted_now = asyncio.Event()
            task = asyncio.create_task(self._watch(node, wanted_now), name=f"checks of {node.name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._watches[node] = _Watch(task, wanted_now)
            if node.reason == UNCHECKED:
                wanted_now.set()

    async def _watch(self, node: Node, wanted_now: asyncio.Event) -> None:
        loop, began = asyncio.get_running_loop(), -math.inf
        while True:
            try:
                async with asyncio.timeout(self._interval_s):
                    await wanted_now.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(began + min(CHECK_SPACING_S, self._interval_s) - loop.time())
            wanted_now.clear()
            began = loop.time()
            await self._check(node)

    async def _check(self, node: Node) -> None:
        number = node.health.check_started()
        began = monotonic()
        try:
            async with Patience(self._timeout_s):
                status, body = await self._ask(node)
        except TimeoutError:
            self._pool.check_failed(node, number, f"health not answered within {self._timeout_s} s")
            if node.health.fitness is Fitness.DOWN:
                self._on_silence(node)
            else:
                self.check_soon(node)
        except Unreachable as error:
            self._pool.unreachable(node, str(error))
        except OSError as error:
            self._pool.check_failed(node, number, error.strerror or str(error))
        except Refused as refused:
            self._pool.check_failed(node, number, f"health answer malformed: {refused.reason}")
        except Exception as error:
            # No error that we know of. It must not end the checks of this node for good.
            log.exception("check.failed", node=node.name)
            self._pool.check_failed(node, number, f"{type(error).__name__}: {error}")
        else:
            node.counters.checks.observe(monotonic() - began)
            self._judge(node, number, status, body)

    def _judge(self, node: Node, number: int, status: int, body: bytes) -> None:
        view = _view(body)
        if view is not None and view.node != node.name:
            why = f"it answers as {view.node}, so its sessions would not be found: correct the node's name"
            self._pool.check_failed(node, number, why, deliberate=True)
            return
        if view is not None and view.role == "state":
            why = "it is a state node, which holds copies for others and serves no users"
            self._pool.check_failed(node, number, why, deliberate=True)
            return
        sessions = view.primaries if view is not None else None
        load = view.load if view is not None else None
        if status in self._expected:
            draining = view is not None and view.state is MemberState.DRAINING
            self._pool.check_passed(node, number, sessions=sessions, draining=draining, load=load)
        elif view is not None and view.state is MemberState.DRAINING:
            self._pool.check_passed(node, number, sessions=sessions, draining=True, load=load)
        elif status == UNAVAILABLE and view is not None:
            said = view.reason or f"is {view.state}"
            self._pool.check_failed(node, number, f"the node says that it {said}", deliberate=True, said=said)
        elif status == UNAVAILABLE:
            self._pool.check_failed(node, number, "health answered 503", deliberate=True)
        else:
            self._pool.check_failed(node, number, f"health answered {status}")

    async def _ask(self, node: Node) -> tuple[int, bytes]:
        """Status and body. Raises Unreachable, OSError, Refused."""
        reader, writer = await self._connect(node)
        try:
            writer.write(
                f"GET {self._path} HTTP/1.1\r\nHost: {node.address}\r\nUser-Agent: balancer\r\n"
                f"{CHECKER_HEADER}: {self._name}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            return await self._read(reader)
        finally:
            writer.transport.abort()

    async def _connect(self, node: Node) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises Unreachable, and OSError if that says nothing about the node."""
        try:
            return await asyncio.open_connection(*node.address, ssl=self._tls)
        except ConnectionRefusedError:
            raise Unreachable("connection refused") from None
        except OSError as error:
            if is_our_own(error):
                raise
            raise Unreachable(error.strerror or str(error)) from error

    async def _read(self, stream: asyncio.StreamReader) -> tuple[int, bytes]:
        answer = ResponseReader(self._limits)
        answer.expect(b"GET")
        head, body = None, b""
        while data := await stream.read(ANSWER_BYTES_MAX):
            answer.feed(data)
            if head is None:
                head = _final_head(answer)
                if head is None:
                    continue
            answer.advance()
            body += answer.take()
            if len(body) > ANSWER_BYTES_MAX:
                raise Refused(502, "too long")
            if answer.complete:
                break
        if head is None:
            raise ConnectionResetError("connection closed without an answer")
        return head.status, body


def _final_head(answer: ResponseReader) -> ResponseHead | None:
    """The head that the body belongs to, once it is there; interim ones on the way say nothing about health."""
    while (head := answer.head()) is not None:
        answer.skip_head()
        if not head.is_interim:
            if head.is_chunked:
                answer.unchunk()
            return head
    return None


def _view(body: bytes) -> HealthView | None:
    """What a node of ours says of itself; None for other servers."""
    try:
        return HealthView.from_json(json.loads(body))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None
