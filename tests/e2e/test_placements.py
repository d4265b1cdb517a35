"""Every placement with real processes: a node is killed, and what the scheme promises is what is left."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from sessiond.contract.names import HEALTH_PATH
from tests.e2e.client import Browser
from tests.e2e.cluster import Balancer, Cluster, Place
from tests.e2e.processes import HOST
from tests.e2e.waiting import wait_until
from tests.proof.rolling_restart import DRAIN_TIMEOUT_S, Report, rolling_restart

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

APP = "tests.e2e.apps:create_app"
VISITORS = 12

Start = Callable[..., Awaitable[Cluster]]


async def visitors(cluster: Cluster) -> list[Browser]:
    """People with a session each, whose number is their place in the list."""
    people = [cluster.browser() for _ in range(VISITORS)]
    for number, browser in enumerate(people):
        (await browser.post(f"/number/{number}")).good()
    return people


async def numbers(people: list[Browser]) -> list[int]:
    return [(await browser.get("/number")).good()["number"] for browser in people]


async def places(cluster: Cluster, people: list[Browser], asked: str) -> list[Place]:
    found = [await cluster.locate(asked, browser.cookie.session_id) for browser in people]
    return [place for place in found if place is not None]


async def primaries_are(cluster: Cluster, people: list[Browser], asked: str, names: set[str]) -> None:
    """Wait until every session has one of these nodes for its primary, and a backup."""

    async def are() -> bool:
        found = await places(cluster, people, asked)
        return len(found) == len(people) and all(p.primary in names and p.backups for p in found)

    await wait_until(are, f"all sessions live at {', '.join(sorted(names))}, with a backup")


async def test_pair_all_sessions_of_a_node_have_the_same_partner_and_outlive_it(start_cluster: Start) -> None:
    cluster = await start_cluster(nodes=3, app=APP, placement="pair")
    people = await visitors(cluster)
    partner = {"node1": ("node2",), "node2": ("node3",), "node3": ("node1",)}
    for place in await places(cluster, people, "node1"):
        assert place.backups == partner[place.primary]
    cluster.kill("node1")
    assert await numbers(people) == list(range(VISITORS))
    await primaries_are(cluster, people, "node2", {"node2", "node3"})


async def test_all_every_node_holds_every_session_and_the_last_one_serves_them(start_cluster: Start) -> None:
    cluster = await start_cluster(nodes=3, app=APP, placement="all")
    people = await visitors(cluster)
    for place in await places(cluster, people, "node1"):
        assert {place.primary, *place.backups} == {"node1", "node2", "node3"}
    cluster.kill("node1")
    cluster.kill("node2")
    assert await numbers(people) == list(range(VISITORS))


async def test_none_the_sessions_of_a_killed_node_are_gone_and_a_fresh_one_begins(
    start_cluster: Start,
) -> None:
    cluster = await start_cluster(nodes=3, app=APP, placement="none")
    people = await visitors(cluster)
    lost = {number for number, browser in enumerate(people) if browser.cookie.node == "node1"}
    assert lost
    assert all(not place.backups for place in await places(cluster, people, "node2"))
    cluster.kill("node1")
    left = await numbers(people)
    assert {number for number, found in enumerate(left) if found != number} == lost - {0}
    for number in lost:
        assert (await people[number].post("/number/77")).good()["node"] != "node1"
        assert (await people[number].get("/number")).good()["number"] == 77


async def test_central_state_nodes_serve_nobody_and_keep_the_sessions_of_a_killed_app_node_and_of_each_other(
    start_cluster: Start,
) -> None:
    state = {"role": "state"}
    cluster = await start_cluster(nodes=4, app=APP, placement="central", own={"node3": state, "node4": state})
    people = await visitors(cluster)
    for place in await places(cluster, people, "node1"):
        assert place.primary in {"node1", "node2"}
        assert place.backups in {("node3",), ("node4",)}
    await refuses(cluster, "node3", people[0])

    cluster.kill("node1")
    orphans = [browser for browser in people if browser.cookie.node == "node1"]
    assert orphans
    await primaries_are(cluster, orphans, "node2", {"node3", "node4"})  # by themselves, on each other
    cluster.kill("node3")
    await primaries_are(cluster, [b for b in people if b not in orphans], "node2", {"node2"})

    async def are_kept() -> bool:
        return {place.primary for place in await places(cluster, orphans, "node2")} == {"node4"}

    await wait_until(are_kept, "the other state node has what was left")
    assert await numbers(people) == list(range(VISITORS))
    assert {browser.cookie.node for browser in people} == {"node2"}


async def refuses(cluster: Cluster, name: str, visitor: Browser) -> None:
    """A state node says what it is to everybody who comes to it past the balancer, and to health checks."""
    at_state = cluster.browser_at(name, visitor.cookie)
    answer = await at_state.get("/number")
    assert answer.status == 503
    assert "serves no users" in answer.body.decode()
    answer = await cluster.browser_at(name).get("/number")
    assert answer.status == 503
    assert "serves no users" in answer.body.decode()
    health = await cluster.browser_at(name).get(HEALTH_PATH)
    assert (health.status, health.json()["state"], health.json()["role"]) == (503, "alive", "state")
    view = await cluster.view("node1")
    assert view is not None
    assert {m.name for m in view.members if m.role == "state"} == {"node3", "node4"}


def test_a_rolling_restart_under_load_changes_the_placement_and_loses_nothing(
    make_cluster: Callable[..., Cluster], show: Callable[[str], None]
) -> None:
    async def run() -> tuple[Report, set[int]]:
        async with make_cluster(nodes=3, app=APP, drain_timeout_s=DRAIN_TIMEOUT_S) as cluster:
            report = await rolling_restart(cluster, "sigterm", 40, placements=("pair", "all"))
            visitor = cluster.browser()
            (await visitor.post("/number/5")).good()
            place = await cluster.agreed_place(visitor.cookie.session_id)
            return report, {len(place.backups)}

    report, copies = uvloop.run(run())
    show(str(report))
    assert report.failed == []
    assert report.lost == []
    assert report.restarts == 6
    assert copies == {2}  # the last round has brought `all`


async def test_a_balancer_that_follows_the_cluster_never_lists_a_state_node(start_cluster: Start) -> None:
    state = {"role": "state"}
    cluster = await start_cluster(nodes=3, app=APP, placement="central", own={"node3": state})
    seed = cluster.nodes["node3"]
    follower = Balancer("following", cluster.ports, (), cluster.directory, f"--discover={HOST}:{seed.api}")
    cluster.others.append(follower)
    follower.start()

    async def has_list() -> bool:
        return set(await follower.nodes()) == {"node1", "node2"}

    await wait_until(has_list, "the balancer lists the nodes that serve users")
    browsers = [cluster.browser_through(follower) for _ in range(6)]
    answers = await asyncio.gather(*(browser.post("/number/1") for browser in browsers))
    assert {answer.good()["node"] for answer in answers} == {"node1", "node2"}
