"""The shop of a fake node, served on a loopback port."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import CookieJar
from aiohttp.test_utils import TestClient, TestServer

from sessiond.adapters.aiohttp import setup
from sessiond.demo.app import create_app
from tests.demo.fakes import FakeNode


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
async def shop(node: FakeNode) -> AsyncIterator[TestClient]:
    async with browser_of(node) as client:
        yield client


def browser_of(node: FakeNode, jar: CookieJar | None = None) -> TestClient:
    """A visitor with cookies; two of them may share a jar, as one browser before two nodes."""
    app = create_app(node)
    setup(app, node)
    return TestClient(TestServer(app), cookie_jar=jar or CookieJar(unsafe=True))
