"""What goes wrong with servers: stopped, killed, full, read-only, forgetful, not ours. Real ones, hurt for real."""

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from sessiond.errors import StoreError, StoreUnavailable, StoreUnusable
from sessiond.stores import store_for
from tests.stores.places import PostgresqlPlace, RedisPlace, key, opened, record
from tests.support import disks, services

pytestmark = pytest.mark.servers

DEADLINE_S = 60

needs_small_disk = pytest.mark.skipif(bool(disks.missing()), reason=disks.missing())


@pytest.fixture(params=["postgresql", "redis"])
def place(request):
    server = request.getfixturevalue(f"{request.param}_server")
    return PostgresqlPlace(server) if request.param == "postgresql" else RedisPlace(server)


@pytest.fixture
def redis_of_its_own() -> Iterator[type[services.Redis]]:
    """Starts servers with options of the test's."""
    with contextlib.ExitStack() as stack:

        def start(**options: str) -> services.Redis:
            directory = stack.enter_context(services.directory_for_servers("redis"))
            return stack.enter_context(services.running(services.Redis(directory, **options)))

        yield start


async def everything(store):
    return {found.key: found async for found in store.scan()}


async def calls_fail(store, error: type[StoreError]) -> None:
    """Every call does, each within a bounded time."""
    calls = (
        lambda: store.read(key(1)),
        lambda: store.write([record(2)]),
        lambda: store.delete([key(9)]),
        lambda: everything(store),
    )
    for call in calls:
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(error):
                await call()


async def test_a_server_that_stands_still_costs_a_bounded_time_and_is_used_again_when_it_runs(place):
    async with opened(place.store(options="?timeout_s=2")) as store:
        await store.write([record(1)])
        place.server.pause()
        try:
            await calls_fail(store, StoreUnavailable)
            begin = time.monotonic()
            async with asyncio.timeout(DEADLINE_S):
                calls = [store.write([record(number)]) for number in range(30)]
                answers = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(answer, StoreUnavailable) for answer in answers)
            assert time.monotonic() - begin < DEADLINE_S / 2, "they wait beside each other, not one by one"
        finally:
            place.server.resume()
        async with asyncio.timeout(DEADLINE_S):
            await until_works(store)
            assert await store.read(key(1)) is not None


async def test_a_server_that_was_killed_and_came_back_has_everything_and_is_used_again(place):
    async with opened(place.store()) as store:
        await asyncio.gather(*(store.write([record(number)]) for number in range(20)))
        place.server.kill()
        try:
            await calls_fail(store, StoreUnavailable)
        finally:
            place.server.start()
        async with asyncio.timeout(DEADLINE_S):
            await until_works(store)
            assert set(await everything(store)) >= {key(number) for number in range(20)}
            assert await store.write([record(1, version=0)]) == {key(1)}


async def test_a_server_that_comes_later_is_opened_later(place):
    place.server.kill()
    store = place.store()
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.open()
    finally:
        place.server.start()
    async with opened(store):
        assert await store.write([record()]) == set()


async def until_works(store) -> None:
    """Write until it works: old connections may fail once, and a busy machine may need longer than timeout_s."""
    while True:
        try:
            await store.write([record(500)])
        except StoreUnavailable:
            continue
        return


async def fill(store, size: int, together: int = 1) -> tuple[int, str]:
    """Write until the store takes no more: how many were acknowledged, and what it said."""
    number = 0
    while True:
        numbers = range(number, number + together)
        try:
            await store.write([record(each, data=random.Random(each).randbytes(size)) for each in numbers])
        except StoreUnavailable as error:
            return number, str(error)
        number += together


# --- PostgreSQL ---------------------------------------------------------------------------------------------


