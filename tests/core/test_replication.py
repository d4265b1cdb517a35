"""Writes: an answer means that every backup has applied what it shows."""

import pytest

from sessiond.backend import Committed
from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.copies import GrantState, Leadership, Role
from sessiond.core.effects import Resolve
from sessiond.core.options import Options
from sessiond.core.types import Attribute, Life, Location, Stamp, Term
from sessiond.errors import Conflict, SessionGone, Unavailable
from tests.core.world import KEY, World


@pytest.fixture
def world() -> World:
    """Three nodes; the session's primary is node1."""
    return three_nodes()


def three_nodes(options: Options | None = None) -> World:
    world = World.of(3, options)
    assert world.create("node1", n=b"1") == Committed(1, protected=True)
    world.run(0.1)
    return world


def commit(world: World, node: str = "node1", **values: bytes | None) -> int:
    return world.ask(node, "commit", KEY, values, None)


# --- an ack means applied ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [m.Patch, m.Ack])
def test_a_write_is_answered_only_when_the_backup_has_applied_it(world, kind):
    world.hold(kind)
    operation = commit(world, n=b"2")
    world.run(0.2)
    assert world.outcome("node1", operation) == "pending"
    world.let_go()
    assert world.outcome("node1", operation) == Committed(2, protected=True)
    assert world.machine(world.backup()).copies[KEY].read("n") == b"2"


def test_a_new_session_is_answered_only_when_its_backup_holds_it():
    world = World.of(2)
    world.hold(m.Put)
    operation = world.ask("node1", "create", KEY, {"n": b"1"})
    world.run(0.2)
    assert world.outcome("node1", operation) == "pending"
    world.let_go()
    assert world.outcome("node1", operation) == Committed(1, protected=True)


def test_writes_are_answered_in_order_and_each_with_its_own_version(world):
    world.hold(m.Ack)
    operations = [commit(world, n=b"%d" % number) for number in (2, 3, 4)]
    world.let_go()
    assert [world.outcome("node1", operation).version for operation in operations] == [2, 3, 4]


def test_with_two_backups_both_must_have_applied_the_write():
    world = World(Options(copies=2))
    world.boot("node1", "node2", "node3")
    world.run(1.0)
    world.create("node1")
    for slow in ("node2", "node3"):
        world.hold(m.Patch, to=slow)
        operation = commit(world, n=b"2")
        world.run(0.1)
        assert world.outcome("node1", operation) == "pending"
        world.let_go()
        assert world.outcome("node1", operation).protected


def test_only_the_changed_attributes_travel(world):
    commit(world, big=b"x" * 10_000)
    world.processes["node1"].sent.clear()
    commit(world, n=b"2")
    patches = [sent for sent in world.processes["node1"].sent if type(sent) is m.Patch]
    assert [patch.changes for patch in patches] == [{"n": b"2"}]
    assert not [sent for sent in world.processes["node1"].sent if type(sent) is m.Put]


# --- reads ------------------------------------------------------------------------------------------------


def test_a_read_waits_for_the_versions_that_it_shows():
    # Protocol 8: a read that showed a value which then died with the primary.
    world = three_nodes()
    world.hold(m.Patch)
    write = commit(world, n=b"2")
    checkout = world.open("node1")
    assert isinstance(checkout, Checkout)
    assert checkout.read("n") == b"2"
    read = commit(world)
    assert not world.machine("node1").is_settled(KEY, world.now)
    assert world.outcome("node1", read) == "pending"
    world.let_go()
    assert world.outcome("node1", read) == Committed(2, protected=True)
    assert world.outcome("node1", write) == Committed(2, protected=True)
    assert world.machine("node1").is_settled(KEY, world.now)


def test_a_value_that_died_with_its_primary_was_shown_to_nobody(world):
    world.hold(m.Patch)
    write = commit(world, n=b"2")
    read = commit(world)
    dead = world.processes["node1"]
    world.kill("node1")
    world.let_go()
    assert write not in dead.outcomes
    assert read not in dead.outcomes
    assert world.read("node2") == b"1"


