"""Several workers behind one port, as real processes: shares, replacement, orders, sums, and an end in peace."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from balancer.errors import ConfigurationError
from balancer.workers.supervisor import Supervisor
from tests.balancer.proxy.stage import ScriptedNode, eventually, until
from tests.balancer.running import settings_for

pytestmark = pytest.mark.process

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def supervisor(nodes: list[ScriptedNode]) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(settings_for(nodes, workers=2))
    await supervisor.start()
    yield supervisor
    await supervisor.stop()
    assert [keeper.pid for keeper in supervisor.keepers] == [None, None]


async def ask(supervisor: Supervisor) -> bytes:
    """One request over a connection of its own; the answer's body."""
    reader, writer = await asyncio.open_connection(*supervisor.listen_address)
    try:
        async with asyncio.timeout(20):
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            return await reader.readexactly(5)
    finally:
        writer.close()


def requests_of(supervisor: Supervisor) -> list[int]:
    return [keeper.report["totals"]["requests"] for keeper in supervisor.keepers if keeper.report]


async def metrics(supervisor: Supervisor, web: aiohttp.ClientSession) -> dict[str, float]:
    """Samples by name and labels."""
    async with web.get(f"http://{supervisor.admin_address}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    return {
        " ".join([sample.name, *sorted(sample.labels.values())]): sample.value
        for family in families
        for sample in family.samples
    }


async def test_each_of_two_serves_a_fair_share_of_connections_and_the_admin_port_shows_the_sum(
    supervisor: Supervisor, web: aiohttp.ClientSession
) -> None:
    for _ in range(50):
        await asyncio.gather(*(ask(supervisor) for _ in range(20)))
    await until(lambda: sum(requests_of(supervisor)) == 1000)
    assert all(350 <= share <= 650 for share in requests_of(supervisor)), requests_of(supervisor)

    async def all_answers_are_counted() -> bool:
        values = await metrics(supervisor, web)
        return sum(values[f"balancer_node_answers_total 2xx {node}"] for node in ("node1", "node2")) == 1000

    await eventually(all_answers_are_counted)
    values = await metrics(supervisor, web)
    assert values["balancer_requests_total"] == 1000
    assert values["balancer_node_state node1 up"] == 1
    assert values["balancer_workers"] == 2
    async with web.get(f"http://{supervisor.admin_address}/v1/nodes") as answer:
        rows = (await answer.json())["nodes"]
    assert sum(row["requests"] for row in rows) == 1000
    assert [(row["name"], row["state"], row["sessions"]) for row in rows] == [
        ("node1", "up", 4),
        ("node2", "up", 4),
    ]


async def test_a_killed_worker_is_replaced_and_waiting_connections_and_counts_survive_it(
    supervisor: Supervisor, web: aiohttp.ClientSession
) -> None:
    for _ in range(40):
        await ask(supervisor)
    await until(lambda: sum(requests_of(supervisor)) == 40)
    victim = supervisor.keepers[0].pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    # Many of these are given to the dead worker's socket, and are served by the next worker.
    await asyncio.gather(*(ask(supervisor) for _ in range(40)))
    assert supervisor.keepers[0].pid not in (None, victim)
    assert supervisor.keepers[0].starts == 2

    async def all_counted() -> bool:
        return (await metrics(supervisor, web))["balancer_requests_total"] == 80

    await eventually(all_counted)
    async with web.get(f"http://{supervisor.admin_address}/v1/nodes") as answer:
        assert sum(row["requests"] for row in (await answer.json())["nodes"]) == 80


async def test_orders_reach_all_workers_and_those_that_start_later(
    supervisor: Supervisor, web: aiohttp.ClientSession
) -> None:
    url = f"http://{supervisor.admin_address}/v1/nodes"

    async def put(name: str, body: Any) -> tuple[int, dict[str, Any]]:
        async with web.put(f"{url}/{name}", json=body) as answer:
            return answer.status, await answer.json()

    status, row = await put("node1", {"state": "maintenance", "weight": 3})
    assert (status, row["state"], row["weight"]) == (200, "maintenance", 3)
    assert {await ask(supervisor) for _ in range(40)} == {b"node2"}
    victim = supervisor.keepers[1].pid
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    await until(lambda: supervisor.keepers[1].starts == 2 and supervisor.keepers[1].is_serving)
    assert {await ask(supervisor) for _ in range(40)} == {b"node2"}
    status, problem = await put("node9", {"state": "up"})
    assert (status, problem["message"]) == (404, "there is no node of that name; the nodes are node1, node2")
    status, problem = await put("node1", {"weight": -1})
    assert (status, problem["error"]) == (400, "bad_order")
    assert supervisor.nodes()[0]["weight"] == 3


async def test_what_one_worker_notices_the_others_look_at_at_once(nodes: list[ScriptedNode]) -> None:
    """The checks of a worker by itself would come in ten minutes."""
    supervisor = Supervisor(settings_for(nodes, workers=2, health_interval_s=600.0))
    await supervisor.start()
    try:
        await nodes[0].stop()
        await until_all_know(supervisor, "node1")
    finally:
        await supervisor.stop()


async def until_all_know(supervisor: Supervisor, name: str) -> None:
    """Ask while nobody has noticed, so that only one finds out by a request; then wait for the other."""

    def states() -> set[str]:
        rows = [row for keeper in supervisor.keepers if keeper.report for row in keeper.report["nodes"]]
        return {row["state"] for row in rows if row["name"] == name}

    async def all_know() -> bool:
        if states() == {"up"}:
            await ask(supervisor)
        return states() == {"down"}

    await eventually(all_know)


async def test_it_ends_in_peace_with_requests_in_flight(nodes: list[ScriptedNode]) -> None:
    go_on = asyncio.Event()

    async def slow(connection: Any) -> None:
        while request := await connection.request():
            if b"/slow" in request.line:
                await go_on.wait()
            await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    nodes[0].script = slow
    supervisor = Supervisor(settings_for(nodes[:1], workers=2, drain_timeout_s=20.0))
    await supervisor.start()
    reader, writer = await asyncio.open_connection(*supervisor.listen_address)
    writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: any(b"/slow" in request.line for request in nodes[0].requests))
    stopping = asyncio.create_task(supervisor.stop())
    await until(lambda: None in [keeper.pid for keeper in supervisor.keepers])
    go_on.set()
    assert (await reader.read()).endswith(b"Connection: close\r\n\r\nhi")
    writer.close()
    await stopping


async def test_a_port_that_somebody_has_is_not_shared_with_them(nodes: list[ScriptedNode]) -> None:
    """SO_REUSEPORT would allow it, where the other one allows it too."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        supervisor = Supervisor(settings_for(nodes, workers=2, listen=listen))
        with pytest.raises(ConfigurationError, match=f"--listen {listen}: it is in use"):
            await supervisor.start()
