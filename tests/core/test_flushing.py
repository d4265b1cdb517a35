"""Flush intervals: answers leave at once, writes leave together, and only a death takes along what was kept back.

The turn of `KEY` in an interval of 0.5 s is 0.33 s after its begin; `with_session` ends at 1001.1 s.
"""

import pytest

from sessiond.backend import Committed
from sessiond.core import flushing
from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.options import Options
from sessiond.errors import Conflict
from tests.core.world import KEY, World

EVERY_500_MS = Options(flush_s=0.5, tenure_min_s=0.001)


@pytest.fixture
def world() -> World:
    """Three nodes that flush every 0.5 s; the session's primary is node1. What was sent so far is forgotten."""
    world = World.with_session(3, EVERY_500_MS)
    world.processes["node1"].sent.clear()
    return world


def writes(world: World, node: str = "node1") -> list[object]:
    """What a node has sent that changes copies."""
    kinds = (m.Patch, m.Put, m.Grant)
    return [message for message in world.processes[node].sent if isinstance(message, kinds)]


def shown_at_backup(world: World, name: str = "n") -> bytes | None:
    return world.machine(world.backup()).copies[KEY].read(name)


def save(world: World, **values: bytes) -> int:
    return world.ask("node1", "commit", KEY, values, None, flush=True)


# --- in time -----------------------------------------------------------------------------------------------


def test_a_write_is_answered_at_once_and_leaves_at_the_sessions_turn(world):
    assert world.now == pytest.approx(1001.1)
    assert world.commit("node1", n=b"2") == Committed(2, protected=True)
    world.run(0.22)
    assert writes(world) == []
    assert shown_at_backup(world) == b"1"
    world.run(0.02)  # 1001.33 is past
    assert shown_at_backup(world) == b"2"


def test_what_was_written_meanwhile_is_one_patch_with_the_latest_values(world):
    for number in range(2, 7):
        world.commit("node1", n=b"%d" % number)
    world.commit("node1", other=b"x")
    world.commit("node1", other=None)
    world.run(0.5)
    (patch,) = writes(world)
    assert (patch.base_version, patch.version, patch.changes) == (1, 8, {"n": b"6", "other": None})


def test_a_session_is_flushed_once_an_interval_at_most_and_not_without_writes(world):
    for number in range(20):
        world.commit("node1", n=b"%d" % number)
        world.run(0.1)
    assert len(writes(world)) == 4
    world.run(3.0)
    assert len(writes(world)) == 5


def test_after_a_flush_the_copies_are_equal_stamps_included(world):
    world.commit("node1", n=b"2")
    world.commit("node1", other=b"x")
    world.run(0.5)
    backup = world.machine(world.backup()).copies[KEY]
    primary = world.machine("node1").copies[KEY]
    assert backup.attributes == primary.attributes
    assert (backup.version, backup.last) == (primary.version, primary.last) == (3, primary.last)


def test_sessions_have_turns_of_their_own_so_that_a_burst_does_not_come_out_as_one(world):
    keys = [bytes([0, 0, 0, number]) + KEY[4:] for number in range(100)]
    for key in keys:
        world.create("node1", key)
    world.run(0.5)
    world.processes["node1"].sent.clear()
    for key in keys:
        world.commit("node1", key, n=b"2")
    counts = []
    for _ in range(11):
        world.run(0.05)
        counts.append(len(writes(world)))
        world.processes["node1"].sent.clear()
    assert sum(counts) == 100
    assert max(counts) <= 12


def test_a_tick_flushes_a_bounded_number_and_the_others_follow_at_once(world, monkeypatch):
    monkeypatch.setattr(flushing, "FLUSHED_PER_TICK", 2)
    keys = [KEY[:4] + bytes([number]) + KEY[5:] for number in range(5)]
    for key in keys:
        world.create("node1", key)
        world.commit("node1", key, n=b"2")
    machine = world.machine("node1")
    world.processes["node1"].sent.clear()
    world.now = 1001.331
    flushed = []
    while len(machine.flushing):
        machine.tick(world.now)
        flushed.append(5 - len(machine.flushing))
    assert flushed == [2, 4, 5]


# --- who waits ---------------------------------------------------------------------------------------------


def test_a_read_waits_neither_for_a_flush_nor_for_its_ack(world):
    world.commit("node1", n=b"2")
    assert world.commit("node1") == Committed(2, protected=True)
    world.hold(m.Patch)
    world.run(0.25)
    assert world.commit("node1") == Committed(2, protected=True)


def test_save_sends_what_was_kept_back_with_its_own_and_waits_until_it_is_applied(world):
    world.commit("node1", n=b"2")
    world.hold(m.Ack)
    operation = save(world, other=b"x")
    (patch,) = writes(world)
    assert patch.changes == {"n": b"2", "other": b"x"}
    assert world.outcome("node1", operation) == "pending"
    world.let_go()
    assert world.outcome("node1", operation) == Committed(3, protected=True)


def test_save_without_changes_waits_for_what_was_kept_back(world):
    world.commit("node1", n=b"2")
    world.hold(m.Patch)
    operation = save(world)
    assert world.outcome("node1", operation) == "pending"
    world.let_go()
    assert world.outcome("node1", operation) == Committed(2, protected=True)
    assert shown_at_backup(world) == b"2"


def test_with_async_acks_too_save_waits():
    world = World.with_session(3, Options(ack="async"))
    world.hold(m.Ack)
    assert world.commit("node1", n=b"2") == Committed(2, protected=True)
    operation = save(world, n=b"3")
    assert world.outcome("node1", operation) == "pending"
    world.let_go()
    assert world.outcome("node1", operation) == Committed(3, protected=True)


