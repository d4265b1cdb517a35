"""How both programs run: on uvloop, until SIGTERM or SIGINT, with one meaning of exit codes.

The first signal asks to end in peace; another one ends the process at once, whatever it is doing.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import structlog
import uvloop

EXIT_AS_ASKED = 0
EXIT_FAILED = 1
EXIT_USAGE = 2

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

YOUNG_OBJECTS_MAX = 10_000
"""Objects that may gather before the cyclic collector looks at them, instead of Python's 700: requests leave
hardly any cycles, and looking for them took a fifth of the CPU of a session write. More would save nothing where
sessions arrive in bulk, but make each pause longer: of 50,000 new ones it takes 8 ms of an idle core, and holds
up every request."""

OLD_PASSES_MAX = 50
"""Passes over the middle generation before one over everything may come, instead of Python's 10: that one takes
4 ms for a thousand sessions."""

log = structlog.get_logger()


def run_process(
    serve: Callable[[asyncio.Event], Awaitable[None]], refusals: tuple[type[Exception], ...]
) -> int:
    """Run ``serve(told)``, which ends in peace once `told` is set; the exit code.

    Exceptions of `refusals`, which a person has to put right, are passed on; others are faults, logged with
    their trace.
    """

    calm_collector()

    async def main() -> None:
        with stop_signals() as told:
            await serve(told)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    except refusals:
        raise
    except Exception:
        log.exception("process.failed")
        return EXIT_FAILED
    return EXIT_AS_ASKED


def calm_collector() -> None:
    """Let the cyclic garbage collector run seldom, and never over what was loaded at the start."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, gc.get_threshold()[1], OLD_PASSES_MAX)


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that the first signal sets; the next one ends the process at once, with exit code 1."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def first(number: signal.Signals) -> None:
        log.info("process.stopping", signal=number.name)
        told.set()
        for each in STOP_SIGNALS:
            loop.remove_signal_handler(each)
            # Python runs this one between two instructions, so that a stuck loop cannot hold it up.
            signal.signal(each, _exit_at_once)

    for each in STOP_SIGNALS:
        loop.add_signal_handler(each, first, each)
    try:
        yield told
    finally:
        for each in STOP_SIGNALS:
            loop.remove_signal_handler(each)


def _exit_at_once(_number: int, _frame: FrameType | None) -> None:
    os._exit(EXIT_FAILED)
