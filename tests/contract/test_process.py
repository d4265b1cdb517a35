"""Told once, a process ends in peace; told twice, at once."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from sessiond.contract.process import stop_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_asks_to_stop(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_signals() as told:
        assert not told.is_set()
        os.kill(os.getpid(), number)
        async with asyncio.timeout(30):
            await told.wait()
    signal.signal(number, before)


STUCK = """
import asyncio, uvloop
from sessiond.contract.process import stop_signals
async def main():
    with stop_signals() as told:
        print("up", flush=True)
        await told.wait()
        print("told", flush=True)
        while True:
            pass
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.process
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_even_a_process_whose_loop_is_stuck_with_exit_code_1(
    second: signal.Signals,
) -> None:
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "up\n"
            process.send_signal(signal.SIGTERM)
            while process.stdout.readline() != "told\n":
                assert process.poll() is None
            process.send_signal(second)
            assert process.wait(timeout=30) == 1
        finally:
            process.kill()


def test_the_collector_runs_seldom_and_leaves_what_was_loaded_alone():
    code = (
        "import gc; from sessiond.contract.process import YOUNG_OBJECTS_MAX, calm_collector; calm_collector(); "
        "assert gc.get_freeze_count() > 0; assert gc.get_threshold()[0] == YOUNG_OBJECTS_MAX"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
