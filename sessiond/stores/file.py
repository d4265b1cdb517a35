"""Records in a directory of this machine, on LMDB: ``file:///dir?size_max=64G&timeout_s=5``.

A write is on the disk (fsync) when it returns. Several processes of one machine may share the directory; a network
file system will not do. `environment` owns the transactions, this module what is done in them.
"""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from sessiond.errors import ConfigurationError, StoreUnavailable
from sessiond.stores.environment import Environment, Kind, Tables
from sessiond.stores.interface import Record, latest
from sessiond.stores.reading import Reading
from sessiond.stores.sealing import HEAD_BYTES_MAX, Head, fence, seal, unseal
from sessiond.stores.url import StoreUrl

SIZE_MAX = 64 * 2**30
TIMEOUT_S = 5.0

PAGE_RECORDS = 100
PAGE_BYTES = 2**20
"""A page of a scan ends with the record that goes beyond it."""

_EXPIRY = struct.Struct(">d")

T = TypeVar("T")


class FileStore(Reading):
    """Implements `sessiond.stores.interface.Store`."""

    shared = False

    def __init__(self, url: StoreUrl, *, cluster_name: str) -> None:
        super().__init__()
        if url.parts.netloc or not unquote(url.parts.path).strip("/"):
            raise ConfigurationError(
                f"the store's URL {url} names no directory: write file:///dir, with three slashes"
            )
        self._path = Path(unquote(url.parts.path))
        self._size_max = url.size("size_max", SIZE_MAX)
        self._timeout_s = url.seconds("timeout_s", TIMEOUT_S)
        url.no_more_options()
        self._cluster_name = cluster_name
        self._environment: Environment | None = None

    async def open(self) -> None:
        if self._environment is not None:
            return
        environment = Environment.shared(self._path, self._size_max)
        try:
            await self._end_of(environment.take(self._cluster_name))
        except BaseException:
            environment.release()
            raise
        self._environment = environment

    async def write(self, records: Sequence[Record]) -> set[bytes]:
        chosen = latest(records)
        return (
            await self._do(Kind.WRITE, partial(_write, records=chosen, now=time.time())) if chosen else set()
        )

    async def read(self, key: bytes) -> Record | None:
        value = await self._do(Kind.READ, partial(_read, key=key))
        return None if value is None else self._live(unseal, key, value)

    async def delete(self, keys: Sequence[bytes]) -> None:
        if keys:
            await self._do(Kind.REMOVE, partial(_delete, keys=list(keys)))

    async def remove_expired(self, now: float, most: int) -> int:
        return await self._do(Kind.REMOVE, partial(_remove_expired, now=now, most=most))

    async def scan(self) -> AsyncIterator[Record]:
        last = b""
        while page := await self._do(Kind.READ, partial(_page, after=last)):
            for record in self._all_live(unseal, page):
                yield record
            last = page[-1][0]

    async def close(self) -> None:
        environment, self._environment = self._environment, None
        if environment is not None:
            # One that waits for another process is left to end when it can: its calls have failed already.
            await asyncio.wait([asyncio.wrap_future(environment.release())], timeout=self._timeout_s)

    async def _do(self, kind: Kind, work: Callable[[Tables], T]) -> T:
        if self._environment is None:
            raise StoreUnavailable(f"the store {self._path} is not open")
        return await self._end_of(self._environment.submit(kind, work))

    async def _end_of(self, done: "Future[T]") -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.wrap_future(done)
        except TimeoutError:
            raise StoreUnavailable(
                f"{self._path}: no end within timeout_s={self._timeout_s:g}; the disk is too slow, or another process "
                "holds the directory's lock. It may be carried out still"
            ) from None


def _write(tables: Tables, records: list[Record], now: float) -> set[bytes]:
    refused = set()
    for record in records:
        there = _head(tables, record.key)
        if there is not None:
            if there.expires_at > now and there.fence > fence(record):
                refused.add(record.key)
                continue
            tables.transaction.delete(_expiry(there.expires_at, record.key), db=tables.expiries)
        tables.transaction.put(record.key, seal(record), db=tables.records)
        tables.transaction.put(_expiry(record.expires_at, record.key), b"", db=tables.expiries)
    return refused


def _read(tables: Tables, key: bytes) -> bytes | None:
    value = tables.transaction.get(key, db=tables.records)
    return None if value is None else bytes(value)


def _delete(tables: Tables, keys: list[bytes]) -> None:
    for key in keys:
        there = _head(tables, key)
        if there is not None:
            tables.transaction.delete(_expiry(there.expires_at, key), db=tables.expiries)
        tables.transaction.delete(key, db=tables.records)


def _remove_expired(tables: Tables, now: float, most: int) -> int:
    """Along the index. One entry of it may be left over from a record whose head was damaged: that goes too."""
    removed = 0
    with tables.transaction.cursor(db=tables.expiries) as cursor:
        while removed < most and cursor.first():
            entry = bytes(cursor.key())
            (expires_at,) = _EXPIRY.unpack_from(entry)
            if expires_at > now:
                break
            key = entry[_EXPIRY.size :]
            there = _head(tables, key)
            if there is None or there.expires_at == expires_at:
                tables.transaction.delete(key, db=tables.records)
            cursor.delete()
            removed += 1
    return removed


def _page(tables: Tables, after: bytes) -> list[tuple[bytes, bytes]]:
    """Keys and values behind a key; empty at the end."""
    page: list[tuple[bytes, bytes]] = []
    size = 0
    with tables.transaction.cursor(db=tables.records) as cursor:
        more = cursor.set_range(after + b"\0") if after else cursor.first()
        while more and len(page) < PAGE_RECORDS and size < PAGE_BYTES:
            page.append((bytes(cursor.key()), bytes(cursor.value())))
            size += len(page[-1][1])
            more = cursor.next()
    return page


def _head(tables: Tables, key: bytes) -> Head | None:
    value = tables.transaction.get(key, db=tables.records)
    return None if value is None else Head.of(bytes(value[:HEAD_BYTES_MAX]))


def _expiry(expires_at: float, key: bytes) -> bytes:
    """Sorts by time: positive floats compare as their big-endian bytes do."""
    return _EXPIRY.pack(expires_at) + key
