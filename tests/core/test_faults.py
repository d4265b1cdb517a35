"""Random faults against random interleavings: no acknowledged write is lost, ever, and clusters settle.

A small precursor of a full simulator. A failing seed is replayed with
``python -c "from tests.core.chaos import Run; Run(SEED, …).run()"``.
"""

import pytest

from tests.core.chaos import Run


@pytest.mark.parametrize("first_seed", range(0, 120, 20))
def test_no_acknowledged_write_is_lost_when_nodes_crash_restart_drain_and_lose_links(first_seed):
    acked = faults = 0
    for seed in range(first_seed, first_seed + 20):
        counts = Run(seed).run()
        acked += counts["acked"]
        faults += counts["faults"]
    assert acked > 500  # the clients were served, not only refused
    assert faults == 80


@pytest.mark.parametrize("first_seed", [1000, 1020])
def test_the_same_holds_with_two_backups_on_five_nodes(first_seed):
    for seed in range(first_seed, first_seed + 20):
        counts = Run(seed, nodes=5, copies=2).run()
        assert counts["acked"] > 0
