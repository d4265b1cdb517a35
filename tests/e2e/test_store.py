"""Nodes with a store, as processes: killed together they come back with every answered write."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tests.e2e.cluster import Cluster
from tests.e2e.kill_everybody import Report, kill_everybody, place_stores
from tests.e2e.load import audit, begin
from tests.stores.conftest import postgresql_server, redis_server

__all__ = ["postgresql_server", "redis_server"]  # fixtures

pytestmark = pytest.mark.process

APP = "tests.e2e.apps:create_app"


@pytest.fixture
def url_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Node → URL of its store, for each kind in turn."""
    if request.param == "file":
        return lambda name: f"file://{tmp_path}/{name}"
    if request.param == "sqlite":
        return lambda name: f"sqlite:///{tmp_path}/{name}.db"
    server = request.getfixturevalue(f"{request.param}_server")
    return lambda _: server.url


KINDS = [
    "file",
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.servers),
    pytest.param("redis", marks=pytest.mark.servers),
]


@pytest.mark.parametrize("url_of", KINDS, indirect=True)
def test_a_cluster_killed_as_a_whole_comes_back_with_every_answered_write(
    make_cluster: Callable[..., Cluster], show: Callable[[str], None], url_of: Callable[[str], str]
) -> None:
    async def run() -> Report:
        cluster = make_cluster(nodes=2, app=APP)
        place_stores(cluster, url_of)
        async with cluster:
            return await kill_everybody(cluster, sessions=20, seconds=1.0, rounds=1)

    report = uvloop.run(run())
    show(str(report))
    assert report.faults == []
    assert report.kept > 2 * report.sessions


@pytest.mark.parametrize("url_of", ["file"], indirect=True)
def test_a_single_node_that_stops_in_order_restarts_with_its_sessions(
    make_cluster: Callable[..., Cluster], url_of: Callable[[str], str]
) -> None:
    async def run() -> list[str]:
        cluster = make_cluster(nodes=1, app=APP, store_write="behind")
        place_stores(cluster, url_of)
        async with cluster:
            customers = await begin(cluster, 20)
            cluster.nodes["node1"].signal(signal.SIGTERM)
            await cluster.nodes["node1"].ended()
            await cluster.restart("node1")
            return await audit(customers)

    assert uvloop.run(run()) == []
