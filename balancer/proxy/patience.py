"""A time limit for what others do, which a pause of our own does not use up.

When the loop has stood still (a crowd arrived, the machine gave us no CPU), timers that came due meanwhile go off before
the loop looks at what has arrived meanwhile. So a limit that runs out is not the end: some turns of the loop follow, in
which whatever came in time is seen. Else one pause here would make dead nodes of all that were being connected to.
"""

import asyncio
from types import TracebackType

TURNS = 16
"""Turns of the loop after the time. Taking up a connection needs five or six, most of them waits of tasks for each other."""


class Patience:
    """`async with Patience(seconds)`, as with `asyncio.timeout`: raises TimeoutError when it is at an end."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.Handle | None = None
        self._turns = TURNS

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._wane)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(kind, error, traceback)

    def _wane(self) -> None:
        loop = asyncio.get_running_loop()
        if self._turns:
            self._turns -= 1
            self._timer = loop.call_soon(self._wane)
        else:
            self._timeout.reschedule(loop.time())
