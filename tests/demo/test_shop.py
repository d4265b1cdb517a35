"""What visitors of the shop rely on: exact counts, a cart that works with and without JavaScript, clear refusals."""

import asyncio
import re

import pytest
from aiohttp.test_utils import TestClient

from sessiond.contract.cluster_view import MemberState
from sessiond.contract.session_id import Key
from sessiond.demo import app as shop_module
from sessiond.demo.cart import CART_ITEMS_MAX, CATALOGUE
from sessiond.values import decode, encode
from tests.demo.fakes import FakeNode


async def read(client: TestClient) -> dict:
    async with client.get("/api/session") as answer:
        assert answer.status == 200
        return await answer.json()


async def add(client: TestClient, item: str = "mug") -> dict:
    async with client.post("/api/cart", json={"item": item}) as answer:
        assert answer.status == 200
        return await answer.json()


async def page(client: TestClient, path: str = "/") -> str:
    async with client.get(path) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/html"
        return await answer.text()


async def test_the_page_and_the_api_count_visits_of_one_session(shop: TestClient) -> None:
    assert ">1</dd>" in await page(shop)
    assert (await read(shop))["visits"] == 2
    assert ">3</dd>" in await page(shop)


async def test_the_answer_names_node_session_role_and_backups(shop: TestClient, node: FakeNode) -> None:
    answer = await read(shop)
    [key] = node.store
    assert answer == {
        "node": "node1",
        "visits": 1,
        "cart": [],
        "session": {"key": key.hex()[:8], "role": "primary", "backups": ["node2"]},
    }


async def test_changes_of_the_cart_leave_the_visits_alone(shop: TestClient) -> None:
    await read(shop)
    await add(shop, "mug")
    answer = await add(shop, "lamp")
    assert (answer["visits"], answer["cart"]) == (1, ["mug", "lamp"])
    async with shop.delete("/api/cart") as emptied:
        assert ((await emptied.json())["visits"], (await emptied.json())["cart"]) == (1, [])


async def test_parallel_requests_of_one_session_each_count_exactly_once(shop: TestClient) -> None:
    await read(shop)
    answers = await asyncio.gather(*(read(shop) for _ in range(30)), *(add(shop) for _ in range(10)))
    assert sorted(answer["visits"] for answer in answers[:30]) == list(range(2, 32))
    final = await read(shop)
    assert (final["visits"], final["cart"]) == (32, ["mug"] * 10)


async def test_a_write_from_elsewhere_in_between_is_kept_and_the_visit_still_counts(
    shop: TestClient, node: FakeNode
) -> None:
    await read(shop)
    left = 3

    async def another_node_counts(key: Key) -> None:
        nonlocal left
        if left:
            left -= 1
            stored = node.store[key]
            stored.attributes["visits"] = encode("visits", decode(stored.attributes["visits"]) + 1)
            stored.version += 1

    node.before_commit = another_node_counts
    assert (await read(shop))["visits"] == 5


async def test_a_request_that_is_always_overtaken_gives_up_with_a_reason_and_changes_nothing(
    shop: TestClient, node: FakeNode
) -> None:
    await read(shop)

    async def somebody_writes(key: Key) -> None:
        node.store[key].version += 1

    node.before_commit = somebody_writes
    async with shop.get("/api/session") as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert "nothing was changed: try again" in await answer.text()
    node.before_commit = None
    assert (await read(shop))["visits"] == 2


async def test_nothing_is_answered_before_the_visit_is_kept(shop: TestClient, node: FakeNode) -> None:
    arrived, acked = asyncio.Event(), asyncio.Event()

    async def until_acked(_key: Key) -> None:
        arrived.set()
        await acked.wait()

    node.before_commit = until_acked
    request = asyncio.ensure_future(page(shop))
    await arrived.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not request.done()
    acked.set()
    assert ">1</dd>" in await request


async def test_looking_at_the_cart_counts_no_visit_and_makes_no_session(
    shop: TestClient, node: FakeNode
) -> None:
    text = await page(shop, "/cart")
    assert "It keeps nothing of you yet." in text
    assert node.store == {}
    await read(shop)
    assert ">1</dd>" in await page(shop, "/cart")


