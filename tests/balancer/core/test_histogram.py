"""Durations are counted in the bucket that holds them, and no duration is lost."""

from hypothesis import given
from hypothesis import strategies as st

from balancer.core.histogram import BOUNDS_S, Histogram, cumulative


def test_a_duration_equal_to_a_bound_is_within_it() -> None:
    histogram = Histogram()
    histogram.observe(BOUNDS_S[2])
    assert dict(cumulative(histogram.counts)) == {
        bound: int(bound >= BOUNDS_S[2]) for bound in (*BOUNDS_S, float("inf"))
    }


@given(st.lists(st.floats(0, 100)))
def test_each_bound_counts_the_durations_up_to_it_and_the_last_counts_all(durations: list[float]) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.observe(duration)
    for bound, count in cumulative(histogram.counts):
        assert count == sum(duration <= bound for duration in durations)
    assert histogram.sum_s == sum(durations)
