"""Random faults against random interleavings: no acknowledged write is lost, ever, and clusters settle.

A small precursor of a full simulator. A failing seed is replayed with
``python -c "from tests.core.chaos import Run, Plan; Run(SEED, Plan(…)).run()"`` under ``PYTHONHASHSEED=0``.
"""

from collections import Counter
from dataclasses import replace

import pytest

from sessiond.core.options import Options
from tests.core.chaos import Plan, Run
from tests.core.clients import Violation

FAST = Options(
    tenure_min_s=0.01,
    request_wait_s=1.5,
    reprotect_delay_s=0.1,
    ack_timeout_s=0.06,
    silence_timeout_s=0.5,
    lease_s=0.25,
    probe_interval_s=0.06,
    probe_timeout_s=0.025,
    handoff_wait_s=0.3,
    touch_interval_s=0.2,
    reconnect_backoff_max_s=0.2,
)
"""Timers of the size of delays, so that they meet."""

PLANS = {
    "crashes, restarts, drains and broken links": Plan(),
    "links that stall and break all the time": Plan(unrest=0.01, options=FAST),
    "two backups on five nodes": Plan(nodes=5, unrest=0.01, options=replace(FAST, copies=2)),
    "two nodes": Plan(nodes=2, kinds=("reset",), unrest=0.01, options=FAST),
    "sessions that are ended": Plan(ends_sessions=True, unrest=0.005, options=FAST),
    "sessions that expire": Plan(
        ends_sessions=True, unrest=0.005, options=replace(FAST, idle_timeout_s=0.15)
    ),
    "pauses": Plan(kinds=("pause", "pause", "kill", "restart"), options=FAST),
    "asynchronous acks": Plan(strict=False, unrest=0.01, options=replace(FAST, ack="async")),
    "partitions": Plan(strict=False, kinds=("part",), options=FAST),
    "partitions, and a majority that rules": Plan(
        nodes=3,
        kinds=("part", "cut", "pause", "reset"),
        options=replace(FAST, quorum="majority", expect=3),
    ),
    "five nodes under majority": Plan(
        nodes=5,
        kinds=("part", "cut", "kill", "restart", "pause"),
        options=replace(FAST, quorum="majority", expect=5),
    ),
}
SEEDS = 12


def run_all(seeds: range, plan: Plan) -> Counter[str]:
    total: Counter[str] = Counter()
    for seed in seeds:
        total.update(Run(seed, plan).run())
    return total


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_promises_are_kept_with(plan):
    total = run_all(range(SEEDS), plan)
    assert total["acked"] > 40 * SEEDS  # the clients were served, not only refused
    assert total["faults"] == plan.faults * SEEDS


def test_the_run_would_notice_a_lost_write():
    # The rule that it stands for: an answer waits for the backups.
    plan = replace(PLANS["links that stall and break all the time"], options=replace(FAST, ack="async"))
    with pytest.raises(Violation):
        run_all(range(100), plan)
