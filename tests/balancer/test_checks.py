"""Active checks against scripted servers: what their answers make of a node, and how soon a node comes back."""

import asyncio
import errno
import json
import socket
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from balancer.core.health import Patience
from balancer.core.pool import Node, NodeState, Pool
from balancer.proxy.checks import CHECK_SPACING_S, HealthChecker
from balancer.settings import Settings
from sessiond.contract.address import Address
from tests.balancer.proxy.stage import Connection, ScriptedNode, until

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"


def answer(status: int, body: bytes = b"", *fields: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), b"".join(fields), body)


def view(state: str, name: str = "node1", primaries: int = 7, **more: str) -> bytes:
    fields = {"node": name, "state": state, "primaries": primaries, "backups": 3, "load": 0.1, "new": True}
    return json.dumps({**fields, **more}).encode()


def chunked(body: bytes) -> bytes:
    return b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


async def checked(
    script: Callable[[Connection], Awaitable[None]], **settings: Any
) -> tuple[Node, ScriptedNode]:
    """The node after its first check."""
    server = ScriptedNode("node1", script)
    await server.start()
    node = Node("node1", server.address, Patience(rise=1, fall=1, request_fall=5))
    checker = HealthChecker(Settings(**settings), Pool([node]))
    try:
        await checker.start()
    finally:
        await checker.stop()
        await server.stop()
    return node, server


