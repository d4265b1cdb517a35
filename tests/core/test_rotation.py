"""A rotated session answers to its old key for the grace, on every node and whoever dies, and not a moment longer."""

import pytest

from sessiond.backend import Committed, Elsewhere
from sessiond.core import messages as m
from sessiond.core import rotation
from sessiond.core.checkout import Checkout
from sessiond.core.options import Options
from sessiond.errors import Conflict, SessionGone, Unavailable
from tests.core.world import KEY, World

NEW = b"a successor's id"
GRACE_S = Options().rotate_grace_s


def rotate(world: World, node: str = "node1", old: bytes = KEY, new: bytes = NEW, version: int = 1) -> object:
    """What a session does: store all under the new key, then end the old one in its favour."""
    world.outcome(node, world.ask(node, "create", new, {"n": b"1"}, after=version))
    return world.outcome(node, world.ask(node, "rotate", old, new, version))


@pytest.fixture
def world() -> World:
    """Three nodes; a session of node1 that was just rotated there."""
    world = World.with_session(3)
    assert rotate(world) is None
    world.run(0.1)
    return world


def test_the_old_key_answers_with_the_new_session_on_its_node_at_once(world):
    checkout = world.machine("node1").try_open(KEY, world.now)
    assert isinstance(checkout, Checkout)
    assert checkout.key == NEW
    assert checkout.version == 2
    assert KEY not in world.machine("node1").copies


@pytest.mark.parametrize("node", ["node2", "node3"])
def test_the_old_key_answers_on_every_node(world, node):
    assert world.open(node, may_refer=True) == Elsewhere("node1")
    assert world.read(node) == b"1"
    assert world.primaries(NEW) == [node]


def test_a_write_by_the_old_key_is_a_write_of_the_new_session(world):
    assert world.commit("node1", n=b"2") == Committed(3, protected=True)
    assert world.commit("node2", n=b"3") == Committed(4, protected=True)  # forwarded
    assert world.read("node3", key=NEW) == b"3"


def test_a_write_for_a_version_that_the_rotation_has_superseded_is_a_conflict(world):
    assert isinstance(world.commit("node1", if_version=1, n=b"2"), Conflict)
    assert world.commit("node1", if_version=2, n=b"2") == Committed(3, protected=True)


@pytest.mark.parametrize("node", ["node1", "node2", "node3"])
def test_after_the_grace_the_old_key_is_worth_nothing(world, node):
    world.run(GRACE_S)
    assert world.open(node) is None
    assert isinstance(world.commit(node, n=b"2"), SessionGone)
    assert world.read(node, key=NEW) == b"1"
    assert len(world.machine(node).aliases) == 0


def test_use_by_the_old_key_does_not_prolong_the_grace(world):
    for _ in range(9):
        world.run(GRACE_S / 10)
        assert world.read("node1") == b"1"
    world.run(GRACE_S / 10)
    assert world.open("node1") is None


def test_without_a_grace_the_old_key_ends_at_once():
    world = World.with_session(3, Options(rotate_grace_s=0.0))
    assert rotate(world) is None
    world.run(0.1)
    assert [world.open(node) for node in world.processes] == [None, None, None]


def test_the_end_of_the_new_session_is_the_end_of_the_old_key(world):
    assert world.outcome("node1", world.ask("node1", "invalidate", NEW)) is None
    world.run(0.1)
    assert [world.open(node) for node in world.processes] == [None, None, None]
    assert isinstance(world.commit("node2", n=b"2"), SessionGone)


def test_the_end_of_the_session_by_its_old_key_ends_it(world):
    assert world.outcome("node2", world.ask("node2", "invalidate", KEY)) is None
    world.run(0.1)
    assert world.open("node1", key=NEW) is None


def test_the_alias_survives_the_node_that_made_it(world):
    world.kill("node1")
    world.run(0.5)
    for node in ("node2", "node3"):
        assert world.read(node) == b"1"
        world.run(0.1)  # a primary keeps a session for a moment