@needs_small_disk
async def test_a_full_disk_of_postgresql_is_told_and_room_makes_it_work_again(postgresql_server, tmp_path):
    directory = postgresql_server.directory / "small"
    with disks.small_disk(directory, "8m", services.ORDINARY_USER) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(2 * 2**20))
        postgresql_server.run(f"CREATE TABLESPACE small LOCATION '{disk}'")
        url = postgresql_server.new_database()
        name = url.rpartition("/")[2]
        # Our tables alone go there: the server's own could not be read any more when it has no room to put pages away.
        postgresql_server.run(f"ALTER DATABASE {name} SET default_tablespace = small")
        try:
            async with opened(store_for(url)) as store:
                written, told = await fill(store, 3000, together=100)
                assert "53100" in told
                assert "No space left on device" in told
                assert written >= 100
                assert len(await everything(store)) == written
                ballast.unlink()
                assert await store.write([record(number, version=2) for number in range(50)]) == set()
        finally:
            ballast.unlink(missing_ok=True)
            postgresql_server.run(f"DROP DATABASE {name} WITH (FORCE)", "DROP TABLESPACE small")


async def test_a_read_only_postgresql_is_read_and_refuses_writes(postgresql_server):
    place = PostgresqlPlace(postgresql_server)
    async with opened(place.store()) as store:
        await store.write([record(1)])
    name = place.url.rpartition("/")[2]
    postgresql_server.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with opened(place.store()) as store:
        assert await store.read(key(1)) is not None
        with pytest.raises(StoreUnavailable, match="read-only"):
            await store.write([record(2)])


async def test_nodes_that_start_at_the_same_time_make_the_tables_once(postgresql_server):
    place = PostgresqlPlace(postgresql_server)
    stores = [place.store() for _ in range(6)]
    await asyncio.gather(*(store.open() for store in stores))
    try:
        await asyncio.gather(*(store.write([record(number)]) for number, store in enumerate(stores)))
        assert len(await everything(stores[0])) == 6
        assert place.run("SELECT version, cluster FROM sessiond_schema") == [(1, "default")]
    finally:
        await asyncio.gather(*(store.close() for store in stores))


async def test_a_newer_schema_in_postgresql_is_refused(postgresql_server):
    place = PostgresqlPlace(postgresql_server)
    async with opened(place.store()):
        pass
    place.run("UPDATE sessiond_schema SET version = 7")
    store = place.store()
    with pytest.raises(StoreUnusable, match="schema 7, made by a newer program; this one knows 1 at most"):
        await store.open()
    await store.close()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ((services.PASSWORD_IN_URL, "wrong"), "check user and password"),
        (("/postgres", "/nowhere"), "create the database"),
    ],
)
async def test_a_postgresql_that_does_not_take_us_is_unusable_and_no_password_is_shown(
    postgresql_server, change, told
):
    store = store_for(postgresql_server.url.replace(*change))
    with pytest.raises(StoreUnusable, match=told) as caught:
        await store.open()
    await store.close()
    assert services.PASSWORD_IN_URL not in str(caught.value)
    assert "wrong" not in str(caught.value)


async def test_a_user_who_may_not_make_tables_is_told_what_to_grant(postgresql_server):
    place = PostgresqlPlace(postgresql_server)
    postgresql_server.run("DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN PASSWORD 'guest'")
    store = store_for(place.url.replace(f"{services.USER}:{services.PASSWORD_IN_URL}", "guest:guest"))
    with pytest.raises(StoreUnusable, match="GRANT"):
        await store.open()
    await store.close()


# --- Redis --------------------------------------------------------------------------------------------------


