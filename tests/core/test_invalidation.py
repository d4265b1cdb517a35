"""The end of a session is a write like any other until all have it, and final from then on."""

import pytest

from sessiond.core import messages as m
from sessiond.core.copies import Role
from sessiond.core.options import Options
from sessiond.core.types import Attribute, Location, Stamp, Term
from sessiond.errors import Unavailable
from tests.core.world import KEY, World

LATE = Options(reprotect_delay_s=60.0)


def cluster(nodes: int = 4, options: Options = LATE) -> World:
    return World.with_session(nodes, options)


@pytest.fixture
def world() -> World:
    return cluster()


def invalidate(world: World, node: str = "node1") -> int:
    return world.ask(node, "invalidate", KEY)


def gone(world: World, node: str) -> bool:
    return world.machine(node).directory.is_gone(KEY)


def test_an_ended_session_is_gone_everywhere(world):
    assert world.outcome("node1", invalidate(world)) is None
    world.run(0.1)
    assert world.where() == {}
    for name in world.processes:
        assert gone(world, name)
        assert world.machine(name).locate(KEY) is None
        assert world.open(name) is None


def test_the_end_is_answered_only_when_every_backup_holds_it(world):
    world.hold(m.Put)
    operation = invalidate(world)
    world.run(0.1)
    assert world.outcome("node1", operation) == "pending"
    assert not gone(world, "node1")
    copy = world.machine("node1").copies[KEY]
    assert (copy.version, copy.last) == (2, Stamp(copy.term, 2))  # a write like any other
    world.let_go()
    assert world.outcome("node1", operation) is None
    assert gone(world, "node1")


def test_nobody_is_served_by_a_session_that_is_ending_and_nobody_is_told_gone_before_it_is(world):
    world.hold(m.Put)
    invalidate(world)
    backup = world.backup()
    operations = {
        name: world.ask(name, "open", KEY, may_refer=False) for name in ("node1", world.strangers()[0])
    }
    world.run(0.1)
    for name, operation in operations.items():
        assert world.outcome(name, operation) == "pending"
    world.let_go()
    world.run(0.3)
    for name, operation in operations.items():
        assert world.outcome(name, operation) is None
    assert world.open(backup) is None


@pytest.mark.parametrize("changes", [{}, {"n": b"2"}], ids=["a read", "a write"])
def test_a_request_that_meets_the_end_of_its_session_is_told_gone_only_once_that_is_certain(changes):
    # Its primary dies with the end that nobody else had heard of: the session lives on, and nobody was told else.
    world = cluster()
    backup = world.backup()
    world.hold(m.Put)
    invalidate(world)
    operation = world.ask("node1", "commit", KEY, changes, None)
    assert world.outcome("node1", operation) == "pending"
    world.kill("node1")
    world.held = []
    assert world.read(backup) == b"1"


def test_two_requests_may_end_a_session_at_once(world):
    world.hold(m.Put)
    operations = [invalidate(world) for _ in range(2)]
    world.let_go()
    assert [world.outcome("node1", operation) for operation in operations] == [None, None]
    assert world.machine("node1").stats.invalidated == 1


def test_ending_a_session_that_is_gone_is_no_error(world):
    invalidate(world)
    assert world.outcome("node1", invalidate(world)) is None
    world.run(0.1)
    for name in world.processes:
        assert world.outcome(name, invalidate(world, name)) is None


def test_writes_that_waited_before_the_end_are_answered(world):
    world.hold(m.Patch)
    write = world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    ending = invalidate(world)
    world.let_go()
    assert world.outcome("node1", write).version == 2
    assert world.outcome("node1", ending) is None


# --- takeover ---------------------------------------------------------------------------------------------


def test_an_uncommitted_end_is_completed_by_the_successor_and_never_served():
    # Protocol 8: else one side says "gone" while the other goes on serving.
    world = cluster()
    backup = world.backup()
    world.hold(m.Ack)
    invalidate(world)
    assert world.machine(backup).copies[KEY].tombstone
    world.kill("node1")
    world.held = []
    operation = world.ask(backup, "open", KEY, may_refer=False)
    world.run(0.5)
    assert world.outcome(backup, operation) is None
    for name in world.processes:
        assert gone(world, name)
    assert world.where() == {}


def test_a_backup_that_holds_an_uncommitted_end_answers_nothing_from_it(world):
    backup = world.backup()
    world.hold(m.Ack)
    invalidate(world)
    operation = world.ask(backup, "open", KEY, may_refer=False)
    world.run(0.05)
    assert world.outcome(backup, operation) == "pending"


def test_an_end_that_no_backup_had_received_died_with_its_primary(world):
    # It was not acknowledged: the session lives on.
    backup = world.backup()
    world.hold(m.Put)
    invalidate(world)
    world.kill("node1")
    world.held = []
    assert world.read(backup) == b"1"


def test_a_successor_elsewhere_completes_the_end_too():
    world = cluster()
    backup = world.backup()
    asker = world.strangers()[0]
    world.hold(m.Ack, by=backup)
    invalidate(world)
    world.kill("node1")
    world.held = []
    operation = world.ask(asker, "open", KEY, may_refer=False)
    world.run(0.5)
    assert world.outcome(asker, operation) is None
    assert gone(world, backup)
    assert world.where() == {}