def test_a_successor_completes_a_rotation_that_only_the_backup_has_heard_of():
    world = World.with_session(3)
    backup = world.listed()[0]
    (other,) = {"node2", "node3"} - {backup}
    world.hold(m.Ack, m.Aliases, m.Locations, by="node1")
    world.ask("node1", "create", NEW, {"n": b"1"}, after=1)
    world.hold(m.Ack, by=backup)
    operation = world.ask("node1", "rotate", KEY, NEW, 1)
    assert world.machine(backup).copies[KEY].tombstone
    assert world.outcome("node1", operation) == "pending"
    world.kill("node1")
    world.held.clear()
    world.run(Options().reprotect_delay_s + 0.5)
    assert KEY not in world.machine(backup).copies
    for node in (backup, other):
        assert world.read(node) == b"1"
        world.run(0.1)
    world.run(GRACE_S)
    assert world.open(other) is None


def test_a_request_that_comes_while_the_rotation_waits_for_its_acks_goes_on_with_the_new_session():
    world = World.with_session(3)
    backup = world.listed()[0]
    world.ask("node1", "create", NEW, {"n": b"1"}, after=1)
    world.hold(m.Ack, by=backup)
    rotation_ = world.ask("node1", "rotate", KEY, NEW, 1)
    opening = world.ask("node1", "open", KEY, may_refer=False)
    writing = world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    assert world.outcome("node1", opening) == world.outcome("node1", writing) == "pending"
    world.let_go()
    world.run(0.1)
    assert world.outcome("node1", rotation_) is None
    assert isinstance(world.outcome("node1", opening), Checkout)
    assert world.outcome("node1", writing) == Committed(3, protected=True)
    assert world.read("node1", key=NEW) == b"2"


def test_a_checkout_of_before_the_rotation_reads_the_new_session():
    world = World.with_session(3)
    checkout = world.open("node1")
    rotate(world)
    world.commit("node1", NEW, n=b"7")
    assert (checkout.version, checkout.read("n")) == (3, b"7")


def test_a_rotation_that_would_lose_a_write_is_refused():
    world = World.with_session(3)
    world.commit("node1", n=b"2")
    outcome = rotate(world, version=1)
    assert isinstance(outcome, Conflict)
    assert outcome.found == 2
    assert world.read("node1") == b"2"


def test_a_session_that_moved_meanwhile_is_rotated_where_it_is():
    world = World.with_session(3)
    world.read("node2")
    assert world.primaries() == ["node2"]
    world.run(0.1)
    assert rotate(world, node="node1") is None
    world.run(0.1)
    assert world.read("node3") == b"1"
    assert set(world.where()) == set()


def test_a_session_that_has_ended_cannot_be_rotated():
    world = World.with_session(3)
    world.ask("node1", "invalidate", KEY)
    world.run(0.1)
    assert isinstance(rotate(world), SessionGone)
    assert world.open("node1") is None


def test_several_rotations_within_the_grace_are_followed(world):
    assert rotate(world, old=NEW, new=b"the third key..!", version=2) is None
    world.run(0.1)
    assert world.commit("node2", n=b"9") == Committed(4, protected=True)
    assert world.read("node3", key=b"the third key..!") == b"9"


def test_a_node_that_joins_within_the_grace_knows_the_alias_for_the_rest_of_it(world):
    world.run(GRACE_S / 2)
    world.boot("node4")
    world.run(1.0)
    assert world.read("node4") == b"1"
    world.run(GRACE_S / 2 - 0.9)
    assert world.open("node4") is None


def test_a_member_that_was_cut_off_hears_of_it_with_the_next_link():
    world = World.with_session(3)
    world.hold(m.Aliases, m.Locations, to="node3")
    rotate(world)
    world.held.clear()
    world.reset("node1", "node3")
    world.run(1.0)
    assert world.read("node3") == b"1"


def test_a_copy_that_was_set_aside_does_not_bring_the_old_key_back(world):
    world.run(GRACE_S)
    world.kill("node2")
    world.boot("node2")
    world.run(2.0)
    assert [world.open(node) for node in world.processes] == [None, None, None]


