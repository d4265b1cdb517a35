"""What happens when nodes fail: repetition by the rules, referrals, and what the client sees when nothing helps."""

import asyncio
import errno
import os
from dataclasses import replace

import pytest

from balancer.core.pool import NodeState
from balancer.proxy.exchange import Exchange
from balancer.proxy.upstream import Upstream
from tests.balancer.proxy.stage import (
    OK,
    Connection,
    Request,
    ScriptedNode,
    Stage,
    answer_ok,
    answering,
    cookie,
    get,
    until,
)

pytestmark = pytest.mark.over_tls

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n" + cookie("node1") + b"\r\nhello"
GET = get(b"/", cookie("node1"))


async def close_at_request(connection: Connection) -> None:
    await connection.request()


@pytest.mark.parametrize("request_bytes", [GET, POST])
async def test_a_refused_connect_moves_any_request_and_takes_the_node_out_at_once(
    request_bytes: bytes,
) -> None:
    dead, live = ScriptedNode("node1"), ScriptedNode("node2")
    async with Stage(dead, live) as stage:
        await dead.stop()
        client = await stage.client()
        await client.send(request_bytes)
        assert (await client.answer())[0] == 200
        assert stage["node1"].state is NodeState.DOWN
        assert stage["node1"].reason
        assert stage.service.totals.retries == 1
        assert len(live.requests) == 1
        await client.send(request_bytes)
        assert (await client.answer())[0] == 200
        assert stage.service.totals.retries == 1


async def test_a_post_that_nobody_could_be_sent_is_told_to_come_back() -> None:
    dead = ScriptedNode("node1")
    async with Stage(dead) as stage:
        await dead.stop()
        client = await stage.client()
        await client.send(POST)
        status, head, body = await client.answer()
        assert (status, b"\r\nRetry-After: 1\r\n" in head) == (503, True)
        assert b"no node is up" in body


async def test_a_post_whose_node_refuses_the_connection_is_told_to_come_back_if_retries_are_spent() -> None:
    dead, live = ScriptedNode("node1"), ScriptedNode("node2")
    async with Stage(dead, live, retry_reserve=0, retry_share=0.0) as stage:
        await dead.stop()
        client = await stage.client()
        await client.send(POST)
        status, head, body = await client.answer()
        assert (status, b"\r\nRetry-After: 1\r\n" in head) == (503, True)
        assert b"no connection to the node" in body
        assert live.requests == []


async def test_a_put_that_may_have_been_applied_before_nobody_could_be_connected_is_in_doubt() -> None:
    dying, dead = ScriptedNode("node1", close_at_request), ScriptedNode("node2")
    async with Stage(dying, dead) as stage:
        await dead.stop()
        client = await stage.client()
        await client.send(POST.replace(b"POST", b"PUT"))
        status, _, body = await client.answer()
        assert status == 502
        assert b"not known" in body


async def test_a_node_that_hangs_up_without_an_answer_loses_a_get_to_another() -> None:
    dying, live = ScriptedNode("node1", close_at_request), ScriptedNode("node2")
    async with Stage(dying, live) as stage:
        client = await stage.client()
        await client.send(GET)
        assert (await client.answer())[0] == 200
        assert [len(dying.requests), len(live.requests)] == [1, 1]
        assert "node1" in stage.suspected
        assert stage["node1"].counters.failures == 1


async def test_a_post_that_may_have_been_applied_is_not_repeated() -> None:
    dying, live = ScriptedNode("node1", close_at_request), ScriptedNode("node2")
    async with Stage(dying, live) as stage:
        client = await stage.client()
        await client.send(POST)
        assert (await client.answer())[0] == 502
        assert live.requests == []
        await client.send(GET)  # the client's connection goes on
        assert (await client.answer())[0] == 200


async def test_a_put_is_repeated_with_its_whole_body() -> None:
    dying, live = ScriptedNode("node1", close_at_request), ScriptedNode("node2")
    put = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n" + cookie("node1") + b"\r\n"
    async with Stage(dying, live) as stage:
        client = await stage.client()
        for piece in (put, b"ab", b"cd", b"ef"):
            await client.send(piece)
            await asyncio.sleep(0)
        assert (await client.answer())[0] == 200
        assert [request.body for request in live.requests] == [b"abcdef"]


