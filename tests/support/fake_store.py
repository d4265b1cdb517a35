"""A store in memory with faults that a test switches on and off. It keeps the contract that real ones keep:
tests/stores/test_conformance.py runs on it too.

    place = Place()                       # what outlives a process
    store = FakeStore(place)
    store.faults.down = "gone fishing"    # every call raises StoreUnavailable with these words; None: works
    store.faults.full = "disk full"       # writes do
    store.faults.unusable = "…"           # every call raises StoreUnusable
    with store.held(): …                  # slow: calls wait until the block ends
    await store.until_waiting(1)          # … and this waits for them
    place.damaged.add(key)                # that record cannot be read until it is written again
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sessiond.errors import DamagedRecord, NewerRecord, StoreUnavailable, StoreUnusable
from sessiond.stores.interface import Record, latest

DEADLINE_S = 10
PAGE = 100


@dataclass
class Place:
    """Where the records lie: several stores may share it, and it stays when they are closed."""

    records: dict[bytes, Record] = field(default_factory=dict)
    damaged: set[bytes] = field(default_factory=set)
    newer: set[bytes] = field(default_factory=set)
    """Of the damaged ones those that a newer program has written."""


@dataclass
class Faults:
    """What is wrong now; the text is what the error says."""

    down: str | None = None
    full: str | None = None
    unusable: str | None = None


class FakeStore:
    """Implements `sessiond.stores.interface.Store`."""

    def __init__(
        self,
        place: Place | None = None,
        *,
        shared: bool = True,
        faults: Faults | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.place = place or Place()
        self.shared = shared
        self.faults = faults or Faults()
        self.damaged = 0
        self.waiting = 0
        """Calls that are held now."""
        self.written: list[list[Record]] = []
        """Every batch that was carried out."""
        self.is_closed = False
        self.reads: list[bytes] = []
        self._clock = clock
        self._is_open = False
        self._may_go = asyncio.Event()
        self._may_go.set()
        self._changed = asyncio.Event()

    # --- hooks --------------------------------------------------------------------------------------------

    @contextmanager
    def held(self) -> Iterator[None]:
        """Calls wait until the block ends."""
        self._may_go.clear()
        try:
            yield
        finally:
            self._may_go.set()

    async def until_waiting(self, count: int = 1) -> None:
        """Return when `count` calls are held."""
        async with asyncio.timeout(DEADLINE_S):
            while self.waiting < count:
                self._changed.clear()
                await self._changed.wait()

    # --- Store --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        self._is_open = True
        try:
            await self._turn()
        except BaseException:
            self._is_open = False
            raise

    async def write(self, records: Sequence[Record]) -> set[bytes]:
        await self._turn()
        if self.faults.full is not None:
            raise StoreUnavailable(self.faults.full)
        refused = set()
        for record in latest(records):
            there = self._live(record.key)
            if there is not None and there.stamp > record.stamp:
                refused.add(record.key)
                continue
            self.place.records[record.key] = record
            self.place.damaged.discard(record.key)
        self.written.append(list(records))
        return refused

    async def read(self, key: bytes) -> Record | None:
        await self._turn()
        self.reads.append(key)
        record = self._live(key)
        if record is not None and key in self.place.damaged:
            self.damaged += 1
            raise (NewerRecord if key in self.place.newer else DamagedRecord)(key, "this is a test")
        return record

    async def delete(self, keys: Sequence[bytes]) -> None:
        await self._turn()
        for key in keys:
            self._forget(key)

    async def remove_expired(self, now: float, most: int) -> int:
        await self._turn()
        over = [key for key, record in self.place.records.items() if record.expires_at <= now][:most]
        for key in over:
            self._forget(key)
        return len(over)

    async def scan(self) -> AsyncIterator[Record]:
        keys = sorted(self.place.records)
        for start in range(0, max(len(keys), 1), PAGE):
            await self._turn()
            for key in keys[start : start + PAGE]:
                record = self._live(key)
                if record is None:
                    continue
                if key in self.place.damaged:
                    self.damaged += 1
                else:
                    yield record

    async def close(self) -> None:
        self._is_open = False
        self.is_closed = True

    # --- inside -------------------------------------------------------------------------------------------

    def _live(self, key: bytes) -> Record | None:
        record = self.place.records.get(key)
        return None if record is None or record.expires_at <= self._clock() else record

    def _forget(self, key: bytes) -> None:
        self.place.records.pop(key, None)
        self.place.damaged.discard(key)

    async def _turn(self) -> None:
        """Wait while calls are held, then fail if something is wrong."""
        if not self._may_go.is_set():
            self.waiting += 1
            self._changed.set()
            try:
                await self._may_go.wait()
            finally:
                self.waiting -= 1
        if self.faults.unusable is not None:
            raise StoreUnusable(self.faults.unusable)
        if self.faults.down is not None:
            raise StoreUnavailable(self.faults.down)
        if not self._is_open:
            raise StoreUnavailable("the store is not open")