def test_the_aliases_kept_are_limited(monkeypatch):
    monkeypatch.setattr(rotation, "ALIASES_MAX", 3)
    world = World.with_session(3)
    keys = [bytes([number]) * 16 for number in range(1, 6)]
    for key in keys:
        world.create("node1", key)
        rotate(world, old=key, new=b"to" + key[2:])
    world.run(0.1)
    assert len(world.machine("node2").aliases) == 3
    assert world.read("node2", key=keys[-1]) == b"1"
    assert world.open("node2", key=keys[0]) is None


def test_a_key_is_over_once_it_was_rotated_and_stays_so(world):
    assert world.machine("node2").is_over(KEY)
    assert not world.machine("node2").is_over(NEW)
    world.run(GRACE_S)
    assert world.machine("node2").is_over(KEY)


# --- partitions ---------------------------------------------------------------------------------------------------


def read_everywhere(world: World) -> list[bytes | None]:
    values = []
    for name in world.processes:
        values.append(world.read(name))
        world.run(0.1)  # a primary keeps a session for a moment
    return values


MAJORITY = Options(quorum="majority", expect=3, request_wait_s=1.5, rotate_grace_s=60.0)


def test_under_majority_a_rotation_answers_to_the_old_key_whoever_dies():
    world = World.with_session(3, MAJORITY)
    assert rotate(world) is None
    world.run(0.1)
    world.kill("node1")
    world.run(4.0)
    assert read_everywhere(world) == [b"1"] * 2


def test_under_majority_a_minority_rotates_nothing_and_the_old_key_goes_on():
    world = World.with_session(3, MAJORITY)
    world.part("node1", "node2 node3")
    world.run(4.0)
    outcome = world.outcome("node1", world.ask("node1", "rotate", KEY, NEW, 1))
    assert isinstance(outcome, Unavailable)
    assert world.read("node2") == b"1"
    assert world.commit("node2", n=b"2") == Committed(2, protected=True)
    world.heal()
    world.run(5.0)
    assert read_everywhere(world) == [b"2"] * 3
    assert NEW not in world.machine("node1").aliases


def test_a_node_that_was_cut_off_while_a_session_was_rotated_learns_of_its_alias():
    world = World.with_session(3, Options(rotate_grace_s=60.0))
    (backup,) = world.listed()
    third = next(name for name in world.processes if name not in ("node1", backup))
    world.part(f"node1 {backup}", third)
    world.run(4.0)
    assert rotate(world) is None
    world.heal()
    world.run(5.0)
    assert world.read(third) == b"1"
    assert world.primaries(NEW) == [third]


def test_under_any_a_rotation_on_one_side_of_a_partition_ends_the_old_key_when_the_sides_meet():
    world = World.with_session(3, Options(rotate_grace_s=60.0))
    (backup,) = world.listed()
    third = next(name for name in world.processes if name not in ("node1", backup))
    world.part(f"node1 {third}", backup)
    world.run(4.0)
    assert world.read(backup) == b"1"  # both sides serve it
    assert rotate(world) is None
    world.heal()
    world.run(8.0)
    assert world.primaries() == []
    assert read_everywhere(world) == [b"1"] * 3
    assert len(world.primaries(NEW)) == 1


def test_whoever_learns_of_the_end_from_others_than_the_rotating_node_learns_of_the_alias_too():
    world = World.with_session(4)
    third = world.strangers()[0]
    world.hold(m.Aliases, to=third)
    world.ask("node1", "create", NEW, {"n": b"1"}, after=1)
    rotate(world)
    world.run(0.1)
    world.kill("node1")
    world.held = []
    world.run(1.0)
    assert world.read(third) == b"1"


def test_a_directory_that_a_joiner_loads_says_where_rotated_keys_went():
    # The joiner has its link to node2 before the rotation, and never one to node1.
    world = World.with_session(2)
    world.part("node1", "node3")
    world.hold(m.Snapshot, by="node2")
    world.hold(m.SnapshotRequest, by="node3")
    world.boot("node3", seeds=("node2",))
    world.run(0.2)
    world.ask("node1", "create", NEW, {"n": b"1"}, after=1)
    rotate(world)
    world.run(0.1)
    world.kill("node1")
    world.run(0.1)
    world.let_go()
    world.run(2.0)
    assert world.machine("node3").directory.is_gone(KEY)
    assert world.read("node3") == b"1"