async def test_a_put_too_large_to_keep_is_not_repeated() -> None:
    dying, live = ScriptedNode("node1", close_at_request), ScriptedNode("node2")
    async with Stage(dying, live, replay_bytes_max=3) as stage:
        client = await stage.client()
        await client.send(
            b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n" + cookie("node1") + b"\r\nabcd"
        )
        assert (await client.answer())[0] == 502
        assert b"x-sessiond-replay" not in dying.requests[0].fields
        assert live.requests == []


async def test_a_large_body_still_moves_when_nobody_could_connect() -> None:
    dead, live = ScriptedNode("node1"), ScriptedNode("node2")
    async with Stage(dead, live, replay_bytes_max=10) as stage:
        await dead.stop()
        client = await stage.client()
        body = b"x" * 300_000
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n" + cookie("node1") + b"\r\n" + body
        )
        assert (await client.answer())[0] == 200
        assert live.requests[0].body == body


async def test_a_large_body_that_moves_to_an_idle_connection_is_read_on() -> None:
    dead, live = ScriptedNode("node1"), ScriptedNode("node2")
    async with Stage(dead, live, replay_bytes_max=10) as stage:
        client = await stage.client()
        await client.send(get(b"/", cookie("node2")))
        await client.answer()
        await dead.stop()
        body = b"x" * 1_000_000
        sending = asyncio.create_task(
            client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%b\r\n%b"
                % (len(body), cookie("node1"), body)
            )
        )
        assert (await client.answer())[0] == 200
        await sending
        assert live.requests[1].body == body
        assert live.connections == 1


