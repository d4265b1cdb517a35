"""The balancer as a whole: start, routing around a killed node, admin port, stop."""

import asyncio
import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from balancer.core.health import Patience
from balancer.core.histogram import BOUNDS_S
from balancer.core.node_spec import NodeSpec
from balancer.core.pool import NodeState
from balancer.errors import ConfigurationError
from balancer.server import Balancer
from sessiond.contract.cluster_view import MemberState
from tests.balancer.fake_api import FakeApi
from tests.balancer.proxy.stage import TOKEN, Connection, ScriptedNode, eventually, until
from tests.balancer.running import serve, serve_after, settings_for, text

JSON = {"Content-Type": "application/json"}


async def test_users_go_to_their_node_and_to_another_when_it_is_killed(
    nodes: list[ScriptedNode], balancer: Balancer, web: aiohttp.ClientSession
) -> None:
    url, admin = f"http://{balancer.listen_address}/", f"http://{balancer.admin_address}"
    cookies = {"Cookie": f"SESSIONID={TOKEN}.node2"}
    assert await text(web, url, headers=cookies) == "node2"
    await nodes[1].stop()
    assert await text(web, url, headers=cookies) == "node1"
    rows = json.loads(await text(web, admin + "/v1/nodes"))["nodes"]
    assert [row["state"] for row in rows] == ["up", "down"]
    assert rows[1]["reason"]
    await nodes[1].start()

    async def is_back() -> bool:
        return await text(web, url, headers=cookies) == "node2"

    await eventually(is_back)


async def test_nodes_are_shown_and_take_orders(
    nodes: list[ScriptedNode], balancer: Balancer, web: aiohttp.ClientSession
) -> None:
    url, admin = f"http://{balancer.listen_address}/", f"http://{balancer.admin_address}/v1/nodes"
    assert json.loads(await text(web, admin))["nodes"][0] == {
        "name": "node1",
        "address": str(nodes[0].address),
        "state": "up",
        "reason": "",
        "order": "up",
        "weight": 1,
        "active": 0,
        "idle": 0,
        "requests": 0,
        "failures": 0,
        "retries": 0,
        "sessions": 4,
        "queue": 0,
        "zone": "",
        "load": 0.0,
        "warmth": 1.0,
        "latency": [0] * (len(BOUNDS_S) + 1),
    }
    async with web.put(f"{admin}/node1", json={"state": "maintenance", "weight": 3}) as answer:
        body = await answer.json()
        assert (answer.status, body["state"], body["weight"]) == (200, "maintenance", 3)
    assert {await text(web, url) for _ in range(4)} == {"node2"}
    async with web.put(f"{admin}/node1", json={"state": "up"}) as answer:
        assert (await answer.json())["state"] == "up"
    assert {await text(web, url) for _ in range(8)} == {"node1", "node2"}


@pytest.mark.parametrize(
    ("name", "body", "status", "words"),
    [
        ("node9", b"{}", 404, "node1, node2"),
        ("node1", b"{}", 400, "either or both"),
        ("node1", b"no json", 400, ""),
        ("node1", b"[]", 400, "either or both"),
        ("node1", b'{"state": "down"}', 400, "up, draining or maintenance"),
        ("node1", b'{"weight": -1}', 400, "0 to 1000"),
        ("node1", b'{"weight": true}', 400, "whole number"),
        ("node1", b'{"colour": "red"}', 400, "either or both"),
        ("node1", b'{"state": "maintenance", "weight": 5000}', 400, "0 to 1000"),
    ],
)
async def test_orders_that_make_no_sense_are_refused_and_change_nothing(
    balancer: Balancer, web: aiohttp.ClientSession, *, name: str, body: bytes, status: int, words: str
) -> None:
    admin = f"http://{balancer.admin_address}/v1/nodes"
    before = [(node.order, node.weight) for node in balancer.pool.nodes.values()]
    async with web.put(f"{admin}/{name}", data=body, headers=JSON) as answer:
        problem = await answer.json()
        assert answer.status == status
        assert words in problem["message"]
        assert problem["error"]
    assert [(node.order, node.weight) for node in balancer.pool.nodes.values()] == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),  # what a foreign page can send without asking first
        ({**JSON, "Origin": "http://evil.site"}, 403),
        ({**JSON, "Origin": "http://evil.site", "Authorization": "Bearer s3cret"}, 403),
    ],
)
async def test_orders_that_a_foreign_page_could_have_sent_change_nothing(
    balancer: Balancer, web: aiohttp.ClientSession, headers: dict[str, str], status: int
) -> None:
    url = f"http://{balancer.admin_address}/v1/nodes/node1"
    async with web.put(url, data=b'{"state": "maintenance"}', headers=headers) as answer:
        assert answer.status == status
        assert (await answer.json())["message"]
    assert balancer.pool.nodes["node1"].state is NodeState.UP