def test_a_read_that_shows_only_what_is_applied_is_answered_at_once(world):
    assert world.outcome("node1", commit(world)) == Committed(1, protected=True)
    assert world.machine("node1").is_settled(KEY, world.now)


def test_is_settled_is_said_of_no_session_that_is_elsewhere_unprotected_or_ending(world):
    assert not world.machine(world.backup()).is_settled(KEY, world.now)
    assert not world.machine("node1").is_settled(b"?" * 16, world.now)
    world.machine("node1").copies[KEY].tombstone = True
    assert not world.machine("node1").is_settled(KEY, world.now)
    alone = World()
    alone.boot("node1")
    alone.create("node1")
    assert not alone.machine("node1").is_settled(KEY, world.now)


# --- the backup -------------------------------------------------------------------------------------------


def backup_machine() -> tuple[World, str, Life]:
    world = three_nodes()
    return world, world.backup(), world.machine("node1").life


def answers(world: World, node: str, message: m.Message, sender: Life) -> list[m.Message]:
    machine = world.machine(node)
    machine.receive(sender, message, world.now)
    machine.check_invariants()
    return [effect.message for effect in machine.take_effects() if hasattr(effect, "message")]


def test_a_patch_on_the_wrong_base_is_a_gap_and_the_whole_session_follows():
    world, backup, primary = backup_machine()
    term = Term(1, primary)
    for base in (0, 2, 7):
        patch = m.Patch(KEY, term, 1, None, base, base + 1, {"n": b"9"}, None)
        sent = answers(world, backup, patch, primary)
        assert [type(message) for message in sent] == [m.Nack, m.Gap, m.Ack]
        assert sent[1] == m.Gap(KEY, term)
        assert world.machine(backup).copies[KEY].read("n") == b"1"
    world.processes["node1"].sent.clear()
    world.machine("node1").receive(world.machine(backup).life, m.Gap(KEY, term), world.now)
    world.settle()
    assert [type(message) for message in world.processes["node1"].sent] == [m.Put]


def test_a_patch_whose_base_has_the_right_version_but_another_term_is_a_gap():
    # Version numbers alone may repeat: writes that were never acked died with an older term.
    world, backup, primary = backup_machine()
    patch = m.Patch(KEY, Term(1, primary), 1, Term(1, Life("node0", 1)), 1, 2, {"n": b"9"}, None)
    assert m.Gap(KEY, Term(1, primary)) in answers(world, backup, patch, primary)


def test_a_copy_that_is_granting_a_term_applies_no_write_of_it():
    # What it grants is what the others were fenced with.
    world, backup, primary = backup_machine()
    copy = world.machine(backup).copies[KEY]
    copy.leadership = Leadership(since=world.now, grant=GrantState(primary, world.now))
    patch = m.Patch(KEY, Term(1, primary), 1, None, 1, 2, {"n": b"9"}, None)
    assert m.Gap(KEY, Term(1, primary)) in answers(world, backup, patch, primary)
    assert copy.read("n") == b"1"


def test_a_patch_for_a_session_that_is_not_here_is_a_gap():
    world, backup, primary = backup_machine()
    patch = m.Patch(b"?" * 16, Term(1, primary), 1, None, 1, 2, {"n": b"9"}, None)
    assert m.Gap(b"?" * 16, Term(1, primary)) in answers(world, backup, patch, primary)
    assert world.machine(backup).stats.gaps == 1


