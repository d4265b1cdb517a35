"""Records in PostgreSQL: ``postgresql://user:password@host:port/database?pool_size=8&timeout_s=5&sslmode=require``.

Every node that has this URL sees the same records. A write has been committed when it returns: durable as far as
the server's ``fsync`` and ``synchronous_commit`` say.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from sessiond.errors import ConfigurationError, StoreError, StoreUnavailable, StoreUnusable
from sessiond.stores.sql import SqlStore
from sessiond.stores.url import StoreUrl

POOL_SIZE = 8
TIMEOUT_S = 5.0

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

MIGRATION_LOCK = 0x7365_7373_696F_6E64
"""The advisory lock under which the schema is changed: "sessiond"."""

_UNUSABLE = {
    "28": "check user and password in the store's URL, and the server's pg_hba.conf",
    "3D": "create the database: createdb NAME",
    "3F": "create the schema, or set the user's search_path",
    "42": "its tables are not ours, or its user may not create and use them (GRANT CREATE, USAGE ON SCHEMA)",
}
"""By class of SQLSTATE."""


class PostgresqlStore(SqlStore):
    """See `sessiond.stores.sql`."""

    shared = True

    def __init__(self, url: StoreUrl, *, cluster_name: str) -> None:
        if not url.parts.path.strip("/"):
            raise ConfigurationError(
                f"the store's URL {url} names no database: write postgresql://user@host/database"
            )
        pool_size = url.count("pool_size", POOL_SIZE)
        timeout_s = url.seconds("timeout_s", TIMEOUT_S)
        sslmode = url.flags("sslmode", SSL_MODES)
        url.no_more_options()
        connect_args: dict[str, object] = {"timeout": timeout_s}
        if sslmode is not None:
            connect_args["ssl"] = sslmode
        engine = create_async_engine(
            url.without_options("postgresql+asyncpg"),
            isolation_level="AUTOCOMMIT",
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=timeout_s,
            connect_args=connect_args,
        )
        super().__init__(str(url), engine, timeout_s, cluster_name)

    @asynccontextmanager
    async def _alone(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """Nodes that start at the same time create tables one after the other, and the second finds them there."""
        await connection.execution_options(isolation_level="READ COMMITTED")
        async with connection.begin():
            await connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            yield

    def _translated(self, error: BaseException) -> StoreError:
        state = getattr(error, "sqlstate", None)
        if state is None:
            return StoreUnavailable(f"the store {self._name} cannot be reached: {_in_words(error)}")
        if advice := _UNUSABLE.get(state[:2]):
            return StoreUnusable(f"the store {self._name} cannot be used ({_in_words(error)}): {advice}")
        return StoreUnavailable(f"the store {self._name} ({state}): {_in_words(error)}")


def _in_words(error: BaseException) -> str:
    """The driver's own text: SQLAlchemy puts the class before it, and some errors have none."""
    cause = error.__cause__ or error
    return str(cause) or type(cause).__name__