async def test_events_are_the_nodes_with_totals_and_come_on_change(
    nodes: list[ScriptedNode], balancer: Balancer, web: aiohttp.ClientSession
) -> None:
    await text(web, f"http://{balancer.listen_address}/")
    async with web.get(f"http://{balancer.admin_address}/v1/events") as stream:
        assert stream.content_type == "text/event-stream"

        async def event() -> dict[str, Any]:
            async for line in stream.content:
                if line.startswith(b"data: "):
                    found: dict[str, Any] = json.loads(line[6:])
                    return found
            raise AssertionError("the stream ended")

        first = await event()
        assert first["totals"] == {
            "requests": 1,
            "failures": 0,
            "retries": 0,
            "retries_refused": 0,
            "refused": 0,
            "active_connections": 1,
            "tunnels": 0,
        }
        await nodes[0].stop()
        async with asyncio.timeout(20):
            while (await event())["nodes"][0]["state"] != "down":
                pass


async def test_probes_and_metrics(
    nodes: list[ScriptedNode], balancer: Balancer, web: aiohttp.ClientSession
) -> None:
    admin = f"http://{balancer.admin_address}"
    await text(web, f"http://{balancer.listen_address}/")
    await text(web, admin + "/healthz")
    await text(web, admin + "/readyz")
    metrics = await text(web, admin + "/metrics")
    for line in (
        "balancer_requests_total 1.0",
        'balancer_node_state{node="node1",state="up"} 1.0',
        'balancer_node_answers_total{class="2xx",node="node1"} 1.0',
        'balancer_node_sessions{node="node2"} 4.0',
        'balancer_node_idle_connections{node="node1"} 1.0',
        "process_open_fds",
    ):
        assert line in metrics
    for node in nodes:
        await node.stop()
    await until(lambda: not balancer.pool.up)
    async with web.get(admin + "/readyz") as answer:
        assert answer.status == 503
    await text(web, admin + "/healthz")


async def test_who_is_turned_away_hears_what_the_nodes_say_and_not_where_they_are(
    web: aiohttp.ClientSession,
) -> None:
    view = {"node": "node2", "state": "suspect", "primaries": 0, "backups": 0, "load": 0.0}
    body = json.dumps({**view, "reason": "gets no answer from a majority of the 5 members"}).encode()

    async def decline(connection: Connection) -> None:
        await connection.request()
        await connection.say(
            b"HTTP/1.1 503 X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
        )

    nodes = [ScriptedNode("node1", serve), ScriptedNode("node2", decline)]
    for node in nodes:
        await node.start()
    await nodes[0].stop()
    balancer = Balancer(settings_for(nodes))
    await balancer.start()
    why = "no node is up; node2 gets no answer from a majority of the 5 members"
    try:
        async with web.get(f"http://{balancer.listen_address}/") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert await answer.text() == f"503 Service Unavailable: {why}\n"
        async with web.get(f"http://{balancer.admin_address}/readyz") as answer:
            assert why in await answer.text()
        await nodes[1].stop()
        await until(lambda: "refused" in balancer.pool.nodes["node2"].reason)
        async with web.get(f"http://{balancer.listen_address}/") as answer:
            assert await answer.text() == "503 Service Unavailable: no node is up\n"
    finally:
        await balancer.stop()


