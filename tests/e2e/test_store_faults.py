"""Real nodes whose store fails under load: requests go on, the state is shown, and the store catches up.

Afterwards all nodes are killed at once, so that whatever was answered can only come from the store.
"""

import asyncio
import errno
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from tests.e2e.cluster import Cluster
from tests.e2e.kill_everybody import come_back, kill_all, place_stores
from tests.e2e.load import Customer, audit, begin, shopping
from tests.e2e.waiting import wait_until
from tests.stores.conftest import postgresql_server, redis_server
from tests.support import disks, services

__all__ = ["postgresql_server", "redis_server"]  # fixtures

pytestmark = pytest.mark.process

APP = "tests.e2e.apps:create_app"
CUSTOMERS = 10
WRITE_PAUSE_S, READ_PAUSE_S = 0.05, 0.2
BIG = 400_000
"""Bytes of a session that a full disk has no room for."""

Fault = Callable[[Cluster], AbstractAsyncContextManager[None]]


async def says(cluster: Cluster, state: str) -> bool:
    """Whether every node says this of its store, and that it lacks nothing if it is up."""
    for name in cluster.running():
        view = await cluster.view(name)
        own = next((member for member in view.members if member.name == name), None) if view else None
        if own is None or own.store != state or (state == "up" and own.unstored):
            return False
    return True


async def outlive(cluster: Cluster, fault: Fault) -> list[Customer]:
    """Customers write and read before the fault, in it, and after it; then all nodes are killed and started again."""
    customers = await begin(cluster, CUSTOMERS)
    async with shopping(customers, WRITE_PAUSE_S, READ_PAUSE_S):
        async with fault(cluster):
            await wait_until(lambda: says(cluster, "down"), "every node says that its store is down")
            before = [customer.kept for customer in customers]

            async def has_gone_on() -> bool:
                return all(customer.kept > kept + 2 for customer, kept in zip(customers, before, strict=True))

            await wait_until(has_gone_on, "every customer's writes go on without the store")
        await wait_until(lambda: says(cluster, "up"), "every store is up and has caught up")
    kill_all(cluster)
    await come_back(cluster, customers)
    return customers


@pytest.fixture(params=["postgresql", "redis"])
def server(request: pytest.FixtureRequest) -> services.Server:
    found: services.Server = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.mark.servers
@pytest.mark.parametrize(("breaks", "mends"), [("pause", "resume"), ("kill", "start")])
def test_requests_go_on_when_the_server_fails_and_it_catches_up(
    make_cluster: Callable[..., Cluster], server: services.Server, breaks: str, mends: str
) -> None:
    @asynccontextmanager
    async def server_fails(_: Cluster) -> AsyncIterator[None]:
        getattr(server, breaks)()
        try:
            yield
        finally:
            getattr(server, mends)()

    async def run() -> list[str]:
        cluster = make_cluster(nodes=2, app=APP, store_timeout_s=0.5)
        place_stores(cluster, lambda _: server.url)
        async with cluster:
            return await audit(await outlive(cluster, server_fails))

    assert uvloop.run(run()) == []


@pytest.fixture
def small_disks(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """One for each of two nodes."""
    with (
        disks.small_disk(tmp_path / "disk1", "4m") as one,
        disks.small_disk(tmp_path / "disk2", "4m") as two,
    ):
        yield {"node1": one, "node2": two}


def fill(disk: Path) -> None:
    with (disk / "filler").open("ab", buffering=0) as filler:
        for size in (65_536, 4096):
            try:
                while filler.write(b"x" * size):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


@pytest.mark.skipif(bool(disks.missing()), reason=disks.missing())
@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_requests_go_on_when_the_disk_is_full_and_the_store_catches_up(
    make_cluster: Callable[..., Cluster], small_disks: dict[str, Path], kind: str
) -> None:
    @asynccontextmanager
    async def disk_is_full(cluster: Cluster) -> AsyncIterator[None]:
        """Both nodes get sessions that there is no room for: what is there can be written over in place."""
        for disk in small_disks.values():
            fill(disk)
        large = [cluster.browser_at(name) for name in cluster.nodes]
        for browser in large:
            assert (await browser.post(f"/bytes/{BIG}")).status == 200
        yield
        for disk in small_disks.values():
            (disk / "filler").unlink()

    def url_of(name: str) -> str:
        place = small_disks[name] / ("sessions.db" if kind == "sqlite" else "sessions")
        return f"sqlite:///{place}" if kind == "sqlite" else f"file://{place}"

    async def run() -> list[str]:
        cluster = make_cluster(nodes=2, app=APP, store_timeout_s=2)
        place_stores(cluster, url_of)
        async with cluster:
            return await audit(await outlive(cluster, disk_is_full))

    assert uvloop.run(run()) == []


async def key_of(cluster: Cluster, customer: Customer) -> bytes:
    answer = await cluster.nodes["node1"].ask(f"/v1/locate/{customer.cookie.session_id}")
    assert answer is not None
    return bytes.fromhex(answer.json()["key"])


def spoil(database: Path, key: bytes, at: int) -> None:
    """Flip a byte of a record's content, in the file of a node that does not run; the first one is its format."""
    with sqlite3.connect(database) as connection:
        ((body,),) = connection.execute("SELECT body FROM sessiond_sessions WHERE key = ?", (key,))
        spoilt = body[:at] + bytes([body[at] ^ 0x80]) + body[at + 1 :]
        connection.execute("UPDATE sessiond_sessions SET body = ? WHERE key = ?", (spoilt, key))


def test_a_record_that_cannot_be_read_is_one_visitors_trouble_alone(
    make_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    database = tmp_path / "sessions.db"

    async def run() -> None:
        cluster = make_cluster(nodes=1, app=APP)
        place_stores(cluster, lambda _: f"sqlite:///{database}")
        async with cluster:
            whole, damaged, newer = customers = await begin(cluster, 3)
            keys = [await key_of(cluster, customer) for customer in customers]
            cluster.kill("node1")
            await asyncio.gather(*(customer.hang_up() for customer in customers))
            spoil(database, keys[1], at=20)
            spoil(database, keys[2], at=0)
            await cluster.restart("node1")

            assert await audit([whole]) == []
            answer = await cluster.browser(damaged.cookie).get("/number")
            assert (answer.status, answer.json()["number"]) == (200, 0), "a new session in its place"
            answer = await cluster.browser(newer.cookie).get("/number")
            assert answer.status == 503, answer
            assert answer.headers["retry-after"].isdigit()
            assert await cluster.alive("node1") == ["node1"]
            told = [json.loads(line) for line in cluster.nodes["node1"].log.read_text().splitlines()]
            events = {
                line["event"]: line.get("key") for line in told if line["event"].startswith("store.record")
            }
            assert events == {"store.record_damaged": keys[1].hex(), "store.record_newer": keys[2].hex()}

    uvloop.run(run())
