"""Reports of several processes as one, and settings that travel."""

import os
import resource
import subprocess
import sys
from pathlib import Path

from balancer.admin.metrics import COUNTERS, GAUGES, HISTOGRAMS, NODE_COUNTERS, NODE_GAUGES, Numbers, families
from balancer.core.histogram import BOUNDS_S
from balancer.settings import Settings
from balancer.workers.merging import Departed, merged_numbers, merged_rows, merged_totals, processes
from balancer.workers.packing import packed_settings, unpacked_settings


def report(requests: int, weight: int, *nodes: str) -> Numbers:
    """Of a worker that has had so many requests at each node, one of which it is serving."""
    of_all = {row.name: 0.0 for row in (*COUNTERS, *GAUGES)} | {"requests": requests, "connections": 5}
    of_node = {row.name: 0.0 for row in (*NODE_COUNTERS, *NODE_GAUGES)}
    of_node |= {"node_requests": requests, "node_active": 1, "node_weight": weight}
    own = {
        "counters": [of_node[row.name] for row in NODE_COUNTERS],
        "gauges": [of_node[row.name] for row in NODE_GAUGES],
        "answers": [0, requests, 0, 0, 0],
        "durations": [[requests, *[0] * len(BOUNDS_S), 0.5] for _ in HISTOGRAMS],
        "state": "up",
    }
    return {
        "counters": [of_all[row.name] for row in COUNTERS],
        "gauges": [of_all[row.name] for row in GAUGES],
        "nodes": dict.fromkeys(nodes or ("node1",), own),
    }


def values(reports: list[Numbers], departed: Departed) -> dict[str, float]:
    merged = merged_numbers(reports, departed)
    assert merged is not None
    return {
        " ".join((sample.name.removeprefix("balancer_"), *sample.labels.values())): sample.value
        for family in families(merged)
        for sample in family.samples
    }


def test_amounts_are_added_up_and_facts_are_taken_from_the_newest_report() -> None:
    seen = values([report(3, 5), report(4, 6)], Departed())
    expected = {
        "requests_total": 7,
        "connections": 10,
        "node_requests_total node1": 7,
        "node_active node1": 2,
        "node_weight node1": 6,
        "node_answers_total node1 2xx": 7,
        "node_state node1 up": 1,
        "node_state node1 down": 0,
        "node_check_seconds_bucket node1 0.0005": 7,
        "node_check_seconds_count node1": 7,
        "node_check_seconds_sum node1": 1.0,
    }
    assert {name: seen[name] for name in expected} == expected


def test_what_a_worker_counted_outlives_it_and_what_it_was_doing_does_not() -> None:
    departed = Departed()
    row = {"name": "node1", "state": "up", "requests": 3, "failures": 1, "active": 2}
    for _ in range(2):
        departed.add([row], {"requests": 3, "active_connections": 9}, report(3, 5))
    seen = values([report(1, 5)], departed)
    assert (seen["requests_total"], seen["node_check_seconds_count node1"]) == (7, 7)
    assert (seen["connections"], seen["node_active node1"]) == (5, 1)
    (shown,) = merged_rows([[row], [{**row, "state": "down"}]], departed)
    assert shown == {"name": "node1", "state": "down", "requests": 12, "failures": 4, "active": 4}
    assert merged_totals([{"requests": 1, "active_connections": 2}], departed) == {
        "requests": 7,
        "active_connections": 2,
    }


def test_metrics_of_a_node_end_when_the_newest_report_does_not_know_it() -> None:
    seen = values([report(3, 5, "node1", "node2"), report(4, 5, "node2")], Departed())
    assert "node_requests_total node1" not in seen
    assert seen["node_requests_total node2"] == 7


def test_what_is_not_known_to_one_is_taken_from_the_other_and_facts_are_not() -> None:
    one, other = report(1, 5), report(2, 5)
    one["counters"][-1], other["counters"][-1] = None, 3
    sessions = [row.name for row in NODE_GAUGES].index("node_sessions")
    other["nodes"]["node1"]["gauges"][sessions] = None
    for reports in ([one, other], [other, one]):
        assert values(reports, Departed())[f"{COUNTERS[-1].name}_total"] == 3
    assert "node_sessions node1" not in values([one, other], Departed())


def test_the_processes_add_up_to_one_and_those_that_ended_stay_in_its_cpu_time() -> None:
    def of(*pids: int) -> dict[str, float]:
        return {sample.name: sample.value for family in processes(pids) for sample in family.samples}

    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()  # now it has its memory
        alone, both = of(os.getpid()), of(os.getpid(), child.pid)
        child.communicate(b"\n")
    assert both["process_resident_memory_bytes"] > alone["process_resident_memory_bytes"]
    assert both["process_start_time_seconds"] == alone["process_start_time_seconds"]
    assert of(os.getpid(), child.pid)["process_cpu_seconds_total"] >= both["process_cpu_seconds_total"]
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert of(os.getpid())["process_cpu_seconds_total"] >= spent.ru_utime + spent.ru_stime > 0


def test_counts_of_latencies_are_added_bucket_by_bucket_and_outlive_their_worker() -> None:
    row = {"name": "node1", "latency": [1, 0, 2]}
    departed = Departed()
    departed.add([row], {}, report(0, 5))
    (seen,) = merged_rows([[row], [{**row, "latency": [0, 5, 1]}]], departed)
    assert seen["latency"] == [2, 5, 5]


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