async def test_words_that_no_text_can_hold_keep_nobody_from_an_answer(web: aiohttp.ClientSession) -> None:
    view = {"node": "node1", "state": "suspect", "primaries": 0, "backups": 0, "load": 0.0}
    body = json.dumps({**view, "reason": "is \ud800\r\nlost"}).encode()

    async def decline(connection: Connection) -> None:
        await connection.request()
        await connection.say(
            b"HTTP/1.1 503 X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
        )

    node = ScriptedNode("node1", decline)
    await node.start()
    balancer = Balancer(settings_for([node]))
    await balancer.start()
    try:
        async with web.get(f"http://{balancer.listen_address}/") as answer:
            assert await answer.text() == "503 Service Unavailable: no node is up; node1 is ???lost\n"
    finally:
        await balancer.stop()
        await node.stop()


async def test_it_is_not_ready_before_browsers_can_connect(web: aiohttp.ClientSession) -> None:
    checked = asyncio.Event()

    nodes = [ScriptedNode("node1", serve), ScriptedNode("node2", serve_after(checked))]
    for node in nodes:
        await node.start()
    balancer = Balancer(settings_for(nodes))
    starting = asyncio.create_task(balancer.start())
    try:
        await until(lambda: balancer.pool.up)
        ready = f"http://{balancer.admin_address}/readyz"
        async with web.get(ready) as answer:
            assert (answer.status, (await answer.json())["error"]) == (503, "starting")
        checked.set()
        await starting
        await text(web, ready)
    finally:
        checked.set()
        await starting
        await balancer.stop()
        for node in nodes:
            await node.stop()


async def test_it_is_ready_exactly_while_there_is_a_node_for_requests(
    nodes: list[ScriptedNode], web: aiohttp.ClientSession
) -> None:
    settings = settings_for(nodes, health_interval_s=600.0)
    balancer = Balancer(settings)
    await balancer.start()

    async def ready() -> bool:
        async with web.get(f"http://{balancer.admin_address}/readyz") as answer:
            is_ready = answer.status == 200
        async with web.get(f"http://{balancer.listen_address}/") as answer:
            assert (answer.status == 200) == is_ready
        return is_ready

    try:
        pool = balancer.pool
        one, two = pool.nodes.values()
        pool.set_order(two, NodeState.MAINTENANCE)
        pool.set_order(one, NodeState.DRAINING)
        assert await ready()
        pool.set_order(one, NodeState.UP)
        pool.check_failed(one, one.health.check_started(), "of no use", deliberate=True)
        assert not await ready()
        await balancer.reload(replace(settings, panic_threshold=0.5))
        assert await ready()
    finally:
        await balancer.stop()


