"""The proofs and the torture, short: what CI runs of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tests.proof import loss
from tests.torture import proof_detection, proof_kill_loop, proof_partition, proof_pause
from tests.torture.netns import missing
from tests.torture.proving import Report
from tests.torture.torture import torture

pytestmark = [pytest.mark.torture, pytest.mark.timeout(240)]

PATIENCE = 10.0
"""Machines that run these have other work to do: a bound that is exceeded by so much is no matter of speed any more."""

needs_network = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


@pytest.fixture
def proven(show: Callable[[str], None]) -> Callable[[Report], None]:
    def check(report: Report) -> None:
        show(str(report))
        assert list(report.faults) == []
        assert [str(timing) for timing in report.timings if timing.exceeds(PATIENCE)] == []

    return check


def test_no_acknowledged_write_is_lost_when_one_node_after_the_other_is_killed(
    tmp_path: Path, proven
) -> None:
    proven(uvloop.run(proof_kill_loop.prove(tmp_path, rounds=10, seed=1, quorum="any")))


def test_a_paused_primary_says_nothing_old_and_its_users_do_not_wait_for_it(tmp_path: Path, proven) -> None:
    proven(uvloop.run(proof_pause.prove(tmp_path, rounds=1, seed=1, quorum="any")))


@needs_network
@pytest.mark.parametrize("quorum", ["any", "majority"])
def test_a_partition_loses_nothing_that_was_acknowledged(tmp_path: Path, proven, quorum: str) -> None:
    proven(uvloop.run(proof_partition.prove(tmp_path, quorum=quorum, seconds=8)))


def test_deaths_are_known_soon(tmp_path: Path, proven) -> None:
    proven(
        uvloop.run(
            proof_detection.prove(tmp_path, rounds=5, minutes=0, seed=1, block_ms=900, awareness_max=8)
        )
    )


def test_a_kill_loses_what_the_settings_allow_and_nothing_by_default(tmp_path: Path, proven) -> None:
    proven(uvloop.run(loss.prove(tmp_path, kills=1, users=10, interval_ms=300, seed=1)))


def test_random_faults_break_no_promise(tmp_path: Path, proven) -> None:
    proven(uvloop.run(torture(tmp_path, seconds=30, seed=1, quorum="any")))
