"""Request ids, trace context and the access log: what nodes and clients are told, and what is written down."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from tests.balancer.proxy.stage import TOKEN, Connection, ScriptedNode, Stage, answering, get, until

TRACE = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\ntracestate: a=b\r\n"
TRUSTED = ("127.0.0.0/8",)


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def access(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["event"].startswith("request.")]


async def ask(stage: Stage, *fields: bytes) -> tuple[int, bytes, bytes]:
    client = await stage.client()
    await client.send(get(b"/", *fields))
    return await client.answer()


async def test_a_line_of_the_access_log_says_all_that_helps(lines: list[Any]) -> None:
    node = ScriptedNode("node1")
    async with Stage(node, access_log=True) as stage:
        client = await stage.client()
        target = f"/a;SESSIONID={TOKEN}.node1/b?secret=1".encode()
        await client.send(
            b"POST " + target + b" HTTP/1.1\r\nHost: a\r\nUser-Agent: test/1 (x)\r\n" + TRACE
            + b"X-Request-Id: forged\r\nx_request_id: forged\r\nContent-Length: 5\r\n\r\nhe"
        )  # fmt: skip
        await until(lambda: stage.service.totals.requests)
        await client.send(b"llo")
        _, head, body = await client.answer()
        await until(lambda: access(lines))
    (line,) = access(lines)
    (request,) = node.requests
    assert request.fields[b"x-request-id"].decode() == line["request"]
    assert b"x_request_id" not in request.fields
    assert line.pop("duration_ms") >= line.pop("first_byte_ms") > 0
    assert re.fullmatch(r"[0-9a-f]{10}-1", line.pop("request"))
    assert line == {
        "event": "request.served",
        "log_level": "info",
        "client": "127.0.0.1",
        "forwarded_for": None,
        "method": "POST",
        "path": "/a",
        "status": 200,
        "node": "node1",
        "attempts": 1,
        "retries": 0,
        "received_bytes": 5,
        "sent_bytes": len(head) + len(body),
        "trace": "0af7651916cd43dd8448eb211c80319c",
        "span": "b7ad6b7169203331",
        "user_agent": "test/1 (x)",
    }
    assert TOKEN not in repr(lines)


async def test_retries_refusals_and_clients_that_left_are_logged(lines: list[Any]) -> None:
    async def hang_up(connection: Connection) -> None:
        await connection.request()

    nodes = [ScriptedNode("node1", hang_up), ScriptedNode("node2")]
    async with Stage(*nodes, access_log=True) as stage:
        assert (await ask(stage))[0] == 200
        client = await stage.client()
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await client.answer())[0] == 400
    served, refused = access(lines)
    assert (served["attempts"], served["retries"], served["node"]) == (2, 1, "node2")
    assert (refused["event"], refused["status"], refused["client"]) == ("request.refused", 400, "127.0.0.1")


async def test_an_id_of_a_trusted_proxy_is_kept_and_a_bad_one_is_not() -> None:
    node = ScriptedNode("node1")
    async with Stage(node, request_id=True, trusted_network=TRUSTED) as stage:
        for given in (b"edge-17", b'no "id"', b"x" * 200):
            await ask(stage, b"X-Request-Id: " + given + b"\r\n")
    seen = [request.fields[b"x-request-id"] for request in node.requests]
    assert seen[0] == b"edge-17"
    assert re.fullmatch(rb"[0-9a-f]{10}-1", seen[1])
    assert seen[2] == seen[1][:-1] + b"2"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nX-Request-Id: the node's own\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"no HTTP\r\n\r\n",
    ],
)
async def test_the_client_is_told_the_id_once_if_wanted(answer: bytes) -> None:
    node = ScriptedNode("node1", answering(answer))
    async with Stage(node, request_id=True, request_id_in_answer=True) as stage:
        _, head, _ = await ask(stage)
        name = b"\r\nX-Request-Id: " + node.requests[0].fields[b"x-request-id"] + b"\r\n"
        assert head.count(name) == head.lower().count(b"x-request-id") == 1


async def test_trace_context_passes_untouched_and_is_made_only_if_wanted_and_absent() -> None:
    node = ScriptedNode("node1")
    async with Stage(node, trace_context="create") as stage:
        await ask(stage, TRACE)
        await ask(stage)
        await ask(stage, b"traceparent: nonsense\r\n")
    with_trace, without, malformed = (request.fields for request in node.requests)
    assert with_trace[b"traceparent"] == b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    assert with_trace[b"tracestate"] == b"a=b"
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01", without[b"traceparent"])
    assert malformed[b"traceparent"] == b"nonsense"


async def test_without_being_asked_nothing_is_added() -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        await ask(stage, TRACE, b"X-Request-Id: the client's own\r\n")
        await ask(stage)
    first, second = (request.fields for request in node.requests)
    assert first[b"x-request-id"] == b"the client's own"
    assert b"traceparent" in first
    assert not second.keys() & {b"x-request-id", b"traceparent"}


@pytest.mark.parametrize("kind", ["forwarded", "both"])
async def test_nodes_are_told_of_clients_as_configured(kind: str) -> None:
    node = ScriptedNode("node1")
    async with Stage(node, forwarded=kind) as stage:
        await ask(stage, b"Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\n")
    fields = node.requests[0].fields
    assert fields[b"forwarded"] == b'for=127.0.0.1;proto=http;host="site"'
    assert fields.get(b"x-forwarded-for") == (b"127.0.0.1" if kind == "both" else None)


BAD_CHUNK = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"


async def test_a_body_that_goes_wrong_is_logged_with_what_was_answered(lines: list[Any]) -> None:
    async with Stage(
        ScriptedNode("node1"), access_log=True, request_id=True, request_id_in_answer=True
    ) as stage:
        client = await stage.client()
        await client.send(BAD_CHUNK)
        await until(lambda: stage.service.totals.requests)
        await client.send(b"no chunk\r\n")
        status, head, body = await client.answer()
        await until(lambda: access(lines))
    (line,) = access(lines)
    assert status == line["status"] == 400
    assert f"\r\nX-Request-Id: {line['request']}\r\n".encode() in head
    assert line["sent_bytes"] == len(head) + len(body)


async def test_a_body_that_goes_wrong_when_the_answer_has_begun_is_logged_once(lines: list[Any]) -> None:
    async def answer_early(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhi")
        await connection.closed()

    async with Stage(ScriptedNode("node1", answer_early), access_log=True) as stage:
        client = await stage.client()
        await client.send(BAD_CHUNK)
        await client.until(b"hi")
        await client.send(b"no chunk\r\n")
        assert await client.everything() == b""
        await until(lambda: not stage.service.active_connections)
    (line,) = access(lines)
    assert line["status"] == 200


async def test_a_head_that_does_not_come_in_time_is_logged(lines: list[Any]) -> None:
    async with Stage(ScriptedNode("node1"), access_log=True, request_head_timeout_s=0.1) as stage:
        client = await stage.client()
        await client.send(b"GET / HTT")
        assert (await client.everything()).startswith(b"HTTP/1.1 408 ")
    (line,) = access(lines)
    assert (line["event"], line["status"]) == ("request.refused", 408)
