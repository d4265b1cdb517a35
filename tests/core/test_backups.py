"""The list of backups: how it grows and shrinks without ever losing what was promised."""

from dataclasses import replace

import pytest

from sessiond.backend import Committed
from sessiond.core import messages as m
from sessiond.core.acks import Applied
from sessiond.core.options import Options
from sessiond.core.types import Term
from tests.core.world import KEY, World

ACK_TIMEOUT_S = Options().ack_timeout_s


@pytest.fixture
def world() -> World:
    """Three nodes; the session's primary is node1."""
    return World.with_session(3)


def other_than(world: World, *names: str) -> str:
    (name,) = set(world.processes) - set(names)
    return name


def commit(world: World, **values: bytes) -> int:
    return world.ask("node1", "commit", KEY, values, None)


def names_of(world: World, key: bytes = KEY) -> list[str]:
    """The list of a session whose primary is node1."""
    return [life.name for life in world.machine("node1").copies[key].backups]


# --- slow backups -----------------------------------------------------------------------------------------


def test_a_second_backup_is_added_before_a_slow_one_is_released(world):
    slow = world.backup()
    fresh = other_than(world, "node1", slow)
    world.hold(m.Patch, m.Put, m.Release, to=slow)
    world.hold(m.Ack, by=fresh)
    operation = commit(world, n=b"2")
    world.run(ACK_TIMEOUT_S + 0.1)
    assert names_of(world) == [slow, fresh]
    assert not [sent for sent in world.processes["node1"].sent if type(sent) is m.Release]
    world.held = [entry for entry in world.held if entry[1] != fresh]
    world.run(0.1)
    assert world.machine(fresh).copies[KEY].read("n") == b"2"
    assert [sent.key for sent in world.processes["node1"].sent if type(sent) is m.Release] == [KEY]
    assert names_of(world) == [slow, fresh]  # asked to leave, it counts until it has left
    assert world.outcome("node1", operation) == "pending"


def test_the_write_waits_for_the_ack_of_a_slow_backup():
    world = World.with_session(3, Options(ack_timeout_s=0.3, silence_timeout_s=4.0))
    slow = world.backup()
    world.hold(m.Patch, m.Put, to=slow)
    operation = commit(world, n=b"2")
    world.run(1.5)
    assert world.outcome("node1", operation) == "pending"
    world.let_go()
    assert world.outcome("node1", operation) == Committed(2, protected=True)


def test_the_write_waits_for_the_release_of_a_slow_backup(world):
    slow = world.backup()
    world.hold(m.Ack, by=slow)
    operation = commit(world, n=b"2")
    world.run(ACK_TIMEOUT_S + 0.2)
    assert world.outcome("node1", operation) == "pending"
    world.held = []
    slow_life = world.machine(slow).life
    copy = world.machine("node1").copies[KEY]
    # Only the release arrives: the acks on the link were lost with an older instance of it.
    world.machine("node1").links.ledgers[slow_life]._under_way.clear()
    world.settle()
    assert world.outcome("node1", operation) == Committed(2, protected=True)
    assert slow_life not in copy.backups
    assert KEY not in world.machine(slow).copies


def test_the_write_waits_for_the_death_of_a_slow_backup(world):
    slow = world.backup()
    world.stop(slow)
    operation = commit(world, n=b"2")
    world.run(ACK_TIMEOUT_S + 0.5)
    assert world.outcome("node1", operation) == "pending"
    world.run(world.options.silence_timeout_s)
    assert world.outcome("node1", operation) == Committed(2, protected=True)
    assert names_of(world) == [other_than(world, "node1", slow)]


def test_a_backup_that_is_late_but_not_too_late_stays(world):
    slow = world.backup()
    world.hold(m.Patch, to=slow)
    commit(world, n=b"2")
    world.run(ACK_TIMEOUT_S - 0.05)
    world.let_go()
    world.run(1.0)
    assert names_of(world) == [slow]
    assert world.machine("node1").stats.backups_added == 1


def test_a_slow_backup_that_catches_up_first_makes_no_third_copy_last(world):
    slow = world.backup()
    world.hold(m.Patch, m.Put, to=slow)
    commit(world, n=b"2")
    world.run(ACK_TIMEOUT_S + 0.2)
    world.let_go()
    world.run(1.0)
    assert len(names_of(world)) == 1
    assert sorted(world.where().values()) == ["B", "P"]


