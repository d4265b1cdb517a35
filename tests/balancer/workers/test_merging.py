"""Reports of several processes as one, and settings that travel."""

from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from balancer.settings import Settings
from balancer.workers.merging import Departed, Families, merged, merged_rows, merged_totals, packed
from balancer.workers.packing import packed_settings, unpacked_settings


def families(requests: int, active: int, weight: int) -> Families:
    counter = CounterMetricFamily("requests", "Requests", labels=["node"])
    counter.add_metric(["node1"], requests)
    gauge = GaugeMetricFamily("active", "Requests now", value=active)
    fact = GaugeMetricFamily("balancer_node_weight", "Weight", labels=["node"])
    fact.add_metric(["node1"], weight)
    times = HistogramMetricFamily(
        "times", "Times", buckets=[("1.0", requests), ("+Inf", requests)], sum_value=0.5
    )
    return packed([counter, gauge, fact, times])


def values(*reports: Families) -> dict[str, float]:
    return {
        sample.name + "".join(sample.labels.values()): sample.value
        for family in merged(reports)
        for sample in family.samples
    }


def test_amounts_are_added_up_and_facts_are_taken_from_the_newest_report() -> None:
    assert values(families(3, 1, 5), families(4, 2, 6)) == {
        "requests_totalnode1": 7,
        "active": 3,
        "balancer_node_weightnode1": 6,
        "times_bucket1.0": 7,
        "times_bucket+Inf": 7,
        "times_count": 7,
        "times_sum": 1.0,
    }


def test_what_a_worker_counted_outlives_it_and_what_it_was_doing_does_not() -> None:
    departed = Departed()
    row = {"name": "node1", "state": "up", "requests": 3, "failures": 1, "active": 2}
    for _ in range(2):
        departed.add([row], {"requests": 3, "active_connections": 9}, families(3, 1, 5))
    left = values(departed.families)
    assert (left["requests_totalnode1"], left["times_count"]) == (6, 6)
    assert "active" not in left
    (seen,) = merged_rows([[row], [{**row, "state": "down"}]], departed)
    assert seen == {"name": "node1", "state": "down", "requests": 12, "failures": 4, "active": 4}
    assert merged_totals([{"requests": 1, "active_connections": 2}], departed) == {
        "requests": 7,
        "active_connections": 2,
    }


def test_a_node_that_the_newest_report_does_not_know_is_gone() -> None:
    old, new = (
        [{"name": "node1", "requests": 1}, {"name": "node2", "requests": 1}],
        [{"name": "node2", "requests": 2}],
    )
    assert merged_rows([old, new], Departed()) == [{"name": "node2", "requests": 3}]


def test_settings_arrive_as_they_were_sent() -> None:
    settings = Settings(
        node=("a=b:1", "c=d:2"), admin_token_file=Path("/token"), retry_share=0.5, access_log=True
    )
    assert unpacked_settings(packed_settings(settings)) == settings
