"""A request commits late, after its session has moved: the write follows it, once."""

import pytest

from sessiond.backend import Committed
from sessiond.core import messages as m
from sessiond.core.options import Options
from sessiond.core.types import Location, Term
from sessiond.errors import Conflict, SessionGone, Unavailable
from tests.core.world import KEY, World


def moved(options: Options | None = None, nodes: int = 4) -> tuple[World, str]:
    """A session that a request holds at node1 while it is taken away; and its new primary."""
    world = World(options or Options(handoff_wait_s=0.1))
    world.boot(*(f"node{i + 1}" for i in range(nodes)))
    world.run(1.0)
    world.create("node1", n=b"1")
    world.run(0.2)
    world.open("node1")
    new = min(set(world.processes) - set(world.where()))
    operation = world.ask(new, "open", KEY, may_refer=False)
    world.run(0.5)
    world.outcome(new, operation).release()
    assert world.where()[new] == "P"
    return world, new


def late(world: World, **values: bytes | None) -> int:
    return world.ask("node1", "commit", KEY, values, None)


def test_a_late_commit_is_forwarded_and_answered_when_its_backups_have_applied_it():
    world, new = moved()
    world.hold(m.Patch)
    operation = late(world, n=b"2")
    world.run(0.1)
    assert world.outcome("node1", operation) == "pending"
    assert world.machine(new).copies[KEY].read("n") == b"2"
    world.let_go()
    assert world.outcome("node1", operation) == Committed(2, protected=True)
    assert world.machine("node1").stats.writes_forwarded == 1
    assert world.read(new) == b"2"


def test_the_end_of_a_long_request_is_a_use_of_the_session_where_it_went():
    # Found by the simulator: it was answered, and the session expired from its use before.
    world, new = moved(Options(handoff_wait_s=0.1, idle_timeout_s=10.0))
    world.run(8.0)
    assert world.outcome("node1", late(world)) == Committed(1, protected=True)
    world.run(8.0)
    assert world.where()[new] == "P"
    world.run(3.0)
    assert world.where() == {}


def test_a_late_commit_on_a_version_that_has_passed_is_a_conflict():
    world, new = moved()
    world.commit(new, n=b"2")
    conflict = world.commit("node1", if_version=1, n=b"3")
    assert isinstance(conflict, Conflict)
    assert (conflict.expected, conflict.found) == (1, 2)
    assert world.read(new) == b"2"


def test_a_late_end_of_the_session_ends_it_everywhere():
    world, new = moved()
    assert world.outcome("node1", world.ask("node1", "invalidate", KEY)) is None
    world.run(0.1)
    assert world.where() == {}
    assert world.open(new) is None


def test_a_late_commit_to_a_session_that_has_ended_says_so():
    world, new = moved()
    world.ask(new, "invalidate", KEY)
    assert isinstance(world.commit("node1", n=b"2"), SessionGone)  # before the announcement
    world.run(0.1)
    assert isinstance(world.commit("node1", n=b"2"), SessionGone)


def test_a_late_commit_that_finds_no_primary_writes_nothing():
    world, new = moved(Options(handoff_wait_s=0.1, reprotect_delay_s=60.0))
    world.kill(new)
    operation = late(world, n=b"2")
    refusal = world.outcome("node1", operation)
    assert isinstance(refusal, Unavailable)
    assert "nothing was written" in str(refusal)
    assert world.read("node2" if "node2" in world.processes else "node3") == b"1"


def test_a_receiver_that_is_not_the_primary_either_refuses_and_writes_nothing():
    # One hop, no more: the session is moving on, and the caller may try again.
    world, new = moved()
    other = min(set(world.processes) - {"node1", new})
    stale = Location(Term(9, world.machine(other).life), 1, ())
    world.machine("node1").directory.merge(KEY, stale, world.now)
    world.machine("node1").drop_copy(KEY)
    refusal = world.commit("node1", n=b"2")
    assert isinstance(refusal, Unavailable)
    assert "nothing was written" in str(refusal)
    assert world.machine(new).copies[KEY].read("n") == b"1"


def test_a_forwarded_write_whose_primary_dies_before_it_answers_may_have_been_applied_and_is_applied_once():
    world, new = moved(Options(handoff_wait_s=0.1, copies=2), nodes=5)
    world.hold(m.ForwardResult)
    operation = late(world, n=b"2")
    world.kill(new)
    refusal = world.outcome("node1", operation)
    assert isinstance(refusal, Unavailable)
    assert "may have been applied" in str(refusal)
    world.held = []
    node = min(set(world.processes) - {"node1"})
    assert world.read(node) == b"2"
    primary = next(name for name, role in world.where().items() if role == "P")
    assert world.machine(primary).copies[KEY].version == 2


@pytest.mark.parametrize("dies", [False, True], ids=["the same primary", "its successor"])
def test_the_same_forwarded_write_again_is_applied_once_by(dies):
    world, new = moved()
    late(world, n=b"2")
    forward = next(sent for sent in world.processes["node1"].sent if type(sent) is m.Forward)
    if dies:
        world.kill(new)
        world.run(0.2)
        holder = next(iter(world.where()))
        world.read(holder)
        world.run(0.2)
    primary = next(name for name, role in world.where().items() if role == "P")
    machine = world.machine(primary)
    world.commit(primary, n=b"3")
    sender = "node1" if primary != "node1" else min(set(world.processes) - {"node1"})
    machine.receive(world.machine(sender).life, forward, world.now)
    world.settle()
    assert machine.copies[KEY].read("n") == b"3"
    assert machine.copies[KEY].version == 3


def test_a_forwarded_write_without_an_answer_is_given_up_in_time():
    world, new = moved(Options(handoff_wait_s=0.1, request_wait_s=1.0))
    world.hold(m.Forward, m.ForwardResult)
    operation = late(world, n=b"2")
    world.run(0.9)
    assert world.outcome("node1", operation) == "pending"
    world.run(0.3)
    refusal = world.outcome("node1", operation)
    assert isinstance(refusal, Unavailable)
    assert new in str(refusal)


def test_a_primary_that_loses_the_session_while_a_forwarded_write_waits_says_unknown():
    world, new = moved()
    world.hold(m.Patch, m.Put)
    operation = late(world, n=b"2")
    machine = world.machine(new)
    machine.quarantine(machine.copies[KEY])
    world.let_go()
    refusal = world.outcome("node1", operation)
    assert isinstance(refusal, Unavailable)
    assert "may or may not have been applied" in str(refusal)


def test_an_answer_that_comes_after_its_commit_was_given_up_is_ignored():
    world, _ = moved()
    machine = world.machine("node1")
    machine.receive(world.machine("node2").life, m.ForwardResult(b"?" * 12, "ok", 9, True, ""), world.now)
    assert list(machine.take_effects()) == []


def test_a_late_read_shows_only_what_its_new_primary_has_protected():
    world, new = moved()
    world.hold(m.Patch)
    world.ask(new, "commit", KEY, {"n": b"2"}, None)
    read = world.ask("node1", "commit", KEY, {}, None)
    world.run(0.1)
    assert world.outcome("node1", read) == "pending"
    world.let_go()
    assert world.outcome("node1", read) == Committed(2, protected=True)
