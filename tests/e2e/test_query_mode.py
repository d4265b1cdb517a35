"""`--location query` with real processes: only the holders know of a session, and its users go on all the same."""

from collections.abc import Awaitable, Callable

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.process

VICTIM = "node1"


async def test_users_of_a_dead_node_go_on_at_the_holder_of_the_backup_and_at_a_node_that_has_to_ask(
    start_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await start_cluster(nodes=3, location="query", reprotect_delay_s=300)
    for case in ("holder", "other"):
        browser = cluster.browser_at(VICTIM)
        assert (await browser.get("/api/session")).good()["visits"] == 1
        await browser.close()
        cookie = browser.cookie

        async def holders(session_id: str = cookie.session_id) -> set[str]:
            return {name for name in cluster.running() if await cluster.locate(name, session_id)}

        async def backup_knows() -> bool:
            return len(await holders()) == 2

        await wait_until(backup_knows, "primary and backup know of the session, and nobody else")
        (holder,) = await holders() - {VICTIM}
        (other,) = set(cluster.nodes) - {VICTIM, holder}
        cluster.kill(VICTIM)

        node = holder if case == "holder" else other
        browser = cluster.browser_at(node, cookie)
        answer = (await browser.get("/api/session")).good()
        await browser.close()
        assert (answer["node"], answer["visits"]) == (node, 2)
        assert answer["session"]["backups"] == [other if case == "holder" else holder]
        await cluster.restart(VICTIM)


async def test_the_balancers_users_notice_nothing_of_a_death(
    start_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await start_cluster(nodes=3, location="query")
    cookies = []
    for _ in range(20):
        browser = cluster.browser_to(cluster.port)
        assert (await browser.get("/api/session")).good()["visits"] == 1
        await browser.close()
        cookies.append(browser.cookie)
    cluster.kill(VICTIM)
    for cookie in cookies:
        browser = cluster.browser_to(cluster.port, cookie)
        assert (await browser.get("/api/session")).good()["visits"] == 2
        await browser.close()
