"""The store, driven: carries out what the core asks of it, and tells the core what came of it.

It owns the clock that outlives a process (the core knows durations alone), the bytes of a record, the time-out of
every call, the opening, and the removal of expired records. It decides nothing: whether answers wait for the store,
when it is tried again, and what a record means are the core's business (`core.storing`, `core.recall`).

The bytes: one that says the format, then MessagePack of the time of writing and the copy, as it travels on links.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Protocol

import msgpack
import structlog

from sessiond.core.checks import CodecError
from sessiond.core.codec import decode_copy, encode_copy
from sessiond.core.effects import StoreRead, StoreWrite
from sessiond.core.recall import Outcome
from sessiond.core.stored import Stored, Trouble, Unreadable
from sessiond.core.types import Life, Term
from sessiond.errors import DamagedRecord, NewerRecord, StoreError, StoreUnavailable
from sessiond.stores import Record, Store

FORMAT = 1
"""Raised when the bytes change in a way that an older release could not read."""

OPEN_AGAIN_S = (0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts to open a store that does not answer; the last one for good."""

REMOVE_INTERVAL_S = 60.0
REMOVED_AT_ONCE = 500
"""Expired records removed by one call; more of them are removed at once, call after call."""


class StoreEvents(Protocol):
    """Who is told: the node."""

    def store_opened(self) -> None: ...

    def stored(self, number: int, refused: Collection[bytes]) -> None: ...

    def store_failed(self, number: int, reason: str) -> None: ...

    def store_read(self, key: bytes, outcome: Outcome) -> None: ...

    def store_is_up(self) -> bool: ...


class StoreDriver:
    def __init__(
        self, store: Store, events: StoreEvents, *, timeout_s: float, wall_clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._events = events
        self._timeout_s = timeout_s
        self._wall_clock = wall_clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._log = structlog.get_logger()
        self.write_seconds = 0.0
        """What all batches took together."""

        self.read_seconds = 0.0

    async def start(self) -> None:
        """Open the store; if it does not answer, go on and open it in the background.

        Raises StoreUnusable if it will not do its work until somebody acts.
        """
        is_open = await self._opens()
        self._keeper = asyncio.create_task(self._keep(is_open=is_open))

    async def close(self) -> None:
        """End. What is under way is given up: the core counts on nothing that it has not heard of."""
        tasks = [*self._tasks, *([self._keeper] if self._keeper is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await self._store.close()

    # --- what the core asks ----------------------------------------------------------------------------

    def write(self, asked: StoreWrite) -> None:
        self._spawn(self._write(asked))

    def read(self, asked: StoreRead) -> None:
        self._spawn(self._read(asked.key))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, asked: StoreWrite) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        now = self._wall_clock()
        try:
            async with asyncio.timeout(self._timeout_s):
                refused = await self._store.write([record_of(stored, now) for stored in asked.records])
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the core must hear of it
            self._events.store_failed(asked.number, self._reason(error))
        else:
            self._events.stored(asked.number, refused)
        finally:
            self.write_seconds += loop.time() - began

    async def _read(self, key: bytes) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        outcome: Outcome
        try:
            async with asyncio.timeout(self._timeout_s):
                record = await self._store.read(key)
            outcome = None if record is None else outcome_of(record, self._wall_clock())
        except NewerRecord as error:
            outcome = Unreadable(Trouble.NEWER, str(error))
        except DamagedRecord as error:
            outcome = Unreadable(Trouble.DAMAGED, str(error))
        except Exception as error:  # noqa: BLE001 - as above
            outcome = Unreadable(Trouble.UNAVAILABLE, self._reason(error))
        self.read_seconds += loop.time() - began
        self._events.store_read(key, outcome)

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"it did not answer within store_timeout_s ({self._timeout_s} s)"
        if isinstance(error, StoreError):
            return str(error)
        self._log.exception("store.unexpected_error")
        return f"{type(error).__name__}: {error}"

    # --- in the background -------------------------------------------------------------------------------

    async def _opens(self) -> bool:
        try:
            async with asyncio.timeout(max(self._timeout_s, OPEN_AGAIN_S[-1])):
                await self._store.open()
        except (StoreUnavailable, TimeoutError) as error:
            self._log.error("store.cannot_be_opened", reason=str(error) or self._reason(error))
            return False
        self._events.store_opened()
        return True

    async def _keep(self, *, is_open: bool) -> None:
        """Open the store if that is still to be done, then keep it tidy."""
        attempt = 0
        while not is_open:
            await asyncio.sleep(OPEN_AGAIN_S[min(attempt, len(OPEN_AGAIN_S) - 1)])
            attempt += 1
            try:
                is_open = await self._opens()
            except StoreError as error:
                self._log.error("store.unusable", reason=str(error))
            except Exception as error:  # noqa: BLE001 - as above: nobody else would try again
                self._log.error("store.cannot_be_opened", reason=self._reason(error))
        while True:
            await asyncio.sleep(REMOVE_INTERVAL_S)
            if self._events.store_is_up():
                await self._remove_expired()

    async def _remove_expired(self) -> None:
        removed = 0
        try:
            while True:
                count = await self._store.remove_expired(self._wall_clock(), REMOVED_AT_ONCE)
                removed += count
                if count < REMOVED_AT_ONCE:
                    break
        except Exception as error:  # noqa: BLE001 - as above: nobody else would remove anything any more
            self._log.warning("store.not_tidied", reason=self._reason(error))
        if removed:
            self._log.debug("store.expired_removed", records=removed)


def record_of(stored: Stored, now: float) -> Record:
    """A record as stores keep it, written at this Unix time."""
    term = stored.term
    data = None
    if stored.data is not None:
        data = bytes((FORMAT,)) + msgpack.packb((now, encode_copy(stored.data)))
    return Record(
        stored.key,
        term.epoch,
        term.owner.name,
        term.owner.incarnation,
        stored.version,
        now + stored.lives_s,
        data,
    )


def outcome_of(record: Record, now: float) -> Stored | Unreadable:
    """What the core makes of a record that was read at this Unix time."""
    term = Term(record.epoch, Life(record.owner, record.incarnation))
    lives_s = max(0.0, record.expires_at - now)
    if record.data is None:
        return Stored(record.key, term, record.version, lives_s, None)
    if record.data[:1] > bytes((FORMAT,)):
        return Unreadable(Trouble.NEWER, f"its format is {record.data[0]}, and this release reads {FORMAT}")
    if record.data[:1] != bytes((FORMAT,)):
        return Unreadable(Trouble.DAMAGED, "its content is no session: it has no format")
    try:
        written_at, packed = msgpack.unpackb(record.data[1:])
        data = decode_copy(packed)
        age_s = max(0.0, now - float(written_at))
    except (ValueError, TypeError, msgpack.UnpackException, CodecError) as error:
        return Unreadable(Trouble.DAMAGED, f"its content is no session: {error}")
    data = data._replace(age_s=data.age_s + age_s, idle_s=data.idle_s + age_s)
    return Stored(record.key, term, record.version, lives_s, data)
