"""Writing to the store: what answers wait for, what happens when it fails, and who may overwrite whom."""

from dataclasses import replace

import pytest

from sessiond.backend import Committed
from sessiond.core import messages as m
from sessiond.core.copies import Role
from sessiond.core.options import Options
from sessiond.core.storing import StoreState
from sessiond.core.types import Life, Stamp, Term
from tests.core.world import KEY, World

ALONE = Options(copies=0, store_kind="shared")
BACKED = Options(store_kind="shared")


def key(number: int) -> bytes:
    return number.to_bytes(16)


def storing(world: World, name: str = "node1"):
    return world.machine(name).storing


@pytest.mark.parametrize("options", [ALONE, BACKED])
def test_an_answer_waits_until_the_store_has_the_write(options):
    world = World.of(2, options)
    world.holds_store = True
    operation = world.ask("node1", "create", KEY, {"n": b"1"})
    assert world.outcome("node1", operation) == "pending"
    world.let_store_go()
    assert world.outcome("node1", operation) == Committed(1, protected=True)
    assert world.shared_shelf.value(KEY, "n") == b"1"


def test_a_write_that_only_the_store_has_counts_as_protected():
    world = World.with_session(1, ALONE)
    assert world.commit("node1", n=b"2") == Committed(2, protected=True)
    assert world.machine("node1").is_settled(KEY, world.now)
    assert world.machine("node1").stats.writes_unprotected == 0


def test_behind_the_store_nobody_waits():
    world = World.of(1, replace(ALONE, store_write="behind"))
    world.holds_store = True
    assert world.create("node1", n=b"1") == Committed(1, protected=False)
    world.let_store_go()
    assert world.shared_shelf.value(KEY, "n") == b"1"


def test_a_read_waits_for_the_store_as_well():
    world = World.with_session(1, ALONE)
    world.holds_store = True
    world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    read = world.ask("node1", "commit", KEY, {}, None)
    assert world.outcome("node1", read) == "pending"
    world.let_store_go()
    assert world.outcome("node1", read) == Committed(2, protected=True)


def test_writes_that_come_while_a_batch_is_under_way_are_one_batch():
    world = World.with_session(1, ALONE)
    writes = world.shared_shelf.writes
    world.holds_store = True
    operations = [world.ask("node1", "commit", KEY, {"n": b"%d" % n}, None) for n in range(50)]
    world.let_store_go()
    assert all(isinstance(world.outcome("node1", operation), Committed) for operation in operations)
    assert world.shared_shelf.value(KEY, "n") == b"49"
    assert world.shared_shelf.writes == writes + 2


# --- a store that fails ---------------------------------------------------------------------------------


def test_requests_go_on_when_the_store_fails_and_it_catches_up():
    world = World.with_session(1, ALONE)
    world.shared_shelf.is_failing = True
    assert world.commit("node1", n=b"2") == Committed(2, protected=False)
    assert storing(world).state is StoreState.DOWN
    assert world.logged("node1", "store.down")[0]["reason"] == "the shelf fails"
    assert world.machine("node1").stats.writes_unstored == 1
    assert world.commit("node1", n=b"3") == Committed(3, protected=False)
    world.shared_shelf.is_failing = False
    world.run(10.0)
    assert storing(world).state is StoreState.UP
    assert world.shared_shelf.value(KEY, "n") == b"3"
    assert storing(world).backlog == 0
    assert world.commit("node1", n=b"4") == Committed(4, protected=True)


def test_a_store_that_is_down_is_asked_one_thing_at_a_time():
    world = World.of(1, ALONE)
    for number in range(1, 100):
        world.create("node1", key(number))
    world.shared_shelf.is_failing = True
    for number in range(1, 100):
        world.commit("node1", key(number), n=b"2")
    writes = world.shared_shelf.writes
    world.run(20.0)
    assert 3 <= world.shared_shelf.writes - writes <= 10


def test_a_store_that_is_down_with_nothing_to_write_is_found_to_be_back():
    world = World.with_session(1, ALONE)
    world.shared_shelf.is_failing = True
    world.open("node1", key(9))
    assert storing(world).state is StoreState.DOWN
    world.shared_shelf.is_failing = False
    world.run(6.0)
    assert storing(world).state is StoreState.UP


