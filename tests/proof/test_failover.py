"""The judge of the failover proof: what counts as failed, as before, and as after."""

import math

from tests.proof.arrivals import Record, Visit, quantile_ms
from tests.proof.failover import AFTER_S, Report, report_of, table


def test_times_before_and_after_the_kill_are_told_apart_by_when_requests_were_due() -> None:
    before = [Visit(due=10 + n / 100, took=0.001) for n in range(100)]
    after = [Visit(due=11 + n / 100, took=0.050) for n in range(100)]
    late = [Visit(due=11 + AFTER_S + n / 100, took=9.0) for n in range(100)]
    report = report_of("x", Record([*late, *after, *before]), began=10, killed=11, ended=20)
    assert (round(report.before_ms), round(report.after_ms), round(report.added_ms)) == (1, 50, 49)
    assert report.longest_ms == 50
    assert report.requests == 300


def test_a_wrong_session_is_a_failed_request_whenever_it_comes_and_its_time_counts_for_nothing() -> None:
    visits = [Visit(due=n / 100, took=0.001) for n in range(200)]
    stray = Visit(due=99.0, took=5.0, fault="the session has 1, not 2")
    report = report_of("x", Record([*visits, stray]), began=0, killed=1, ended=3)
    assert report.faults == ["the session has 1, not 2"]
    assert quantile_ms([*visits, stray], 0.99) == quantile_ms(visits, 0.99)
    assert math.isnan(quantile_ms([stray], 0.99))


def test_the_table_has_medians_of_rounds_and_all_failures() -> None:
    rounds = [Report("x", 2000, 1.0, after, after, 100, ["lost"]) for after in (4.0, 2.0, 90.0)]
    line = table(rounds).splitlines()[1].split()
    assert line[:6] == ["x", "2000", "3", "1.0", "4.0", "3.0"]
    assert line[-2:] == ["300", "GETs"]
