"""A visitor logs in, and the node that gave the new token dies before the grace of the old one is over."""

import pytest

from tests.e2e.client import Browser, Cookie
from tests.e2e.cluster import Cluster
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.process

GRACE_S = 15.0


async def number(browser: Browser) -> int:
    found: int = (await browser.get("/number")).good()["number"]
    return found


async def forgotten(browser: Browser) -> bool:
    """Whether the visitor is one without a session, who is given none for asking."""
    return await number(browser) == 0


async def logged_in(cluster: Cluster) -> tuple[Cookie, Cookie]:
    """The cookies of a visitor of node1 before and after the log-in."""
    browser = cluster.browser_at("node1")
    (await browser.post("/number/1")).good()
    old = Cookie(browser.cookie.session_id)
    (await browser.post("/log-in/2")).good()
    assert browser.cookie.token != old.token
    return old, browser.cookie


async def test_the_old_token_goes_on_through_a_takeover_and_ends_with_its_grace(start_cluster):
    cluster = await start_cluster(app="tests.e2e.apps:create_app", rotate_grace_s=GRACE_S)
    old, new = await logged_in(cluster)
    cluster.kill("node1")
    before = old.session_id
    for node in ("node2", "node3"):
        tab = cluster.browser_at(node, old)
        assert await number(tab) == 2
        assert old.session_id == before, "an old token is never handed out again"
    (await cluster.browser_at("node2", old).post("/number/3")).good()
    assert await number(cluster.browser_at("node3", new)) == 3

    for node in ("node2", "node3"):
        tab = cluster.browser_at(node, Cookie(before))
        await wait_until(lambda tab=tab: forgotten(tab), "the grace ends", GRACE_S + 30)
    assert await number(cluster.browser_at("node2", new)) == 3


async def test_a_log_out_within_the_grace_ends_both_tokens_whoever_dies(start_cluster):
    cluster = await start_cluster(app="tests.e2e.apps:create_app", rotate_grace_s=GRACE_S)
    old, new = await logged_in(cluster)
    tokens = old.session_id, new.session_id
    (await cluster.browser_at("node1", new).post("/log-out")).good()
    cluster.kill("node1")
    for node in ("node2", "node3"):
        for session_id in tokens:
            assert await forgotten(cluster.browser_at(node, Cookie(session_id)))