def test_a_patch_or_put_of_an_older_term_is_fenced_with_the_location():
    world = three_nodes(Options(copies=2))
    old = world.machine("node1").life
    world.read("node3")
    world.run(0.2)
    assert world.where() == {"node1": "B", "node2": "B", "node3": "P"}
    for name in ("node2", "node3"):
        location = world.machine(name).copies[KEY].location
        patch = m.Patch(KEY, Term(1, old), 9, None, 1, 2, {"n": b"9"}, None)
        assert m.Fenced(KEY, location) in answers(world, name, patch, old)
        data = m.CopyData(
            {"n": Attribute(b"9", Stamp(Term(1, old), 2))}, 2, Stamp(Term(1, old), 2), False, 0, 0, ()
        )
        put = m.Put(KEY, Term(1, old), 9, (world.machine(name).life,), data)
        refusal = m.Fenced(KEY, location) if name == "node2" else m.Locations(((KEY, location),))
        assert refusal in answers(world, name, put, old)
        assert world.machine(name).copies[KEY].read("n") == b"1"


def test_a_fenced_primary_stops_acting_and_finds_its_place(world):
    # It wrote meanwhile: what it had to itself is merged, not lost.
    machine = world.machine("node1")
    world.hold(m.Patch, by="node1")
    operation = commit(world, late=b"9")
    higher = Location(Term(5, world.machine("node2").life), 0, ())
    machine.receive(world.machine("node2").life, m.Fenced(KEY, higher), world.now)
    machine.check_invariants()
    assert machine.copies[KEY].role is Role.QUARANTINED
    assert machine.stats.fenced == 1
    world.settle()
    assert isinstance(world.outcome("node1", operation), Unavailable)
    assert world.logged("node1", "session.fenced")


def test_a_fence_of_a_lower_or_equal_term_changes_nothing(world):
    machine = world.machine("node1")
    location = machine.copies[KEY].location
    machine.receive(world.machine("node2").life, m.Fenced(KEY, location), world.now)
    assert machine.copies[KEY].role is Role.PRIMARY


def test_a_put_that_was_overtaken_by_a_removal_leaves_no_orphan():
    # Protocol 8: a late PUT after removal. The directory knows a later list without this node.
    world, backup, primary = backup_machine()
    other = ({"node2", "node3"} - {backup}).pop()
    machine = world.machine(other)
    known = machine.directory.get(KEY)
    data = world.machine("node1").copies[KEY].data(world.now)
    late = m.Put(KEY, known.term, known.seq - 1, (machine.life,), data)
    assert m.Locations(((KEY, known),)) in answers(world, other, late, primary)
    assert KEY not in machine.copies


def test_a_put_repeated_or_older_within_the_term_is_acked_and_does_not_set_the_copy_back():
    world, backup, primary = backup_machine()
    data = world.machine("node1").copies[KEY].data(world.now)
    put = m.Put(KEY, Term(1, primary), 1, world.machine("node1").copies[KEY].backups, data)
    commit(world, n=b"2")
    sent = answers(world, backup, put, primary)
    assert [type(message) for message in sent] == [m.Ack]
    assert world.machine(backup).copies[KEY].read("n") == b"2"


def test_a_put_over_a_copy_with_news_is_answered_with_an_offer_of_them():
    world, backup, primary = backup_machine()
    machine = world.machine(backup)
    copy = machine.copies[KEY]
    machine.quarantine(copy)
    bytes_before = copy.bytes
    copy.apply({"news": b"x"}, Stamp(Term(1, primary), 9), None)
    machine.copies.reweigh(bytes_before, copy)
    data = world.machine("node1").copies[KEY].data(world.now)
    put = m.Put(KEY, Term(1, primary), 3, (machine.life,), data)
    sent = answers(world, backup, put, primary)
    offers = [message for message in sent if type(message) is m.Offer]
    assert [offer.data.attributes["news"].value for offer in offers] == [b"x"]
    assert copy.role is Role.QUARANTINED


# --- links ------------------------------------------------------------------------------------------------


def test_what_was_under_way_when_a_link_broke_is_sent_again_whole(world):
    backup = world.backup()
    world.hold(m.Patch)
    operation = commit(world, n=b"2")
    world.processes["node1"].sent.clear()
    world.held.clear()
    world.reset("node1", backup)
    assert world.outcome("node1", operation) == Committed(2, protected=True)
    assert m.Put in {type(sent) for sent in world.processes["node1"].sent}
    assert world.machine(backup).copies[KEY].read("n") == b"2"