def test_an_end_that_is_under_way_when_the_backup_dies_is_completed_with_another(world):
    backup = world.backup()
    world.hold(m.Put, to=backup)
    operation = invalidate(world)
    world.kill(backup)
    assert world.outcome("node1", operation) is None
    world.run(0.1)
    assert world.where() == {}


# --- for ever ---------------------------------------------------------------------------------------------


def test_no_late_copy_brings_an_ended_session_back(world):
    backup = world.backup()
    primary = world.machine("node1").life
    copy = world.machine("node1").copies[KEY]
    late_data, late_list = copy.data(world.now), copy.backups
    invalidate(world)
    world.run(0.1)
    stamp = Stamp(Term(9, primary), 9)
    data = late_data._replace(attributes={"n": Attribute(b"9", stamp)}, last=stamp)
    higher = Term(9, world.machine(backup).life)
    for message in (
        m.Put(KEY, Term(9, primary), 9, late_list, data),
        m.Patch(KEY, Term(1, primary), 9, None, 1, 2, {"n": b"9"}, None),
        m.Grant(KEY, higher, (), data),
        m.Offer(KEY, higher, data),
        m.Claim(KEY, primary, None, higher, 1, None),
        m.Locations(((KEY, Location(higher, 5, ())),)),
        m.Here(KEY, 1, m.Held("P", higher, 5, (), stamp), Location(higher, 5, ())),
        m.Refer(KEY, Location(higher, 5, ()), False, 1),
        m.Fenced(KEY, Location(higher, 5, ())),
    ):
        machine = world.machine(backup)
        machine.receive(primary, message, world.now)
        machine.check_invariants()
        machine.take_effects()
        assert KEY not in machine.copies, message
        assert gone(world, backup), message


def test_who_offers_a_copy_of_an_ended_session_is_told_that_it_is_gone(world):
    invalidate(world)
    world.run(0.1)
    machine = world.machine("node2")
    tombstone = machine.directory.get(KEY)
    peer = world.machine("node3").life
    data = m.CopyData({}, 1, Stamp(Term(1, peer), 1), False, 0.0, 0.0, ())
    for message in (
        m.Put(KEY, Term(5, peer), 1, (), data),
        m.Offer(KEY, Term(5, peer), data),
        m.Claim(KEY, peer, None, None, 1, None),
        m.Confirm(KEY, Term(5, peer), 1, data.last),
        m.Grant(KEY, Term(5, machine.life), (), data),
    ):
        machine.receive(peer, message, world.now)
        sent = [getattr(effect, "message", None) for effect in machine.take_effects()]
        assert m.Locations(((KEY, tombstone),)) in sent, message


def test_a_node_that_missed_the_end_learns_of_it_when_it_asks(world):
    missed = world.strangers()[0]
    world.hold(m.Locations, to=missed)
    invalidate(world)
    world.run(0.1)
    assert not gone(world, missed)
    world.held = []
    for other in sorted(set(world.processes) - {missed}):
        world.reset(missed, other)
    world.run(0.2)
    operation = world.ask(missed, "open", KEY, may_refer=False)
    world.run(0.5)
    assert world.outcome(missed, operation) is None
    assert gone(world, missed)


def test_an_end_is_remembered_for_its_time_and_then_forgotten():
    world = cluster(options=Options(tombstone_ttl_s=100.0))
    invalidate(world)
    world.run(95.0)
    assert all(gone(world, name) for name in world.processes)
    world.run(10.0)
    assert all(world.machine(name).directory.get(KEY) is None for name in world.processes)
    assert world.open("node2") is None


def test_a_joiner_is_told_what_is_gone(world):
    invalidate(world)
    world.run(0.1)
    world.boot("node9", seeds=("node2",))
    world.run(0.5)
    assert gone(world, "node9")


def test_a_node_that_has_news_of_a_session_takes_its_end_all_the_same():
    # It offered them, for ever, to a primary that takes no offers because the session is ending.
    world = World.of(2, LATE)
    world.create("node1", n=b"1")
    holder = world.machine("node2")
    copy = holder.copies[KEY]
    holder.quarantine(copy)
    bytes_before = copy.bytes
    copy.apply({"news": b"x"}, Stamp(copy.term, 9), None)
    holder.copies.reweigh(bytes_before, copy)
    operation = invalidate(world)
    world.run(1.0)
    assert world.outcome("node1", operation) is None
    assert world.where() == {}


def test_an_offer_of_an_uncommitted_end_ends_the_session():
    # A node stood aside with an end that its backups had already: it is not forgotten.
    world = cluster()
    machine = world.machine("node1")
    stranger = world.strangers()[0]
    data = machine.copies[KEY].data(world.now)._replace(tombstone=True)
    machine.receive(world.machine(stranger).life, m.Offer(KEY, Term(1, machine.life), data), world.now)
    world.settle()
    world.run(0.1)
    assert world.where() == {}
    assert all(gone(world, name) for name in world.processes)


def test_an_end_at_a_node_that_loses_the_session_meanwhile_is_of_unknown_outcome(world):
    world.hold(m.Put)
    operation = invalidate(world)
    machine = world.machine("node1")
    machine.quarantine(machine.copies[KEY])
    world.let_go()
    assert isinstance(world.outcome("node1", operation), Unavailable)
    world.run(2.0)
    assert world.where() == {}
    assert all(copy.role is not Role.QUARANTINED for copy in machine.copies.values())
