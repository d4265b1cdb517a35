"""What goes wrong with the stores that are files: full, locked, killed in the middle, not what they should be."""

import asyncio
import contextlib
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from sessiond.errors import DamagedRecord, StoreUnavailable, StoreUnusable
from sessiond.stores import sql, store_for
from tests.stores.places import PATIENT, FilePlace, SqlitePlace, key, opened, record
from tests.support import disks

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60

needs_small_disk = pytest.mark.skipif(bool(disks.missing()), reason=disks.missing())


@pytest.fixture(params=[FilePlace, SqlitePlace])
def place(request, directory):
    return request.param(directory)


def url_of(place) -> str:
    url = f"file://{place.directory}" if isinstance(place, FilePlace) else f"sqlite:///{place.path}"
    return url + PATIENT


async def everything(store):
    return {found.key: found async for found in store.scan()}


START = time.time() + 3000
"""A whole suite may run between this line and its tests; a record that is given no time lives for an hour."""


async def fill(store, size: int = 20_000, together: int = 1) -> tuple[int, str]:
    """Write until the store takes no more: how many were acknowledged, and what it said at last.

    Record n expires n seconds after START.
    """
    number = 0
    while True:
        numbers = range(number, number + together)
        try:
            await store.write([record(each, data=b"x" * size, expires_at=START + each) for each in numbers])
        except StoreUnavailable as error:
            if together == 1:
                return number, str(error)
            together = 1
        else:
            number += together


# --- full ---------------------------------------------------------------------------------------------------


@needs_small_disk
@pytest.mark.parametrize("kind", ["file", "sqlite"])
async def test_a_full_disk_is_told_and_nothing_acknowledged_is_lost(kind, directory):
    with disks.small_disk(directory / "disk", "4m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(2**20))
        place = FilePlace(disk) if kind == "file" else SqlitePlace(disk)
        async with opened(place.store()) as store:
            written, told = await fill(store)
            assert "the disk is full; nothing was written" in told
            assert written > 50
            assert set(await everything(store)) == {key(number) for number in range(written)}
            ballast.unlink()
            assert await store.write([record(written, data=b"x" * 20_000)]) == set()
            assert await store.remove_expired(START + 9.5, 100) == 10
        async with opened(place.store()) as again:
            assert len(await everything(again)) == written + 1 - 10


async def test_a_directory_that_reached_size_max_refuses_writes_until_something_is_removed(directory):
    place = FilePlace(directory)
    async with opened(place.store(options="?size_max=1M&timeout_s=60")) as store:
        written, told = await fill(store)
        assert "is full: its records take size_max=1048576 bytes" in told
        assert written > 20
        await store.write([record(1, version=2, data=None)])
        assert await store.remove_expired(START + 10**6, 1000) == written
        again, _ = await fill(store)
        assert again > written // 3, (
            "large values need pages side by side, so not all of the room serves again"
        )


async def test_a_directory_that_is_full_to_the_last_page_can_be_emptied(directory):
    """LMDB writes pages anew, so to remove is to write."""
    async with opened(FilePlace(directory).store(options="?size_max=1M&timeout_s=60")) as store:
        written, _ = await fill(store, size=60, together=100)
        assert await store.remove_expired(START + 10**6, 10**6) == written
        again, _ = await fill(store, size=60, together=100)
        assert again == pytest.approx(written, rel=0.1)


async def test_calls_that_share_a_transaction_with_one_that_does_not_fit_are_carried_out(directory):
    async with opened(FilePlace(directory).store(options="?size_max=1M&timeout_s=60")) as store:
        batches = [[record(1)], [record(2, data=bytes(2**21))], [record(3)]]
        answers = await asyncio.gather(*map(store.write, batches), return_exceptions=True)
        assert answers[0] == answers[2] == set()
        assert isinstance(answers[1], StoreUnavailable)
        assert set(await everything(store)) == {key(1), key(3)}


