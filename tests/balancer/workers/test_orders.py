"""What the operator wants of the nodes reaches every worker, whenever that was started, and ends for all of them alike."""

import asyncio
import os
import signal
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from balancer.core.node_spec import NodeSpec
from balancer.workers.channel import Message
from balancer.workers.keeper import Keeper
from balancer.workers.orders import Orders
from balancer.workers.supervisor import Supervisor
from sessiond.contract.address import Address
from sessiond.contract.cluster_view import MemberState
from tests.balancer.fake_api import FakeApi
from tests.balancer.proxy.stage import ScriptedNode, until
from tests.balancer.running import settings_for
from tests.balancer.workers.running import ask


async def put(
    supervisor: Supervisor, web: aiohttp.ClientSession, name: str, body: Any
) -> tuple[int, dict[str, Any]]:
    async with web.put(f"http://{supervisor.admin_address}/v1/nodes/{name}", json=body) as answer:
        return answer.status, await answer.json()


async def replaced(keeper: Keeper) -> None:
    """Kill the worker and wait for the next one."""
    assert keeper.pid is not None
    starts = keeper.starts
    os.kill(keeper.pid, signal.SIGKILL)
    await until(lambda: keeper.starts > starts and keeper.is_serving)


def seen(supervisor: Supervisor, name: str = "node1") -> list[list[Any]]:
    """What each worker says of the node: the operator's order and the weight; nothing if it does not know the node."""
    return [
        [found for row in keeper.report["nodes"] if row["name"] == name for found in (row["order"], row["weight"])]
        for keeper in supervisor.keepers
        if keeper.report is not None
    ]  # fmt: skip


@pytest.mark.process
async def test_orders_reach_all_workers_and_those_that_start_later(
    supervisor: Supervisor, web: aiohttp.ClientSession
) -> None:
    status, row = await put(supervisor, web, "node1", {"state": "maintenance", "weight": 3})
    assert (status, row["state"], row["weight"]) == (200, "maintenance", 3)
    assert seen(supervisor) == [["maintenance", 3]] * 2
    assert {await ask(supervisor) for _ in range(40)} == {b"node2"}
    await replaced(supervisor.keepers[1])
    assert {await ask(supervisor) for _ in range(40)} == {b"node2"}
    status, problem = await put(supervisor, web, "node9", {"state": "up"})
    assert (status, problem["message"]) == (404, "there is no node of that name; the nodes are node1, node2")
    status, problem = await put(supervisor, web, "node1", {"weight": -1})
    assert (status, problem["error"]) == (400, "bad_order")
    status, problem = await put(supervisor, web, "node1", {"weight": 2**70})
    assert (status, problem["error"]) == (400, "bad_order"), "more than a message between processes can hold"
    assert supervisor.nodes()[0]["weight"] == 3


@pytest.mark.process
async def test_a_weight_of_the_configuration_replaces_an_ordered_one_for_workers_that_start_later_too(
    supervisor: Supervisor, web: aiohttp.ClientSession
) -> None:
    await put(supervisor, web, "node1", {"state": "draining", "weight": 5})
    await put(supervisor, web, "node2", {"weight": 7})
    first, second = supervisor.settings.node
    await supervisor.reload(replace(supervisor.settings, node=(f"{first};weight=3", second)))
    await until(lambda: seen(supervisor) == [["draining", 3]] * 2)
    await replaced(supervisor.keepers[0])
    await until(lambda: len(seen(supervisor)) == 2)
    assert seen(supervisor) == [["draining", 3]] * 2
    assert seen(supervisor, "node2") == [["up", 7]] * 2