async def test_forms_fill_and_empty_the_cart_without_javascript(shop: TestClient) -> None:
    assert "Nothing in it yet." in await page(shop)
    for item in ("mug", "mug", "candle"):
        async with shop.post("/cart", data={"item": item}, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/")
    text = await page(shop)
    assert "× 2" in text
    assert "€38.00" in re.sub(r"(?s).*Total", "", text)
    async with shop.post("/cart/empty") as answer:  # follows the redirect, as a browser does
        assert answer.status == 200
        assert "Nothing in it yet." in await answer.text()


async def test_a_form_sent_in_place_is_answered_by_the_page_without_a_visit(shop: TestClient) -> None:
    await read(shop)
    async with shop.post("/cart", data={"item": "mug"}, headers={"X-In-Place": "1"}) as answer:
        text = await answer.text()
    assert "Enamel mug added. node1 keeps your cart." in text
    assert ">1</dd>" in text


@pytest.mark.parametrize("item", ["sofa", "", "<script>alert(1)</script>"])
async def test_an_unknown_item_is_refused_with_the_list_of_known_ones(shop: TestClient, item: str) -> None:
    async with shop.post("/api/cart", json={"item": item}) as answer:
        assert answer.status == 400
        body = await answer.json()
    assert (body["error"], body["items"]) == ("unknown_item", list(CATALOGUE))
    assert all(name in body["message"] for name in CATALOGUE)


async def test_a_refused_form_shows_the_page_with_the_reason_escaped(shop: TestClient) -> None:
    async with shop.post("/cart", data={"item": "<script>alert(1)</script>"}) as answer:
        assert answer.status == 400
        text = await answer.text()
    assert "the shop has no &#39;&lt;script&gt;alert(1)&lt;/script&gt;&#39;" in text
    assert "<script>alert" not in text


async def test_a_full_cart_refuses_more_and_says_so(shop: TestClient) -> None:
    for _ in range(CART_ITEMS_MAX):
        await add(shop)
    async with shop.post("/api/cart", json={"item": "mug"}) as answer:
        assert answer.status == 409
        assert (await answer.json())["error"] == "cart_full"
    async with shop.post("/cart", data={"item": "mug"}) as answer:
        assert answer.status == 409
        assert "the cart is full: it holds 50 items; empty it first" in await answer.text()
    assert len((await read(shop))["cart"]) == CART_ITEMS_MAX


async def test_the_api_takes_nothing_that_another_site_could_send_as_a_form(shop: TestClient) -> None:
    async with shop.post(
        "/api/cart", data='{"item": "mug"}', headers={"Content-Type": "text/plain"}
    ) as answer:
        assert answer.status == 415
    assert (await read(shop))["cart"] == []


@pytest.mark.parametrize("body", ["", "{", "[]", '"mug"', "{}", '{"item": 7}', '{"item": null}', "\udcff"])
async def test_a_body_without_an_item_is_refused_with_an_example(shop: TestClient, body: str) -> None:
    data = body.encode("utf-8", "surrogateescape")
    async with shop.post("/api/cart", data=data, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 400
        assert '{"item": "mug"}' in (await answer.json())["message"]


async def test_the_page_tells_where_the_copies_are(shop: TestClient, node: FakeNode) -> None:
    assert "It holds the primary copy of your session. The backup is on node2." in await page(shop)
    node.backups = ()
    assert "no other node is up to keep a backup" in await page(shop)
    node.primary, node.backups = "node2", ("node1",)
    assert "Another node holds the primary copy" in await page(shop)
    assert (await read(shop))["session"]["role"] == "backup"


async def test_the_page_shows_every_node_with_its_state_and_colour(shop: TestClient, node: FakeNode) -> None:
    node.states["node2"] = MemberState.DEAD
    text = await page(shop)
    assert '<li class="node hue-1 is-alive" data-name="node1">' in text
    assert '<li class="node hue-2 is-dead" data-name="node2">' in text


async def test_names_of_nodes_are_escaped(shop: TestClient, node: FakeNode) -> None:
    node.states['"><b>'] = MemberState.ALIVE
    node.backups = ("<i>",)
    text = await page(shop)
    assert "<b>" not in re.sub(r"(?s).*<ul class=\"nodes\"", "", text).split("</ul>")[0]
    assert "<i>" not in text


async def test_the_page_may_load_nothing_from_elsewhere_and_is_not_kept_by_caches(shop: TestClient) -> None:
    async with shop.get("/") as answer:
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"


async def test_style_and_script_come_without_a_session(shop: TestClient, node: FakeNode) -> None:
    for path, kinds in (
        ("/shop.css", {"text/css"}),
        ("/shop.js", {"text/javascript", "application/javascript"}),
    ):
        async with shop.get(path) as answer:
            assert answer.status == 200
            assert answer.content_type in kinds
            assert "Set-Cookie" not in answer.headers
    assert node.store == {}


async def test_a_body_larger_than_any_item_is_refused(shop: TestClient) -> None:
    data = {"item": "x" * shop_module.BODY_BYTES_MAX}
    async with shop.post("/cart", data=data) as answer:
        assert answer.status == 413
    async with shop.post("/api/cart", json=data) as answer:
        assert answer.status == 413
