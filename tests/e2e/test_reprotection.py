"""The proof of re-protection, small and with generous deadlines: its figures are for a machine of one's own."""

import pytest

from tests.proof.reprotection import NODES, reprotection, settings

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

SESSIONS = 10_000


async def test_after_a_death_and_a_join_every_session_has_exactly_its_copies(start_cluster, show):
    cluster = await start_cluster(NODES, **settings())
    report = await reprotection(cluster, SESSIONS)
    show(str(report))
    assert report.faults == []