@pytest.mark.process
async def test_an_order_that_only_some_workers_confirmed_holds_for_all_in_the_end(
    supervisor: Supervisor, web: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("balancer.workers.supervisor.ORDER_TIMEOUT_S", 0.5)
    stuck = supervisor.keepers[1]
    assert stuck.pid is not None
    os.kill(stuck.pid, signal.SIGSTOP)
    status, _ = await put(supervisor, web, "node1", {"state": "maintenance"})
    assert status == 504
    await replaced(stuck)
    assert seen(supervisor) == [["maintenance", 1]] * 2


@pytest.mark.process
async def test_an_order_ends_for_all_workers_alike_when_its_node_leaves_the_list(
    nodes: list[ScriptedNode], web: aiohttp.ClientSession
) -> None:
    members = {node.name: MemberState.ALIVE for node in nodes}
    api = FakeApi("node1", members, addresses={node.name: str(node.address) for node in nodes})
    await api.start()
    following = {"node": (), "discover": (api.address,), "discover_interval_s": 0.05}
    supervisor = Supervisor(settings_for(nodes, workers=2, **following))
    await supervisor.start()
    try:
        await put(supervisor, web, "node1", {"state": "maintenance", "weight": 5})
        await nodes[0].stop()
        members["node1"] = MemberState.LEFT
        await until(lambda: seen(supervisor) == [[], []])
        await nodes[0].start()
        members["node1"] = MemberState.ALIVE
        await until(lambda: seen(supervisor) == [["up", 1]] * 2)
        await replaced(supervisor.keepers[0])
        await until(lambda: len(seen(supervisor)) == 2 and all(seen(supervisor)))
        assert seen(supervisor) == [["up", 1]] * 2
    finally:
        await supervisor.stop()
        await api.stop()


def weights(**by_name: int) -> list[NodeSpec]:
    return [NodeSpec(name, Address("h", 80), weight) for name, weight in by_name.items()]


def test_of_two_orders_the_later_one_holds_whichever_was_answered_first() -> None:
    orders = Orders()
    orders.given(2, "a", {"state": "draining"})
    orders.given(1, "a", {"state": "maintenance", "weight": 3})
    orders.given(3, "b", {"state": None, "weight": 0})
    assert orders.all() == {"a": {"state": "draining", "weight": 3}, "b": {"weight": 0}}


def test_a_new_weight_in_the_configuration_ends_ordered_ones_from_before_it() -> None:
    orders = Orders()
    for name in "abc":
        orders.given(1, name, {"weight": 5})
    orders.reweighted(2, weights(a=1, b=2), weights(a=3, b=2, c=1))
    orders.given(1, "a", {"weight": 5})  # the last worker's answer
    assert orders.all() == {"b": {"weight": 5}, "c": {"weight": 5}}
    orders.given(3, "a", {"weight": 7})
    assert orders.of("a") == {"weight": 7}


class Place:
    """A keeper whose worker says what the test has it say."""

    pid = None
    is_serving = True

    def __init__(self) -> None:
        self.report: Message | None = None
        self.sent: list[Message] = []

    def send(self, message: Message) -> bool:
        self.sent.append(message)
        return True


async def test_an_order_holds_while_any_worker_has_its_node_and_through_the_death_of_all(
    nodes: list[ScriptedNode],
) -> None:
    supervisor = Supervisor(settings_for(nodes, workers=2))
    one, other = places = Place(), Place()
    supervisor.keepers = places  # type: ignore[assignment]  # they are as keepers are to the supervisor
    with_node: Message = {"kind": "report", "nodes": [{"name": "node1"}], "hindrance": None, "changed": []}
    without: Message = {**with_node, "nodes": []}
    order = {"node": "node1", "order": {"state": "maintenance"}}

    def held() -> bool:
        return bool(supervisor._instructions(1)["orders"])

    for place in places:
        supervisor._received(place, with_node)  # type: ignore[arg-type]
    supervisor._received(one, {"kind": "ordered", "number": 1, **order, "row": {}})  # type: ignore[arg-type]
    supervisor._received(one, without)  # type: ignore[arg-type]
    assert held()
    supervisor._received(one, with_node)  # type: ignore[arg-type]
    for place in places:  # both die, and their successors have not found the members yet
        place.report = None
    supervisor._latest.clear()
    for place in places:
        supervisor._received(place, without)  # type: ignore[arg-type]
    assert held()
    for report in (with_node, without):
        supervisor._received(other, report)  # type: ignore[arg-type]
    assert not held()
    assert other.sent[-1] == {"kind": "orders", "orders": {"node1": {}}}


async def test_a_worker_that_begins_while_an_order_is_carried_out_by_the_others_is_told_of_it(
    nodes: list[ScriptedNode],
) -> None:
    supervisor = Supervisor(settings_for(nodes, workers=3))
    old, begun, starting = places = Place(), Place(), Place()
    supervisor.keepers = places  # type: ignore[assignment]  # they are as keepers are to the supervisor
    row = {"name": "node1", "order": "maintenance", "weight": 1}
    report = {"kind": "report", "nodes": [row], "hindrance": None, "changed": []}
    supervisor._received(old, dict(report))  # type: ignore[arg-type]
    ordering = asyncio.create_task(supervisor.order("node1", {"state": "maintenance"}))
    await until(lambda: old.sent)
    supervisor._received(begun, dict(report))  # type: ignore[arg-type]
    supervisor._received(old, {**old.sent[0], "kind": "ordered", "row": row})  # type: ignore[arg-type]
    assert await ordering == row
    for place in (begun, starting):
        assert [message["orders"] for message in place.sent] == [{"node1": {"state": "maintenance"}}]
