"""Records in an SQLite file of this machine: ``sqlite:///path?timeout_s=5``, or ``sqlite:////absolute/path``.

WAL with synchronous=FULL: a write is on the disk when it returns. Several processes of one machine may share the
file; a network file system will not do.
"""

import asyncio
import errno
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from sessiond.errors import ConfigurationError, StoreError, StoreUnavailable, StoreUnusable
from sessiond.stores.sql import SqlStore
from sessiond.stores.url import StoreUrl

TIMEOUT_S = 5.0

READERS = 4
"""Connections, each with a thread. One writes at a time."""

_UNUSABLE = {
    sqlite3.SQLITE_CANTOPEN: "make its directory, and let this user write there",
    sqlite3.SQLITE_PERM: "let this user read and write it",
    sqlite3.SQLITE_READONLY: "let this user write it and its directory",
    sqlite3.SQLITE_NOTADB: "it is no SQLite file: name another one",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: move it away, or bring a backup of it back",
    sqlite3.SQLITE_SCHEMA: "its tables are not ours: name another file",
    sqlite3.SQLITE_ERROR: "its tables are not ours: name another file",
}
_UNAVAILABLE = {
    sqlite3.SQLITE_FULL: "the disk is full; nothing was written. Make room",
    sqlite3.SQLITE_BUSY: "another process holds it locked; nothing was written",
    sqlite3.SQLITE_IOERR: "the disk does not read or write as it should; nothing was written",
}


class SqliteStore(SqlStore):
    """See `sessiond.stores.sql`."""

    shared = False

    def __init__(self, url: StoreUrl, *, cluster_name: str) -> None:
        path = unquote(url.parts.path).removeprefix("/")
        if url.parts.netloc or not path:
            raise ConfigurationError(
                f"the store's URL {url} names no file: write sqlite:///name.db, or sqlite:////directory/name.db"
            )
        timeout_s = url.seconds("timeout_s", TIMEOUT_S)
        url.no_more_options()
        engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=str(Path(path).absolute())),
            isolation_level="AUTOCOMMIT",
            pool_size=READERS,
            max_overflow=0,
            pool_timeout=timeout_s,
            connect_args={"timeout": timeout_s},
        )
        event.listen(engine.sync_engine, "connect", _configure)
        # SQLite itself gives up waiting for another process after timeout_s; then there must be time to say so.
        super().__init__(str(url), engine, 2 * timeout_s, cluster_name)
        self._path = Path(path)
        # Writers of one process take turns here: SQLite would have them sleep and try again.
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        try:
            # SQLite would make it for everybody to read, and its other files as this one is.
            self._path.touch(mode=0o600, exist_ok=True)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise StoreUnavailable(f"the store {self._name}: the disk is full. Make room") from error
            raise StoreUnusable(
                f"the store {self._name} cannot be made ({error.strerror}): make its directory, and let this user "
                "write there"
            ) from error
        await super().open()

    def _turn_to_write(self) -> asyncio.Lock:
        return self._turn

    @asynccontextmanager
    async def _alone(self, connection: AsyncConnection) -> AsyncIterator[None]:
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            await connection.exec_driver_sql("ROLLBACK")
            raise
        await connection.exec_driver_sql("COMMIT")

    def _translated(self, error: BaseException) -> StoreError:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None:
            primary = code & 0xFF
            if advice := _UNUSABLE.get(primary):
                return StoreUnusable(f"the store {self._name} cannot be used ({error}): {advice}")
            if advice := _UNAVAILABLE.get(primary):
                return StoreUnavailable(f"the store {self._name} ({error}): {advice}")
        return StoreUnavailable(f"the store {self._name}: {error!r}")


def _configure(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
    finally:
        cursor.close()
