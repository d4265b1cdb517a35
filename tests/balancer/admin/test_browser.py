"""The dashboard in a real browser: what it shows, and the orders that are given through it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp_sse import sse_response

from balancer.admin import dashboard
from balancer.core.histogram import BOUNDS_S
from balancer.core.pool import NodeState
from balancer.server import Balancer
from balancer.settings import Settings
from sessiond.demo.nodes import colour_of
from tests.balancer.proxy.stage import ScriptedNode
from tests.demo.front import Front
from tests.support.browser import DEADLINE_MS, PHONE, SCHEMES, chromium, needs_chromium, playwright, text

pytestmark = needs_chromium


def row(name: str, **more: object) -> dict[str, object]:
    usual = {
        "state": "up",
        "reason": "",
        "order": "up",
        "weight": 1,
        "active": 3,
        "idle": 4,
        "requests": 10,
        "failures": 0,
        "retries": 0,
        "sessions": 5,
        "queue": 0,
        "zone": "",
        "latency": [0] * (len(BOUNDS_S) + 1),
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
                    each["latency"] = [
                        count + (98 if index == 1 else 2 if index == 7 else 0)
                        for index, count in enumerate(each["latency"])
                    ]
                requests = sum(each["requests"] for each in self.rows)
                totals = {"requests": requests, "failures": 1, "retries": 2, "active_connections": 7}
                event = {"nodes": self.rows, "bounds_s": BOUNDS_S, "totals": totals}
                await stream.send(json.dumps(event))
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
        # Of 100 answers 98 took up to 1 ms and 2 up to 100 ms: half of them 0.76 ms at most, 99 of them 75 ms.
        for place in ("#p50", "[data-name=node1] .p50"):
            await text(page, place, "0.8 ms")
        for place in ("#p99", "[data-name=node1] .p99"):
            await text(page, place, "75 ms")
        await playwright.expect(page.locator("[data-name=node1] .load-value")).to_be_hidden()
        for each in balancer.rows:
            each["load"] = 0.25
        await text(page, "[data-name=node1] .load-value", "0.25")
        await text(page, "[data-name=node1] .idle", "4 idle")
        balancer.rows[0]["queue"] = 9
        await text(page, "[data-name=node1] .idle", "9 waiting")
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


# --- orders, given to a real balancer ----------------------------------------------------------------------


@asynccontextmanager
async def balancing(**settings: object) -> AsyncIterator[Balancer]:
    """A balancer in front of two nodes that answer everything."""
    nodes = [ScriptedNode(name) for name in ("node1", "node2")]
    for node in nodes:
        await node.start()
    own = {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "node": tuple(f"{node.name}={node.address}" for node in nodes),
        "health_path": "/",
        **settings,
    }
    balancer = Balancer(Settings(**own))
    await balancer.start()
    try:
        yield balancer
    finally:
        await balancer.stop()
        for node in nodes:
            await node.stop()


def page_of(balancer: Balancer) -> str:
    return f"http://127.0.0.1:{balancer.admin_address.port}/"


def button(page, name: str):
    return page.get_by_role("button", name=name, exact=True)


@pytest.mark.parametrize("size", [None, PHONE], ids=["desk", "phone"])
async def test_a_node_is_drained_disabled_and_enabled_by_clicks(size: dict[str, int] | None) -> None:
    async with balancing() as balancer, chromium(viewport=size or {"width": 1280, "height": 800}) as page:
        node = balancer.pool.nodes["node1"]
        await page.goto(page_of(balancer))
        await text(page, "[data-name=node1] .state", "up")
        await button(page, "Drain node1").click()
        await text(page, "[data-name=node1] .state", "draining")
        assert node.state is NodeState.DRAINING
        await text(page, "#up", "1 of 2")
        await button(page, "Disable node1").click()
        await text(page, "[data-name=node1] .state", "maintenance")
        await text(page, "[data-name=node1] .reason", "set by the operator")
        assert node.state is NodeState.MAINTENANCE
        await playwright.expect(button(page, "Disable node1")).to_be_hidden()
        await button(page, "Enable node1").click()
        await text(page, "[data-name=node1] .state", "up")
        assert node.state is NodeState.UP


async def test_a_weight_is_changed_by_typing_it_and_figures_do_not_write_over_what_is_typed() -> None:
    async with balancing() as balancer, chromium() as page:
        await page.goto(page_of(balancer))
        weight = page.get_by_label("Weight of node2")
        await playwright.expect(weight).to_have_value("1")
        await weight.fill("7")
        balancer.pool.set_order(balancer.pool.nodes["node1"], NodeState.DRAINING)  # so an event comes now
        await text(page, "[data-name=node1] .state", "draining")
        await playwright.expect(weight).to_have_value("7")
        await playwright.expect(weight).to_be_focused()
        assert balancer.pool.nodes["node2"].weight == 1
        async with page.expect_response("**/v1/nodes/node2"):
            await weight.press("Enter")
        assert balancer.pool.nodes["node2"].weight == 7
        # Somebody else changes it: the page follows when nobody types.
        await weight.blur()
        balancer.pool.set_weight(balancer.pool.nodes["node2"], 3)
        await playwright.expect(weight).to_have_value("3")
        await weight.fill("5000")
        await weight.press("Enter")
        assert not await weight.evaluate("input => input.validity.valid")
        assert balancer.pool.nodes["node2"].weight == 3


async def test_the_last_node_is_disabled_only_after_a_question() -> None:
    async with balancing() as balancer, chromium() as page:
        node = balancer.pool.nodes["node1"]
        balancer.pool.set_order(balancer.pool.nodes["node2"], NodeState.MAINTENANCE)
        await page.goto(page_of(balancer))
        await text(page, "#up", "1 of 2")
        await button(page, "Disable node1").click()
        await text(page, "#sure", "every request is answered with 503")
        await button(page, "Keep it").click()
        await playwright.expect(page.locator("#sure")).to_be_hidden()
        assert node.state is NodeState.UP
        await button(page, "Disable node1").click()
        await button(page, "Disable it").click()
        await text(page, "[data-name=node1] .state", "maintenance")


async def test_an_order_that_is_refused_is_told_with_its_reason() -> None:
    async with balancing() as balancer, chromium() as page:
        await page.goto(page_of(balancer))
        await text(page, "[data-name=node1] .state", "up")
        await page.route(
            "**/v1/nodes/*",
            lambda route: route.fulfill(status=400, json={"error": "bad_order", "message": "no such thing"}),
        )
        await button(page, "Drain node1").click()
        await text(page, "#problem", "node1 stays as it is: no such thing.")
        await text(page, "[data-name=node1] .state", "up")


async def test_with_a_token_the_browsers_password_is_enough_for_the_page_its_events_and_orders(
    tmp_path,
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    credentials = {"username": "anybody", "password": "s3cret"}
    settings = {"admin": "0.0.0.0:0", "admin_token_file": token}
    async with balancing(**settings) as balancer, chromium(http_credentials=credentials) as page:
        await page.goto(page_of(balancer))
        await text(page, "[data-name=node1] .state", "up")
        await button(page, "Drain node1").click()
        await text(page, "[data-name=node1] .state", "draining")


@pytest.mark.parametrize(
    "headers", [{}, {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}]
)
async def test_a_foreign_page_cannot_give_orders(headers: dict[str, str]) -> None:
    async def page_of_others(_request: web.Request) -> web.Response:
        return web.Response(text="<p>hello", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page_of_others)
    async with balancing() as balancer, TestServer(app) as foreign, chromium() as page:
        await page.goto(str(foreign.make_url("/")))
        for mode in ("cors", "no-cors"):
            await page.evaluate(
                """([url, headers, mode]) => fetch(url, {method: mode === "cors" ? "PUT" : "POST", mode, headers,
                   body: '{"state": "draining"}'}).then(() => "answered", () => "refused")""",
                [f"{page_of(balancer)}v1/nodes/node1", headers, mode],
            )
        assert balancer.pool.nodes["node1"].state is NodeState.UP