async def test_a_node_that_nobody_has_asked_yet_makes_it_not_ready(web: aiohttp.ClientSession) -> None:
    checked = asyncio.Event()

    node = ScriptedNode("node1", serve_after(checked))
    await node.start()
    balancer = Balancer(settings_for([], discover=("127.0.0.1:9",)))  # which finds nobody
    await balancer.start()
    try:
        balancer.pool.set_nodes([NodeSpec("node1", node.address)], Patience(rise=1, fall=3, request_fall=10))
        async with web.get(f"http://{balancer.admin_address}/readyz") as answer:
            assert (answer.status, (await answer.json())["error"]) == (503, "no_node_up")
        checked.set()
        await until(lambda: balancer.pool.up)
        await text(web, f"http://{balancer.admin_address}/readyz")
    finally:
        checked.set()
        await balancer.stop()
        await node.stop()


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
async def test_the_admin_port_asks_for_the_token_wherever_it_listens(
    nodes: list[ScriptedNode], web: aiohttp.ClientSession, tmp_path: Path, host: str
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    balancer = Balancer(settings_for(nodes, admin=f"{host}:0", admin_token_file=token))
    await balancer.start()
    try:
        admin = f"http://127.0.0.1:{balancer.admin_address.port}"
        for path in ("/", "/v1/nodes", "/v1/events", "/nowhere"):
            async with web.get(admin + path) as answer:
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        async with web.put(admin + "/v1/nodes/node1", json={"weight": 0}) as answer:
            assert answer.status == 401
        for path in ("/healthz", "/readyz", "/metrics"):
            await text(web, admin + path)
        await text(web, admin + "/v1/nodes", headers={"Authorization": "Bearer s3cret"})
        basic = "Basic " + base64.b64encode(b"anybody:s3cret").decode()
        await text(web, admin + "/v1/nodes", headers={"Authorization": basic})
        by_name = {"Authorization": basic, "Host": "lb.site", "Origin": "http://lb.site"}
        async with web.put(admin + "/v1/nodes/node1", json={"weight": 2}, headers=by_name) as answer:
            assert answer.status == 200
        for wrong in ("Bearer wrong", "Bearer", "Basic s3cret", "Basic !", "Digest s3cret", "Bearer \xe9"):
            async with web.get(admin + "/v1/nodes", headers={"Authorization": wrong}) as answer:
                assert answer.status == 401
    finally:
        await balancer.stop()


@pytest.mark.parametrize("option", ["listen", "admin"])
async def test_a_busy_port_is_named_and_nothing_stays_open(nodes: list[ScriptedNode], option: str) -> None:
    taken = str(nodes[0].address)
    balancer = Balancer(settings_for(nodes, **{option: taken}))
    with pytest.raises(ConfigurationError, match=f"--{option} {taken}"):
        await balancer.start()
    await balancer.stop()
    assert {task.get_name() for task in asyncio.all_tasks() if "checks of" in task.get_name()} == set()


async def test_stop_lets_requests_in_flight_finish_and_takes_no_more(nodes: list[ScriptedNode]) -> None:
    go_on = asyncio.Event()

    async def slow(connection: Connection) -> None:
        while request := await connection.request():
            if b"/slow" in request.line:
                await go_on.wait()
            await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    nodes[0].script = slow
    balancer = Balancer(settings_for(nodes[:1], drain_timeout_s=20.0))
    await balancer.start()
    host, port = balancer.listen_address
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: balancer.pool.nodes["node1"].active == 1)
    stopping = asyncio.create_task(balancer.stop())

    async def refused() -> bool:
        try:
            _, late = await asyncio.open_connection(host, port)
        except OSError:
            return True
        late.close()
        return False

    await eventually(refused)
    go_on.set()
    assert (await reader.read()).endswith(b"Connection: close\r\n\r\nhi")
    writer.close()
    await stopping


async def test_the_list_of_nodes_can_change_while_it_serves(
    nodes: list[ScriptedNode], balancer: Balancer, web: aiohttp.ClientSession
) -> None:
    url, admin = f"http://{balancer.listen_address}/", f"http://{balancer.admin_address}"
    third = ScriptedNode("node3", serve)
    await third.start()
    try:
        specs = [NodeSpec(node.name, node.address) for node in (nodes[1], third)]
        balancer.pool.set_nodes(specs, Patience(rise=1, fall=3, request_fall=10))
        await until(lambda: balancer.pool.nodes["node3"].is_up)  # it was checked at once
        rows = json.loads(await text(web, admin + "/v1/nodes"))["nodes"]
        assert [row["name"] for row in rows] == ["node2", "node3"]
        assert {await text(web, url) for _ in range(4)} == {"node2", "node3"}
        metrics = await text(web, admin + "/metrics")
        assert 'balancer_node_active{node="node3"}' in metrics
        assert "node1" not in metrics
        checks = len(nodes[0].requests)
        await until(lambda: len(third.requests) > 8)
        assert len(nodes[0].requests) <= checks + 1  # one may have been under way
    finally:
        await third.stop()


async def test_the_cluster_can_name_the_nodes(nodes: list[ScriptedNode], web: aiohttp.ClientSession) -> None:
    api = FakeApi("node1", addresses={node.name: str(node.address) for node in nodes})
    api.members = {node.name: MemberState.ALIVE for node in nodes}
    await api.start()
    balancer = Balancer(settings_for([], discover=(api.address,), discover_interval_s=0.02))
    try:
        await balancer.start()
        url = f"http://{balancer.listen_address}/"
        assert {await text(web, url) for _ in range(4)} == {
            "node1",
            "node2",
        }  # known before the first request
        await nodes[1].stop()
        api.members["node2"] = MemberState.LEFT
        await until(lambda: list(balancer.pool.nodes) == ["node1"])
        assert {await text(web, url) for _ in range(4)} == {"node1"}
        metrics = await text(web, f"http://{balancer.admin_address}/metrics")
        assert "balancer_discovery_failures_total 0.0" in metrics
    finally:
        await balancer.stop()
        await api.stop()


