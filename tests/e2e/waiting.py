"""Waiting for a condition: the only way in which the end-to-end tests let time pass."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 30.0
"""What takes milliseconds on an idle machine gets this long on a busy one."""

POLL_INTERVAL_S = 0.01


async def wait_until(
    condition: Callable[[], Awaitable[T | None]],
    what: str,
    deadline_s: float = DEADLINE_S,
    interval_s: float = POLL_INTERVAL_S,
) -> T:
    """The first true value of `condition`. Fails, naming `what` and the last value, after the deadline.

    With an interval of 0 the condition is looked at in every turn of the event loop.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_s
    while not (value := await condition()):
        assert loop.time() < deadline, f"not within {deadline_s:.0f} s: {what}; the last look found {value!r}"
        await asyncio.sleep(interval_s)
    return value