# --- other processes ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def writer(place, first: int) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes to the place."""
    command = [sys.executable, "-m", "tests.stores.writer", url_of(place), str(first)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def acknowledged(process, count: int) -> list[int]:
    """What it has written, once it is so many."""
    return [int(process.stdout.readline()) for _ in range(count)]


@pytest.mark.process
async def test_what_a_killed_process_had_acknowledged_is_there(place):
    for turn in range(2):
        with writer(place, turn * 100_000) as process:
            numbers = acknowledged(process, 10)
            process.kill()
            numbers += [int(line) for line in process.stdout if line.endswith("\n")]
        async with opened(place.store()) as store:
            assert {key(number) for number in numbers} <= set(await everything(store))


@pytest.mark.process
async def test_several_processes_share_a_place(place):
    with writer(place, 0) as one, writer(place, 100_000) as other:
        await asyncio.gather(*(asyncio.to_thread(acknowledged, each, 10) for each in (one, other)))
        async with opened(place.store()) as store:
            for number in range(200_000, 200_010):
                await store.write([record(number)])
            found = set(await everything(store))
    assert found >= {key(first + number) for first in (0, 100_000, 200_000) for number in range(10)}


WRITE_MUCH = """
import asyncio, sys
from sessiond.stores import store_for
from tests.stores.places import opened, record

async def main():
    async with opened(store_for(sys.argv[1])) as store:
        await store.write([record(number, data=bytes(2**20)) for number in (8, 9)])

asyncio.run(main())
"""


@pytest.mark.process
async def test_a_process_follows_another_one_that_makes_the_directory_larger_than_its_own_limit(directory):
    place = FilePlace(directory)
    async with opened(place.store(options="?size_max=1M&timeout_s=60")) as store:
        await store.write([record(1)])
        command = [sys.executable, "-c", WRITE_MUCH, url_of(place)]
        await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=True, timeout=DEADLINE_S)
        assert await store.read(key(9)) is not None
        assert set(await everything(store)) == {key(1), key(8), key(9)}
        await store.delete([key(8), key(9)])
        assert await store.write([record(2)]) == set()


@contextlib.contextmanager
def holder(place) -> Iterator[None]:
    """Another process that has begun a write transaction, and does not end it."""
    begin = (
        f"import lmdb; place = lmdb.open({str(place.directory)!r}, max_dbs=3); held = place.begin(write=True)"
        if isinstance(place, FilePlace)
        else f"import sqlite3; held = sqlite3.connect({str(place.path)!r}); held.execute('BEGIN IMMEDIATE')"
    )
    code = f"{begin}\nprint('held', flush=True)\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.process
async def test_a_process_that_holds_the_lock_costs_a_bounded_time_and_reads_go_on(place):
    async with opened(place.store(options="?timeout_s=0.3")) as store:
        await store.write([record(1)])
        with holder(place):
            if isinstance(place, SqlitePlace):
                assert await store.read(key(1)) is not None
            async with asyncio.timeout(DEADLINE_S):
                with pytest.raises(StoreUnavailable, match="another process"):
                    await store.write([record(2)])
            begin = time.monotonic()
            async with asyncio.timeout(DEADLINE_S):
                calls = [store.write([record(number)]) for number in range(100)]
                answers = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(answer, StoreUnavailable) for answer in answers)
            assert time.monotonic() - begin < DEADLINE_S / 4, "they wait beside each other, not one by one"
        async with asyncio.timeout(DEADLINE_S):
            assert await store.write([record(2)]) == set()


@pytest.mark.process
async def test_a_process_that_holds_the_lock_costs_opening_and_closing_a_bounded_time(place):
    async with opened(place.store()) as store:
        await store.write([record(1)])
    busy, late = (place.store(options="?timeout_s=0.3") for _ in range(2))
    async with asyncio.timeout(DEADLINE_S):
        await busy.open()
        with holder(place):
            for call in (lambda: busy.write([record(2)]), late.open):
                with pytest.raises(StoreUnavailable, match="another process"):
                    await call()
            await busy.close()
            await late.close()
        async with opened(place.store()) as again:
            assert await again.read(key(1)) is not None
            assert await again.write([record(2)]) == set()


# --- not what it should be ----------------------------------------------------------------------------------


async def test_a_directory_of_a_newer_schema_is_refused(directory):
    place = FilePlace(directory)
    async with opened(place.store()):
        pass
    with lmdb.open(str(place.directory), max_dbs=3) as environment:
        about = environment.open_db(b"about")
        with environment.begin(write=True) as transaction:
            transaction.put(b"schema", b"2", db=about)
    store = place.store()
    with pytest.raises(StoreUnusable, match="schema 2, made by a newer program; this one knows 1 at most"):
        await store.open()
    await store.close()