class Slow:
    """A node's script that lets requests wait until `may_answer`."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()

    async def __call__(self, connection: Connection) -> None:
        while request := await connection.request():
            if request.line.split(b" ")[1] != b"/_sessiond/health":
                await self.may_answer.wait()
            await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nnode1")


async def one_served_and_one_waiting(
    balancer: Balancer, web: aiohttp.ClientSession
) -> tuple[asyncio.Task[str], asyncio.Task[str]]:
    """Requests at node1, which takes one at a time."""
    url = f"http://{balancer.listen_address}/"
    cookies = {"Cookie": f"SESSIONID={TOKEN}.node1"}
    first = asyncio.create_task(text(web, url, headers=cookies))
    await until(lambda: balancer.pool.nodes["node1"].active)
    second = asyncio.create_task(text(web, url, headers=cookies))
    await until(lambda: balancer.pool.nodes["node1"].queued)
    return first, second


@pytest.mark.parametrize("order", [NodeState.MAINTENANCE, NodeState.DRAINING])
async def test_who_waits_for_a_node_that_is_ordered_away_goes_to_another(
    nodes: list[ScriptedNode], web: aiohttp.ClientSession, order: NodeState
) -> None:
    nodes[0].script = slow = Slow()
    balancer = Balancer(settings_for(nodes, node_connections_max=1))
    await balancer.start()
    try:
        first, second = await one_served_and_one_waiting(balancer, web)
        balancer.pool.set_order(balancer.pool.nodes["node1"], order)
        assert await second == "node2"
        slow.may_answer.set()
        assert await first == "node1"
    finally:
        await balancer.stop()


async def test_who_waits_for_the_last_node_as_it_begins_to_drain_is_served_there_unless_another_comes(
    nodes: list[ScriptedNode], web: aiohttp.ClientSession
) -> None:
    nodes[0].script = slow = Slow()
    balancer = Balancer(settings_for(nodes, node_connections_max=1, health_interval_s=600.0))
    await balancer.start()
    try:
        pool = balancer.pool
        one, two = pool.nodes.values()
        pool.set_order(two, NodeState.MAINTENANCE)
        first, second = await one_served_and_one_waiting(balancer, web)
        pool.set_order(one, NodeState.DRAINING)
        pool.unreachable(two, "refused")  # news of others change nothing for those who wait
        assert one.queued == 1
        slow.may_answer.set()
        assert (await first, await second) == ("node1", "node1")
        slow.may_answer.clear()
        first, second = await one_served_and_one_waiting(balancer, web)
        pool.set_order(two, NodeState.UP)
        while not two.is_up:
            pool.check_passed(two, two.health.check_started(), sessions=None, draining=False)
        assert await second == "node2"
        slow.may_answer.set()
        await first
    finally:
        await balancer.stop()


@pytest.mark.parametrize("how", ["another is back", "another was taken out", "panics are switched off"])
async def test_who_waits_for_a_node_that_counted_as_up_in_a_panic_goes_to_another_when_that_is_over(
    nodes: list[ScriptedNode], web: aiohttp.ClientSession, how: str
) -> None:
    third = ScriptedNode("node3", serve)
    await third.start()
    nodes[0].script = slow = Slow()
    settings = settings_for(
        [*nodes, third], node_connections_max=1, health_interval_s=600.0, health_rise=1, panic_threshold=0.4
    )
    balancer = Balancer(settings)
    await balancer.start()
    try:
        pool = balancer.pool
        one, two, _ = pool.nodes.values()
        for node in (one, two):
            pool.check_failed(node, node.health.check_started(), "of no use", deliberate=True)
        assert pool.is_panicking
        first, second = await one_served_and_one_waiting(balancer, web)
        match how:
            case "another is back":
                pool.check_passed(two, two.health.check_started(), sessions=None, draining=False)
            case "another was taken out":
                specs = [node.spec for node in pool.nodes.values() if node is not two]
                pool.set_nodes(specs, Patience(rise=1, fall=3, request_fall=10))
            case _:
                await balancer.reload(replace(settings, panic_threshold=0.0))
        assert not pool.is_panicking
        assert one.queued == 0
        assert await second in ("node2", "node3")
        slow.may_answer.set()
        assert await first == "node1"
    finally:
        await balancer.stop()
        await third.stop()
