"""A node with a store, in one process: what reaches the store, what comes back, and what happens when it does not."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from sessiond import Node, Settings
from sessiond.core.messages import CopyData
from sessiond.core.stored import Stored, Trouble, Unreadable
from sessiond.core.types import Attribute, Life, Stamp, Term
from sessiond.errors import ConfigurationError, Unavailable
from sessiond.node import clock
from sessiond.store_driver import outcome_of, record_of
from tests.e2e.waiting import wait_until
from tests.support.fake_store import FakeStore, Faults, Place

KEY = b"k" * 16
TERM = Term(3, Life("node1", 7))


def content(age_s: float = 5.0, idle_s: float = 2.0) -> CopyData:
    stamp = Stamp(TERM, 4)
    return CopyData({"n": Attribute(b"1", stamp)}, 4, stamp, False, age_s, idle_s, (b"w",))


async def until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await wait_until(holds, "the store does what is awaited")


@asynccontextmanager
async def running(
    monkeypatch: pytest.MonkeyPatch, store: FakeStore, **settings: object
) -> AsyncIterator[Node]:
    monkeypatch.setattr("sessiond.node.store_for", lambda *_, **__: store)
    node = Node(
        Settings(name="solo", cluster="127.0.0.1:0", store="fake://", store_timeout_s=0.2, **settings)
    )
    await node.start()
    try:
        await node.joined()
        yield node
    finally:
        await node.stop()


# --- records ----------------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_but_older():
    record = record_of(Stored(KEY, TERM, 4, 100.0, content()), 1000.0)
    assert record.stamp == (3, "node1", 7, 4)
    assert record.expires_at == 1100.0
    assert outcome_of(record, 1010.0) == Stored(KEY, TERM, 4, 90.0, content(15.0, 12.0))


def test_an_end_comes_back_as_an_end():
    stored = Stored(KEY, TERM, 4, 100.0, None)
    assert outcome_of(record_of(stored, 1000.0), 1000.0) == stored


def test_a_record_from_a_clock_that_was_ahead_is_not_from_the_future():
    record = record_of(Stored(KEY, TERM, 4, 100.0, content()), 1000.0)
    assert outcome_of(record, 990.0).data == content()


@pytest.mark.parametrize(
    "data", [b"", b"\x00rest", b"\x01", b"\x01\x92\x01\x02", b"\x01\xc0", b"\x01\x91\x01"]
)
def test_content_that_is_no_session_is_called_damaged(data):
    record = record_of(Stored(KEY, TERM, 4, 100.0, content()), 1000.0)
    spoilt = type(record)(KEY, 3, "node1", 7, 4, 1100.0, data)
    found = outcome_of(spoilt, 1000.0)
    assert isinstance(found, Unreadable)
    assert found.trouble is Trouble.DAMAGED


def test_content_of_a_later_format_is_called_newer():
    record = record_of(Stored(KEY, TERM, 4, 100.0, content()), 1000.0)
    newer = type(record)(KEY, 3, "node1", 7, 4, 1100.0, b"\x02" + record.data[1:])
    assert outcome_of(newer, 1000.0).trouble is Trouble.NEWER


# --- a node -------------------------------------------------------------------------------------------------


async def test_a_node_restarts_with_its_sessions(monkeypatch):
    place = Place()
    async with running(monkeypatch, FakeStore(place, shared=False)) as node:
        committed = await node.commit(KEY, {"n": b"1"}, create=True)
        assert (committed.version, committed.protected) == (1, True)
    async with running(monkeypatch, FakeStore(place, shared=False)) as node:
        checkout = await node.open(KEY)
        assert checkout.read("n") == b"1"
        checkout.release()
        await node.invalidate(KEY)
    async with running(monkeypatch, FakeStore(place, shared=False)) as node:
        assert await node.open(KEY) is None


async def test_a_read_of_what_the_store_alone_has_is_a_read_of_something_protected(monkeypatch):
    async with running(monkeypatch, FakeStore(), placement="none") as node:
        assert (await node.commit(KEY, {"n": b"1"}, create=True)).protected
        assert node._machine.is_settled(KEY, clock()), "else the read takes the long way"
        assert (await node.commit(KEY, {})).protected


async def test_what_was_not_waited_for_is_in_the_store_after_an_orderly_stop(monkeypatch):
    place = Place()
    store = FakeStore(place)
    async with running(monkeypatch, store, store_write="behind") as node:
        with store.held():
            for number in range(100):
                await node.commit(number.to_bytes(16), {"n": b"1"}, create=True)
    assert len(place.records) == 100


async def test_requests_go_on_when_the_store_hangs_fails_and_is_full_and_it_catches_up(monkeypatch):
    store = FakeStore()
    async with running(monkeypatch, store) as node:
        await node.commit(KEY, {"n": b"1"}, create=True)
        with store.held():
            assert not (await node.commit(KEY, {"n": b"2"})).protected
        store.faults.down = "gone fishing"
        assert not (await node.commit(KEY, {"n": b"3"})).protected
        await until(lambda: node.cluster_view().members[0].store == "down")
        assert node.cluster_view().members[0].unstored == 1
        store.faults.down, store.faults.full = None, "disk full"
        assert not (await node.commit(KEY, {"n": b"4"})).protected
        store.faults.full = None
        await until(lambda: node.cluster_view().members[0].store == "up")
        assert (await node.commit(KEY, {"n": b"5"})).protected
        samples = {(s.name, s.labels.get("state")): s.value for s in node.samples()}
        assert samples["sessiond_store_state", "up"] == 1
        assert samples["sessiond_writes_unstored_total", None] >= 3
    found = outcome_of(store.place.records[KEY], time.time())
    assert found.data.attributes["n"].value == b"5"


async def test_a_store_that_cannot_be_read_makes_a_session_unavailable(monkeypatch):
    place = Place()
    async with running(monkeypatch, FakeStore(place)) as node:
        await node.commit(KEY, {"n": b"1"}, create=True)
    store = FakeStore(place)
    async with running(monkeypatch, store) as node:
        store.faults.down = "gone fishing"
        with pytest.raises(Unavailable, match="gone fishing"):
            await node.open(KEY)


async def test_a_node_starts_without_a_store_that_does_not_answer_and_opens_it_later(monkeypatch):
    store = FakeStore(faults=Faults(down="not there yet"))
    async with running(monkeypatch, store) as node:
        assert not (await node.commit(KEY, {"n": b"1"}, create=True)).protected
        store.faults.down = None
        await until(lambda: KEY in store.place.records)


async def test_a_store_that_cannot_be_used_is_an_error_of_configuration(monkeypatch):
    monkeypatch.setattr(
        "sessiond.node.store_for", lambda *_, **__: FakeStore(faults=Faults(unusable="wrong password"))
    )
    node = Node(Settings(name="solo", cluster="127.0.0.1:0", store="fake://"))
    with pytest.raises(ConfigurationError, match="wrong password"):
        await node.start()


async def test_an_error_that_a_library_lets_slip_counts_as_a_failure(monkeypatch):
    store = FakeStore()
    async with running(monkeypatch, store) as node:
        write = store.write

        async def broken(records):
            raise ZeroDivisionError("a bug")

        store.write = broken
        assert not (await node.commit(KEY, {"n": b"1"}, create=True)).protected
        store.write = write
        await until(lambda: KEY in store.place.records)


async def test_expired_records_are_removed_in_batches(monkeypatch):
    monkeypatch.setattr("sessiond.store_driver.REMOVE_INTERVAL_S", 0.01)
    store = FakeStore()
    old = record_of(Stored(KEY, TERM, 4, 1.0, None), time.time() - 100.0)
    for number in range(1, 1200):
        store.place.records[number.to_bytes(16)] = type(old)(
            number.to_bytes(16), 3, "n", 7, 4, old.expires_at, None
        )
    async with running(monkeypatch, store) as node:
        await node.commit(KEY, {"n": b"1"}, create=True)
        await until(lambda: set(store.place.records) == {KEY})


def test_a_url_that_names_no_store_is_an_error_of_configuration_without_its_password():
    with pytest.raises(ConfigurationError) as raised:
        Node(Settings(store="mongodb://me:hidden@host/db"))
    assert "hidden" not in str(raised.value)
    assert "mongodb" in str(raised.value)


@pytest.mark.parametrize("url", ["file://{}/records", "sqlite:///{}/records.db"])
async def test_a_node_restarts_with_its_sessions_from_a_real_store(tmp_path, url):
    settings = Settings(name="solo", cluster="127.0.0.1:0", store=url.format(tmp_path), store_timeout_s=5.0)
    for visit in range(3):
        node = Node(settings)
        await node.start()
        try:
            await node.joined()
            if visit:
                checkout = await node.open(KEY)
                assert checkout.read("n") == b"%d" % (visit - 1)
                checkout.release()
            committed = await node.commit(KEY, {"n": b"%d" % visit}, create=not visit)
            assert committed.protected
        finally:
            await node.stop()


# --- what a library lets slip ---------------------------------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr("sessiond.store_driver.OPEN_AGAIN_S", (0.01,))
    monkeypatch.setattr("sessiond.store_driver.REMOVE_INTERVAL_S", 0.01)


def failing_once_with(error: Exception, call):
    """`call`, but the first time it fails like this."""
    errors = [error]

    async def instead(*arguments):
        if errors:
            raise errors.pop()
        return await call(*arguments)

    return instead


async def test_a_slip_while_the_store_is_opened_again_does_not_end_the_attempts(monkeypatch, hasty):
    store = FakeStore(faults=Faults(down="not there yet"))
    with capture_logs() as logged:
        async with running(monkeypatch, store) as node:
            store.open = failing_once_with(UnicodeError("a bug"), store.open)
            store.faults.down = None
            await until(lambda: node.cluster_view().members[0].store == "up")
    assert [line["exc_info"] for line in logged if line["event"] == "store.unexpected_error"] == [True]


async def test_a_slip_while_expired_records_are_removed_does_not_end_the_removing(monkeypatch, hasty):
    store = FakeStore()
    store.remove_expired = failing_once_with(ZeroDivisionError("a bug"), store.remove_expired)
    old = record_of(Stored(KEY, TERM, 4, 1.0, None), time.time() - 100.0)
    store.place.records[KEY] = old
    with capture_logs() as logged:
        async with running(monkeypatch, store):
            await until(lambda: KEY not in store.place.records)
    assert [line["event"] for line in logged if line["log_level"] == "warning"].count("store.not_tidied") == 1