def test_a_new_session_is_sent_at_once_though_nobody_waits_for_it(world):
    key = b"another session!"
    world.hold(m.Ack)
    assert world.create("node1", key) == Committed(1, protected=True)
    assert "B" in world.where(key).values()


def test_a_conflict_is_found_with_versions_that_were_kept_back(world):
    world.commit("node1", n=b"2")
    outcome = world.commit("node1", if_version=1, n=b"3")
    assert isinstance(outcome, Conflict)
    assert outcome.found == 2


def test_kept_back_writes_do_not_make_a_session_unprotected(world):
    world.commit("node1", n=b"2")
    machine = world.machine("node1")
    machine.lists.maintain(machine.copies[KEY])
    assert machine.unprotected == 0
    assert writes(world) == []


# --- moves in order ------------------------------------------------------------------------------------------


def test_a_handoff_takes_along_what_was_kept_back(world):
    world.commit("node1", n=b"2")
    other = world.strangers()[0]
    operation = world.ask(other, "open", KEY, may_refer=False)
    world.run(0.05)
    checkout = world.outcome(other, operation)
    assert isinstance(checkout, Checkout)
    assert checkout.read("n") == b"2"
    assert world.primaries() == [other]


def test_what_a_request_writes_while_the_session_is_about_to_move_goes_along(world):
    held = world.open("node1")
    other = world.strangers()[0]
    operation = world.ask(other, "open", KEY, may_refer=False)
    world.run(0.05)
    assert world.outcome(other, operation) == "pending"
    world.commit("node1", n=b"2")
    held.release()
    world.run(0.05)
    assert world.outcome(other, operation).read("n") == b"2"


def test_a_drain_takes_along_what_was_kept_back(world):
    world.commit("node1", n=b"2")
    world.machine("node1").begin_drain(world.now)
    world.run(0.2)
    (successor,) = world.primaries()
    assert successor != "node1"
    assert world.read(successor) == b"2"


def test_a_node_that_leaves_sends_what_it_kept_back(world):
    world.commit("node1", n=b"2")
    world.machine("node1").leave(world.now)
    world.settle()
    world.kill("node1")
    world.run(3.0)
    (successor,) = world.primaries()
    assert world.read(successor) == b"2"


def test_the_end_of_a_session_ends_what_was_kept_back_of_it(world):
    world.commit("node1", n=b"2")
    operation = world.ask("node1", "invalidate", KEY)
    world.run(1.0)
    assert world.outcome("node1", operation) is None
    assert world.where() == {}
    assert not any(isinstance(message, m.Patch) for message in writes(world))


def test_a_late_commit_from_another_node_is_sent_with_what_was_kept_back(world):
    held = world.open("node1")
    other = world.strangers()[0]
    operation = world.ask(other, "open", KEY, may_refer=False)
    world.run(2.2)  # past handoff_wait_s: the session moves though a request holds it
    world.outcome(other, operation).release()
    world.commit(other, other=b"x")
    world.processes[other].sent.clear()
    late = world.ask("node1", "commit", KEY, {"n": b"late"}, None)
    assert world.outcome("node1", late) == Committed(3, protected=True)
    (patch,) = writes(world, other)
    assert patch.changes == {"other": b"x", "n": b"late"}
    assert patch.write_id is not None
    held.release()


def test_a_new_backup_gets_the_whole_and_the_others_what_was_kept_back():
    world = World.with_session(4, Options(flush_s=0.5, copies=2))
    world.commit("node1", n=b"2")
    first, second = world.listed()
    world.hold(m.Patch, to=second)
    world.kill(first)
    world.run(0.2)
    assert len(world.listed()) == 2
    (newcomer,) = [name for name in world.listed() if name != second]
    assert world.machine(newcomer).copies[KEY].read("n") == b"2"
    assert world.machine(second).copies[KEY].read("n") == b"1"
    world.let_go()
    assert world.machine(second).copies[KEY].read("n") == b"2"
    assert world.machine("node1").unprotected == 0


def test_a_backup_that_lost_its_copy_gets_the_whole(world):
    backup = world.backup()
    world.commit("node1", n=b"2")
    world.machine(backup).drop_copy(KEY)
    world.run(0.5)
    assert [type(message) for message in writes(world)] == [m.Patch, m.Put]
    assert world.machine(backup).copies[KEY].read("n") == b"2"


def test_after_a_broken_link_the_next_flush_reaches_the_backup(world):
    world.commit("node1", n=b"2")
    world.reset("node1", world.backup())
    world.run(1.0)
    assert shown_at_backup(world) == b"2"


def test_the_last_backup_dies_and_nothing_kept_back_is_lost(world):
    world.commit("node1", n=b"2")
    world.kill(world.backup())
    world.run(1.0)
    assert shown_at_backup(world) == b"2"


# --- a death ---------------------------------------------------------------------------------------------------


def test_a_death_loses_what_was_written_since_the_last_flush_and_no_more(world):
    world.commit("node1", n=b"2")
    world.run(0.5)
    world.commit("node1", n=b"3")
    world.kill("node1")
    world.run(3.0)
    (successor,) = world.primaries()
    assert world.read(successor) == b"2"


def test_what_was_saved_survives_a_death_at_once(world):
    operation = save(world, n=b"2")
    assert world.outcome("node1", operation) == Committed(2, protected=True)
    world.kill("node1")
    world.run(3.0)
    (successor,) = world.primaries()
    assert world.read(successor) == b"2"


def test_a_primary_that_was_taken_for_dead_offers_what_it_kept_back(world):
    world.commit("node1", n=b"2")
    world.stop("node1")
    world.run(5.0)
    world.resume("node1")
    world.run(3.0)
    (successor,) = world.primaries()
    assert world.read(successor) == b"2"