async def test_a_full_redis_refuses_writes_and_works_again_when_something_is_gone(redis_of_its_own):
    server = redis_of_its_own(maxmemory="4mb", maxmemory_policy="noeviction")
    async with opened(store_for(server.url)) as store:
        written, told = await fill(store, 20_000)
        assert "maxmemory" in told
        assert written > 10
        assert set(await everything(store)) == {key(number) for number in range(written)}
        await store.delete([key(number) for number in range(written // 2)])
        assert await store.write([record(1)]) == set()


async def test_a_replica_of_redis_refuses_writes(redis_of_its_own):
    server = redis_of_its_own()
    async with opened(store_for(server.url)) as store:
        await store.write([record(1)])
        server.ask("REPLICAOF", "127.0.0.1", "1")
        assert await store.read(key(1)) is not None
        with pytest.raises(StoreUnavailable, match="read only replica"):
            await store.write([record(1, version=2)])
        server.ask("REPLICAOF", "NO", "ONE")
        assert await store.write([record(1, version=2)]) == set()


async def test_a_redis_that_has_forgotten_the_script_gets_it_again(redis_of_its_own):
    server = redis_of_its_own()
    async with opened(store_for(server.url)) as store:
        server.ask("SCRIPT", "FLUSH")
        assert await store.write([record(number, version=2) for number in range(5)]) == set()
        server.ask("SCRIPT", "FLUSH")
        assert await store.write([record(1, version=1), record(9)]) == {key(1)}


async def test_a_redis_with_a_password_is_unusable_without_it(redis_of_its_own):
    server = redis_of_its_own(requirepass="secret")
    for url in (server.url, server.url.replace("127", ":wrong@127")):
        store = store_for(url)
        with pytest.raises(StoreUnusable, match="check user and password") as caught:
            await store.open()
        await store.close()
        assert "wrong@" not in str(caught.value)
    async with opened(store_for(server.url.replace("127", ":secret@127"))) as store:
        await store.write([record()])


async def test_a_redis_that_evicts_or_forgets_is_warned_of(redis_of_its_own):
    server = redis_of_its_own(appendonly="no", maxmemory_policy="allkeys-lru")
    with capture_logs() as logs:
        async with opened(store_for(server.url)):
            pass
    assert {line["event"] for line in logs} == {"store.evicts", "store.not_durable"}
    assert all(line["log_level"] == "warning" for line in logs)


async def test_a_redis_kept_well_is_not_warned_of(redis_of_its_own):
    server = redis_of_its_own()
    with capture_logs() as logs:
        async with opened(store_for(server.url)):
            pass
    assert logs == []


async def test_a_user_of_redis_with_the_rights_that_the_docs_name_is_enough(redis_of_its_own):
    server = redis_of_its_own()
    rights = ["evalsha", "script|load", "get", "getrange", "set", "unlink", "scan"]
    who = ["shop", "on", ">word", "~sessiond:*"]
    assert server.ask("ACL", "SETUSER", *who, *(f"+{right}" for right in rights)) == b"+OK"
    with capture_logs() as logs:
        async with opened(store_for(server.url.replace("127", "shop:word@127", 1))) as store:
            await store.write([record(1), record(2)])
            await store.delete([key(2)])
            assert set(await everything(store)) == {key(1)}
    assert [line["event"] for line in logs] == ["store.settings_unknown"]
    server.ask("ACL", "SETUSER", "shop", "-getrange")
    store = store_for(server.url.replace("127", "shop:word@127", 1))
    await store.open()
    with pytest.raises(StoreUnusable, match="may run scripts"):
        await store.write([record(3)])
    await store.close()


async def test_a_node_of_a_redis_cluster_is_refused(redis_of_its_own):
    server = redis_of_its_own(cluster_enabled="yes", cluster_port=str(services.free_port()))
    store = store_for(server.url)
    with pytest.raises(StoreUnusable, match="one node of a Redis Cluster"):
        await store.open()
    await store.close()


async def test_redis_removes_expired_records_by_itself(redis_server):
    place = RedisPlace(redis_server)
    async with opened(place.store()) as store:
        await store.write([record(1, expires_at=time.time() + 0.05), record(2)])
        async with asyncio.timeout(DEADLINE_S):
            while place.client.dbsize() > 1:
                await store.read(key(2))
        assert 3_500_000 < place.client.pttl(b"sessiond:default:" + key(2)) <= 3_600_000


async def test_something_that_is_no_redis_is_told(postgresql_server):
    store = store_for(f"redis://127.0.0.1:{postgresql_server.port}/0?timeout_s=2")
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(StoreError):
            await store.open()
    await store.close()


async def test_stores_with_prefixes_of_their_own_share_a_redis(redis_server):
    server = RedisPlace(redis_server).server
    async with (
        opened(store_for(server.url + "?prefix=a[*]:")) as one,
        opened(store_for(server.url + "?prefix=a:")) as other,
    ):
        await one.write([record(1)])
        await other.write([record(2)])
        assert set(await everything(one)) == {key(1)}
        assert set(await everything(other)) == {key(2)}
