"""The shop in a real browser."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp.test_utils import TestServer

from sessiond.adapters.aiohttp import setup
from sessiond.contract.cluster_view import MemberState
from sessiond.demo.app import create_app
from sessiond.errors import Unavailable
from tests.demo.fakes import FakeNode
from tests.demo.front import Front
from tests.support.browser import PHONE, SCHEMES, chromium, needs_chromium, text

pytestmark = needs_chromium


@asynccontextmanager
async def served(node: FakeNode) -> AsyncIterator[TestServer]:
    app = create_app(node)
    setup(app, node)
    async with TestServer(app) as server:
        yield server


async def add(page, item: str) -> None:
    await page.locator(f"form:has(input[value={item}]) button").click()


async def test_the_cart_changes_in_place_without_a_reload_or_a_visit() -> None:
    async with served(FakeNode()) as server, chromium() as page:
        await page.goto(str(server.make_url("/")))
        await page.evaluate("window.sameDocument = true")
        await add(page, "mug")
        await add(page, "mug")
        await text(page, "#cart", "× 2")
        await text(page, "#notice", "Enamel mug added. node1 keeps your cart.")
        await text(page, ".facts", "Visits1")
        await page.locator("#again").click()
        await text(page, ".facts", "Visits2")
        await page.get_by_role("button", name="Empty the cart").click()
        await text(page, "#cart", "Nothing in it yet.")
        assert await page.evaluate("document.activeElement.id") == "cart-title"
        assert await page.evaluate("window.sameDocument")


async def test_the_cart_works_with_javascript_switched_off() -> None:
    async with served(FakeNode()) as server, chromium(java_script_enabled=False) as page:
        await page.goto(str(server.make_url("/")))
        await add(page, "lamp")
        await text(page, "#cart", "€64.00")
        await page.get_by_role("button", name="Empty the cart").click()
        await text(page, "#cart", "Nothing in it yet.")


async def test_the_page_shows_a_death_by_itself_and_goes_on_with_another_node() -> None:
    first = FakeNode("node1")
    second = FakeNode("node2", first.store)
    second.backups = ()
    async with served(first) as one, served(second) as two, Front(one.port) as front, chromium() as page:
        await page.goto(front.url)
        await add(page, "teapot")
        await text(page, "#cart", "€38.00")
        await text(page, "#live", "live")
        second.set_state("node1", MemberState.DEAD)
        front.move(two.port)
        await text(page, ".node[data-name=node1] .state", "dead")
        await text(page, "#notice", "node1 is dead. Its sessions live on in their backups")
        await text(page, "h1", "node1")
        await add(page, "candle")
        await text(page, "h1", "node2")
        await text(page, "#notice", "node2 took over from node1: same session, same cart.")
        await text(page, "#cart", "€47.00")


async def test_when_the_backup_dies_the_page_shows_the_new_one_by_itself() -> None:
    node = FakeNode()
    async with served(node) as server, chromium() as page:
        await page.goto(str(server.make_url("/")))
        await text(page, ".role", "The backup is on node2.")
        await text(page, "#live", "live")
        node.backups = ("node3",)
        node.set_state("node3", MemberState.ALIVE)
        node.set_state("node2", MemberState.DEAD)
        await text(page, ".role", "The backup is on node3.")
        await text(page, ".facts", "Visits1")


async def test_while_no_node_answers_the_page_says_so_and_comes_back_by_itself() -> None:
    async with served(FakeNode()) as server, Front(server.port) as front, chromium() as page:
        await page.goto(front.url)
        await text(page, "#live", "live")
        front.move(1)  # nobody listens there
        await text(page, "#live", "no node answers, still trying")
        front.move(server.port)
        await text(page, "#live", "live")


async def test_an_item_of_which_nobody_knows_whether_it_was_added_is_not_added_again() -> None:
    node = FakeNode()
    async with served(node) as server, chromium() as page:
        await page.goto(str(server.make_url("/")))
        node.fail_after_commit = Unavailable("no backup has answered")
        await add(page, "mug")
        await text(page, "#notice", "It is not certain that this happened. node1 shows what is kept.")
        await text(page, "#cart", "€14.50")
        await text(page, ".facts", "Visits1")


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_nothing_scrolls_sideways_on_a_phone(scheme: str) -> None:
    node = FakeNode("a-node-whose-name-is-as-long-as-names-of-nodes-may-be-0123456789")
    node.states = {node.name: MemberState.ALIVE, "node2": MemberState.DEAD}
    async with served(node) as server, chromium(viewport=PHONE, color_scheme=scheme) as page:
        await page.goto(str(server.make_url("/")))
        await add(page, "mug")
        await text(page, "#cart", "€14.50")
        assert await page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