def test_an_ack_of_an_earlier_stint_in_the_list_does_not_count(world):
    # It left, dropping its copy, and was added again: what it acked before says nothing now.
    life = world.machine(world.backup()).life
    machine = world.machine("node1")
    copy = machine.copies[KEY]
    before = Applied(KEY, copy.term, copy.leads.followers[life].added_seq, 99)
    world.kill(other_than(world, "node1", life.name))
    world.hold(m.Put, m.Patch)
    machine.receive(life, m.Released(KEY, copy.term, copy.seq), world.now)
    assert life in copy.backups  # nobody else is left, so it is asked again at once
    machine.replication.on_applied(life, before)
    assert copy.leads.followers[life].acked == -1
    added_seq = copy.leads.followers[life].added_seq
    machine.receive(life, m.Released(KEY, copy.term, before.seq), world.now)
    assert copy.leads.followers[life].added_seq == added_seq


def test_an_ack_of_an_earlier_term_does_not_count(world):
    life = world.machine(world.backup()).life
    copy = world.machine("node1").copies[KEY]
    earlier = Applied(KEY, Term(0, copy.term.owner), copy.seq, 99)
    world.machine("node1").replication.on_applied(life, earlier)
    assert copy.leads.followers[life].acked == 1


def test_a_release_that_was_lost_with_its_link_is_repeated(world):
    # Else the member that was asked to leave would get no more writes and never leave: writes waited for ever.
    slow = world.backup()
    fresh = other_than(world, "node1", slow)
    world.hold(m.Patch, m.Put, m.Release, to=slow)
    commit(world, n=b"2")
    world.run(ACK_TIMEOUT_S + 0.3)
    world.held = []
    world.reset("node1", slow)
    world.kill(fresh)
    operation = commit(world, n=b"3")
    world.run(3 * ACK_TIMEOUT_S)
    assert world.outcome("node1", operation) == Committed(3, protected=True)
    assert world.machine(slow).copies[KEY].read("n") == b"3"


# --- dead backups -----------------------------------------------------------------------------------------


def test_a_write_that_waits_for_a_backup_that_dies_completes_with_another_one(world):
    dead = world.backup()
    world.hold(m.Patch, to=dead)
    operation = commit(world, n=b"2")
    world.kill(dead)
    assert world.outcome("node1", operation) == Committed(2, protected=True)
    fresh = other_than(world, "node1")
    assert world.machine(fresh).copies[KEY].read("n") == b"2"


def test_a_write_after_the_backup_died_does_not_wait_for_its_turn_to_be_mended():
    world = World.with_session(3, Options(reprotect_rate_max=1))
    world.kill(world.backup())
    assert world.commit("node1", n=b"2") == Committed(2, protected=True)


def test_the_new_backup_counts_before_the_write_is_answered(world):
    dead = world.backup()
    world.hold(m.Patch, to=dead)
    world.hold(m.Put)
    operation = commit(world, n=b"2")
    world.kill(dead)
    world.run(0.1)
    assert world.outcome("node1", operation) == "pending"


def test_a_session_whose_backup_died_gets_another_one_without_a_write(world):
    world.kill(world.backup())
    world.run(0.2)
    assert sorted(world.where().values()) == ["B", "P"]
    assert world.machine("node1").unprotected == 0


def test_sessions_that_lost_their_backup_are_mended_at_a_bounded_rate():
    world = World(Options(reprotect_rate_max=100))
    world.boot("node1", "node2", "node3")
    world.run(1.0)
    keys = [i.to_bytes(16) for i in range(300)]
    for key in keys:
        world.create("node1", key)
    world.run(1.0)
    world.kill("node2")
    world.run(0.2)
    assert 100 < sum(names_of(world, key) == ["node2"] for key in keys) < 160
    world.run(5.0)
    assert all(names_of(world, key) == ["node3"] for key in keys)


# --- nobody to hold a copy --------------------------------------------------------------------------------


