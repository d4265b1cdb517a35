"""`sessiond status`, `locate` and `drain`, as people use them on a cluster that runs."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest

from sessiond.contract.names import HEALTH_PATH
from tests.e2e.cluster import Cluster
from tests.e2e.kill_under_load import everybody_writes
from tests.e2e.load import audit, begin, shopping
from tests.e2e.processes import HOST, REPOSITORY
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.process

APP = "tests.e2e.apps:create_app"
LEAVING = "node2"
AT_ONCE_S = 6.0
"""Longer than it takes a process to close its ports, shorter than any wait of a drain."""

Start = Callable[..., Awaitable[Cluster]]


class Done(NamedTuple):
    code: int
    out: str
    err: str


async def sessiond(*arguments: str, **environment: str) -> Done:
    """Run the command until it ends."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SESSIOND_")}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sessiond", *arguments),
        cwd=REPOSITORY,
        env={**inherited, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(child.communicate(), 60)
    except BaseException:
        child.kill()
        await child.wait()
        raise
    assert child.returncode is not None
    return Done(child.returncode, out.decode(), err.decode())


def api(cluster: Cluster, name: str = "node1") -> str:
    return f"--api={HOST}:{cluster.nodes[name].api}"


async def failed(*arguments: str, **environment: str) -> str:
    """Run what must fail: exit code 1 and one line, which is returned."""
    done = await sessiond(*arguments, **environment)
    assert done.code == 1, done
    assert done.err.startswith("sessiond: ")
    assert done.err.count("\n") == 1
    return done.err


async def test_status_shows_every_node_and_whether_the_sessions_are_protected(start_cluster: Start) -> None:
    cluster = await start_cluster(nodes=2, app=APP)
    for name in cluster.nodes:
        (await cluster.browser_at(name).post("/number/1")).good()
    done = await sessiond("status", api(cluster))
    assert (done.code, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["cluster", "default,", "as", "node1", "sees", "it", "(quorum", "any)"]
    columns = ["node", "state", "http", "primaries", "backups", "unprotected", "zone", "role", "incarnation"]
    assert lines[2] == columns
    assert lines[3][:8] == [
        "node1",
        "alive",
        f"{HOST}:{cluster.nodes['node1'].http}",
        "1",
        "1",
        "0",
        "-",
        "app",
    ]
    assert lines[-1] == ["fully", "protected:", "every", "session", "has", "its", "backups"]
    body = json.loads((await sessiond("status", api(cluster), "--json")).out)
    assert [member["name"] for member in body["members"]] == ["node1", "node2"]

    cluster.kill("node2")

    async def says_so() -> bool:
        done = await sessiond("status", SESSIOND_API=api(cluster).removeprefix("--api="))
        return "NOT FULLY PROTECTED: 2 sessions have fewer backups" in done.out and "dead" in done.out

    await wait_until(says_so, "status shows the dead node and the sessions without a backup")


async def test_locate_shows_where_a_session_is_or_that_there_is_none(start_cluster: Start) -> None:
    cluster = await start_cluster(nodes=2, app=APP)
    browser = cluster.browser_at("node1")
    (await browser.post("/number/1")).good()
    done = await sessiond("locate", browser.cookie.session_id, api(cluster))
    assert done.code == 0
    found = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert found == {
        "key": found["key"],
        "primary": "node1",
        "backups": "node2",
        "epoch": "1",
        "version": "1",
    }
    again = await sessiond("locate", found["key"], api(cluster, "node2"), "--json")
    assert json.loads(again.out)["primary"] == "node1"
    message = await failed("locate", "0" * 32, api(cluster))
    assert "node1 knows no such session" in message


async def test_a_node_drained_by_command_is_empty_and_can_be_killed_without_anybody_noticing(
    start_cluster: Start, show: Callable[[str], None]
) -> None:
    cluster = await start_cluster(nodes=3, app=APP)
    customers = await begin(cluster, 60)
    async with shopping(customers, write_pause_s=0.05, read_pause_s=0.05):
        await everybody_writes(customers, 3)
        idle = cluster.browser_at(LEAVING)
        (await idle.get("/waiting")).good()
        began_at = time.perf_counter()
        done = await sessiond("drain", LEAVING, "--wait", api(cluster))
        took_s = time.perf_counter() - began_at
        assert (done.code, done.err) == (0, ""), done
        assert done.out.splitlines()[-1] == f"{LEAVING}: 0 copies: safe to stop"
        health = await cluster.browser_at(LEAVING).get(HEALTH_PATH)
        assert (health.status, health.json()["state"]) == (503, "draining")
        assert (health.json()["primaries"], health.json()["backups"]) == (0, 0)
        answer = await idle.get("/waiting")
        assert (answer.status, answer.headers["connection"]) == (200, "close"), "kept until it was used"
        cluster.kill(LEAVING)
        await everybody_writes(customers, 3)
    faults = [*await audit(customers), *(reason for customer in customers for reason in customer.unknown)]
    show(
        f"drain --wait of 1 of 3 nodes under load: {took_s:.2f} s, then SIGKILL: {len(faults)} failed requests"
    )
    assert faults == []


async def test_a_drained_node_ends_at_once_when_it_is_told_to(start_cluster: Start) -> None:
    cluster = await start_cluster(nodes=3, app=APP)
    await begin(cluster, 6)
    assert (await sessiond("drain", LEAVING, "--wait", api(cluster))).code == 0
    assert cluster.nodes[LEAVING].is_running
    told_at = time.perf_counter()
    cluster.nodes[LEAVING].signal(signal.SIGTERM)
    assert await cluster.nodes[LEAVING].ended() == 0
    assert time.perf_counter() - told_at < AT_ONCE_S
    assert (await cluster.states("node1"))[LEAVING] == "left"


async def test_a_drain_can_be_aborted_and_the_node_serves_again(start_cluster: Start) -> None:
    cluster = await start_cluster(nodes=3, app=APP)
    begun = await sessiond("drain", LEAVING, api(cluster))
    assert begun.code == 0
    assert begun.out.startswith(f"{LEAVING}")
    refused = await cluster.browser_at(LEAVING).post("/number/1")
    assert refused.status == 503
    aborted = await sessiond("drain", LEAVING, "--abort", api(cluster, LEAVING))
    assert (aborted.code, aborted.out) == (0, f"{LEAVING} serves again\n")
    browser = cluster.browser_at(LEAVING)
    answer = await browser.post("/number/1")
    assert answer.good()["node"] == LEAVING
    assert answer.headers.get("connection") != "close"
    await cluster.ready()


async def test_the_last_node_is_never_called_safe_to_stop(start_cluster: Start) -> None:
    cluster = await start_cluster(nodes=1, app=APP)
    (await cluster.browser().post("/number/1")).good()
    done = await sessiond("drain", "node1", "--wait", api(cluster))
    assert done.code == 1
    assert "safe to stop" not in done.out
    assert "node1 is not safe to stop: 1 session lives only here" in done.err
    assert "sessiond drain node1 --abort" in done.err


async def test_what_cannot_be_asked_is_named_with_the_way_out(start_cluster: Start) -> None:
    cluster = await start_cluster(nodes=2, app=APP)
    message = await failed("drain", "node7", api(cluster))
    assert "node1 knows no node node7; it knows node1, node2" in message
    with socket.create_server((HOST, 0)) as nobody:
        address = f"{HOST}:{nobody.getsockname()[1]}"
    message = await failed("status", "--api", address)
    assert f"nobody answers at {address} (Connection refused)" in message
    assert "--api" in message
    message = await failed("status", f"--api={HOST}:{cluster.nodes['node1'].http}")
    assert "is not the API of a node" in message
    cluster.kill("node2")

    async def is_dead() -> bool:
        return (await cluster.states("node1"))["node2"] == "dead"

    await wait_until(is_dead, "node1 knows that node2 is dead")
    assert "node2 is dead, as node1 sees it" in await failed("drain", "node2", api(cluster))


async def test_another_nodes_api_at_the_address_of_the_one_that_is_meant_is_noticed(
    start_cluster: Start,
) -> None:
    cluster = await start_cluster(nodes=2, app=APP)
    wrong = f"{HOST}:{cluster.nodes['node1'].api}"
    cluster.newcomer("node3", "node3", advertise_api=wrong)

    async def is_met() -> bool:
        return "node3" in await cluster.alive("node1")

    await wait_until(is_met, "node1 has met node3")
    message = await failed("drain", "node3", api(cluster))
    assert f"at {wrong}, the API address of node3, node1 answers" in message
    assert "--advertise-api" in message
    assert (await cluster.states("node1"))["node1"] == "alive"


async def test_the_token_is_asked_for_and_a_wrong_one_is_named(start_cluster: Start) -> None:
    cluster = await start_cluster(nodes=1, app=APP)
    token, wrong = cluster.directory / "token", cluster.directory / "wrong"
    token.write_text("a-token-of-many-characters\n")
    wrong.write_text("another-one-of-as-many-characters\n")
    port = cluster.ports.take()
    cluster.newcomer("guarded", "node2", api=f"0.0.0.0:{port}", api_token_file=str(token))

    async def is_met() -> bool:
        return "node2" in await cluster.alive("node1")

    await wait_until(is_met, "node1 has met node2")
    address = f"{HOST}:{port}"
    assert "give --api-token-file FILE" in await failed("status", "--api", address)
    assert f"does not take the token in {wrong}" in await failed(
        *("drain", "node2", "--api", address, "--api-token-file", str(wrong))
    )
    # In the node's own environment the command needs no options at all.
    environment = {"SESSIOND_API": f"0.0.0.0:{port}", "SESSIOND_API_TOKEN_FILE": str(token)}
    done = await sessiond("status", **environment)
    assert (done.code, done.err) == (0, "")
    assert "as node2 sees it" in done.out
