"""What travels through unchanged, what is added and removed, and that connections are kept."""

import asyncio

import pytest

from tests.balancer.proxy.stage import OK, Connection, ScriptedNode, Stage, answering, cookie, get, until


async def test_a_request_and_its_answer_pass_byte_for_byte_but_for_our_fields() -> None:
    answer = (
        b"HTTP/1.1 200 Fine\r\nX-A:  b \r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nhi"
    )
    node = ScriptedNode("node1", answering(answer))
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(b"GET /a?b=%20&c HTTP/1.1\r\nX-Odd:   v \r\nHost: shop.example:8080\r\n\r\n")
        assert await client.read(len(answer)) == answer
        assert node.requests[0].head == (
            b"GET /a?b=%20&c HTTP/1.1\r\nX-Odd:   v \r\nHost: shop.example:8080\r\n"
            b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: shop.example:8080\r\n"
            b"X-Sessiond-Replay: 1\r\n\r\n"
        )


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_the_nodes_own_pages_are_refused_and_with_a_body_only_to_who_asks_for_one(
    method: bytes,
) -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get(b"/_sessiond/health").replace(b"GET", method))
        head, _, body = (await client.everything()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404 ")
        assert bool(body) is (method == b"GET")
        assert node.requests == []
        assert stage.service.totals.refused == 1


async def test_both_sides_keep_their_connections() -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        client = await stage.client()
        for _ in range(5):
            await client.send(get())
            assert await client.read(len(OK)) == OK
        assert node.connections == 1
        assert len(node.requests) == 5


async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    at_once = 0
    most = 0

    async def script(connection: Connection) -> None:
        nonlocal at_once, most
        while request := await connection.request():
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0)
            path = request.line.split(b" ")[1]
            at_once -= 1
            await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async with Stage(ScriptedNode("node1", script), ScriptedNode("node2", script)) as stage:
        client = await stage.client()
        paths = [b"/%d" % number for number in range(50)]
        await client.send(b"".join(get(path) for path in paths))
        assert [(await client.answer())[2] for _ in paths] == paths
    assert most == 1


async def test_the_cookie_decides_and_an_unknown_one_goes_to_a_live_node() -> None:
    nodes = [ScriptedNode(f"node{i}") for i in (1, 2, 3)]
    async with Stage(*nodes) as stage:
        client = await stage.client()
        for _ in range(6):
            await client.send(get(b"/", cookie("node2")))
            await client.answer()
        assert [len(node.requests) for node in nodes] == [0, 6, 0]
        await client.send(get(b"/", cookie("node9")))
        assert (await client.answer())[0] == 200


async def test_new_sessions_are_spread_evenly() -> None:
    nodes = [ScriptedNode(f"node{i}") for i in (1, 2, 3)]
    async with Stage(*nodes) as stage:
        client = await stage.client()
        for _ in range(9):
            await client.send(get())
            await client.answer()
        assert [len(node.requests) for node in nodes] == [3, 3, 3]


@pytest.mark.parametrize("bytewise", [False, True])
async def test_chunks_and_trailers_pass_both_ways(bytewise: bool) -> None:
    body = b"5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"

    async def script(connection: Connection) -> None:
        while await connection.request():
            answer = head + body
            await connection.say(*([answer[i : i + 1] for i in range(len(answer))] if bytewise else [answer]))

    node = ScriptedNode("node1", script)
    async with Stage(node) as stage:
        client = await stage.client()
        for _ in range(2):
            await client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body, bytewise=bytewise
            )
            assert await client.read(len(head + body)) == head + body
        assert [request.body for request in node.requests] == [body, body]
        assert node.connections == 1


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_end_at_their_head(method: bytes, answer: bytes) -> None:
    node = ScriptedNode("node1", answering(answer, answer))
    async with Stage(node) as stage:
        client = await stage.client()
        for _ in range(3):
            await client.send(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await client.read(2 * len(answer)) == answer * 2
        assert await client.until(b"\r\n\r\n") == OK[:-2]
        assert node.connections == 1


async def test_hop_by_hop_fields_and_those_that_connection_names_stay_on_their_hop() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-End: 2\r\n"
        b"X-Sessiond-Owner: node1\r\nContent-Length: 0\r\n\r\n"
    )
    node = ScriptedNode("node1", answering(answer))
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(
            get(
                b"/",
                b"Connection: x-secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n",
                b"Proxy-Connection: keep-alive\r\nX-Kept: 2\r\n",
            )
        )
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\nX-End: 2\r\nContent-Length: 0\r\n\r\n"
        assert node.requests[0].fields.keys() == {
            b"host", b"x-kept", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-sessiond-replay",
        }  # fmt: skip


FORGED = (
    b"X-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.7\r\nX-Forwarded-Proto: https\r\n"
    b"X-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\nX-Sessiond-Replay: 1\r\nX_Sessiond-Owner: node1\r\n"
)


async def test_claims_of_clients_are_removed() -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get(b"/", FORGED))
        await client.answer()
        assert node.requests[0].fields == {
            b"host": b"site",
            b"x-forwarded-for": b"127.0.0.1",
            b"x-forwarded-proto": b"http",
            b"x-forwarded-host": b"site",
            b"x-sessiond-replay": b"1",
        }


async def test_claims_of_trusted_proxies_are_kept_and_continued() -> None:
    node = ScriptedNode("node1")
    async with Stage(node, trusted_network=("127.0.0.0/8",)) as stage:
        client = await stage.client()
        await client.send(get(b"/", FORGED))
        await client.answer()
        assert node.requests[0].fields == {
            b"host": b"site",
            b"x-forwarded-for": b"6.6.6.6, 127.0.0.1",
            b"x-forwarded-proto": b"https",
            b"x-forwarded-host": b"evil",
            b"forwarded": b"for=6.6.6.6",
            b"x-sessiond-replay": b"1",
        }


