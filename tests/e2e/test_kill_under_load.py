"""A node dies in the midst of writes: nothing that was answered is lost, and no read fails."""

from collections.abc import Callable

import pytest
import uvloop

from tests.e2e.cluster import Cluster
from tests.e2e.kill_under_load import IN_FLIGHT_MIN, NODES, Report, kill_under_load

pytestmark = pytest.mark.process


def test_no_session_no_answered_write_and_no_read_is_lost_when_a_busy_node_is_killed(
    make_cluster: Callable[..., Cluster], show: Callable[[str], None]
) -> None:
    async def run() -> Report:
        async with make_cluster(nodes=NODES, app="tests.e2e.apps:create_app") as cluster:
            return await kill_under_load(cluster)

    report = uvloop.run(run())
    show(str(report))
    assert report.faults == []
    assert report.in_flight >= IN_FLIGHT_MIN
    assert len(report.gaps_ms) == report.primaries
