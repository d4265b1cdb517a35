"""Both ways in which a session moves after its primary's death, as `/v1/locate` tells it: the request comes to the
node that holds the backup, or to one that holds nothing. Directly, through our balancer, and through nginx."""

from collections.abc import Awaitable, Callable

import pytest

from tests.e2e.client import Browser, Cookie
from tests.e2e.cluster import Balancer, Cluster, Place
from tests.e2e.nginx import nginx_program, start_nginx
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.process

VICTIM = "node1"

UNASKED_S = 300
"""Nobody takes a session over without a request in these tests."""


class Session:
    """A session with the victim, before its death."""

    def __init__(self, cookie: Cookie, place: Place) -> None:
        self.cookie = cookie
        self.token = cookie.token
        self.before = place

    @property
    def holder(self) -> str:
        return self.before.backups[0]


async def sessions_of_the_victim(cluster: Cluster, count: int) -> list[Session]:
    sessions = []
    for _ in range(count):
        browser = cluster.browser_at(VICTIM)
        assert (await browser.get("/api/session")).good()["visits"] == 1
        await browser.close()
        place = await cluster.agreed_place(browser.cookie.session_id)
        assert place.primary == VICTIM
        assert len(place.backups) == 1
        sessions.append(Session(browser.cookie, place))
    return sessions


async def goes_on_at(browser: Browser, visits: int) -> str:
    """The next visit, the one of this number; the node that answers it."""
    answer = (await browser.get("/api/session")).good()
    await browser.close()
    assert answer["visits"] == visits
    assert answer["session"]["role"] == "primary"
    node: str = answer["node"]
    return node


async def check(cluster: Cluster, session: Session, node: str) -> str:
    """The move to `node` obeyed the rules; which of the two cases it was."""
    assert node != VICTIM
    assert session.cookie.session_id == f"{session.token}.{node}"
    after = await cluster.agreed_place(session.cookie.session_id)
    assert after.primary == node
    assert after.epoch > session.before.epoch
    if node == session.holder:
        assert len(after.backups) == 1
        assert after.backups[0] not in (VICTIM, node)
        return "holder asked"
    assert after.backups == (session.holder,)
    return "other asked"


async def test_the_backups_holder_becomes_primary_and_another_node_its_backup(
    start_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await start_cluster(nodes=4, reprotect_delay_s=UNASKED_S)
    for_holder, for_other = await sessions_of_the_victim(cluster, 2)
    cluster.kill(VICTIM)

    node = await goes_on_at(cluster.browser_at(for_holder.holder, for_holder.cookie), 2)
    assert node == for_holder.holder
    assert await check(cluster, for_holder, node) == "holder asked"

    other = next(name for name in cluster.running() if name != for_other.holder)
    node = await goes_on_at(cluster.browser_at(other, for_other.cookie), 2)
    assert node == other
    assert await check(cluster, for_other, node) == "other asked"


@pytest.mark.parametrize("proxy", ["balancer", "nginx"])
async def test_both_cases_happen_behind_a_proxy_that_picks_any_live_node(
    start_cluster: Callable[..., Awaitable[Cluster]], show: Callable[[str], None], proxy: str
) -> None:
    program = nginx_program() if proxy == "nginx" else ""
    cluster = await start_cluster(nodes=4, reprotect_delay_s=UNASKED_S)
    port = await start_nginx(program, cluster) if program else cluster.port
    sessions = await sessions_of_the_victim(cluster, 40)
    for session in sessions:
        browser = cluster.browser_to(port, session.cookie)
        assert (await browser.get("/api/session")).good()["node"] == VICTIM
        await browser.close()
    cluster.kill(VICTIM)
    cases = [
        await check(cluster, session, await goes_on_at(cluster.browser_to(port, session.cookie), 3))
        for session in sessions
    ]
    held = cases.count("holder asked")
    show(
        f"failover through {proxy}: {held} sessions at the backup's holder, {len(cases) - held} at another node"
    )
    assert 0 < held < len(cases)


async def test_a_balancer_that_computes_the_backup_sends_every_session_to_its_holder(
    start_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await start_cluster(nodes=4, reprotect_delay_s=UNASKED_S)
    options = ("--failover=backup", f"--secret-file={cluster.secret_file}")
    balancer = Balancer("second", cluster.ports, cluster.nodes.values(), cluster.directory, *options)
    cluster.others.append(balancer)
    balancer.start()
    await wait_until(lambda: balancer.sends_to(cluster.nodes), "the second balancer uses the nodes")
    sessions = await sessions_of_the_victim(cluster, 20)
    assert len({session.holder for session in sessions}) > 1
    cluster.kill(VICTIM)
    for session in sessions:
        node = await goes_on_at(cluster.browser_through(balancer, session.cookie), 2)
        assert node == session.holder
        assert await check(cluster, session, node) == "holder asked"
