"""Several workers behind one port, as real processes: shares, replacement, sums, and an end in peace."""

import asyncio
import errno
import os
import signal
import socket
import sys
from typing import Any

import aiohttp
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from balancer.errors import ConfigurationError
from balancer.workers.channel import Channel, Message
from balancer.workers.packing import packed_settings
from balancer.workers.supervisor import Supervisor
from tests.balancer.proxy.stage import DEADLINE_S, ScriptedNode, eventually, until
from tests.balancer.running import settings_for
from tests.balancer.workers.running import ask

pytestmark = pytest.mark.process


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


async def test_a_place_whose_next_worker_cannot_be_started_at_once_gets_one_later(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balancer.workers.keeper.START_SPACING_S", 0.1)
    start = asyncio.create_subprocess_exec
    refusals = [OSError(errno.EMFILE, "Too many open files"), OSError(errno.EAGAIN, "Try again")]

    async def start_or_fail(*command: str, **options: Any) -> asyncio.subprocess.Process:
        if refusals:
            raise refusals.pop(0)
        return await start(*command, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_or_fail)
    keeper = supervisor.keepers[0]
    assert keeper.pid is not None
    with structlog.testing.capture_logs() as lines:
        os.kill(keeper.pid, signal.SIGKILL)
        await until(lambda: keeper.starts == 2 and keeper.is_serving)
    assert [line["worker"] for line in lines if line["event"] == "worker.not_started"] == [1, 1]
    for _ in range(10):
        await ask(supervisor)


async def test_a_worker_that_ends_by_a_signal_without_a_name_is_replaced(supervisor: Supervisor) -> None:
    keeper, number = supervisor.keepers[0], signal.SIGRTMIN + 6
    assert keeper.pid is not None
    with structlog.testing.capture_logs() as lines:
        os.kill(keeper.pid, number)
        await until(lambda: keeper.starts == 2 and keeper.is_serving)
    assert [line["signal"] for line in lines if line["event"] == "worker.ended"] == [f"signal {number}"]


@pytest.mark.parametrize("where", ["_instructions", "_on_end"])
async def test_a_fault_of_ours_leaves_no_place_without_a_worker_or_with_two(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr("balancer.workers.keeper.START_SPACING_S", 0.1)
    keeper = supervisor.keepers[0]
    do, pids = getattr(keeper, where), [keeper.pid]

    def fail_once(argument: Any) -> Any:
        setattr(keeper, where, do)
        pids.append(keeper.pid)
        raise RuntimeError("a fault")

    setattr(keeper, where, fail_once)
    assert keeper.pid is not None
    os.kill(keeper.pid, signal.SIGKILL)
    await until(lambda: keeper.starts > 1 and keeper.is_serving)
    for pid in pids:
        if pid is not None:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


async def test_what_can_be_stopped_is_stopped_whatever_fails(
    nodes: list[ScriptedNode], web: aiohttp.ClientSession
) -> None:
    supervisor = Supervisor(settings_for(nodes, workers=2))
    await supervisor.start()
    stop = supervisor.keepers[0].stop

    async def stop_and_fail(drain_timeout_s: float) -> None:
        await stop(drain_timeout_s)
        raise RuntimeError("a fault")

    supervisor.keepers[0].stop = stop_and_fail  # type: ignore[method-assign]  # the only way to break it
    admin = f"http://{supervisor.admin_address}/healthz"
    with structlog.testing.capture_logs() as lines:
        await supervisor.stop()
    assert [line["worker"] for line in lines if line["event"] == "worker.not_stopped"] == [1]
    assert [keeper.pid for keeper in supervisor.keepers] == [None, None]
    with pytest.raises(aiohttp.ClientConnectorError):
        await web.get(admin)


async def test_a_worker_that_was_told_to_end_and_does_so_in_peace_says_so_with_its_exit_code(
    nodes: list[ScriptedNode],
) -> None:
    ours, theirs = socket.socketpair()
    with theirs, socket.create_server(("127.0.0.1", 0)) as listening:
        inherited = [theirs.fileno(), listening.fileno()]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "balancer.workers", *map(str, inherited), pass_fds=inherited
        )
    heard: list[Message] = []
    channel = Channel(heard.append, lambda: None)
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=ours)
    settings = packed_settings(settings_for(nodes))
    channel.send({"kind": "settings", "worker": 1, "settings": settings, "orders": {}})
    await until(lambda: heard and heard[-1]["hindrance"] is None)
    process.terminate()
    async with asyncio.timeout(DEADLINE_S):
        assert await process.wait() == 0
    channel.close()


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