async def test_absolute_form_travels_as_origin_form_with_its_own_host() -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(b"GET http://real.example/a?b HTTP/1.1\r\nHost: other\r\n\r\n")
        await client.answer()
        await client.send(b"OPTIONS http://real.example HTTP/1.1\r\nHost: other\r\n\r\n")
        await client.answer()
        assert [request.line for request in node.requests] == [b"GET /a?b HTTP/1.1", b"OPTIONS * HTTP/1.1"]
        assert {request.fields[b"host"] for request in node.requests} == {b"real.example"}


async def test_old_clients_get_an_answer_that_they_can_read() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n"
    node = ScriptedNode("node1", answering(chunked))
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert await client.everything() == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello!"
        assert node.requests[0].line == b"GET / HTTP/1.1"
        assert node.requests[0].fields[b"host"].startswith(b"127.0.0.1:")

        client = await stage.client()
        for _ in range(2):
            await client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            assert b"\r\nConnection: keep-alive\r\n" in (await client.answer())[1]
        await client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        assert (
            await client.everything()
            == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
        )
        assert node.connections == 1


async def test_an_answer_that_ends_with_its_connection_ends_the_clients() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n", b"some", b"thing")

    async with Stage(ScriptedNode("node1", script)) as stage:
        client = await stage.client()
        await client.send(get())
        assert await client.everything() == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsomething"


async def test_a_client_that_asks_for_it_gets_its_connection_closed_and_the_nodes_is_kept() -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        for _ in range(2):
            client = await stage.client()
            await client.send(get(b"/", b"Connection: close\r\n"))
            assert (
                await client.everything()
                == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
            )
        assert node.connections == 1


async def test_a_node_that_closes_after_its_answer_does_not_close_the_clients_connection() -> None:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")

    node = ScriptedNode("node1", script)
    async with Stage(node) as stage:
        client = await stage.client()
        for _ in range(3):
            await client.send(get())
            assert await client.read(len(OK)) == OK
        assert node.connections == 3


async def test_expect_continue_is_between_client_and_node() -> None:
    async def script(connection: Connection) -> None:
        head = await connection.reader.readuntil(b"\r\n\r\n")
        assert b"\r\nExpect: 100-continue\r\n" in head
        await connection.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await connection.reader.readexactly(5) == b"hello"
        await connection.say(OK)
        await connection.closed()

    async with Stage(ScriptedNode("node1", script)) as stage:
        client = await stage.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello")
        assert await client.read(len(OK)) == OK


async def test_interim_answers_pass_but_not_to_old_clients() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    node = ScriptedNode("node1", answering(early + OK, early + OK))
    async with Stage(node) as stage:
        client = await stage.client()
        await client.send(get())
        assert await client.read(len(early + OK)) == early + OK
        await client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        assert (await client.everything()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_the_time_to_an_answers_head_is_counted_at_the_node_that_gave_it() -> None:
    answers = asyncio.Event()

    async def two_answers(connection: Connection) -> None:
        await connection.request()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
        await answers.wait()
        await connection.say(b"i")

    async with Stage(ScriptedNode("node1", two_answers), ScriptedNode("node2")) as stage:
        client = await stage.client()
        await client.send(get(b"/", cookie("node1")))
        await client.until(b"\r\n\r\nh")
        assert sum(stage["node1"].counters.latency.counts) == 1  # the body may take as long as it likes
        assert stage["node1"].counters.latency.sum_s > 0
        answers.set()
        await client.read(1)
        assert sum(stage["node2"].counters.latency.counts) == 0


async def test_events_are_passed_on_as_they_come() -> None:
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.say(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(3):
            await go_on.wait()
            go_on.clear()
            await connection.say(b"9\r\ndata: %d\n\n\r\n" % number)
        await connection.closed()

    async with Stage(ScriptedNode("node1", script)) as stage:
        client = await stage.client()
        await client.send(get())
        await client.until(b"\r\n\r\n")
        for number in range(3):
            go_on.set()
            assert await client.read(14) == b"9\r\ndata: %d\n\n\r\n" % number


async def test_an_answer_before_the_request_is_complete_is_given_and_ends_the_connection() -> None:
    async def script(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await connection.closed()

    async with Stage(ScriptedNode("node1", script)) as stage:
        client = await stage.client()
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
        expected = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
        assert await client.read(len(expected)) == expected
        await client.send(b"x" * 997 + get())
        assert await client.everything() == b""


async def test_without_a_node_the_answer_says_when_to_come_again() -> None:
    node = ScriptedNode("node1")
    async with Stage(node) as stage:
        stage.pool.unreachable(stage["node1"], "gone")
        client = await stage.client()
        await client.send(get())
        status, head, _ = await client.answer()
        assert status == 503
        assert b"\r\nRetry-After: 1\r\n" in head
        await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer(has_body=False))[0] == 503
        assert stage.service.totals.failures == 2


async def test_requests_in_flight_are_finished_at_shutdown_and_idle_connections_closed() -> None:
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        await go_on.wait()
        await connection.say(OK)
        await connection.closed()

    node = ScriptedNode("node1", script)
    async with Stage(node) as stage:
        idle, busy = await stage.client(), await stage.client()
        await busy.send(get())
        await until(lambda: node.requests and stage.service.active_connections == 2)
        stage.service.pre_shutdown()
        stopping = asyncio.create_task(stage.service.shutdown(20))
        assert await idle.everything() == b""
        go_on.set()
        assert (
            await busy.everything() == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
        )
        await stopping
