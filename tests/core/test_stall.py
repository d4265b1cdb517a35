"""A node that stood still asks whether it still counts, before it does anything else."""

import pytest

from sessiond.backend import Committed
from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.options import Options
from sessiond.core.stall import STANDING_WAIT_S
from tests.core.world import KEY, World


@pytest.fixture
def world() -> World:
    """Three nodes, and a session with its primary on node1."""
    world = World(Options())
    world.boot("node1", "node2", "node3")
    world.run(1.0)
    world.create("node1", n=b"1")
    world.run(0.3)
    return world


def stand_still(world: World, name: str, seconds: float) -> None:
    """The process is stopped; time passes for the others."""
    world.stop(name)
    world.run(seconds)


def test_a_node_that_nobody_took_for_dead_goes_on_in_the_same_life(world):
    life = world.machine("node1").life
    stand_still(world, "node1", 1.3)
    asked = world.ask("node1", "open", KEY, may_refer=False)
    world.resume("node1")
    assert world.outcome("node1", asked) == "pending"  # not before the others have said so
    world.settle()
    assert isinstance(world.outcome("node1", asked), Checkout)
    assert world.machine("node1").life == life
    assert world.machine("node1").stats.stalls == 1
    assert world.machine("node1").stats.rejoins == 0


def test_a_node_that_was_taken_for_dead_shows_nothing_of_its_old_life(world):
    # Tomcat, and this project before: the first requests after a SIGCONT see what the session was.
    (holder,) = world.listed()
    stand_still(world, "node1", 3.0)
    opened = world.open(holder)
    assert isinstance(opened, Checkout)
    assert world.commit(holder, n=b"2") == Committed(2, protected=True)
    opened.release()
    asked = world.ask("node1", "open", KEY, may_refer=False)
    world.resume("node1")
    world.run(2.0)
    checkout = world.outcome("node1", asked)
    assert isinstance(checkout, Checkout)
    assert checkout.read("n") == b"2"


def test_nothing_that_links_or_the_application_bring_is_processed_before_the_answers_are_in(world):
    machine = world.machine("node1")
    world.hold(m.StandingAnswer)
    stand_still(world, "node1", 1.3)
    write = world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    ended = world.ask("node1", "invalidate", KEY)
    begun = world.ask("node1", "create", b"n" * 16, {"n": b"1"})
    world.resume("node1")
    world.settle()
    assert machine.try_open(KEY, world.now) is None
    assert not machine.is_settled(KEY, world.now)
    assert not machine.may_act
    assert [world.outcome("node1", number) for number in (write, ended, begun)] == ["pending"] * 3
    assert machine.copies[KEY].version == 1
    world.let_go()
    world.run(0.5)
    assert world.outcome("node1", write) == Committed(2, protected=True)
    assert world.outcome("node1", ended) is None
    assert world.outcome("node1", begun) == Committed(1, protected=True)


def test_silence_is_taken_for_a_no(world):
    life = world.machine("node1").life
    world.hold(m.StandingAnswer, by="node3")
    stand_still(world, "node1", 1.3)
    write = world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    world.resume("node1")
    world.run(STANDING_WAIT_S + 0.1)
    assert world.machine("node1").life.incarnation > life.incarnation
    world.let_go()
    world.run(3.0)
    assert world.outcome("node1", write) != "pending"
    assert sorted(world.where().values()) == ["B", "P"]
    assert world.read("node2") in (b"1", b"2")


def test_who_stood_still_too_cannot_vouch_for_anybody(world):
    for name in ("node1", "node2"):
        world.stop(name)
    world.run(1.3)
    lives = {name: world.machine(name).life for name in ("node1", "node2")}
    world.resume("node1")
    world.resume("node2")
    world.run(3.0)
    assert any(world.machine(name).life != lives[name] for name in lives)
    assert world.read("node3") == b"1"


def test_a_whole_cluster_that_stood_still_finds_its_sessions_again(world):
    # A laptop that was closed.
    for name in world.processes:
        world.stop(name)
    world.run(60.0)
    for name in world.processes:
        world.resume(name)
    world.run(5.0)
    for name in world.processes:
        assert world.members(name) == set(world.processes)
        assert world.read(name) == b"1"
        world.run(0.2)  # a session stays where it is for its tenure
    assert sorted(world.where().values()) == ["B", "P"]


def test_a_member_whose_process_is_gone_need_not_answer(world):
    life = world.machine("node1").life
    stand_still(world, "node1", 1.3)
    world.kill("node3")
    world.resume("node1")
    world.run(0.4)
    assert world.machine("node1").life == life
    assert world.machine("node1").may_act
    assert world.members("node1") == {"node1", "node2"}


def test_a_node_alone_goes_on_at_once():
    world = World(Options())
    world.boot("node1")
    world.create("node1", n=b"1")
    stand_still(world, "node1", 10.0)
    world.resume("node1")
    assert world.read("node1") == b"1"
    assert world.machine("node1").stats.stalls == 1


def test_a_node_whose_loop_is_late_for_less_than_a_lease_asks_nobody(world):
    stand_still(world, "node1", 0.9)
    world.resume("node1")
    assert world.read("node1") == b"1"
    assert world.machine("node1").stats.stalls == 0