def test_a_store_that_is_slow_is_not_waited_for_longer_than_its_time_out():
    world = World.with_session(1, replace(ALONE, store_timeout_s=0.5))
    world.holds_store = True
    operation = world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    world.run(0.4)
    assert world.outcome("node1", operation) == "pending"
    world.run(0.2)
    assert world.outcome("node1", operation) == Committed(2, protected=False)
    assert storing(world).state is StoreState.BEHIND
    world.let_store_go()
    assert storing(world).state is StoreState.UP


def test_a_store_is_behind_until_it_has_nearly_caught_up(monkeypatch):
    monkeypatch.setattr("sessiond.core.storing.BATCH_RECORDS", 20)
    world = World.with_session(1, ALONE)
    world.shared_shelf.is_failing = True
    for number in range(1, 60):
        world.create("node1", key(number))
    world.shared_shelf.is_failing = False
    world.holds_store = True
    world.run(6.0)
    world.holds_store = False
    world.settle()
    assert storing(world).state is StoreState.UP
    assert [world.shared_shelf.value(key(n), "n") for n in (1, 59)] == [b"1", b"1"]
    assert world.logged("node1", "store.behind")


def test_a_node_whose_store_cannot_be_opened_yet_serves_and_catches_up():
    world = World(ALONE)
    world.shared_shelf.is_failing = True
    world.boot("node1")
    world.run(1.0)
    assert world.create("node1") == Committed(1, protected=False)
    world.shared_shelf.is_failing = False
    world.machine("node1").store_opened(world.now)
    world.settle()
    assert world.shared_shelf.value(KEY, "n") == b"1"


# --- who may write ----------------------------------------------------------------------------------------


def test_whoever_takes_a_session_over_writes_it_in_its_own_term():
    world = World.with_session(3, BACKED)
    heir = world.backup()
    world.kill("node1")
    assert world.read(heir) == b"1"
    assert world.shared_shelf.records[KEY].record.term == world.term(heir)


def test_a_primary_whose_write_is_refused_stands_aside_and_takes_what_is_stored_in():
    # Somebody on the other side of a partition had the session, and left this in the store.
    world = World.with_session(1, ALONE)
    stranger = Life("node9", 9)
    kept = world.shared_shelf.records[KEY]
    data = kept.record.data
    stamp = Stamp(Term(7, stranger), 5)
    there = data._replace(
        attributes={**data.attributes, "m": data.attributes["n"]._replace(value=b"theirs", stamp=stamp)},
        version=5,
        last=stamp,
    )
    record = kept.record._replace(term=stamp.term, version=5, data=there)
    world.shared_shelf.records[KEY] = replace(kept, record=record)
    operation = world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    world.run(1.0)
    assert "may or may not" in str(world.outcome("node1", operation))
    assert world.logged("node1", "session.fenced")
    assert world.read("node1", "m") == b"theirs"
    assert world.read("node1", "n") == b"2"
    assert world.term("node1") > stamp.term
    assert world.shared_shelf.value(KEY, "m") == b"theirs"


def test_a_primary_that_finds_the_session_ended_in_the_store_ends_it():
    world = World.with_session(1, ALONE)
    kept = world.shared_shelf.records[KEY]
    term = Term(7, Life("node9", 9))
    world.shared_shelf.records[KEY] = replace(kept, record=kept.record._replace(term=term, data=None))
    world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    world.run(0.2)
    assert world.open("node1") is None


def test_a_superseded_primary_that_lives_offers_its_news_to_the_one_that_acts():
    world = World.of(2, replace(ALONE, silence_timeout_s=1.0))
    world.create("node1", n=b"1")
    world.part("node1", "node2")
    world.run(3.0)
    assert world.read("node2") == b"1"
    world.commit("node2", m=b"2")
    world.ask("node1", "commit", KEY, {"n": b"9"}, None)
    world.run(0.5)
    world.heal()
    world.run(5.0)
    (primary,) = world.primaries()
    assert {world.read(primary, "m"), world.read(primary, "n")} == {b"2", b"9"}
    assert world.shared_shelf.value(KEY, "m") == b"2"
    assert world.shared_shelf.value(KEY, "n") == b"9"


