"""Announced locations: every node learns every list, and copies find their place in it."""

import pytest

from sessiond.core import messages as m
from sessiond.core.options import LOCATION_BATCH_S, Options
from tests.core.world import KEY, World


@pytest.fixture
def world() -> World:
    """Three nodes; the session's primary is node1."""
    return World.with_session(3)


def test_every_node_learns_every_list_change(world):
    for _ in range(2):
        world.run(0.3)  # the list is mended a moment after a death
        expected = world.machine("node1").copies[KEY].location
        for name in world.processes:
            assert world.machine(name).directory.get(KEY) == expected
        world.kill(world.listed()[0])


def test_a_backup_knows_the_list_that_came_with_its_copy_before_it_is_announced():
    world = World.of(2)
    world.create("node1")
    copy = world.machine("node1").copies[KEY]
    assert world.machine("node2").directory.get(KEY) == copy.location


def test_a_list_that_shrinks_is_a_later_list():
    world = World.of(2)
    world.create("node1")
    copy = world.machine("node1").copies[KEY]
    seq = copy.seq
    world.kill("node2")
    world.run(0.2)
    assert (copy.backups, copy.seq) == ((), seq + 1)
    assert world.machine("node1").directory.get(KEY) == copy.location


def test_a_release_of_an_earlier_term_does_not_drop_a_copy_of_a_later_one(world):
    old = world.machine("node1").copies[KEY]
    term, sender = old.term, world.machine("node1").life
    world.read(world.listed()[0])
    world.run(0.2)
    for name in sorted(set(world.where()) - {"node1"}):
        machine = world.machine(name)
        machine.receive(sender, m.Release(KEY, term, 9), world.now)
        sent = [effect.message for effect in machine.take_effects()]
        assert m.Fenced(KEY, machine.copies[KEY].location) in sent


def test_locations_of_one_moment_travel_together(world):
    world.processes["node1"].sent.clear()
    for number in range(50):
        world.create("node1", number.to_bytes(16))
    world.run(0.1)
    announced = [sent for sent in world.processes["node1"].sent if type(sent) is m.Locations]
    assert len(announced) == 1
    assert len(announced[0].entries) == 50


def test_a_stream_of_changes_does_not_put_an_announcement_off(world):
    world.processes["node1"].sent.clear()
    for number in range(10):
        world.create("node1", number.to_bytes(16))
        world.run(LOCATION_BATCH_S - 0.001)
    announced = [sent for sent in world.processes["node1"].sent if type(sent) is m.Locations]
    assert len(announced) >= 4


def test_a_backup_that_learns_a_newer_list_of_its_term_adopts_it():
    # Protocol 8: backups with different lists deferred to each other.
    world = World(Options(copies=2))
    world.boot("node1", "node2", "node3", "node4")
    world.run(1.0)
    world.create("node1")
    world.run(0.1)
    holders = [name for name, role in world.where().items() if role == "B"]
    world.kill(holders[0])
    world.run(0.2)
    expected = world.machine("node1").copies[KEY].location
    for name, role in world.where().items():
        assert role in "PB"
        copy = world.machine(name).copies[KEY]
        assert (copy.seq, copy.backups) == (expected.seq, expected.backups)


def test_a_backup_that_a_newer_list_does_not_name_stands_aside_and_drops_its_copy(world):
    backup = world.listed()[0]
    machine = world.machine(backup)
    copy = machine.copies[KEY]
    newer = copy.location._replace(seq=copy.seq + 1, backups=())
    machine.receive(world.machine("node1").life, m.Locations(((KEY, newer),)), world.now)
    assert copy.role == "Q"
    machine.check_invariants()


def test_who_announces_a_session_that_has_ended_is_told_so(world):
    # Found by the simulator: after a partition the side without the logout kept the session for ever.
    backup = world.listed()[0]
    (stranger,) = world.strangers()[:1]
    machine = world.machine(stranger)
    ended = world.machine("node1").copies[KEY].location._replace(backups=(), gone=True)
    machine.locating.merge(KEY, ended)
    world.commit("node1", n=b"2")
    world.reset("node1", stranger)
    world.run(0.1)
    assert world.where() == {}
    assert all(process.machine.directory.is_gone(KEY) for process in world.processes.values())
    assert KEY not in world.machine(backup).copies


def test_a_write_that_comes_before_the_list_it_was_sent_to_leaves_the_copy_its_own_list(world):
    # Found by the simulator: the old list went out under the new one's number, and directories differed for good.
    backup = world.backup()
    machine, primary = world.machine(backup), world.machine("node1").life
    copy = machine.copies[KEY]
    before = copy.location
    patch = m.Patch(KEY, copy.term, copy.seq + 1, None, copy.version, copy.version + 1, {"n": b"2"}, None)
    machine.receive(primary, patch, world.now)
    assert copy.read("n") == b"2"
    assert copy.location == before