def test_a_lost_ack_is_made_good_after_a_link_reset(world):
    backup = world.backup()
    world.hold(m.Ack)
    operation = commit(world, n=b"2")
    assert world.machine(backup).copies[KEY].read("n") == b"2"
    world.held.clear()
    world.reset("node1", backup)
    assert world.outcome("node1", operation) == Committed(2, protected=True)


def test_a_write_while_the_link_is_down_is_sent_when_it_is_back(world):
    backup = world.backup()
    world.stop(backup)
    world.reset("node1", backup)  # nobody answers the reconnect: that alone is no death
    operation = commit(world, n=b"2")
    world.run(0.1)
    assert world.outcome("node1", operation) == "pending"
    world.resume(backup)
    world.settle()
    assert world.outcome("node1", operation) == Committed(2, protected=True)
    assert world.where()[backup] == "B"


# --- modes and refusals -----------------------------------------------------------------------------------


def test_async_answers_at_once_and_the_backup_gets_the_write_all_the_same():
    world = three_nodes(Options(ack="async"))
    backup = world.backup()
    world.hold(m.Patch)
    assert world.outcome("node1", commit(world, n=b"2")) == Committed(2, protected=True)
    assert world.machine(backup).copies[KEY].read("n") == b"1"
    world.let_go()
    assert world.machine(backup).copies[KEY].read("n") == b"2"


def test_a_write_on_a_version_that_has_passed_is_a_conflict_and_writes_nothing(world):
    assert world.commit("node1", if_version=1, n=b"2") == Committed(2, protected=True)
    conflict = world.commit("node1", if_version=1, n=b"3")
    assert isinstance(conflict, Conflict)
    assert (conflict.expected, conflict.found) == (1, 2)
    assert world.read("node1") == b"2"
    assert world.machine("node1").copies[KEY].version == 2


def test_a_write_to_a_session_that_is_ending_is_refused_as_gone(world):
    world.hold(m.Put)
    world.ask("node1", "invalidate", KEY)
    operation = commit(world, n=b"2")
    world.let_go()
    assert isinstance(world.outcome("node1", operation), SessionGone)


def test_a_deleted_attribute_is_gone_on_every_copy_and_keeps_its_stamp(world):
    commit(world, n=None, other=b"x")
    for name in world.where():
        copy = world.machine(name).copies[KEY]
        assert sorted(copy.names()) == ["other"]
        assert copy.attributes["n"] == Attribute(None, Stamp(copy.term, 2))
    world.kill("node1")
    assert world.read("node2") is None


def test_a_deletion_is_not_undone_by_an_older_value_in_a_merge(world):
    # The quarantined copy of a node that stood aside still has the value; the deletion is later.
    stale = world.machine("node1").copies[KEY].data(world.now)
    commit(world, n=None)
    copy = world.machine("node1").copies[KEY]
    world.machine("node1").replication.merge(copy, stale, None)
    assert copy.read("n") is None


def test_counts_tell_what_happened(world):
    commit(world, n=b"2")
    stats = world.machine("node1").stats
    assert (stats.sessions_created, stats.writes, stats.writes_unprotected) == (1, 2, 0)
    assert world.machine(world.backup()).stats.applied == 2


def test_an_operation_is_resolved_exactly_once(world):
    machine = world.machine("node1")
    machine.commit(99, KEY, {"n": b"2"}, None, world.now)
    first = [effect for effect in machine.take_effects() if isinstance(effect, Resolve)]
    backup = world.machine(world.backup()).life
    for _ in range(3):
        machine.receive(backup, m.Ack(2), world.now)
        first += [effect for effect in machine.take_effects() if isinstance(effect, Resolve)]
    assert first == [Resolve(99, Committed(2, protected=True))]
