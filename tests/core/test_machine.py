"""The core as its driver sees it: four verbs, effects in order, deadlines that are kept."""

import pytest

from sessiond.backend import Whereabouts
from sessiond.core.copies import Role
from sessiond.core.effects import MembersChanged, Resolve, Send
from sessiond.core.messages import Ack, Ping
from sessiond.core.options import DIGEST_INTERVAL_S
from tests.core.world import KEY, World


@pytest.fixture
def world() -> World:
    return World.with_session(3)


def test_a_tick_before_the_deadline_does_nothing(world):
    machine = world.machine("node1")
    before = machine.next_deadline()
    assert before > world.now
    machine.tick(world.now)
    assert machine.take_effects() == []


def test_deadlines_are_ahead_after_each_tick(world):
    machine = world.machine("node1")
    for _ in range(50):
        world.now = machine.next_deadline()
        machine.tick(world.now)
        machine.take_effects()
        assert machine.next_deadline() > world.now


def test_effects_are_taken_once_and_acks_come_last(world):
    backup = next(name for name, role in world.where().items() if role == "B")
    machine = world.machine("node1")
    machine.commit(1, KEY, {"n": b"2"}, None, world.now)
    sent = machine.take_effects()
    assert machine.take_effects() == []
    (patch,) = [effect.message for effect in sent if isinstance(effect, Send)]
    other = world.machine(backup)
    other.receive(machine.life, Ping(1, machine.status(), ()), world.now)
    other.receive(machine.life, patch, world.now)
    effects = [effect for effect in other.take_effects() if not isinstance(effect, MembersChanged)]
    assert isinstance(effects[-1], Send)
    assert isinstance(effects[-1].message, Ack)


def test_many_writes_of_one_turn_are_acked_once(world):
    backup = next(name for name, role in world.where().items() if role == "B")
    machine, other = world.machine("node1"), world.machine(backup)
    for number in range(10):
        machine.commit(100 + number, KEY, {"n": b"%d" % number}, None, world.now)
    for effect in machine.take_effects():
        if isinstance(effect, Send):
            other.receive(machine.life, effect.message, world.now)
    acks = [effect for effect in other.take_effects() if isinstance(effect, Send)]
    assert len(acks) == 1
    machine.receive(other.life, acks[0].message, world.now)
    assert len([effect for effect in machine.take_effects() if isinstance(effect, Resolve)]) == 10


def test_a_machine_that_rests_asks_for_no_more_than_its_probes_and_comparisons(world):
    world.run(20.0)
    machine = world.machine("node1")
    ticks = []
    tick = machine.tick
    machine.tick = lambda now: (ticks.append(now), tick(now))
    world.run(10.0)
    assert len(ticks) <= 2 * 10.0 / world.options.probe_interval_s + 10.0 / DIGEST_INTERVAL_S + 5
    assert machine.reprotection.backlog == 0
    assert machine.lookup.is_idle
    assert not machine.replication.waiting
    assert not machine.lists.repairing
    assert not machine.takeover.granting


def test_whereabouts_name_primary_backups_epoch_and_version(world):
    backup = next(name for name, role in world.where().items() if role == "B")
    assert world.machine("node1").locate(KEY) == Whereabouts("node1", (backup,), 1, 1)
    assert world.machine(backup).locate(KEY) == Whereabouts("node1", (backup,), 1, 1)
    stranger = ({"node2", "node3"} - {backup}).pop()
    assert world.machine(stranger).locate(KEY) == Whereabouts("node1", (backup,), 1, None)
    assert world.machine(stranger).locate(b"?" * 16) is None


def test_where_a_copy_in_doubt_is_the_directory_is_believed(world):
    machine = world.machine("node1")
    location = machine.copies[KEY].location
    machine.quarantine(machine.copies[KEY])
    found = machine.locate(KEY)
    assert found.version is None
    assert found.epoch == location.term.epoch


@pytest.mark.parametrize("break_it", ["list", "owner", "leader"])
def test_the_invariants_would_notice(world, break_it):
    machine = world.machine("node1")
    machine.check_invariants()
    copy = machine.copies[KEY]
    if break_it == "list":
        copy.backups = ()
    elif break_it == "owner":
        copy.term = copy.term._replace(owner=world.machine("node2").life)
    else:
        machine.copies.set_role(copy, Role.BACKUP)
    with pytest.raises(AssertionError):
        machine.check_invariants()
