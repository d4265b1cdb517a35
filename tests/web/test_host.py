"""The application port: health whatever the application does, and an end without broken answers."""

import asyncio
import json
import socket
from dataclasses import replace

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from sessiond.adapters.aiohttp import get_session, setup
from sessiond.contract.cluster_view import HealthView, MemberState
from sessiond.errors import ConfigurationError
from sessiond.settings import Settings
from sessiond.web.host import Host
from sessiond.web.notice import NOTICE_MAX_S
from tests.support.fake_backend import FakeNode
from tests.support.wire import connect, cookies_set, fetch


@pytest.fixture
def node() -> FakeNode:
    return FakeNode(Settings(http="127.0.0.1:0"))


@pytest.fixture
async def run(node):
    """`run(app)` serves an application and gives the host."""
    hosts = []

    async def start(app: web.Application) -> Host:
        host = Host(app, node)
        hosts.append(host)
        await host.start()
        return host

    yield start
    for host in hosts:
        await host.stop()


async def count(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["n"] = session.get("n", 0) + 1
    return web.Response(text=str(session["n"]))


def shop() -> web.Application:
    app = web.Application()
    app.router.add_get("/{tail:.*}", count)
    return app


async def test_an_application_gets_its_sessions_without_asking_for_them(run):
    host = await run(shop())
    cookie = cookies_set(await fetch(host.address.port))["SESSIONID"]
    assert (await fetch(host.address.port, Cookie=f"SESSIONID={cookie}")).text == "2"


async def test_an_application_that_set_its_sessions_up_itself_keeps_them(run, node):
    app = shop()
    setup(app, node)
    host = await run(app)
    assert (await fetch(host.address.port)).text == "1"
    assert len(node.stored) == 1


async def test_health_is_answered_whatever_the_application_is(run, node):
    @web.middleware
    async def locked(_request, handler):
        raise web.HTTPForbidden(text=f"no way to {handler.__name__}")

    app = web.Application(middlewares=[locked])
    app.router.add_route("*", "/{tail:.*}", count)
    host = await run(app)
    answer = await fetch(host.address.port, "/_sessiond/health")
    view = HealthView.from_json(json.loads(answer.body))
    assert answer.status == 200
    assert (view.node, view.state, view.primaries, view.backups) == ("node1", MemberState.ALIVE, 0, 0)
    assert view.load.figure >= 0
    assert answer.header("Cache-Control") == "no-store"
    assert answer.all("Set-Cookie") == []
    assert (await fetch(host.address.port)).status == 403


@pytest.mark.parametrize(
    "target", ["/_sessiond/", "/_sessiond/other", "/_sessiond/health/x", "/%5Fsessiond/other"]
)
async def test_other_paths_of_the_balancer_do_not_exist(run, target):
    host = await run(shop())
    assert (await fetch(host.address.port, target)).status == 404


async def test_health_is_for_looking_only(run):
    host = await run(shop())
    async with connect(host.address.port) as wire:
        wire.send("/_sessiond/health", method="HEAD")
        assert (await wire.head()).status == 200
    answer = await fetch(host.address.port, "/_sessiond/health", method="POST")
    assert (answer.status, answer.header("Allow")) == (405, "GET,HEAD")


@pytest.mark.parametrize("state", [MemberState.JOINING, MemberState.DRAINING])
async def test_health_says_503_and_why_while_no_session_can_begin(run, node, state):
    host = await run(shop())
    node.state = state
    answer = await fetch(host.address.port, "/_sessiond/health")
    assert answer.status == 503
    body = json.loads(answer.body)
    assert body["state"] == state
    assert str(state) in body["reason"]
    assert answer.header("Retry-After") == "1"
    assert answer.header("Connection") == "close"


async def test_a_node_that_cannot_serve_is_not_healthy_even_if_it_lives(run, node):
    host = await run(shop())
    node.serving, node.closed_because = False, "gets no answer from a majority"
    answer = await fetch(host.address.port, "/_sessiond/health")
    assert (answer.status, json.loads(answer.body)["reason"]) == (503, "gets no answer from a majority")


async def test_a_state_node_lives_and_is_no_place_to_send_requests_to(run, node):
    node.settings = replace(node.settings, role="state", placement="central")
    host = await run(shop())
    answer = await fetch(host.address.port, "/_sessiond/health")
    body = json.loads(answer.body)
    assert (answer.status, body["state"], body["role"]) == (503, "alive", "state")


async def test_requests_in_flight_count_as_load(run, node):
    host = await run(shop())
    async with connect(host.address.port) as wire:
        with node.held():
            wire.send()
            await node.until_waiting()
            assert host.in_flight == 1
            busy = json.loads((await fetch(host.address.port, "/_sessiond/health")).body)["load"]
            assert busy.keys() == {"in_flight", "loop_lag_ms", "cpu"}
            assert busy["in_flight"] == 1
        await wire.answer()
    assert host.in_flight == 0


async def test_the_ports_numbers_are_samples(run):
    host = await run(shop())
    await fetch(host.address.port)
    samples = {sample.name: sample.value for sample in host.samples()}
    assert samples["sessiond_http_requests_total"] == 1
    assert samples["sessiond_http_in_flight"] == 0
    assert "sessiond_load" in samples


async def test_a_busy_port_is_named_with_its_option_and_the_application_is_cleaned_up(node):
    events = []

    async def life(_app):
        events.append("started")
        yield
        events.append("cleaned")

    app = shop()
    app.cleanup_ctx.append(life)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node.settings = Settings(http=f"127.0.0.1:{taken.getsockname()[1]}")
        host = Host(app, node)
        with pytest.raises(ConfigurationError, match=r"--http 127\.0\.0\.1:\d+: .*in use"):
            await host.start()
    assert events == ["started", "cleaned"]
    await host.stop()


async def test_stopping_what_never_started_does_nothing(node):
    await Host(shop(), node).stop()


# --- the end ------------------------------------------------------------------------------------------------


async def test_a_drain_waits_for_requests_in_flight_and_answers_new_ones_meanwhile(run, node):
    host = await run(shop())
    port = host.address.port
    cookie = cookies_set(await fetch(port))["SESSIONID"]
    async with connect(port) as wire:
        with node.held():
            wire.send(Cookie=f"SESSIONID={cookie}")
            await node.until_waiting()
            node.state = MemberState.DRAINING
            draining = asyncio.create_task(host.drain(10))
            await asyncio.sleep(0)
            assert not draining.done()
            assert (await fetch(port)).status == 503
        answer = await wire.answer()
        assert (answer.text, answer.header("Connection")) == ("2", "close")
        await draining


def checked(host: Host, *seconds_ago: float, name: str = "127.0.0.1") -> None:
    """Somebody has asked for health so long ago, and heard that all is well."""
    now = asyncio.get_running_loop().time()
    for ago in seconds_ago:
        host._notice.asked(name, now - ago, draining=False)


async def test_a_drain_waits_until_the_balancer_has_seen_it(run, node):
    host = await run(shop())
    port = host.address.port
    async with connect(port) as idle:
        checked(host, 1.0)
        await idle.get("/_sessiond/health")
        node.state = MemberState.DRAINING
        draining = asyncio.create_task(host.drain(10))
        assert (await fetch(port)).status == 503
        assert not draining.done()
        assert (await idle.get("/_sessiond/health")).status == 503, "idle connections stay open until then"
        assert (await fetch(port)).status == 503
        assert not draining.done(), "the answer is sent, but who knows whether it was read"
        assert (await fetch(port, "/_sessiond/health")).status == 503
        await draining


async def test_of_several_balancers_at_one_address_each_has_to_see_the_drain(run, node):
    host = await run(shop())
    port = host.address.port
    for name in ("worker1", "worker2"):
        checked(host, 2.0, 1.0, 0.0, name=name)
    node.state = MemberState.DRAINING
    draining = asyncio.create_task(host.drain(10))
    for name in ("worker1", "worker2", "worker1"):
        assert (await fetch(port, "/_sessiond/health", X_Sessiond_Checker=name)).status == 503
        assert not host.is_noticed
        assert not draining.done()
    await fetch(port, "/_sessiond/health", X_Sessiond_Checker="worker2")
    assert host.is_noticed
    await draining


async def test_after_an_aborted_drain_the_next_one_is_news_to_the_balancer(run, node):
    host = await run(shop())
    checked(host, 20.0, 10.0)

    async def check(state: MemberState) -> bool:
        node.state = state
        await fetch(host.address.port, "/_sessiond/health")
        return host.is_noticed

    assert not await check(MemberState.ALIVE)
    assert [await check(MemberState.DRAINING) for _ in range(2)] == [False, True]
    assert not await check(MemberState.ALIVE)
    assert [await check(MemberState.DRAINING) for _ in range(2)] == [False, True]


@pytest.mark.parametrize("asked_s_ago", [(), (0.0,), (3.0, 2.9)])
async def test_a_drain_that_nobody_watches_regularly_ends_at_once(run, node, asked_s_ago):
    host = await run(shop())
    checked(host, *asked_s_ago)
    node.state = MemberState.DRAINING
    async with asyncio.timeout(NOTICE_MAX_S / 2):
        await host.drain(10)


async def test_a_balancer_that_has_gone_away_does_not_hold_a_drain_up(run, node):
    host = await run(shop())
    checked(host, 0.02, 0.01)
    with capture_logs() as logs:
        await host.drain(10)
    assert [line["event"] for line in logs] == ["host.drain_unnoticed"]


async def test_a_drain_ends_at_its_deadline_and_says_what_it_left(run, node):
    host = await run(shop())
    async with connect(host.address.port) as wire:
        with node.held():
            wire.send()
            await node.until_waiting()
            with capture_logs() as logs:
                await host.drain(0.01)
        await wire.answer()
    assert [(line["event"], line["in_flight"]) for line in logs] == [("host.drain_cut_short", 1)]


async def test_stop_closes_streams_and_refuses_connections(run):
    begun = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        begun.set()
        await asyncio.Event().wait()
        return response

    app = web.Application()
    app.router.add_get("/", stream)
    host = await run(app)
    port = host.address.port
    async with connect(port) as wire:
        wire.send()
        await wire.head()
        await begun.wait()
        await host.stop()
        assert await wire.is_closed()
    with pytest.raises(ConnectionRefusedError):
        await fetch(port)
