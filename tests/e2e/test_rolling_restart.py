"""Every node is restarted in turn, under load, and nobody notices; at full size: `tests.proof.rolling_restart`."""

from collections.abc import Callable

import pytest
import uvloop

from tests.e2e.cluster import Cluster
from tests.proof.rolling_restart import APP, DRAIN_TIMEOUT_S, WAYS, Report, rolling_restart

pytestmark = pytest.mark.process

REQUESTS_PER_S = 100


@pytest.mark.parametrize("way", WAYS)
def test_no_request_fails_and_no_session_is_lost_when_all_nodes_are_restarted_in_turn(
    make_cluster: Callable[..., Cluster], show: Callable[[str], None], way: str
) -> None:
    async def run() -> Report:
        async with make_cluster(nodes=3, app=APP, drain_timeout_s=DRAIN_TIMEOUT_S) as cluster:
            return await rolling_restart(cluster, way, REQUESTS_PER_S)

    report = uvloop.run(run())
    show(str(report))
    assert report.failed == []
    assert report.lost == []
    assert report.restarts == 3
