"""The driver of a node: what its callers hear when they, it, or its start come to an end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from sessiond import Node, Settings
from sessiond.errors import ConfigurationError, Unavailable
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


# --- the end ------------------------------------------------------------------------------------------------


async def test_who_waits_when_the_node_stops_hears_that_the_write_may_have_been_applied():
    async with two_nodes() as (first, second):
        await first.commit(KEY, {"n": b"1"}, create=True)
        for link in second._hub.links():
            link._deliver = lambda *_: None  # it hears nothing more, so it acks nothing
        committing = asyncio.create_task(first.commit(KEY, {"n": b"2"}))
        await asyncio.sleep(0)
        assert first._waiting, "it waits for the backup"
        await first.stop()
        with pytest.raises(Unavailable, match="stops: a write may have been applied"):
            await committing


async def test_waiting_for_a_node_to_join_ends_with_an_error_when_it_stops():
    node = Node(Settings(name="node1", cluster="127.0.0.1:0", quorum="majority", expect=3))
    await node.start()
    joining = asyncio.create_task(node.joined())
    await asyncio.sleep(0)
    await node.stop()
    with pytest.raises(Unavailable, match="was stopped before it had joined"):
        await joining
    with pytest.raises(Unavailable, match="was stopped before it had joined"):
        await node.joined()


async def test_a_node_that_was_stopped_has_not_failed():
    node = Node(Settings(name="node1", cluster="127.0.0.1:0"))
    await node.start()
    failing = asyncio.create_task(node.failed())
    await node.joined()
    assert not failing.done()
    await node.stop()
    await failing
