"""The driver of a node: what its callers hear when they, it, or its start come to an end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from sessiond import Node, Settings
from sessiond.errors import ConfigurationError
from tests.e2e.waiting import wait_until
from tests.support.fake_store import FakeStore

KEY = b"k" * 16


async def until(condition: Callable[[], bool], what: str) -> None:
    async def holds() -> bool:
        return condition()

    await wait_until(holds, what)


@asynccontextmanager
async def two_nodes(**settings: object) -> AsyncIterator[tuple[Node, Node]]:
    """Two that know each other; backups have a second to answer."""
    first = Node(Settings(name="node1", cluster="127.0.0.1:0", ack_timeout_s=1.0, **settings))
    await first.start()
    try:
        await first.joined()
        seed = first._machine.identity.cluster
        second = Node(Settings(name="node2", cluster="127.0.0.1:0", join=(seed,), **settings))
        await second.start()
        try:
            await second.joined()
            await until(lambda: len(first.cluster_view().members) == 2, "both know each other")
            yield first, second
        finally:
            await second.stop()
    finally:
        await first.stop()


async def test_an_open_that_is_cancelled_just_when_it_succeeds_leaves_nothing_checked_out(monkeypatch):
    async with two_nodes() as (first, second):
        await first.commit(KEY, {"n": b"1"}, create=True)
        opening = asyncio.create_task(second.open(KEY))  # a handoff: it takes a round trip
        resolve = second._resolve

        def resolve_and_cancel(operation: int, outcome: object) -> None:
            resolve(operation, outcome)
            assert hasattr(outcome, "release"), outcome
            assert opening.cancel(), "the task has not gone on yet"

        monkeypatch.setattr(second, "_resolve", resolve_and_cancel)
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert second._machine.copies[KEY].leads.in_flight == 0


# --- a start that fails -------------------------------------------------------------------------------------


@pytest.fixture
def store(monkeypatch) -> FakeStore:
    """The store of every node with the URL fake://."""
    made = FakeStore()
    monkeypatch.setattr("sessiond.node.store_for", lambda *_, **__: made)
    return made


async def test_a_node_whose_cluster_port_is_taken_closes_the_store_that_it_had_opened(store):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        node = Node(Settings(name="solo", cluster=address, store="fake://"))
        with pytest.raises(ConfigurationError, match="in use"):
            await node.start()
    assert store.is_closed
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_start_that_is_cancelled_while_the_store_opens_closes_it(store):
    with store.held():
        starting = asyncio.create_task(Node(Settings(cluster="127.0.0.1:0", store="fake://")).start())
        await store.until_waiting()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert store.is_closed
