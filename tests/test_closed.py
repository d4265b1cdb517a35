"""Why no session can begin on a node: each reason, said by real cores that have it."""

import pytest

from sessiond import closed
from sessiond.closed import why_closed
from sessiond.core import messages as m
from sessiond.core.options import Options
from sessiond.node import Node
from sessiond.settings import Settings
from tests.core.world import KEY, World


def why(world: World, name: str) -> str:
    return why_closed(world.machine(name), is_running=True)


def test_a_node_that_serves_has_no_reason():
    world = World.of(3)
    assert [why(world, name) for name in world.processes] == ["", "", ""]


def test_a_node_without_memory_is_joining():
    world = World.of(2)
    world.hold(m.Snapshot)
    world.boot("node3")
    assert why(world, "node3") == closed.JOINING


def test_the_smaller_side_of_a_partition_names_the_majority_and_the_larger_one_serves():
    world = World.of(5, Options(quorum="majority", expect=5))
    world.part("node1 node2 node3", "node4 node5")
    world.run(world.options.lease_s + 0.1)
    for _ in range(2):
        for name in ("node4", "node5"):
            assert why(world, name) == "gets no answer from a majority of the 5 members"
        assert why(world, "node1") == ""
        world.run(6.0)


@pytest.mark.parametrize("quorum", ["any", "majority"])
def test_a_node_that_stood_still_does_not_yet_blame_the_majority(quorum):
    world = World.of(3, Options(quorum=quorum, expect=3))
    world.stop("node1")
    world.run(1.3)
    asked = world.ask("node1", "open", KEY, may_refer=False)
    world.hold(m.StandingAnswer)
    world.resume("node1")
    assert world.outcome("node1", asked) == "pending"
    assert why(world, "node1") == closed.STOOD_STILL
    world.let_go()
    world.run(2.0)
    assert why(world, "node1") == ""


def test_a_draining_node_says_so_until_it_does_not_serve_for_another_reason():
    world = World.of(3, Options(quorum="majority", expect=3))
    world.machine("node1").begin_drain(world.now, for_good=False)
    assert why(world, "node1") == closed.DRAINING
    world.part("node1", "node2 node3")
    world.run(world.options.lease_s + 0.1)
    assert "no answer from a majority" in why(world, "node1")


def test_a_node_that_has_left_and_one_that_has_not_begun_are_told_apart():
    world = World.of(2)
    machine = world.machine("node1")
    assert why_closed(machine, is_running=False) == closed.STARTS
    machine.leave(world.now)
    assert why_closed(machine, is_running=False) == closed.LEFT


async def test_whoever_accepts_new_sessions_has_no_reason_not_to():
    node = Node(Settings(name="solo", cluster="127.0.0.1:0"))
    assert (node.accepts_new_sessions(), node.health().reason) == (False, closed.STARTS)
    await node.start()
    await node.joined()
    assert (node.accepts_new_sessions(), node.health().reason) == (True, "")
    node.begin_drain()
    assert (node.accepts_new_sessions(), node.health().reason) == (False, closed.DRAINING)
    await node.stop()
    assert (node.accepts_new_sessions(), node.why_closed()) == (False, closed.LEFT)


def test_a_state_node_says_what_it_is_whatever_else_is_so():
    node = Node(Settings(name="shelf", cluster="127.0.0.1:0", role="state", placement="central"))
    assert node.why_closed() == closed.STATE_ROLE