@pytest.mark.parametrize(
    ("reply", "state", "reason", "sessions"),
    [
        (answer(200, view("alive")), NodeState.UP, "", 7),
        (chunked(view("alive", primaries=0)), NodeState.UP, "", 0),
        (answer(200, b"fine"), NodeState.UP, "", None),
        (answer(200, b'{"node": 3}'), NodeState.UP, "", None),
        (answer(302), NodeState.UP, "", None),
        (b"HTTP/1.0 200 OK\r\n\r\nfine", NodeState.UP, "", None),
        (HINTS + HINTS + answer(200, view("alive")), NodeState.UP, "", 7),
        (HINTS + chunked(view("alive")), NodeState.UP, "", 7),
        (HINTS + answer(503, view("joining")), NodeState.DOWN, "joining", None),
        (HINTS, NodeState.DOWN, "without an answer", None),
        (answer(503, view("draining")), NodeState.DRAINING, "draining", 7),
        (answer(200, view("draining")), NodeState.DRAINING, "draining", 7),
        (answer(503, view("joining")), NodeState.DOWN, "joining", None),
        (
            answer(503, view("suspect", reason="gets no answer from a majority")),
            NodeState.DOWN,
            "the node says that it gets no answer from a majority",
            None,
        ),
        (answer(503, view("alive"), b"Retry-After: 1\r\n"), NodeState.DOWN, "alive", None),
        (answer(503, view("alive", role="state")), NodeState.DOWN, "serves no users", None),
        (answer(503, view("draining", role="state")), NodeState.DOWN, "serves no users", None),
        (answer(503), NodeState.DOWN, "503", None),
        (answer(404), NodeState.DOWN, "404", None),
        (answer(500), NodeState.DOWN, "500", None),
        (answer(200, view("alive", name="node2")), NodeState.DOWN, "answers as node2", None),
        (b"SSH-2.0\r\n\r\n", NodeState.DOWN, "malformed", None),
        (b"", NodeState.DOWN, "without an answer", None),
        (answer(200, b"x" * 70_000), NodeState.DOWN, "malformed", None),
        (chunked(b"x" * 70_000), NodeState.DOWN, "malformed", None),
    ],
)
async def test_an_answer_decides_the_nodes_state(
    reply: bytes, state: NodeState, reason: str, sessions: int | None
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(reply)

    node, server = await checked(script)
    assert node.state is state
    assert reason in node.reason
    assert bool(reason) == bool(node.reason)
    assert node.sessions == sessions
    assert server.requests[0].line == b"GET /_sessiond/health HTTP/1.1"


async def test_a_node_can_tell_who_asks_it() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(answer(200))

    names = [(await checked(script))[1].requests[0].fields[b"x-sessiond-checker"] for _ in range(2)]
    assert all(names)
    assert names[0] != names[1], "each worker of a balancer has to learn by its own checks that a node drains"


async def test_the_path_is_a_setting() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(answer(200))

    _, server = await checked(script, health_path="/ping?deep=1")
    assert server.requests[0].line == b"GET /ping?deep=1 HTTP/1.1"


@pytest.mark.parametrize(
    ("status", "state"), [(204, NodeState.UP), (401, NodeState.UP), (200, NodeState.DOWN)]
)
async def test_the_expected_statuses_are_a_setting(status: int, state: NodeState) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(answer(status))

    node, _ = await checked(script, health_status=("204-205", "401"))
    assert node.state is state


async def test_the_reported_load_is_known() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        load = {"in_flight": 50, "loop_lag_ms": 10.0, "cpu": 0.4}
        await connection.say(answer(200, json.dumps({**json.loads(view("alive")), "load": load}).encode()))

    node, _ = await checked(script)
    assert node.load is not None
    assert node.load.figure == 1.0


async def test_a_node_that_does_not_answer_in_time_is_down() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.closed()

    node, _ = await checked(script, health_timeout_s=0.1)
    assert node.state is NodeState.DOWN
    assert "within 0.1 s" in node.reason


async def test_a_silent_node_is_asked_again_without_a_pause_and_reported_once_it_is_down() -> None:
    is_hanging = False

    async def script(connection: Connection) -> None:
        await connection.request()
        if is_hanging:
            await connection.closed()
        else:
            await connection.say(answer(200, view("alive")))

    server = ScriptedNode("node1", script)
    await server.start()
    node = Node("node1", server.address, Patience(rise=1, fall=3, request_fall=5))
    silent: list[str] = []
    settings = Settings(health_interval_s=3600, health_timeout_s=0.1)
    checker = HealthChecker(settings, Pool([node]), lambda node: silent.append(f"{node.name} {node.state}"))
    await checker.start()
    try:
        is_hanging = True
        checker.check_soon(node)
        await until(lambda: node.state is NodeState.DOWN)  # within the interval, or this never ends
        await until(lambda: silent)
        assert silent == ["node1 down"]
        assert len(server.requests) == 1 + 3
    finally:
        await checker.stop()
        await server.stop()


async def test_suspicions_however_many_leave_a_pause_between_two_checks() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(answer(200, view("alive")))

    server = ScriptedNode("node1", script)
    await server.start()
    node = Node("node1", server.address, Patience(rise=1, fall=3, request_fall=5))
    checker = HealthChecker(Settings(health_interval_s=3600), Pool([node]))
    ask, began = checker._ask, []

    async def asked(node: Node) -> tuple[int, bytes]:
        began.append(asyncio.get_running_loop().time())
        return await ask(node)

    checker._ask = asked  # type: ignore[method-assign]  # to know when
    await checker.start()

    def is_over() -> bool:
        checker.check_soon(node)
        return len(began) == 4

    try:
        await until(is_over)
        assert all(later - earlier > 0.9 * CHECK_SPACING_S for earlier, later in pairwise(began[1:]))
    finally:
        await checker.stop()
        await server.stop()


async def fate(address: Address, monkeypatch: pytest.MonkeyPatch, error: OSError | None) -> Node:
    """A node that was up, after one more check of it. `error`: of the connect, instead of what there is."""
    node = Node("node1", address, Patience(rise=1, fall=3, request_fall=5))
    pool = Pool([node])
    pool.check_passed(node, node.health.check_started(), sessions=None, draining=False)

    async def fail(*_address: object, **_options: object) -> None:
        raise error or AssertionError

    if error is not None:
        monkeypatch.setattr(asyncio, "open_connection", fail)
    checker = HealthChecker(Settings(health_interval_s=3600), pool)
    try:
        await checker.start()
    finally:
        await checker.stop()
    return node


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), "connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host"),
        (OSError("Multiple exceptions: refused, refused"), "Multiple exceptions: refused, refused"),
    ],
)
async def test_a_node_to_which_nobody_can_connect_is_down_at_once(
    error: OSError, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await fate(Address("node1.example", 80), monkeypatch, error)
    assert (node.state, node.reason) == (NodeState.DOWN, reason)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    ],
)
async def test_what_is_wrong_with_our_own_machine_takes_no_node_down_at_once(
    error: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await fate(Address("node1.example", 80), monkeypatch, error)
    assert node.state is NodeState.UP


async def test_a_connection_that_breaks_off_within_a_check_takes_no_node_down_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        connection.reset()

    server = ScriptedNode("node1", script)
    await server.start()
    try:
        node = await fate(server.address, monkeypatch, None)
        assert node.state is NodeState.UP
    finally:
        await server.stop()


async def test_a_killed_node_goes_and_comes_back_by_itself_and_at_once_on_suspicion() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(answer(200, view("alive")))

    server = ScriptedNode("node1", script)
    await server.start()
    node = Node("node1", server.address, Patience(rise=1, fall=3, request_fall=5))
    pool = Pool([node])
    quick = HealthChecker(Settings(health_interval_s=0.02), pool)
    await quick.start()
    try:
        assert node.state is NodeState.UP
        await server.stop()
        await until(lambda: node.state is NodeState.DOWN)
        assert node.sessions is None
        await server.start()
        await until(lambda: node.state is NodeState.UP)
        assert node.sessions == 7
    finally:
        await quick.stop()
    slow = HealthChecker(Settings(health_interval_s=3600), pool)
    await slow.start()
    try:
        await server.stop()
        slow.check_soon(node)
        await until(lambda: node.state is NodeState.DOWN)
    finally:
        await slow.stop()
        await asyncio.sleep(0)


async def test_a_fault_of_our_own_is_a_failed_check_and_not_the_end_of_them() -> None:
    node = Node("node1", Address("127.0.0.1", 9), Patience(rise=1, fall=1, request_fall=5))
    checker = HealthChecker(Settings(health_interval_s=0.01), Pool([node]))
    asked = 0

    async def broken(_node: Node) -> tuple[int, bytes]:
        nonlocal asked
        asked += 1
        raise RuntimeError("a fault")

    checker._ask = broken  # type: ignore[method-assign]  # the only way to break it
    await checker.start()
    try:
        await until(lambda: asked > 2)
        assert node.reason == "RuntimeError: a fault"
    finally:
        await checker.stop()
