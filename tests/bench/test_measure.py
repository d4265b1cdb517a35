"""What the figures of a benchmark are made of."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.bench.errors import BenchError
from tests.bench.measure import (
    TICKS_PER_S,
    Contender,
    Group,
    Spread,
    Target,
    Turn,
    compare,
    cpu_seconds,
    memory_kib,
)
from tests.bench.wrk import Load

NO_ERRORS = {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0}


def a_turn(cpu_s: float, requests: int = 1000) -> Turn:
    return Turn(Load(requests=requests, errors=NO_ERRORS, seconds=2.0, p50_ms=0.5, p99_ms=1.0), cpu_s)


def a_contender(name: str) -> Contender:
    return Contender(name, "1.0", lambda _directory: nullcontext(Target(0, (), (), lambda _requests: None)))


def a_process(proc: Path, pid: int, parent: int, *times: int, command: str = "server") -> None:
    (proc / str(pid)).mkdir()
    before_times = " ".join(["0"] * 9)
    (proc / str(pid) / "stat").write_text(
        f"{pid} ({command}) S {parent} {before_times} {' '.join(map(str, times))} 20 0\n"
    )


def test_cpu_time_counts_children_of_children_and_those_already_reaped(tmp_path: Path) -> None:
    a_process(tmp_path, 10, 1, 5, 4, 3, 2)
    a_process(tmp_path, 11, 10, 100, 0, 0, 0)
    a_process(tmp_path, 12, 11, 0, 1000, 0, 0)
    a_process(tmp_path, 13, 1, 9999, 9999, 9999, 9999)
    assert cpu_seconds([10], tmp_path) == (14 + 100 + 1000) / TICKS_PER_S


def test_cpu_time_of_several_programs_under_test_is_added_up(tmp_path: Path) -> None:
    a_process(tmp_path, 10, 1, 1, 0, 0, 0)
    a_process(tmp_path, 11, 1, 2, 0, 0, 0)
    assert cpu_seconds([10, 11], tmp_path) == 3 / TICKS_PER_S


def test_memory_counts_children_and_shares_what_is_shared(tmp_path: Path) -> None:
    for pid, parent, kib in ((10, 1, 300), (11, 10, 20), (12, 1, 9999)):
        a_process(tmp_path, pid, parent, 0, 0, 0, 0)
        (tmp_path / str(pid) / "smaps_rollup").write_text(
            f"Rss:   9999 kB\nPss:   {kib} kB\nPss_Anon:  7 kB\n"
        )
    assert memory_kib([10], tmp_path) == 320


def test_a_command_name_with_spaces_and_parentheses_does_not_shift_the_fields(tmp_path: Path) -> None:
    a_process(tmp_path, 10, 1, 7, 0, 0, 0, command="tmux: (x) 1 2")
    assert cpu_seconds([10], tmp_path) == 7 / TICKS_PER_S


def test_a_program_that_ended_cannot_be_measured(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="process 10 ended"):
        cpu_seconds([10], tmp_path)


def test_a_spread_is_the_median_with_lowest_and_highest() -> None:
    assert Spread.of([9.0, 1.0, 2.0]) == Spread(median=2.0, low=1.0, high=9.0)


def test_contenders_take_turns_round_by_round() -> None:
    order: list[str] = []

    def take(contender: Contender) -> Turn:
        order.append(contender.name)
        return a_turn(1.0)

    group = Group("g", "G", (a_contender("a"), a_contender("b")))
    compare(group, 3, take, lambda _line: None)
    assert order == ["a", "b", "a", "b", "a", "b"]


def test_a_ratio_compares_turns_of_the_same_round() -> None:
    # The machine is ten times slower in the second round; the ratio must not see it.
    cpu_s = {"a": iter([1.0, 10.0, 1.0]), "b": iter([2.0, 20.0, 2.0])}
    group = Group("g", "G", (a_contender("a"), a_contender("b")))
    _, result = compare(group, 3, lambda contender: a_turn(next(cpu_s[contender.name])), lambda _line: None)
    assert result.ratio == Spread(2.0, 2.0, 2.0)


def test_figures_of_a_turn_are_per_request_and_per_second() -> None:
    turn = a_turn(cpu_s=0.5, requests=1000)
    assert turn.cpu_us_per_request == 500
    assert turn.requests_per_s == 500
    assert turn.busy == 0.25