def test_a_write_that_nobody_can_hold_is_answered_as_unprotected_and_counted():
    world = World()
    world.boot("node1")
    assert world.create("node1") == Committed(1, protected=False)
    assert world.commit("node1", n=b"2") == Committed(2, protected=False)
    machine = world.machine("node1")
    assert machine.stats.writes_unprotected == 2
    assert machine.unprotected == 1
    assert machine.cluster_view().members[0].unprotected == 1


def test_a_write_that_waits_for_the_last_other_node_is_answered_when_that_dies():
    world = World.of(2)
    world.create("node1")
    world.hold(m.Patch)
    operation = commit(world, n=b"2")
    world.kill("node2")
    assert world.outcome("node1", operation) == Committed(2, protected=False)


def test_an_unprotected_session_is_protected_as_soon_as_a_member_appears():
    world = World()
    world.boot("node1")
    world.create("node1", n=b"7")
    world.boot("node2", seeds=("node1",))
    world.run(0.2)
    assert world.where() == {"node1": "P", "node2": "B"}
    assert world.machine("node2").copies[KEY].read("n") == b"7"
    assert world.machine("node1").unprotected == 0


def test_a_node_that_is_full_gets_no_new_copies_and_keeps_those_it_has(world):
    for number in range(20):
        world.create("node1", number.to_bytes(16))
    machine = world.machine("node2")
    held = len(machine.copies)
    machine.options = replace(machine.options, memory_bytes_max=machine.copies.bytes)
    world.run(0.5)
    for number in range(20, 40):
        world.create("node1", number.to_bytes(16))
        assert names_of(world, number.to_bytes(16)) == ["node3"]
    assert len(machine.copies) == held > 0
    assert world.commit("node1", (0).to_bytes(16), n=b"22") == Committed(2, protected=True)


def test_sessions_choose_their_backups_one_by_one_so_that_load_spreads(world):
    for number in range(200):
        world.create("node1", number.to_bytes(16))
    counts = {name: world.machine(name).copies.counts["B"] for name in ("node2", "node3")}
    assert min(counts.values()) > 60


def test_the_backup_is_in_another_zone_if_there_is_one():
    world = World(zones={"node1": "a", "node2": "a", "node3": "b", "node4": "a"})
    world.boot("node1", "node2", "node3", "node4")
    world.run(1.0)
    for number in range(10):
        key = number.to_bytes(16)
        world.create("node1", key)
        assert world.where(key) == {"node1": "P", "node3": "B"}


# --- what a broken link swallowed -------------------------------------------------------------------------


def test_a_backup_asks_its_primary_whether_it_still_counts_when_their_link_is_made_again(world):
    # What it missed may be all it was waiting for: here, that the session has ended.
    backup = world.backup()
    world.hold(m.Locations, to=backup)
    world.ask("node1", "invalidate", KEY)
    world.run(0.1)
    assert world.where() == {backup: "B"}
    world.held = []
    world.reset("node1", backup)
    world.run(0.1)
    assert world.where() == {}
    assert world.machine(backup).directory.is_gone(KEY)


def confirmed(world: World, node: str, by: str, confirm: m.Confirm) -> list[m.Message]:
    machine = world.machine(node)
    machine.receive(world.machine(by).life, confirm, world.now)
    return [effect.message for effect in machine.take_effects()]


def test_the_primary_answers_a_backup_that_is_in_step_with_nothing(world):
    backup = world.backup()
    copy = world.machine(backup).copies[KEY]
    assert confirmed(world, "node1", backup, m.Confirm(KEY, copy.term, copy.seq, copy.last)) == []


def test_the_primary_answers_a_backup_that_is_behind_with_the_whole_session(world):
    backup = world.backup()
    copy = world.machine(backup).copies[KEY]
    stale = m.Confirm(KEY, copy.term, copy.seq, copy.last)
    commit(world, n=b"2")
    world.run(1.0)
    assert [type(message) for message in confirmed(world, "node1", backup, stale)] == [m.Put]


def test_the_primary_answers_who_is_not_on_its_list_with_the_list(world):
    backup = world.backup()
    stranger = other_than(world, "node1", backup)
    copy = world.machine("node1").copies[KEY]
    sent = confirmed(world, "node1", stranger, m.Confirm(KEY, copy.term, 0, copy.last))
    assert sent == [m.Locations(((KEY, copy.location),))]
