"""What is read from the load generator."""

import pytest

from tests.bench import wrk
from tests.bench.errors import BenchError

LINE = (
    '{"requests": 30, "seconds": 2.5, "p50_ms": 0.5, "p99_ms": 1.5, '
    '"errors": {"connect": 1, "read": 2, "write": 3, "status": 4, "timeout": 5}}'
)


def test_the_scripts_line_is_found_among_what_wrk_prints() -> None:
    load = wrk.parse(f"Running 2s test\n  1 threads\n{wrk.MARK}{LINE}\n")
    assert (load.requests, load.seconds, load.p50_ms, load.p99_ms) == (30, 2.5, 0.5, 1.5)


def test_every_kind_of_error_counts_as_a_failure() -> None:
    assert wrk.parse(f"{wrk.MARK}{LINE}").failed == 15


def test_a_run_without_the_scripts_line_is_an_error() -> None:
    with pytest.raises(BenchError, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1")