async def test_a_database_of_a_newer_schema_is_refused(directory):
    place = SqlitePlace(directory)
    async with opened(place.store()):
        pass
    place.run("UPDATE sessiond_schema SET version = 99")
    store = place.store()
    with pytest.raises(StoreUnusable, match="schema 99, made by a newer program; this one knows 1 at most"):
        await store.open()
    await store.close()


async def test_a_database_of_an_older_schema_is_migrated_and_keeps_its_records(directory, monkeypatch):
    place = SqlitePlace(directory)
    async with opened(place.store()) as store:
        await store.write([record()])
    monkeypatch.setattr(
        sql,
        "MIGRATIONS",
        [*sql.MIGRATIONS, lambda connection: connection.exec_driver_sql("CREATE TABLE more (name TEXT)")],
    )
    for _ in range(2):
        async with opened(place.store()) as store:
            assert await store.read(key(1)) is not None
    assert place.run("SELECT version FROM sessiond_schema") == (2,)


async def test_a_migration_that_fails_leaves_the_tables_as_they_were(directory, monkeypatch):
    place = SqlitePlace(directory)
    async with opened(place.store()):
        pass

    def fail(connection):
        connection.exec_driver_sql("CREATE TABLE half (name TEXT)")
        raise StoreUnusable("no")

    with monkeypatch.context() as patch:
        patch.setattr(sql, "MIGRATIONS", [*sql.MIGRATIONS, fail])
        store = place.store()
        with pytest.raises(StoreUnusable):
            await store.open()
        await store.close()
    assert place.run("SELECT count(*) FROM sqlite_master WHERE name = 'half'") == (0,)
    async with opened(place.store()) as store:
        await store.write([record()])


async def test_a_place_that_is_something_else_is_refused(directory):
    (directory / "store").mkdir()
    (directory / "store" / "data.mdb").write_bytes(b"no environment" * 1000)
    (directory / "sessions.db").write_bytes(b"no database" * 1000)
    for place, told in (
        (FilePlace(directory), "no LMDB environment"),
        (SqlitePlace(directory), "no SQLite file"),
    ):
        store = place.store()
        with pytest.raises(StoreUnusable, match=told):
            await store.open()
        await store.close()


async def test_a_place_that_cannot_be_made_is_refused(directory):
    (directory / "file").write_text("")
    for url in (f"file://{directory}/file/store", f"sqlite:///{directory}/file/sessions.db"):
        store = store_for(url)
        with pytest.raises(StoreUnusable, match="Not a directory"):
            await store.open()
        await store.close()


async def test_a_database_whose_tables_are_gone_says_so(directory):
    place = SqlitePlace(directory)
    async with opened(place.store()) as store:
        place.run("DROP TABLE sessiond_sessions")
        with pytest.raises(StoreUnusable, match="tables are not ours"):
            await store.write([record()])


@pytest.mark.parametrize(
    ("column", "value"), [("owner", b"\xff"), ("epoch", "x"), ("expires_at", "soon"), ("body", "text")]
)
async def test_a_row_whose_column_holds_something_else_is_a_damaged_record(directory, column, value):
    place = SqlitePlace(directory)
    async with opened(place.store()) as store:
        await store.write([record(1), record(2)])
        place.run(f"UPDATE sessiond_sessions SET {column} = ? WHERE key = ?", value, key(1))
        with pytest.raises(DamagedRecord):
            await store.read(key(1))
        assert set(await everything(store)) == {key(2)}
        assert store.damaged == 2


async def test_the_files_are_for_their_owner_only(place):
    async with opened(place.store()) as store:
        await store.write([record()])
        files = (
            list(place.directory.iterdir())
            if isinstance(place, FilePlace)
            else [each for each in place.path.parent.iterdir() if each.is_file()]
        )
        assert len(files) >= 2
        assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}


async def test_sqlite_writes_are_on_the_disk_when_they_return(directory):
    """The two settings that make it so; a power failure is not at hand."""
    store = SqlitePlace(directory).store()
    async with opened(store), store._engine.connect() as connection:
        assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() == "wal"
        assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar() == 2
    assert sqlite3.sqlite_version_info >= (3, 35), "RETURNING"
