"""Sessions in an aiohttp application: who gets which, what is answered, and when nothing is kept."""

import asyncio

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from sessiond.adapters.aiohttp import Adapter, get_session, setup, without_session
from sessiond.adapters.refusals import FAULT_TEXT
from sessiond.contract.cluster_view import MemberState
from sessiond.contract.session_id import Keyring
from sessiond.core.inaction import DRAINING, JOINING, STOOD_STILL
from sessiond.errors import ChangesUndone, Conflict, MemoryFull, Unavailable
from sessiond.settings import Settings
from sessiond.values import decode, encode, register
from tests.support.fake_backend import FakeNode
from tests.support.wire import Answer, connect, cookies_set, fetch, serving

pytestmark = pytest.mark.filterwarnings("ignore:returning HTTPException:DeprecationWarning")


class Card:
    def __init__(self, number: int) -> None:
        self.number = number


class Site:
    """An application with sessions, served; a handler is a function of request and session."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.app = web.Application()
        self.adapter: Adapter = setup(self.app, node)
        self.port = 0

    def route(self, handler, path: str = "/", method: str = "*") -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            return (await handler(request, await get_session(request))) or web.Response(text="done")

        self.app.router.add_route(method, path, handle)

    async def fetch(self, path: str = "/", cookie: str | None = None, **more) -> Answer:
        if cookie is not None:
            more["Cookie"] = f"SESSIONID={cookie}"
        return await fetch(self.port, path, **more)


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
async def site(node):
    """Made with its routes by the test, which then awaits `start`."""
    site = Site(node)
    stack = []

    async def start() -> None:
        server = serving(site.app)
        site.port = await server.__aenter__()
        stack.append(server)

    site.start = start
    yield site
    for server in stack:
        await server.__aexit__(None, None, None)
    assert node.holds == 0
    assert len(site.adapter.sessions) == 0
    assert site.adapter.in_flight == 0


async def count(_request: web.Request, session) -> web.Response:
    session["n"] = session.get("n", 0) + 1
    return web.json_response({"n": session["n"], "new": session.new})


async def nothing(_request: web.Request, _session) -> None: ...


# --- whose session ------------------------------------------------------------------------------------------


async def test_a_visitor_comes_back_to_his_session(site):
    site.route(count)
    await site.start()
    first = await site.fetch()
    cookie = cookies_set(first)["SESSIONID"]
    second = await site.fetch(cookie=cookie)
    assert (first.text, second.text) == ('{"n": 1, "new": true}', '{"n": 2, "new": false}')
    assert second.all("Set-Cookie") == []


async def test_a_visitor_who_stores_nothing_gets_no_cookie(site, node):
    site.route(nothing)
    await site.start()
    assert (await site.fetch()).all("Set-Cookie") == []
    assert node.stored == {}


async def test_a_request_whose_sender_went_away_while_the_session_was_looked_for_does_nothing(site, node):
    # A node that stood still finds such requests when it goes on: to do now what was given up long ago would
    # undo what the visitor did since, on another node.
    token, key = node.new_session(n=encode("n", 1))
    node.opens_at_once = False
    asked, found = asyncio.Event(), asyncio.Event()
    open_session = node.open

    async def open_late(key, *, may_refer=False):
        asked.set()
        await found.wait()
        return await open_session(key, may_refer=may_refer)

    node.open = open_late
    site.route(count)
    await site.start()
    async with connect(site.port) as wire:
        wire.send(Cookie=f"SESSIONID={token}.node1")
        await asyncio.wait_for(asked.wait(), 20)
        wire.writer.transport.abort()
    # The server hears of it before it hears this one.
    asked.clear()
    other = asyncio.create_task(site.fetch(cookie=f"{token}.node1"))
    await asyncio.wait_for(asked.wait(), 20)
    found.set()
    assert (await other).text == '{"n": 2, "new": false}'
    assert node.stored[key].attributes == {"n": encode("n", 2)}


@pytest.mark.parametrize("case", ["dead", "forged", "foreign", "malformed"])
async def test_an_id_that_names_no_session_never_becomes_one(site, node, case):
    site.route(count)
    await site.start()
    foreign = Keyring([b"fedcba9876543210"], "default").new_token(b"a" * 16)
    live, _ = node.new_session()
    token = {
        "dead": node.keyring.new_token(b"x" * 16),
        "forged": live[:-2] + ("AA" if live[-2:] != "AA" else "BB"),
        "foreign": foreign,
        "malformed": "../../etc/passwd; SESSIONID=\\",
    }[case]
    answer = await site.fetch(cookie=f"{token}.node1")
    assert answer.text == '{"n": 1, "new": true}'
    fresh = cookies_set(answer)["SESSIONID"].partition(".")[0]
    assert fresh not in (token, live)
    assert node.keyring.key_of(fresh) in node.stored


async def test_of_several_cookies_the_first_that_verifies_counts(site, node):
    site.route(count)
    await site.start()
    token, _ = node.new_session(n=encode("n", 5))
    answer = await site.fetch(Cookie=f"SESSIONID=junk.node1; a=b; SESSIONID={token}.node1")
    assert answer.text == '{"n": 6, "new": false}'


async def test_a_session_that_moved_here_gets_this_nodes_suffix_and_keeps_its_token(site, node):
    site.route(count)
    await site.start()
    token, _ = node.new_session(n=encode("n", 5))
    answer = await site.fetch(cookie=f"{token}.node9")
    assert cookies_set(answer) == {"SESSIONID": f"{token}.node1"}


async def test_a_request_that_can_be_replayed_is_referred_to_the_owner(site, node):
    ran = []

    async def handler(_request, _session) -> None:
        ran.append(1)

    site.route(handler)
    await site.start()
    token, key = node.new_session()
    node.owners[key] = "node2"
    answer = await site.fetch(cookie=f"{token}.node2", X_Sessiond_Replay="1")
    assert (answer.status, answer.header("X-Sessiond-Owner")) == (421, "node2")
    assert not ran
    for header in ({}, {"X_Sessiond_Replay": "0"}):
        assert (await site.fetch(cookie=f"{token}.node2", **header)).status == 200


async def test_the_session_is_opened_before_the_handler_runs(site, node):
    site.route(nothing)
    await site.start()
    token, _ = node.new_session()
    node.open_error = Unavailable("the primary is not reachable", retry_after_s=1)
    answer = await site.fetch(cookie=f"{token}.node1")
    assert (answer.status, answer.header("Retry-After")) == (503, "1")
    assert answer.text == "the primary is not reachable\n"
    assert (await site.fetch()).status == 200


async def test_a_session_that_has_to_be_waited_for_is_opened_all_the_same(site, node):
    site.route(count)
    await site.start()
    node.opens_at_once = False
    token, _ = node.new_session(n=encode("n", 5))
    assert (await site.fetch(cookie=f"{token}.node1")).text == '{"n": 6, "new": false}'


# --- the cookie ---------------------------------------------------------------------------------------------


async def test_logging_out_clears_the_cookie_and_logging_in_again_sets_another(site, node):
    async def logout(_request, session) -> None:
        await session.invalidate()

    async def switch(_request, session) -> None:
        await session.invalidate()
        session["user"] = "Ada"

    site.route(logout, "/logout")
    site.route(switch, "/switch")
    await site.start()
    token, _ = node.new_session()
    answer = await site.fetch("/logout", cookie=f"{token}.node1")
    assert answer.header("Set-Cookie") == "SESSIONID=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"
    assert (await site.fetch("/logout")).all("Set-Cookie") == []
    token, _ = node.new_session()
    answer = await site.fetch("/switch", cookie=f"{token}.node1")
    assert cookies_set(answer)["SESSIONID"].partition(".")[0] not in ("", token)


async def test_rotation_sets_the_new_token(site, node):
    async def login(_request, session) -> None:
        session["user"] = "Ada"
        await session.rotate()

    site.route(login)
    await site.start()
    token, key = node.new_session(n=encode("n", 5))
    fresh, _, route = cookies_set(await site.fetch(cookie=f"{token}.node1"))["SESSIONID"].partition(".")
    assert fresh != token
    assert route == "node1"
    assert key not in node.stored
    assert set(node.stored[node.keyring.key_of(fresh)].attributes) == {"n", "user"}


async def test_the_old_token_answers_in_the_grace_and_never_replaces_the_new_cookie(site, node):
    async def login(_request, session) -> None:
        session["user"] = "Ada"
        await session.rotate()

    async def page(_request, session) -> web.Response:
        session["seen"] = session.get("seen", 0) + 1
        return web.Response(text=str(session.get("user")))

    site.route(login, "/login")
    site.route(page, "/page")
    await site.start()
    token, _ = node.new_session(n=encode("n", 5))
    fresh, _, _ = cookies_set(await site.fetch("/login", cookie=f"{token}.node1"))["SESSIONID"].partition(".")
    for route in ("node1", "node9"):  # also when the node that the cookie names is gone
        answer = await site.fetch("/page", cookie=f"{token}.{route}")
        assert answer.body == b"Ada"
        assert answer.all("Set-Cookie") == []
    key = node.keyring.key_of(fresh)
    assert set(node.stored) == {key}
    assert set(node.stored[key].attributes) == {"n", "user", "seen"}
    node.aliases.clear()  # the grace is over
    answer = await site.fetch("/page", cookie=f"{token}.node1")
    assert answer.body == b"None"
    assert cookies_set(answer)["SESSIONID"].partition(".")[0] not in ("", token, fresh)


async def test_a_second_log_in_with_the_old_token_gets_neither_the_session_nor_its_cookie(site, node):
    async def login(request, session) -> None:
        session["user"] = request.query["user"]
        await session.rotate()

    site.route(login)
    await site.start()
    planted, _ = node.new_session(n=encode("n", 5))
    first = await site.fetch("/?user=Ada", cookie=f"{planted}.node1")
    fresh, _, _ = cookies_set(first)["SESSIONID"].partition(".")
    for route in ("node1", "node9"):
        answer = await site.fetch("/?user=Mallory", cookie=f"{planted}.{route}")
        assert answer.status == 409
        assert answer.all("Set-Cookie") == []
    attributes = node.stored[node.keyring.key_of(fresh)].attributes
    assert attributes == {"n": encode("n", 5), "user": encode("user", "Ada")}


async def test_a_slow_request_that_came_before_the_rotation_leaves_the_new_cookie_alone(site, node):
    went_in, may_go = asyncio.Event(), asyncio.Event()

    async def login(_request, session) -> None:
        await session.rotate()

    async def slow(_request, session) -> None:
        went_in.set()
        await may_go.wait()
        session["slow"] = 1

    site.route(login, "/login")
    site.route(slow, "/slow")
    await site.start()
    token, _ = node.new_session()
    answering = asyncio.create_task(site.fetch("/slow", cookie=f"{token}.node9"))
    await went_in.wait()
    fresh, _, _ = cookies_set(await site.fetch("/login", cookie=f"{token}.node1"))["SESSIONID"].partition(".")
    may_go.set()
    answer = await answering
    assert answer.status == 200
    assert answer.all("Set-Cookie") == []
    assert set(node.stored[node.keyring.key_of(fresh)].attributes) == {"slow"}


async def test_the_cookie_is_set_on_the_response_that_leaves_whoever_made_it(site):
    @web.middleware
    async def error_pages(request, handler):
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return web.Response(status=404, text="a nicer page")

    async def handler(_request, session) -> None:
        session["n"] = 1
        raise web.HTTPNotFound

    site.route(handler)
    site.app.middlewares.insert(0, error_pages)
    await site.start()
    answer = await site.fetch()
    assert answer.text == "a nicer page"
    assert "SESSIONID" in cookies_set(answer)


# --- what is kept -------------------------------------------------------------------------------------------


async def test_a_raised_answer_commits(site, node):
    async def handler(_request, session) -> None:
        session["n"] = 1
        raise web.HTTPSeeOther("/next")

    site.route(handler)
    await site.start()
    answer = await site.fetch()
    assert (answer.status, answer.header("Location")) == (303, "/next")
    assert len(node.stored) == 1
    assert "SESSIONID" in cookies_set(answer)


async def test_an_exception_keeps_nothing(site, node):
    async def handler(_request, session) -> None:
        session["n"] = 99
        raise ValueError("a bug")

    site.route(handler, "/bug")
    site.route(count)
    await site.start()
    token, _ = node.new_session(n=encode("n", 5))
    assert (await site.fetch("/bug", cookie=f"{token}.node1")).status == 500
    assert (await site.fetch("/bug")).status == 500
    assert node.committed == []
    assert (await site.fetch(cookie=f"{token}.node1")).text == '{"n": 6, "new": false}'


async def test_what_was_saved_before_an_exception_is_kept_and_the_visitor_learns_his_id(site, node):
    async def handler(_request, session) -> None:
        session["n"] = 1
        await session.save()
        session["n"] = 2
        raise ValueError("a bug")

    site.route(handler)
    await site.start()
    answer = await site.fetch()
    assert answer.status == 500
    token = cookies_set(answer)["SESSIONID"].partition(".")[0]
    assert decode(node.stored[node.keyring.key_of(token)].attributes["n"]) == 1


async def test_a_route_that_does_not_exist_is_still_a_404(site, node):
    await site.start()
    token, _ = node.new_session()
    for cookie in (None, f"{token}.node9"):
        assert (await site.fetch("/none", cookie=cookie)).status == 404


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ([object()], "cart[0] holds a object, which has no encoding"),
        ({"4111-1111": object()}, "cart['4111-1111'] holds a object, which has no encoding"),
        ("x" * 2000, "'cart' encodes to 2003 bytes, more than attribute_bytes_max (1000)"),
    ],
)
async def test_what_cannot_be_stored_is_a_500_and_a_log_line_that_names_it_and_harms_nobody(value, part):
    node = FakeNode(Settings(attribute_bytes_max=1000))
    site = Site(node)

    async def bad(_request, session) -> None:
        session["n"] = 99
        session["cart"] = value

    site.route(bad, "/bad")
    site.route(count)
    token, _ = node.new_session(n=encode("n", 5))
    with capture_logs() as logs:
        async with serving(site.app) as site.port:
            answer = await site.fetch("/bad", cookie=f"{token}.node1")
            after = await site.fetch(cookie=f"{token}.node1")
    assert answer.status == 500
    assert answer.text == FAULT_TEXT
    assert after.text == '{"n": 6, "new": false}'
    line = next(line for line in logs if line["event"] == "session.refused")
    assert part in line["reason"]
    assert line["log_level"] == "error"
    assert token not in str(logs)


async def test_what_cannot_be_read_is_told_to_the_log_and_not_to_the_visitor(site, node):
    register(Card, "tests.adapters.card", lambda _card: "4111-1111", lambda plain: Card(int(plain)))
    site.route(count)
    await site.start()
    token, _ = node.new_session(n=encode("n", Card(1)))
    with capture_logs() as logs:
        answer = await site.fetch(cookie=f"{token}.node1")
    assert (answer.status, answer.text) == (500, FAULT_TEXT)
    (line,) = logs
    assert "'4111-1111'" in line["reason"]


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (Conflict(1, 2), 409, None),
        (Unavailable("no answer", 4), 503, "4"),
        (MemoryFull("full"), 503, "1"),
        (ChangesUndone(["cart"], 3), 503, "1"),
    ],
)
async def test_a_session_error_that_the_handler_lets_through_has_an_answer(site, node, error, status, retry):
    async def handler(_request, session) -> None:
        session["n"] = 99
        raise error

    site.route(handler)
    await site.start()
    answer = await site.fetch()
    assert (answer.status, answer.header("Retry-After")) == (status, retry)
    assert answer.text == f"{error}\n"
    assert node.stored == {}


async def test_a_write_to_a_session_that_ended_meanwhile_is_a_conflict(site, node):
    async def handler(_request, session) -> None:
        node.stored.clear()
        session["n"] = 1

    site.route(handler)
    await site.start()
    token, _ = node.new_session()
    answer = await site.fetch(cookie=f"{token}.node1")
    node.stored.clear()
    assert answer.status == 409


async def test_changes_after_the_head_are_lost_unless_saved_and_the_log_says_so(site, node):
    async def handler(request, session) -> web.StreamResponse:
        session["n"] = 1
        response = web.StreamResponse()
        await response.prepare(request)
        session["n"] = 2
        await session.save()
        session["n"] = 3
        await response.write_eof()
        return response

    site.route(handler)
    await site.start()
    with capture_logs() as logs:
        answer = await site.fetch()
    token = cookies_set(answer)["SESSIONID"].partition(".")[0]
    assert decode(node.stored[node.keyring.key_of(token)].attributes["n"]) == 2
    assert [(line["event"], line["attributes"]) for line in logs] == [("session.changes_lost", ["n"])]


async def test_a_long_stream_does_not_hold_the_session(site, node):
    streaming, end = asyncio.Event(), asyncio.Event()

    async def handler(request, session) -> web.StreamResponse:
        session.get("n")
        response = web.StreamResponse()
        await response.prepare(request)
        streaming.set()
        await end.wait()
        await response.write_eof()
        return response

    site.route(handler)
    await site.start()
    token, _ = node.new_session(n=encode("n", 5))
    async with connect(site.port) as wire:
        wire.send(Cookie=f"SESSIONID={token}.node1")
        await streaming.wait()
        assert node.holds == 0
        assert site.adapter.in_flight == 0
        end.set()
        await wire.answer()


# --- without a session --------------------------------------------------------------------------------------


async def test_a_handler_without_a_session_opens_none_and_is_told_so_if_it_asks(site, node):
    asked = []

    @without_session
    async def apart(request: web.Request) -> web.Response:
        with pytest.raises(RuntimeError, match="without_session"):
            await get_session(request)
        asked.append(1)
        return web.Response()

    @without_session
    class Page(web.View):
        async def get(self) -> web.Response:
            return web.Response(text="a view")

    site.app.router.add_get("/", apart)
    site.app.router.add_view("/view", Page)
    await site.start()
    node.open_error = Unavailable("never asked")
    token, _ = node.new_session()
    answer = await site.fetch(cookie=f"{token}.node9")
    assert (answer.status, answer.all("Set-Cookie"), asked) == (200, [], [1])
    assert (await site.fetch("/view", cookie=f"{token}.node9")).text == "a view"


@pytest.mark.parametrize("place", ["outside", "inside a sub-application"])
async def test_a_marked_method_of_a_view_stops_the_application_from_starting(site, place):
    class Page(web.View):
        @without_session
        async def get(self) -> web.Response:
            return web.Response()

    inner = web.Application()
    (site.app if place == "outside" else inner).router.add_view("/view", Page)
    site.app.add_subapp("/inner", inner)
    with pytest.raises(TypeError, match=r"Page\.get has no effect.*: mark the class"):
        await site.start()


async def test_a_marked_method_that_is_a_handler_by_itself_opens_no_session(site, node):
    class Pages:
        @without_session
        async def get(self, _request: web.Request) -> web.Response:
            return web.Response(text="a method")

    site.app.router.add_get("/", Pages().get)
    await site.start()
    node.open_error = Unavailable("never asked")
    token, _ = node.new_session()
    assert (await site.fetch(cookie=f"{token}.node9")).text == "a method"


async def test_an_application_without_setup_is_told_what_to_do():
    async def handler(request: web.Request) -> web.Response:
        with pytest.raises(RuntimeError, match="setup"):
            await get_session(request)
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handler)
    async with serving(app) as port:
        assert (await fetch(port)).status == 200


def test_setup_is_done_once(node):
    app = web.Application()
    setup(app, node)
    with pytest.raises(RuntimeError, match="once"):
        setup(app, node)


async def test_sub_applications_and_their_middlewares_have_the_session(site):
    seen = []

    @web.middleware
    async def look(request, handler):
        seen.append((await get_session(request)).get("n"))
        return await handler(request)

    async def handler(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["n"] = 7
        return web.Response()

    inner = web.Application(middlewares=[look])
    inner.router.add_get("/page", handler)
    site.app.add_subapp("/inner", inner)
    await site.start()
    cookie = cookies_set(await site.fetch("/inner/page"))["SESSIONID"]
    await site.fetch("/inner/page", cookie=cookie)
    assert seen == [None, 7]


# --- joining and draining -----------------------------------------------------------------------------------


REASONS = {
    "joining": JOINING,
    "draining": DRAINING,
    "outvoted": "gets no answer from a majority of the 5 members",
    "stood still": STOOD_STILL,
}


@pytest.mark.parametrize("case", list(REASONS))
async def test_while_no_session_can_begin_here_visitors_without_one_are_told_why(site, node, case):
    site.route(count)
    await site.start()
    if case == "draining":
        node.state = MemberState.DRAINING
    else:
        node.serving, node.closed_because = False, REASONS[case]
    answer = await site.fetch()
    assert answer.status == 503
    assert answer.header("Retry-After") == "1"
    assert answer.header("Connection") == "close"
    assert answer.text == f"node1 {REASONS[case]}; no session was begun: try another node\n"
    assert node.stored == {}


async def test_a_visitor_who_can_still_be_sent_elsewhere_is_told_where(site, node):
    site.route(count)
    await site.start()
    node.state, node.other_node = MemberState.DRAINING, "node2"
    answer = await site.fetch(X_Sessiond_Replay="1")
    assert (answer.status, answer.header("X-Sessiond-Owner")) == (421, "node2")
    assert (await site.fetch()).status == 503
    node.other_node = None
    assert (await site.fetch(X_Sessiond_Replay="1")).status == 503
    assert node.stored == {}


async def test_a_state_node_says_that_it_serves_nobody_or_who_does(node):
    node.settings = Settings(role="state", placement="central")
    site = Site(node)
    site.route(count)
    async with serving(site.app) as site.port:
        answer = await site.fetch()
        assert answer.status == 503
        assert b"--role state" in answer.body
        assert (await site.fetch("/missing")).status == 503
        node.other_node = "node2"
        answer = await site.fetch(X_Sessiond_Replay="1")
        assert (answer.status, answer.header("X-Sessiond-Owner")) == (421, "node2")
    assert node.stored == {}


async def test_a_draining_node_serves_the_sessions_it_has_and_closes_their_connections(site, node):
    site.route(count)
    await site.start()
    token, _ = node.new_session(n=encode("n", 5))
    node.state = MemberState.DRAINING
    async with connect(site.port) as wire:
        answer = await wire.get(Cookie=f"SESSIONID={token}.node1")
        assert answer.text == '{"n": 6, "new": false}'
        assert answer.header("Connection") == "close"
        assert await wire.is_closed()


async def test_a_joining_node_answers_503_to_a_visitor_with_a_session(site, node):
    site.route(count)
    await site.start()
    token, _ = node.new_session()
    node.serving = False
    assert (await site.fetch(cookie=f"{token}.node1")).status == 503


async def test_connections_stay_open_otherwise(site):
    site.route(count)
    await site.start()
    async with connect(site.port) as wire:
        for _ in range(3):
            assert (await wire.get()).header("Connection") is None


async def test_the_adapter_tells_everybody_who_waits_when_no_answer_is_outstanding(site, node):
    site.route(count)
    await site.start()
    async with connect(site.port) as wire:
        with node.held():
            wire.send()
            await node.until_waiting()
            waiters = [asyncio.create_task(site.adapter.wait_idle()) for _ in range(2)]
            await asyncio.sleep(0)
            assert (site.adapter.in_flight, [each.done() for each in waiters]) == (1, [False, False])
        await wire.answer()
        async with asyncio.timeout(10):
            await asyncio.gather(*waiters)
