"""Children of a benchmark are pinned, waited for, and never left behind."""

import os
import sys
import time
from pathlib import Path

import pytest

from tests.bench import processes
from tests.bench.errors import BenchError, MachineError
from tests.bench.processes import (
    Cores,
    Process,
    finished,
    free_ports,
    get,
    inherit_priority,
    pinned,
    running,
)

READY = 'print("ready", flush=True)'
SLEEP = "import time; time.sleep(60)"
CORE = min(os.sched_getaffinity(0))


def python(*lines: str) -> list[str]:
    return [sys.executable, "-c", "\n".join(lines)]


def said_ready(process: Process) -> None:
    process.wait_until(lambda: "ready" in process.log.read_text(), "ready")


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_child_and_its_children_run_on_the_core_given(tmp_path: Path) -> None:
    child = "import os, subprocess, sys; print(os.sched_getaffinity(0), flush=True); "
    child += "subprocess.run([sys.executable, '-c', 'import os; print(os.sched_getaffinity(0), flush=True)'])"
    with running("child", python(child, READY, SLEEP), CORE, tmp_path) as process:
        said_ready(process)
    assert process.log.read_text().splitlines()[:2] == [str({CORE})] * 2


def test_starting_a_child_leaves_this_process_where_it_was() -> None:
    before = os.sched_getaffinity(0)
    with pinned(CORE):
        assert os.sched_getaffinity(0) == {CORE}
    assert os.sched_getaffinity(0) == before


def test_a_child_is_ended_when_the_block_is_left(tmp_path: Path) -> None:
    with running("child", python(READY, SLEEP), CORE, tmp_path) as process:
        said_ready(process)
        process.must_live("now")
    assert is_gone(process.pid)


def test_a_child_that_ignores_the_request_to_end_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_DEADLINE_S", 0.1)
    lines = [
        "import signal, subprocess, sys",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        f"print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid, flush=True)",
        READY,
        SLEEP,
    ]
    with running("deaf", python(*lines), CORE, tmp_path) as process:
        said_ready(process)
    grandchild = int(process.log.read_text().splitlines()[0])
    deadline = time.monotonic() + 10
    while not has_ended(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_gone(process.pid)
    assert has_ended(grandchild)


def has_ended(pid: int) -> bool:
    """Gone, or a zombie that waits for whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_child_that_ends_before_it_is_ready_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with (
        running("child", python("raise SystemExit('no such file: x.conf')"), CORE, tmp_path) as process,
        pytest.raises(
            BenchError, match=r"(?s)child ended with code 1 before answering.*no such file: x\.conf"
        ),
    ):
        process.wait_until(lambda: False, "answering")


def test_a_child_that_is_never_ready_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "READY_DEADLINE_S", 0.05)
    with (
        running("child", python(SLEEP), CORE, tmp_path) as process,
        pytest.raises(BenchError, match="child was not answering within"),
    ):
        process.wait_until(lambda: False, "answering")


def test_settings_in_the_environment_do_not_reach_the_programs_under_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SESSIOND_ACK", "async")
    monkeypatch.setenv("BALANCER_LISTEN", "127.0.0.1:1")
    assert not {"SESSIOND_ACK", "BALANCER_LISTEN"} & set(processes.environment())


def test_a_command_that_does_not_end_is_an_error() -> None:
    with pytest.raises(BenchError, match="did not end within 0 s"):
        finished(python(SLEEP), 0.05)


def test_no_answer_is_an_error_that_names_the_address() -> None:
    (port,) = free_ports(1)
    with pytest.raises(
        BenchError, match=f"GET http://127.0.0.1:{port}/x got no answer: ConnectionRefusedError"
    ):
        get(port, "/x")


def test_free_ports_differ() -> None:
    assert len(set(free_ports(20))) == 20


def test_a_machine_with_one_core_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3})
    with pytest.raises(MachineError, match="needs 2 cores"):
        Cores.of_this_machine()


def test_a_child_has_the_niceness_of_the_bench_in_its_autogroup_too(tmp_path: Path) -> None:
    group = tmp_path / "7" / "autogroup"
    group.parent.mkdir()
    inherit_priority(7, tmp_path)
    assert not group.exists()
    group.write_text("/autogroup-6 nice 0\n")
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    inherit_priority(7, tmp_path)
    assert group.read_text() == (str(nice) if nice else "/autogroup-6 nice 0\n")
