"""Lets calls to a store through while it is open, each for a bounded time, and knows when the last has ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sessiond.errors import StoreUnavailable

OPENING_TIMEOUT_S = 60.0
"""Tables may have to be made or changed, or another node is doing so at this moment."""


class Gate:
    """Closed at first. `store` is what errors call the store."""

    def __init__(self, store: str, timeout_s: float) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._is_open = False
        self._inside = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_open(self) -> bool:
        return self._is_open

    def open(self) -> None:
        self._is_open = True

    @asynccontextmanager
    async def passage(self, *, opening: bool = False) -> AsyncIterator[None]:
        """One call. Raises StoreUnavailable if the store is not open, or the call takes too long."""
        if not (self._is_open or opening):
            raise StoreUnavailable(f"the store {self._store} is not open")
        timeout_s = max(self._timeout_s, OPENING_TIMEOUT_S) if opening else self._timeout_s
        self._inside += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError as error:
            raise StoreUnavailable(
                f"the store {self._store} did not answer within {timeout_s:g} s; a write may be carried out "
                "still. See whether it lives, or raise timeout_s in its URL"
            ) from error
        finally:
            self._inside -= 1
            if not self._inside:
                self._idle.set()

    async def close(self) -> None:
        """Let nobody in, and wait for those who are inside: as long as one call may take."""
        self._is_open = False
        await self._idle.wait()