async def test_a_connection_closed_for_its_idleness_costs_a_get_nothing() -> None:
    """The node closes just when the request is under way: one fresh connection to the same node helps."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(OK)
        await connection.request()  # and closes without an answer

    node, other = ScriptedNode("node1", script), ScriptedNode("node2")
    async with Stage(node, other) as stage:
        client = await stage.client()
        for _ in range(4):
            await client.send(GET)
            assert (await client.answer())[0] == 200
        assert other.requests == []
        assert stage["node1"].state is NodeState.UP
        assert stage["node1"].counters.failures == 0


async def test_an_idle_connection_that_the_node_closes_raises_suspicion_and_is_not_used() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(OK)

    node = ScriptedNode("node1", script)
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(GET)
        await client.answer()
        await until(lambda: stage.suspected == ["node1"])
        assert stage.service.connections["node1"].idle_count == 0
        await client.send(POST)
        assert (await client.answer())[0] == 200


async def test_an_answer_that_breaks_off_is_never_repeated_and_the_client_can_tell() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    node, other = ScriptedNode("node1", script), ScriptedNode("node2")
    async with Stage(node, other) as stage:
        client = await stage.client()
        await client.send(GET)
        assert await client.everything() in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        assert other.requests == []
        assert stage["node1"].counters.failures == 1


CHUNKED_HALF = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
UNTIL_CLOSE_HALF = b"HTTP/1.1 200 OK\r\n\r\nhalf"
OF_HTTP_1_0 = b"GET / HTTP/1.0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "answer"),
    [(OF_HTTP_1_0, CHUNKED_HALF), (OF_HTTP_1_0, UNTIL_CLOSE_HALF), (GET, UNTIL_CLOSE_HALF)],
    ids=["HTTP/1.0, chunked by the node", "HTTP/1.0, until the close", "HTTP/1.1, until the close"],
)
@pytest.mark.parametrize("how", ["reset", "silence"])
async def test_half_an_answer_whose_end_is_the_connections_end_does_not_look_complete(
    request_bytes: bytes, answer: bytes, how: str
) -> None:
    arrived = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(answer)
        await arrived.wait()
        if how == "reset":
            connection.reset()
        await connection.closed()

    node = ScriptedNode("node1", script)
    limit = {"response_idle_timeout_s": 0.3} if how == "silence" else {}
    async with Stage(node, **limit) as stage:
        client = await stage.client()
        await client.send(request_bytes)
        await client.until(b"half")
        arrived.set()
        with pytest.raises(ConnectionResetError):
            await client.read(1)


async def test_when_every_node_fails_the_client_is_told_after_a_few_attempts() -> None:
    nodes = [ScriptedNode(f"node{i}", close_at_request) for i in range(1, 8)]
    async with Stage(*nodes) as stage:
        client = await stage.client()
        await client.send(GET)
        status, _, body = await client.answer()
        assert status == 502
        assert b"not known" in body
        assert sum(len(node.requests) for node in nodes) == 4


async def test_retries_stop_when_the_budget_is_spent() -> None:
    dying, live = ScriptedNode("node1", close_at_request), ScriptedNode("node2")
    async with Stage(dying, live, retry_reserve=1, retry_share=0.0, request_fall=100) as stage:
        client = await stage.client()
        statuses = []
        for _ in range(3):
            await client.send(GET)
            statuses.append((await client.answer())[0])
        assert statuses == [200, 502, 502]


async def test_a_name_that_is_gone_counts_like_a_refused_connect() -> None:
    gone, live = ScriptedNode("node1"), ScriptedNode("node2")
    async with Stage(gone, live) as stage:
        stage["node1"].address = stage["node1"].address._replace(host="vanished.invalid")
        client = await stage.client()
        await client.send(POST)
        assert (await client.answer())[0] == 200
        assert stage["node1"].state is NodeState.DOWN


async def test_many_failed_requests_in_a_row_take_a_node_out() -> None:
    dying, live = ScriptedNode("node1", close_at_request), ScriptedNode("node2")
    async with Stage(dying, live, request_fall=3) as stage:
        client = await stage.client()
        for _ in range(3):
            assert stage["node1"].state is NodeState.UP
            await client.send(GET)
            await client.answer()
        assert stage["node1"].state is NodeState.DOWN
        assert "3 requests in a row" in stage["node1"].reason


REFER = b"HTTP/1.1 421 Misdirected Request\r\nX-Sessiond-Owner: node3\r\nContent-Length: 4\r\n\r\nelse"


@pytest.mark.parametrize("request_bytes", [GET, POST])
async def test_a_referral_is_followed_to_the_owner(request_bytes: bytes) -> None:
    first, other, owner = (
        ScriptedNode("node1", answering(REFER)),
        ScriptedNode("node2"),
        ScriptedNode("node3"),
    )
    async with Stage(first, other, owner) as stage:
        client = await stage.client()
        await client.send(request_bytes)
        assert (await client.answer())[2] == b"hi"
        assert [len(node.requests) for node in (first, other, owner)] == [1, 0, 1]
        assert first.requests[0].fields[b"x-sessiond-replay"] == b"1"
        assert first.requests[0].body == owner.requests[0].body
        assert stage.service.totals.retries == 0
        assert stage["node1"].counters.referrals == 1
        assert stage.service.connections["node1"].idle_count == 1


@pytest.mark.parametrize("body", [b"hello", b"x" * 50_000])
async def test_a_referral_is_followed_where_it_was_asked_for_whatever_a_reload_says(body: bytes) -> None:
    first, owner = ScriptedNode("node1"), ScriptedNode("node3")

    async def refer(connection: Connection) -> None:
        head = await connection.reader.readuntil(b"\r\n\r\n")
        first.requests.append(Request(head, b""))
        await connection.reader.readexactly(len(body))
        await connection.say(REFER)
        await connection.closed()

    first.script = refer
    async with Stage(first, owner) as stage:
        client = await stage.client()
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n" % (cookie("node1"), len(body))
        )
        await client.send(body[:2])
        await until(lambda: first.requests)
        assert first.requests[0].fields[b"x-sessiond-replay"] == b"1"
        stage.service.configure(
            replace(stage.service.settings, replay_bytes_max=0), stage.service._connection_options.tls
        )
        await client.send(body[2:])
        assert (await client.answer())[2] == b"hi"
        assert [request.body for request in owner.requests] == [body]


async def test_a_session_that_moves_on_is_followed_a_few_times_and_then_served_where_the_request_is() -> None:
    # While a node drains, the owner may have handed the session on before the request arrives there.
    back = REFER.replace(b"node3", b"node1")
    first = ScriptedNode("node1", answering(REFER, REFER))
    owner = ScriptedNode("node3", answering(back, back))
    async with Stage(first, owner) as stage:
        client = await stage.client()
        await client.send(GET)
        assert (await client.answer())[0] == 421  # these two would never serve it
        assert [len(node.requests) for node in (first, owner)] == [2, 2]
        assert b"x-sessiond-replay" in first.requests[1].fields
        assert b"x-sessiond-replay" not in owner.requests[1].fields


async def test_a_referral_to_a_node_that_is_down_goes_to_any_other_but_the_one_that_refers() -> None:
    draining = ScriptedNode("node1", answering(REFER))
    other, dead = ScriptedNode("node2"), ScriptedNode("node3")
    async with Stage(draining, other, dead) as stage:
        stage.pool.set_order(stage["node3"], NodeState.MAINTENANCE)
        client = await stage.client()
        await client.send(get(b"/", cookie("node1")))
        assert (await client.answer())[0] == 200
        assert [len(node.requests) for node in (draining, other, dead)] == [1, 1, 0]
        assert b"x-sessiond-replay" not in other.requests[0].fields


@pytest.mark.parametrize("name", [b"node9", b"node2", b"\xff, x"])
async def test_a_referral_to_a_node_that_cannot_serve_makes_the_asked_one_serve(name: bytes) -> None:
    refer = REFER.replace(b"node3", name)
    first, out = ScriptedNode("node1", answering(refer)), ScriptedNode("node2")
    async with Stage(first, out) as stage:
        stage.pool.set_order(stage["node2"], NodeState.MAINTENANCE)
        client = await stage.client()
        await client.send(GET)
        assert (await client.answer())[0] == 200
        assert [b"x-sessiond-replay" in request.fields for request in first.requests] == [True, False]


async def test_a_referral_back_to_a_node_that_has_just_failed_is_not_followed() -> None:
    # The node that was asked instead does not know of the death yet.

    async def dies(connection: Connection) -> None:
        if await connection.request() and dying.connections == 1:
            await connection.say(OK)
            await connection.request()
        connection.reset()

    dying = ScriptedNode("node3", dies)
    heir = ScriptedNode("node1", answering(REFER))
    async with Stage(dying, heir) as stage:
        client = await stage.client()
        await client.send(get(b"/", cookie("node3")))
        assert (await client.answer())[0] == 200
        await client.send(get(b"/", cookie("node3")))
        assert (await client.answer())[0] == 200
        assert dying.connections == 2
        assert len(heir.requests) == 2


async def test_a_421_of_the_application_is_the_answer() -> None:
    node = ScriptedNode("node1", answering(b"HTTP/1.1 421 X\r\nContent-Length: 0\r\n\r\n"))
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(GET)
        assert (await client.answer())[0] == 421


async def test_a_chunked_post_is_offered_for_referral_only_when_all_of_it_is_here() -> None:
    node = ScriptedNode("node1")
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(head + b"1\r\na\r\n0\r\n\r\n")
        await client.answer()
        await client.send(head)
        await until(lambda: stage["node1"].counters.requests == 2)
        await client.send(b"1\r\na\r\n0\r\n\r\n")
        await client.answer()
        assert [b"x-sessiond-replay" in request.fields for request in node.requests] == [True, False]


NOT_NOW = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlate"


async def test_a_503_of_a_node_that_is_leaving_is_not_shown_while_another_lives() -> None:
    leaving, live = ScriptedNode("node1", answering(NOT_NOW)), ScriptedNode("node2")
    async with Stage(leaving, live) as stage:
        client = await stage.client()
        await client.send(GET)
        assert (await client.answer())[0] == 200
        assert stage.suspected == ["node1"]


@pytest.mark.parametrize("field", [b"Retry-After: 1\r\n", b"Connection: close\r\n"])
async def test_a_503_without_the_marks_of_a_leaving_node_is_the_answer(field: bytes) -> None:
    node = ScriptedNode("node1", answering(NOT_NOW.replace(field, b"")))
    async with Stage(node, ScriptedNode("node2")) as stage:
        client = await stage.client()
        await client.send(GET)
        assert (await client.answer())[2] == b"late"
        assert stage.suspected == []


async def test_a_503_is_the_answer_to_a_post_and_where_nobody_else_lives() -> None:
    leaving, live = ScriptedNode("node1", answering(NOT_NOW, NOT_NOW)), ScriptedNode("node2")
    async with Stage(leaving, live) as stage:
        client = await stage.client()
        await client.send(POST)
        assert (await client.answer())[2] == b"late"
        stage.pool.set_order(stage["node2"], NodeState.MAINTENANCE)
        await client.send(GET)
        assert (await client.answer())[2] == b"late"
        assert live.requests == []


async def test_draining_nodes_serve_when_no_other_does() -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        stage.pool.set_order(stage["node1"], NodeState.DRAINING)
        client = await stage.client()
        await client.send(GET)
        assert (await client.answer())[0] == 200
        stage.pool.set_order(stage["node1"], NodeState.MAINTENANCE)
        await client.send(GET)
        assert (await client.answer())[0] == 503


async def test_a_killed_node_fails_no_get_of_many_under_way() -> None:
    go_on = asyncio.Event()

    async def slow(connection: Connection) -> None:
        await connection.request()
        await go_on.wait()

    dying, live = ScriptedNode("node1", slow), ScriptedNode("node2", answer_ok)
    async with Stage(dying, live) as stage:
        clients = [await stage.client() for _ in range(50)]
        for client in clients:
            await client.send(GET)
        await until(lambda: len(dying.requests) == 50)
        await dying.stop()
        assert [(await client.answer())[0] for client in clients] == [200] * 50
        assert stage["node1"].state is NodeState.DOWN


MALFORMED = {
    "Content-Length beside Transfer-Encoding": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two Content-Lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "Content-Length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
    "line feeds alone": b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
    "a folded field": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 3\r\n\r\nabc",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "a status beyond 599": b"HTTP/1.1 700 OK\r\nContent-Length: 0\r\n\r\n",
    "a control character in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "204 with a body announced": b"HTTP/1.1 204 None\r\nContent-Length: 3\r\n\r\nabc",
    "101 unasked": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000,
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101 + b"\r\n",
    "Connection that names Content-Length": b"HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 0\r\n\r\n",
    "a chunk size that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
}


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.plain
async def test_malformed_answers_become_502(answer: bytes, bytewise: bool) -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        step = 1 if bytewise and len(answer) < 1000 else len(answer)
        await connection.say(*(answer[i : i + step] for i in range(0, len(answer), step)))
        await connection.closed()

    node = ScriptedNode("node1", script)
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get())
        client.half_close()
        received = await client.everything()
        if b"\r\n\r\nxyz" in answer and bytewise:
            assert b"xyz" not in received  # the head was on its way already: the connection is cut
        else:
            assert received.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        assert stage["node1"].counters.failures == 1


async def test_bytes_after_an_answer_never_reach_anybody() -> None:
    evil = OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    node = ScriptedNode("node1", answering(evil, evil))
    async with Stage(node) as stage:
        client = await stage.client()
        for _ in range(3):
            await client.send(get())
            assert await client.read(len(OK)) == OK
        assert node.connections == 3


async def test_bytes_on_an_idle_connection_close_it() -> None:
    said = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(OK)
        await said.wait()
        await connection.say(OK)
        await connection.closed()

    node = ScriptedNode("node1", script)
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get())
        await client.answer()
        said.set()
        await until(lambda: stage.service.connections["node1"].idle_count == 0)


@pytest.mark.plain
async def test_bytes_that_came_before_the_request_left_are_nobodys_answer() -> None:
    connections: list[Connection] = []

    async def script(connection: Connection) -> None:
        connections.append(connection)
        await answer_ok(connection)

    node = ScriptedNode("node1", script)
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(GET)
        await client.answer()
        # In one turn of the balancer's loop: a request, and what nobody asked for on the connection that it will take.
        for writer, data in ((client.writer, POST), (connections[0].writer, OK.replace(b"hi", b"no"))):
            os.write(writer.get_extra_info("socket").fileno(), data)
        assert (await client.answer())[2] == b"hi"
        assert [request.body for request in node.requests] == [b"", b"hello"]
        assert node.connections == 2


async def test_a_post_goes_out_again_if_its_connection_was_closing_before_a_byte_of_it_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get())
        assert (await client.answer())[0] == 200
        begin = Upstream.begin

        def begin_and_close(upstream: Upstream, exchange: Exchange, method: bytes, request: bytes) -> None:
            begin(upstream, exchange, method, request)
            if upstream.has_served:
                upstream.transport.close()  # as the loop does when it reads, in this turn, that the node has closed

        monkeypatch.setattr(Upstream, "begin", begin_and_close)
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        assert (await client.answer())[0] == 200
    assert [request.body for request in node.requests] == [b"", b"hi"]
    assert node.connections == 2


class NoDescriptors:
    """In place of `Patience`: nothing can be opened here."""

    def __init__(self, seconds: float) -> None:
        del seconds

    async def __aenter__(self) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def __aexit__(self, *_: object) -> None:
        pass


async def test_a_node_is_not_blamed_for_what_is_short_here(monkeypatch: pytest.MonkeyPatch) -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        client = await stage.client()
        with monkeypatch.context() as patched:
            patched.setattr("balancer.proxy.connections.Patience", NoDescriptors)
            await client.send(get())
            status, _, body = await client.answer()
            assert status == 503
            assert b"no connection to the node" in body
        assert stage["node1"].state is NodeState.UP
        await client.send(get())
        assert (await client.answer())[0] == 200
