"""The races of log-out and expiry with uses and takeovers, a few of them."""

import pytest

from tests.proof.expiry_races import NODES, Answer, Race, expiry_races, settings


@pytest.mark.process
@pytest.mark.timeout(300)
async def test_no_session_comes_back_or_ends_early(start_cluster, show):
    cluster = await start_cluster(NODES, **settings())
    report = await expiry_races(cluster, races=20, seed=1)
    show(str(report))
    assert report.faults == []
    assert report.acknowledged > 0
    assert report.expired > 0


def race(*answers: tuple[float, float, bool], ended_at: float | None = None, logs_out: bool = False) -> Race:
    return Race("id", [Answer(*answer) for answer in answers], ended_at, logs_out)


@pytest.mark.parametrize(
    ("judged", "fault"),
    [
        (race((0.0, 0.1, True), (1.5, 1.6, False)), "gone 1.600 s after"),
        (race((0.0, 0.1, True), (2.2, 2.3, False), (2.4, 2.5, True)), "came back 0.100 s after"),
        (race((0.0, 0.1, True), (2.2, 2.3, False), (2.2, 2.6, True)), "gone 0.100 s after"),
        (race((0.0, 0.1, True), (1.2, 1.3, True), ended_at=1.0, logs_out=True), "served 0.200 s after"),
        (race((0.0, 0.1, True), (2.2, 2.3, False), (2.4, 2.5, False)), None),
        (race((0.0, 0.1, True), (0.9, 1.3, True), (1.2, 1.4, False), ended_at=1.0, logs_out=True), None),
    ],
)
def test_the_judge_finds_what_cannot_be_in_order_by_the_users_clock(judged, fault):
    faults = judged.faults()
    assert (not faults) if fault is None else faults[0].startswith(fault)
