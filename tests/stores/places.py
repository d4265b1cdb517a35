"""One place for records of each kind of store, as the tests need it: stores on it, and damage done to it.

A place makes as many stores as a test wants; `spoil` changes one stored value behind the stores' backs.
"""

import contextlib
import sqlite3
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import lmdb
from redis import Redis as RedisClient

from sessiond.stores import Record, Store, store_for
from tests.support import services
from tests.support.fake_store import FakeStore
from tests.support.fake_store import Place as FakeRecords

PATIENT = "?timeout_s=60"
"""So that a busy machine is not taken for a store that does not answer."""

Spoil = Callable[[bytes], bytes]
"""Makes a bad body (see sessiond.stores.sealing) of a good one."""


def flip_last_bit(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


def cut_short(body: bytes) -> bytes:
    return body[:3]


def empty(body: bytes) -> bytes:
    del body
    return b""


def of_a_newer_format(body: bytes) -> bytes:
    return b"\x02" + body[1:]


class Place(Protocol):
    """Where records lie."""

    removes_expired_itself: bool
    """`remove_expired` has nothing to do."""

    keeps_clusters_apart: bool
    """Two clusters may use it; otherwise the second is refused."""

    def store(self, cluster_name: str = "default") -> Store: ...

    def spoil(self, key: bytes, how: Spoil) -> None: ...


class FakePlace:
    removes_expired_itself = False
    keeps_clusters_apart = True

    def __init__(self) -> None:
        self.records: defaultdict[str, FakeRecords] = defaultdict(FakeRecords)

    def store(self, cluster_name: str = "default") -> Store:
        return FakeStore(self.records[cluster_name])

    def spoil(self, key: bytes, how: Spoil) -> None:
        self.records["default"].damaged.add(key)
        if how is of_a_newer_format:
            self.records["default"].newer.add(key)


class FilePlace:
    removes_expired_itself = False
    keeps_clusters_apart = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "store"

    def store(self, cluster_name: str = "default", options: str = PATIENT) -> Store:
        return store_for(f"file://{self.directory}{options}", cluster_name=cluster_name)

    def spoil(self, key: bytes, how: Spoil) -> None:
        """No store may be open: LMDB allows a process one opening."""
        with lmdb.open(str(self.directory), max_dbs=3) as environment:
            records = environment.open_db(b"records")
            with environment.begin(write=True) as transaction:
                value = transaction.get(key, db=records)
                head = 1 + value[0] + 8
                transaction.put(key, value[:head] + how(value[head:]), db=records)


class SqlitePlace:
    removes_expired_itself = False
    keeps_clusters_apart = False

    def __init__(self, directory: Path) -> None:
        self.path = directory / "sessions.db"

    def store(self, cluster_name: str = "default", options: str = PATIENT) -> Store:
        return store_for(f"sqlite:///{self.path}{options}", cluster_name=cluster_name)

    def spoil(self, key: bytes, how: Spoil) -> None:
        (body,) = self.run("SELECT body FROM sessiond_sessions WHERE key = ?", key)
        self.run("UPDATE sessiond_sessions SET body = ? WHERE key = ?", how(body), key)

    def run(self, statement: str, *values: object) -> tuple[object, ...]:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement, values).fetchone() or ()


class PostgresqlPlace:
    removes_expired_itself = False
    keeps_clusters_apart = False

    def __init__(self, server: services.PostgreSQL) -> None:
        self.server = server
        self.url = server.new_database()

    def store(self, cluster_name: str = "default", options: str = PATIENT) -> Store:
        return store_for(self.url + options, cluster_name=cluster_name)

    def spoil(self, key: bytes, how: Spoil) -> None:
        where = f"FROM sessiond_sessions WHERE key = '\\x{key.hex()}'"
        ((body,),) = self.run(f"SELECT body {where}")
        self.run(f"UPDATE sessiond_sessions SET body = '\\x{how(body).hex()}' WHERE key = '\\x{key.hex()}'")

    def run(self, statement: str) -> list[object]:
        return self.server.run(statement, url=self.url)


class RedisPlace:
    removes_expired_itself = True
    keeps_clusters_apart = True

    def __init__(self, server: services.Redis) -> None:
        self.server = server
        self.client = RedisClient(port=server.port)
        self.client.flushall()

    def store(self, cluster_name: str = "default", options: str = PATIENT) -> Store:
        return store_for(self.server.url + options, cluster_name=cluster_name)

    def spoil(self, key: bytes, how: Spoil) -> None:
        name = b"sessiond:default:" + key
        value = self.client.get(name)
        head = 1 + value[0] + 8
        self.client.set(name, value[:head] + how(value[head:]), keepttl=True)


# --- records ------------------------------------------------------------------------------------------------


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def record(number: int = 1, data: bytes | None = b"cart", **fields: object) -> Record:
    """A record that lives for an hour, of the first term of node1."""
    usual = {"epoch": 1, "owner": "node1", "incarnation": 1, "version": 1, "expires_at": time.time() + 3600}
    return Record(key(number), data=data, **{**usual, **fields})


@contextlib.asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Store]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()
