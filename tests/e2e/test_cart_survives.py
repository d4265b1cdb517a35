"""What the README promises: fill a cart, kill the node that serves you, go on, and kill the next one."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.e2e.client import Browser
from tests.e2e.cluster import Cluster
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.process


async def test_cart_and_visits_survive_until_one_node_is_left_and_a_restarted_one_takes_over_again(
    start_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await start_cluster(nodes=3)
    customer = cluster.browser()
    cart: list[str] = []

    async def add(item: str) -> dict[str, Any]:
        cart.append(item)
        answer: dict[str, Any] = (await customer.post("/api/cart", {"item": item})).good()
        assert answer["cart"] == cart
        return answer

    async def visit(number: int) -> dict[str, Any]:
        answer: dict[str, Any] = (await customer.get("/api/session")).good()
        assert (answer["visits"], answer["cart"]) == (number, cart)
        return answer

    first = (await visit(1))["node"]
    assert (await add("teapot"))["node"] == first

    cluster.kill(first)
    second = (await visit(2))["node"]
    assert second != first
    assert (await add("mug"))["session"]["backups"] == [({*cluster.nodes} - {first, second}).pop()]

    cluster.kill(second)
    third = (await visit(3))["node"]
    alone = (await add("lamp"))["session"]
    assert (alone["role"], alone["backups"]) == ("primary", [])
    assert {first, second, third} == {*cluster.nodes}
    assert customer.cookie.node == third
    assert len(customer.cookie.tokens) == 1

    await cluster.restart(first)
    await wait_until(lambda: serves_new_visitors(cluster, first), f"{first} gets new visitors again")

    async def is_protected() -> bool:
        place = await cluster.locate(third, customer.cookie.session_id)
        return place is not None and place.backups == (first,)

    await wait_until(is_protected, f"{first} keeps the session's backup")
    cluster.kill(third)
    assert (await visit(4))["node"] == first


async def serves_new_visitors(cluster: Cluster, name: str) -> bool:
    visitor: Browser = cluster.browser()
    answer = await visitor.get("/api/session")
    await visitor.close()
    return bool(answer.good()["node"] == name)
