"""Processes that do not belong: each is refused with a message that names the thing, and disturbs nobody.

And values that cannot be kept: an error to the caller, and the session stays what it was.
"""

from collections.abc import Awaitable, Callable

import pytest

from sessiond.adapters.refusals import FAULT_TEXT
from tests.e2e.client import Browser
from tests.e2e.cluster import Cluster
from tests.e2e.processes import Process

pytestmark = pytest.mark.process

USAGE = 2
APP = "tests.e2e.apps:create_app"


async def sessions_on_every_node(cluster: Cluster) -> list[Browser]:
    browsers = [cluster.browser_at(name) for name in cluster.nodes for _ in range(5)]
    for number, browser in enumerate(browsers):
        (await browser.post(f"/number/{number}")).good()
    return browsers


async def check_undisturbed(cluster: Cluster, browsers: list[Browser]) -> None:
    """Every session is served where it was, everybody is alive, and nobody was ever thought dead."""
    for number, browser in enumerate(browsers):
        answer = (await browser.get("/number")).good()
        assert answer == {"node": browser.cookie.node, "number": number}
        assert len(browser.cookie.tokens) == 1
    for name, node in cluster.nodes.items():
        assert await cluster.states(name) == dict.fromkeys(cluster.nodes, "alive")
        for event in ("peer.dead", "peer.suspected", "node.rejoins", "process.failed"):
            assert node.events(event) == []


def message_of(process: Process) -> str:
    """What it told the person who started it: the last line."""
    return process.text().splitlines()[-1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "node4", "secret_file": "other-secret"}, ["secret", "--secret-file"]),
        ({"name": "node4", "cluster_name": "staging"}, ["staging", "--cluster-name"]),
        ({"name": "node1"}, ["node1", "--name"]),
    ],
    ids=["wrong secret", "wrong cluster name", "duplicate node name"],
)
async def test_a_process_that_does_not_belong_is_refused_and_disturbs_nobody(
    start_cluster: Callable[..., Awaitable[Cluster]], settings: dict[str, str], said: list[str]
) -> None:
    cluster = await start_cluster(nodes=3, app=APP)
    browsers = await sessions_on_every_node(cluster)
    if "secret_file" in settings:
        other = cluster.directory / settings["secret_file"]
        other.write_text("another secret, also of 32 chars\n")
        settings = {**settings, "secret_file": str(other)}

    refused = cluster.newcomer("newcomer", **settings)
    assert await refused.ended() == USAGE
    message = message_of(refused)
    assert message.startswith("sessiond: ")
    for word in said:
        assert word in message
    await check_undisturbed(cluster, browsers)


async def test_a_value_that_cannot_be_kept_is_an_error_to_the_caller_and_nothing_is_lost(
    start_cluster: Callable[..., Awaitable[Cluster]],
) -> None:
    cluster = await start_cluster(nodes=2, app=APP, session_bytes_max=500_000)
    browsers = await sessions_on_every_node(cluster)
    for path, said in (
        ("/unstorable", ["door", "Door"]),
        ("/bytes/600000", ["session_bytes_max"]),
    ):
        for number, browser in enumerate(browsers):
            answer = await browser.post(path)
            assert (answer.status, answer.body.decode()) == (500, FAULT_TEXT)
            reason = cluster.nodes[browser.cookie.node].events("session.refused")[-1]["reason"]
            assert all(word in reason for word in said), reason
            assert (await browser.get("/number")).good()["number"] == number
    await check_undisturbed(cluster, browsers)

    cluster.kill("node1")
    for number, browser in enumerate(browsers):
        survivor = cluster.browser_at("node2", browser.cookie)
        assert (await survivor.get("/number")).good()["number"] == number
        (await survivor.post("/number/1000")).good()
