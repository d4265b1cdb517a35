"""Records in a table of an SQL database: what SQLite and PostgreSQL have in common, on SQLAlchemy.

One row for each key in ``sessiond_sessions``. The stamp has columns of its own, so that one statement both compares
and writes: ``INSERT … ON CONFLICT DO UPDATE … WHERE`` the row there is not higher, ``RETURNING`` the keys written;
those that do not come back were refused. ``sessiond_schema`` has one row: the version of the tables and the cluster
that they belong to. The first program that comes creates both, and a newer program brings them to its version.

Every statement is a transaction of its own, so none is left open between two awaits. A backend says how to connect,
how to be alone while the schema changes, and what its errors mean.
"""

import abc
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    inspect,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sessiond.errors import DamagedRecord, StoreError, StoreUnavailable, StoreUnusable
from sessiond.stores.gate import Gate
from sessiond.stores.interface import Record, latest
from sessiond.stores.reading import Reading
from sessiond.stores.sealing import seal_body, unseal_body

PAGE_RECORDS = 64
"""Of a scan: with the largest sessions these are 64 MiB."""

KEYS_MAX = 1000
"""Keys in one DELETE."""

METADATA = MetaData()

SESSIONS = Table(
    "sessiond_sessions",
    METADATA,
    Column("key", LargeBinary, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    # Compared by bytes, as nodes do, whatever the database's language is. SQLite does so anyway.
    Column("owner", Text().with_variant(postgresql.TEXT(collation="C"), "postgresql"), nullable=False),
    Column("incarnation", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("sessiond_sessions_expiry", "expires_at"),
)

SCHEMA = Table(
    "sessiond_schema",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("cluster", Text, nullable=False),
)


def _create(connection: Connection) -> None:
    METADATA.create_all(connection, tables=[SESSIONS])


MIGRATIONS: list[Callable[[Connection], None]] = [_create]
"""Step n brings tables of version n to n + 1. With the first change of a table, `_create` must become what it does
today in SQL of its own: a step that has been released does not change any more."""


class SqlStore(Reading, abc.ABC):
    """Implements `sessiond.stores.interface.Store`, but for what databases differ in."""

    shared: bool

    def __init__(self, name: str, engine: AsyncEngine, timeout_s: float, cluster_name: str) -> None:
        super().__init__()
        self._name = name
        self._engine = engine
        self._gate = Gate(name, timeout_s)
        self._cluster_name = cluster_name
        self._upsert = _upsert(engine.dialect.name)

    @abc.abstractmethod
    def _alone(self, connection: AsyncConnection) -> AbstractAsyncContextManager[Any]:
        """A transaction that no other program's runs beside: for changing the schema."""

    def _turn_to_write(self) -> AbstractAsyncContextManager[Any]:
        """What a call needs besides a connection before it writes."""
        return nullcontext()

    @abc.abstractmethod
    def _translated(self, error: BaseException) -> StoreError:
        """What an error of the driver means."""

    async def open(self) -> None:
        if self._gate.is_open:
            return
        async with self._connection(opening=True) as connection, self._alone(connection):
            await connection.run_sync(self._migrate)
        self._gate.open()

    async def write(self, records: Sequence[Record]) -> set[bytes]:
        rows = [_row(record) for record in latest(records)]
        if not rows:
            return set()
        now = time.time()
        async with self._connection(writing=True) as connection:
            written = await connection.execute(self._upsert, [{**row, "now": now} for row in rows])
            return {row["key"] for row in rows} - {bytes(key) for key in written.scalars()}

    async def read(self, key: bytes) -> Record | None:
        async with self._connection() as connection:
            row = (await connection.execute(select(SESSIONS).where(SESSIONS.c.key == key))).first()
        return None if row is None else self._live(_record, row)

    async def delete(self, keys: Sequence[bytes]) -> None:
        for start in range(0, len(keys), KEYS_MAX):
            async with self._connection(writing=True) as connection:
                some = sorted(keys[start : start + KEYS_MAX])
                await connection.execute(delete(SESSIONS).where(SESSIONS.c.key.in_(some)))

    async def remove_expired(self, now: float, most: int) -> int:
        # What another node is removing at this moment is left to it.
        over = (
            select(SESSIONS.c.key)
            .where(SESSIONS.c.expires_at <= now)
            .order_by(SESSIONS.c.expires_at)
            .limit(most)
            .with_for_update(skip_locked=True)
        )
        async with self._connection(writing=True) as connection:
            return (await connection.execute(delete(SESSIONS).where(SESSIONS.c.key.in_(over)))).rowcount

    async def scan(self) -> AsyncIterator[Record]:
        last = b""
        while page := await self._page(last):
            for record in self._all_live(_record, ((row,) for row in page)):
                yield record
            last = page[-1].key

    async def close(self) -> None:
        await self._gate.close()
        await self._engine.dispose()

    async def _page(self, after: bytes) -> Sequence[Any]:
        some = select(SESSIONS).where(SESSIONS.c.key > after).order_by(SESSIONS.c.key).limit(PAGE_RECORDS)
        async with self._connection() as connection:
            return (await connection.execute(some)).all()

    @asynccontextmanager
    async def _connection(
        self, *, opening: bool = False, writing: bool = False
    ) -> AsyncIterator[AsyncConnection]:
        """A connection for one call, whose errors become ours."""
        async with self._gate.passage(opening=opening):
            try:
                turn = self._turn_to_write() if writing else nullcontext()
                async with turn, self._engine.connect() as connection:
                    yield connection
            except PoolTimeout as error:
                raise StoreUnavailable(
                    f"the store {self._name}: all connections are busy; nothing was begun"
                ) from error
            except DBAPIError as error:
                raise self._translated(error.orig or error) from error
            except StoreError:
                raise
            except TimeoutError as error:
                raise StoreUnavailable(
                    f"the store {self._name} cannot be reached: no connection in time"
                ) from error
            except Exception as error:
                # What fails while a connection is made comes as the driver raised it.
                raise self._translated(error) from error

    def _migrate(self, connection: Connection) -> None:
        if inspect(connection).has_table(SCHEMA.name):
            found = connection.execute(select(SCHEMA.c.version, SCHEMA.c.cluster)).first()
        else:
            SCHEMA.create(connection)
            found = None
        if found is None:
            connection.execute(insert(SCHEMA).values(id=1, version=0, cluster=self._cluster_name))
        version, cluster = (0, self._cluster_name) if found is None else found
        if version > len(MIGRATIONS):
            raise StoreUnusable(
                f"the store {self._name} has schema {version}, made by a newer program; this one knows "
                f"{len(MIGRATIONS)} at most: run the newer program, or give this one another database"
            )
        if cluster != self._cluster_name:
            raise StoreUnusable(
                f"the store {self._name} belongs to the cluster {cluster!r}, not to {self._cluster_name!r}: give "
                "each cluster a database (or a schema) of its own"
            )
        for migrate in MIGRATIONS[version:]:
            migrate(connection)
        if version < len(MIGRATIONS):
            connection.execute(update(SCHEMA).values(version=len(MIGRATIONS)))


def _upsert(dialect: str) -> Any:
    make = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = make(SESSIONS)
    new = statement.excluded
    there = SESSIONS.c
    stamp = ("epoch", "owner", "incarnation", "version")
    return statement.on_conflict_do_update(
        index_elements=[there.key],
        set_={column.name: new[column.name] for column in there if column.name != "key"},
        where=or_(
            tuple_(*(there[name] for name in stamp)) <= tuple_(*(new[name] for name in stamp)),
            there.expires_at <= bindparam("now", type_=Double),
        ),
    ).returning(there.key)


def _row(record: Record) -> dict[str, Any]:
    return {
        "key": record.key,
        "epoch": record.epoch,
        "owner": record.owner,
        "incarnation": record.incarnation,
        "version": record.version,
        "expires_at": record.expires_at,
        "body": seal_body(record),
    }


def _record(row: Any) -> Record:
    """Raises DamagedRecord."""
    key, epoch, owner, incarnation, version, expires_at, body = row
    try:
        return unseal_body(
            Record(bytes(key), epoch, owner, incarnation, version, float(expires_at), None), bytes(body)
        )
    except (TypeError, ValueError, AttributeError, struct.error) as error:
        # SQLite keeps whatever somebody puts into a column.
        raise DamagedRecord(bytes(key), f"a column holds what it should not ({error})") from error
