"""The dashboard is served whole, and may load nothing from elsewhere. How it looks is in tests/demo/test_look.py."""

import re

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from balancer.admin import dashboard


@pytest.fixture
async def admin():
    app = web.Application()
    app.add_routes(dashboard.routes())
    async with TestClient(TestServer(app)) as client:
        yield client


async def test_the_page_and_everything_it_names_is_served(admin: TestClient) -> None:
    async with admin.get("/") as page:
        assert (page.status, page.content_type) == (200, "text/html")
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        named = re.findall(r'(?:src|href)="(/[^"]+\.\w+)"', await page.text())
    assert named == ["/dashboard.css", "/dashboard.js"]
    async with admin.get("/dashboard.js") as script:
        named += re.findall(r'from "(/[^"]+)"', await script.text())
    assert named[2:] == ["/figures.js"]
    for path in named:
        async with admin.get(path) as answer:
            assert answer.status == 200
