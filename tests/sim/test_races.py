"""Ends of sessions against their use and takeovers: a few of the races that `make proof-races` runs by thousands."""

from tests.sim.races import run


def test_no_race_brings_a_session_back_or_ends_one_in_use():
    total = run(200, first=3000)
    assert total["resurrections"] == total["early expiries"] == total["other violations"] == 0
    assert total["logout and use"] > 0
    assert total["expiry and use"] > 0
    assert total["logout and takeover"] + total["expiry and takeover"] > 0
