"""The pages in a real browser: Debian's Chromium, driven by playwright; skipped where one of them is missing."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp_sse import sse_response

from balancer.admin import dashboard
from sessiond.adapters.aiohttp import setup
from sessiond.contract.cluster_view import MemberState
from sessiond.demo.app import create_app
from sessiond.demo.nodes import colour_of
from sessiond.errors import Unavailable
from tests.demo.fakes import FakeNode
from tests.demo.front import Front

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's package chromium is not installed")

DEADLINE_MS = 30_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-sync",
]
SCHEMES = ("light", "dark")
PHONE = {"width": 375, "height": 812}


@asynccontextmanager
async def chromium(**options) -> AsyncIterator:
    """A page of a fresh browser that fails the test on a script's error or a refused resource."""
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            context = await browser.new_context(**options)
            page = await context.new_page()
            page.set_default_timeout(DEADLINE_MS)
            faults: list[str] = []
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on(
                "console",
                lambda line: faults.append(line.text) if "Content Security" in line.text else None,
            )
            yield page
            assert faults == []
        finally:
            await browser.close()


@asynccontextmanager
async def served(node: FakeNode) -> AsyncIterator[TestServer]:
    app = create_app(node)
    setup(app, node)
    async with TestServer(app) as server:
        yield server


async def add(page, item: str) -> None:
    await page.locator(f"form:has(input[value={item}]) button").click()


def text(page, selector: str, expected: str):
    """Wait until an element has this text."""
    return playwright.expect(page.locator(selector)).to_contain_text(expected, timeout=DEADLINE_MS)


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


def row(name: str, **more: object) -> dict[str, object]:
    usual = {
        "state": "up",
        "reason": "",
        "weight": 1,
        "active": 3,
        "requests": 10,
        "failures": 0,
        "sessions": 5,
    }
    return {"name": name, "address": "127.0.0.1:8101", **usual, **more}


class FakeBalancer:
    """The admin port with rows as the test wants them, sent as fast as the page takes samples."""

    def __init__(self, *rows: dict[str, object]) -> None:
        self.rows = list(rows)
        self.app = web.Application()
        self.app.add_routes([*dashboard.routes(), web.get("/v1/events", self._events)])
        self.app.on_shutdown.append(self._close)
        self._closing = asyncio.Event()

    async def _close(self, _app: web.Application) -> None:
        self._closing.set()

    async def _events(self, request: web.Request) -> web.StreamResponse:
        async with sse_response(request) as stream:
            while not self._closing.is_set():
                for each in self.rows:
                    each["requests"] += 100
                requests = sum(each["requests"] for each in self.rows)
                totals = {"requests": requests, "failures": 1, "retries": 2, "active_connections": 7}
                await stream.send(json.dumps({"nodes": self.rows, "totals": totals}))
                await asyncio.wait({asyncio.ensure_future(self._closing.wait())}, timeout=0.5)
        return stream


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_the_dashboard_shows_nodes_in_the_colours_of_the_shop(scheme: str) -> None:
    names = ["node1", "node2", "web-10", "alpha", "x_y"]
    balancer = FakeBalancer(*(row(name) for name in names))
    async with TestServer(balancer.app) as server, chromium(viewport=PHONE, color_scheme=scheme) as page:
        await page.goto(str(server.make_url("/")))
        for name in names:
            await playwright.expect(
                page.locator(f"tr.hue-{colour_of(name)}[data-name={name}]")
            ).to_be_visible()
        assert await page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


async def test_the_dashboard_shows_rates_states_with_reasons_and_totals() -> None:
    balancer = FakeBalancer(
        row("node1"), row("node2", state="down", reason="connection refused", sessions=None)
    )
    async with TestServer(balancer.app) as server, chromium() as page:
        await page.goto(str(server.make_url("/")))
        await text(page, "#up", "1 of 2")
        await text(page, "[data-name=node2] .condition", "connection refused")
        await text(page, "[data-name=node2] .sessions", "–")
        await text(page, "#retries", "2")
        await playwright.expect(page.locator("[data-name=node1] .rate")).not_to_have_text(
            "0", timeout=DEADLINE_MS
        )
        balancer.rows.pop()
        await text(page, "#up", "1 of 1")


async def test_the_dashboard_says_when_the_balancer_is_lost_and_recovers() -> None:
    balancer = FakeBalancer(row("node1"))
    async with TestServer(balancer.app) as server, Front(server.port) as front, chromium() as page:
        await page.goto(front.url)
        await text(page, "#live", "live")
        front.move(1)
        await text(page, "#live", "the balancer does not answer, figures of")
        await playwright.expect(page.locator("body")).to_have_class("stale")
        front.move(server.port)
        await text(page, "#live", "live")