# --- ends and uses ------------------------------------------------------------------------------------------


def test_the_end_of_a_session_is_in_the_store_before_it_is_answered():
    world = World.with_session(2, BACKED)
    world.holds_store = True
    operation = world.ask("node1", "invalidate", KEY)
    assert world.outcome("node1", operation) == "pending"
    world.let_store_go()
    assert world.outcome("node1", operation) is None
    record = world.shared_shelf.records[KEY].record
    assert record.data is None
    assert record.lives_s > BACKED.idle_timeout_s


def test_an_end_that_the_store_could_not_take_is_written_when_it_is_back():
    world = World.with_session(1, ALONE)
    world.shared_shelf.is_failing = True
    assert world.outcome("node1", world.ask("node1", "invalidate", KEY)) is None
    assert world.shared_shelf.value(KEY, "n") == b"1"
    world.shared_shelf.is_failing = False
    world.run(10.0)
    assert world.shared_shelf.records[KEY].record.data is None


def test_a_tombstone_that_a_backup_lacks_is_not_stored():
    # Were it, a session that its backup goes on with could be found ended.
    world = World.with_session(2, BACKED)
    world.stop("node2")
    world.ask("node1", "invalidate", KEY)
    world.run(0.2)
    assert world.shared_shelf.value(KEY, "n") == b"1"


def test_a_session_that_expires_leaves_an_end():
    world = World.with_session(1, replace(ALONE, idle_timeout_s=10.0))
    world.run(11.0)
    assert world.shared_shelf.records[KEY].record.data is None


def test_the_last_use_is_stored_now_and_then_and_a_record_outlives_it():
    world = World.with_session(1, replace(ALONE, idle_timeout_s=100.0, touch_interval_s=5.0))
    writes = world.shared_shelf.writes
    for _ in range(20):
        world.run(5.0)
        world.read("node1")
    assert 2 <= world.shared_shelf.writes - writes <= 4
    kept = world.shared_shelf.records[KEY]
    assert kept.at + kept.record.lives_s >= world.now + 100.0 - 5.0


def test_without_a_store_nothing_is_asked_of_one():
    world = World.with_session(2)
    world.commit("node1", n=b"2")
    assert world.machine("node1").storing is None
    assert world.machine("node1").copies[KEY].role is Role.PRIMARY


# --- an end that its primary did not see through -----------------------------------------------------------


@pytest.mark.parametrize("write", ["through", "behind"])
def test_an_uncommitted_end_is_completed_by_the_successor_and_stored(write):
    # Simulator, `store`, 3652: the successor waited for the store, and nobody came back to it when that had the end.
    world = World.with_session(3, replace(BACKED, store_write=write))
    backup = world.backup()
    world.hold(m.Ack)
    world.ask("node1", "invalidate", KEY)
    assert world.machine(backup).copies[KEY].tombstone
    world.kill("node1")
    world.held = []
    world.run(2)
    assert world.where() == {}
    assert world.shared_shelf.records[KEY].record.data is None


@pytest.mark.parametrize("write", ["through", "behind"])
def test_an_end_that_only_the_dead_primary_would_have_stored_is_stored_by_its_backup(write):
    # Else the record of the session as it lived comes back when nobody remembers the end any more.
    ttl_s = 60.0
    world = World.with_session(3, replace(BACKED, store_write=write, tombstone_ttl_s=ttl_s))
    world.run(0.5)
    world.shared_shelf.is_failing = True
    world.commit("node1", x=b"1")
    world.run(0.5)
    operation = world.ask("node1", "invalidate", KEY)
    world.run(0.02)
    assert world.outcome("node1", operation) is None
    world.kill("node1")
    world.run(1.0)
    world.shared_shelf.is_failing = False
    world.run(ttl_s + 10.0)
    asked = world.ask("node2", "open", KEY, may_refer=False)
    world.run(1.0)
    assert world.outcome("node2", asked) is None
