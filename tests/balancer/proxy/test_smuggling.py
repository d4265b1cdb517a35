"""No request gets past the balancer in a form that the next server could read otherwise.

Judged by what the origin received: as many requests as were accepted, none of the refused, none hidden in another.
"""

from collections import Counter

import pytest

from tests.balancer.payloads import HIDDEN, PAYLOADS, Payload
from tests.balancer.proxy.stage import OK, ScriptedNode, Stage, get

GOOD = get(b"/good")


def name_of(payload: Payload) -> str:
    return f"{payload.clause} - {payload.name}"


@pytest.mark.parametrize("payload", PAYLOADS, ids=name_of)
@pytest.mark.parametrize("delivery", ["alone", "pipelined", "bytewise"])
async def test_what_is_ambiguous_is_refused_and_nothing_of_it_arrives(
    payload: Payload, delivery: str
) -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        client = await stage.client()
        if delivery == "bytewise" and len(payload.message) > 3000:
            pytest.skip("its size is the point, not its bytes")
        before = 0
        if delivery == "pipelined":
            before = 2
            await client.send(GOOD * before + payload.message + HIDDEN + GOOD)
        else:
            await client.send(payload.message + HIDDEN, bytewise=delivery == "bytewise")
        received = await client.everything()
        assert received.startswith(OK * before)
        answer = received[len(OK) * before :]
        assert answer.startswith(b"HTTP/1.1 %d " % payload.status)
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1 ") == 1
        assert Counter(request.line for request in node.requests) == Counter([b"GET /good HTTP/1.1"] * before)


def test_the_table_is_large_enough() -> None:
    assert len({payload.message for payload in PAYLOADS}) == len(PAYLOADS) >= 60


ACCEPTED = {
    "empty lines before a request": b"\r\n\r\n" + GOOD,
    "any case of field names": b"GET / HTTP/1.1\r\nHOST: a\r\ncontent-LENGTH: 0\r\n\r\n",
    "blanks around a value": b"POST / HTTP/1.1\r\nHost:a\r\nContent-Length:  \t2 \t\r\n\r\nok",
    "any case of chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "sizes in both cases with zeros": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n000A\r\n0123456789\r\n0b\r\n0123456789a\r\n00\r\n\r\n",
    "chunk extensions": b'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b;c="d;\\"e"\r\nok\r\n0;x\r\n\r\n',
    "trailers": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: b\r\nX-C: d\r\n\r\n",
    "a body for GET": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok",
    "a body that looks like a request": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "bytes beyond ASCII in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9\r\n\r\n",
    "an empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "an IPv6 Host": b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
    "characters that URLs should not have": b"GET /a\"b<c>^`{|} HTTP/1.1\r\nHost: a\r\n\r\n",
    "a path that only resembles the nodes' own": b"GET /_sessiondx/%20_sessiond/_sessiond HTTP/1.1\r\nHost: a\r\n\r\n",
    "the nodes' own path in a query": b"GET /?u=/_sessiond/health HTTP/1.1\r\nHost: a\r\n\r\n",
    "Connection with empty elements": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: , keep-alive ,\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("message", ACCEPTED.values(), ids=ACCEPTED.keys())
@pytest.mark.parametrize("bytewise", [False, True])
async def test_what_is_unusual_and_clear_is_passed_on_as_one_request(message: bytes, bytewise: bool) -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(message + GOOD, bytewise=bytewise)
        assert await client.read(len(OK) * 2) == OK * 2
        first, second = node.requests
        assert message.endswith(b"\r\n\r\n" + first.body)
        assert second.line == b"GET /good HTTP/1.1"
