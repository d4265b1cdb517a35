"""A life that was declared dead and goes on: a new life, every copy in doubt first, nothing lost."""

import pytest

from sessiond.backend import Committed
from sessiond.contract.cluster_view import MemberState
from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.copies import Role
from sessiond.core.effects import Dial, NewLife, Send
from sessiond.core.options import Options
from sessiond.core.types import Term
from sessiond.errors import Unavailable
from tests.core.world import KEY, World

SILENCE_S = Options().silence_timeout_s


def cluster(nodes: int = 3, options: Options | None = None) -> World:
    world = World.of(nodes, options)
    world.create("node1", n=b"1", other=b"1")
    world.run(0.2)
    return world


@pytest.fixture
def world() -> World:
    return cluster()


def pause(world: World, name: str, seconds: float = SILENCE_S + 1.0) -> None:
    """Stop a process until the others have declared it dead."""
    world.stop(name)
    world.run(seconds)


def settled(world: World, copies: int = 1) -> bool:
    roles = sorted(world.where().values())
    return roles == ["B"] * copies + ["P"]


def values(world: World, attribute: str = "n") -> set[bytes | None]:
    return {
        process.machine.copies[KEY].read(attribute)
        for n, process in world.processes.items()
        if n in world.where()
    }


def test_a_node_that_was_declared_dead_comes_back_under_a_higher_life(world):
    old = world.machine("node3").life
    pause(world, "node3")
    assert world.machine("node1").membership.is_dead(old)
    world.resume("node3")
    world.run(1.0)
    new = world.machine("node3").life
    assert new.incarnation > old.incarnation
    for name in world.processes:
        assert world.members(name) == {"node1", "node2", "node3"}
    states = {row.name: row.state for row in world.machine("node1").cluster_view().members}
    assert states["node3"] is MemberState.ALIVE
    assert world.logged("node3", "node.rejoins")


def test_every_copy_is_in_doubt_before_anything_else_happens_in_the_new_life(world):
    # Protocol 8: queued requests that ran before the quarantine acted in one term as two lives.
    machine = world.machine("node1")
    machine.rejoin(machine.life.incarnation, "test")
    effects = machine.take_effects()
    assert [copy.role for copy in machine.copies.values()] == [Role.QUARANTINED]
    assert any(isinstance(effect, NewLife) for effect in effects)
    assert machine.try_open(KEY, world.now) is None
    machine.check_invariants()


def test_a_dial_under_way_is_made_again_in_the_new_life_since_the_old_one_ends_unreported(world):
    # Else the address waits for the dial's outcome for ten seconds, while others bury who stays unmet.
    machine = world.machine("node1")
    address = machine.membership.members["node2"].address
    machine.link_closed(machine.membership.life_of("node2"), world.now)
    assert Dial(address) in machine.take_effects()
    machine.rejoin(machine.life.incarnation, "test")
    effects = machine.take_effects()
    new_life = next(number for number, effect in enumerate(effects) if isinstance(effect, NewLife))
    assert Dial(address) in effects[new_life:]


def test_what_waited_for_acks_in_the_old_life_is_of_unknown_outcome(world):
    world.hold(m.Ack)
    operation = world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    machine = world.machine("node1")
    machine.rejoin(machine.life.incarnation, "test")
    world.settle()
    assert isinstance(world.outcome("node1", operation), Unavailable)


def test_word_of_an_earlier_death_does_not_end_the_life_that_followed(world):
    machine = world.machine("node1")
    before = machine.life
    machine.rejoin(before.incarnation - 1, "old news")
    assert machine.life == before
    assert machine.stats.rejoins == 0
    machine.rejoin(before.incarnation + 4, "test")
    assert machine.life.incarnation == before.incarnation + 5


def test_a_paused_primary_whose_session_was_taken_over_does_not_act_again(world):
    pause(world, "node1")
    assert world.read("node2") == b"1"
    world.commit("node2", n=b"2")
    stale = world.ask("node1", "commit", KEY, {"late": b"9"}, 1)
    world.resume("node1")
    world.run(2.0)
    assert settled(world)
    assert values(world) == {b"2"}
    outcome = world.outcome("node1", stale)
    assert not isinstance(outcome, Committed)  # on version 1, which had passed
    assert world.read("node1") == b"2"


def test_a_paused_primary_that_nobody_missed_goes_on(world):
    pause(world, "node1", 0.8)
    world.resume("node1")
    world.run(1.0)
    assert world.machine("node1").stats.rejoins == 0
    assert world.where()["node1"] == "P"


def test_the_copies_of_a_node_that_came_back_without_news_are_dropped(world):
    pause(world, "node1")
    world.run(2.0)  # taken over without a request
    world.resume("node1")
    world.run(2.0)
    assert settled(world)
    assert world.machine("node1").copies.counts[Role.QUARANTINED] == 0
    assert sum(world.machine(name).stats.merged for name in world.processes) == 0


def test_unacknowledged_writes_of_a_paused_primary_are_merged_by_attribute_when_it_returns(world):
    # It had applied a write that its backup never got; the others went on without it.
    world.hold(m.Patch)
    write = world.ask("node1", "commit", KEY, {"mine": b"7", "n": b"7"}, None)
    pause(world, "node1")
    world.held = []
    world.read("node2")
    world.commit("node2", n=b"8")
    world.resume("node1")
    world.run(3.0)
    assert settled(world)
    assert values(world, "mine") == {b"7"}
    assert values(world, "n") == {b"8"}  # of two writes of one attribute the one of the higher term
    assert values(world, "other") == {b"1"}
    assert isinstance(world.outcome("node1", write), Unavailable)


def test_a_backup_that_comes_back_does_not_hold_up_writes(world):
    backup = next(name for name, role in world.where().items() if role == "B")
    pause(world, backup)
    assert world.commit("node1", n=b"2") == Committed(2, protected=True)
    world.resume(backup)
    world.run(2.0)
    assert settled(world)
    assert values(world) == {b"2"}


# --- partitions -------------------------------------------------------------------------------------------


def test_both_sides_of_a_partition_serve_and_one_session_is_left_after_it(world):
    backup = next(name for name, role in world.where().items() if role == "B")
    others = " ".join(sorted(set(world.processes) - {"node1"}))
    world.part("node1", others)
    world.run(SILENCE_S + 3.5)  # nobody confirms the doubts of a node that is cut off alone
    assert world.commit("node1", left=b"1", n=b"left").protected is False
    world.open(backup).release()
    assert world.commit(backup, right=b"1", n=b"right").protected
    world.heal()
    world.run(5.0)
    for name in world.processes:
        assert world.members(name) == {"node1", "node2", "node3"}
    assert settled(world)
    assert values(world, "left") == values(world, "right") == {b"1"}
    assert len(values(world)) == 1
    assert values(world) <= {b"left", b"right"}
    primary = next(name for name, role in world.where().items() if role == "P")
    for name in world.processes:
        assert world.machine(name).directory.get(KEY) == world.machine(primary).copies[KEY].location


def test_mutual_death_votes_do_not_last_for_ever():
    # Protocol 8: two nodes that have buried each other both come back.
    world = cluster(nodes=2)
    world.part("node1", "node2")
    world.run(SILENCE_S + 1.0)
    lives = {name: world.machine(name).life for name in world.processes}
    assert world.machine("node1").membership.is_dead(lives["node2"])
    assert world.machine("node2").membership.is_dead(lives["node1"])
    world.heal()
    world.run(5.0)
    for name in world.processes:
        assert world.members(name) == {"node1", "node2"}
    assert settled(world)
    assert world.create("node1", b"n" * 16) == Committed(1, protected=True)


def test_a_cut_between_two_nodes_of_three_does_not_end_the_session():
    world = cluster()
    world.part("node1", "node2")
    world.run(10.0)
    world.heal()
    world.run(5.0)
    for name in world.processes:
        assert world.members(name) == {"node1", "node2", "node3"}
    assert settled(world)
    assert isinstance(world.open("node3"), Checkout)


def test_nodes_that_joined_during_a_partition_are_known_to_both_sides_after_it(world):
    world.part("node3", "node1 node2")
    world.run(SILENCE_S + 1.0)
    world.boot("node4", seeds=("node1",))
    world.run(1.0)
    world.heal()
    world.run(5.0)
    for name in world.processes:
        assert world.members(name) == {"node1", "node2", "node3", "node4"}


def test_a_session_that_only_the_smaller_side_had_is_found_after_the_partition():
    world = cluster(nodes=4)
    world.part("node1 node2", "node3 node4")
    world.run(SILENCE_S + 1.0)
    world.create("node1", b"1" * 16, n=b"one")
    world.create("node3", b"3" * 16, n=b"three")
    world.heal()
    world.run(5.0)
    for node in world.processes:
        for key, value in ((b"1" * 16, b"one"), (b"3" * 16, b"three")):
            operation = world.ask(node, "open", key, may_refer=False)
            world.run(0.5)
            checkout = world.outcome(node, operation)
            assert isinstance(checkout, Checkout), (node, key)
            assert checkout.read("n") == value
            checkout.release()


def test_a_primary_that_restarts_empty_does_not_look_alive_to_its_backup():
    # Protocol 8: the backup saw the name alive and waited for it for ever. Lists and terms name lives.
    world = cluster(options=Options(reprotect_delay_s=0.5))
    backup = next(name for name, role in world.where().items() if role == "B")
    world.stop(backup)  # it reads nothing of the death
    world.kill("node1")
    world.boot("node1", seeds=("node2", "node3"))
    world.resume(backup)
    world.run(2.0)
    assert settled(world)
    assert world.read("node1") == b"1"


def test_a_backup_that_doubts_its_copy_of_the_present_term_is_sent_it_again(world):
    # Found by the simulator: the primary took the offer for one that a PUT would answer, and had none to send.
    (holder,) = world.listed()
    machine = world.machine(holder)
    machine.quarantine(machine.copies[KEY])
    world.run(0.5)
    assert settled(world)
    assert world.listed() == [holder]
    assert machine.lookup.is_idle


def test_a_copy_in_doubt_that_is_asked_to_leave_a_later_list_keeps_its_news(world):
    backup = world.backup()
    machine, primary = world.machine(backup), world.machine("node1").life
    copy = machine.copies[KEY]
    machine.quarantine(copy)
    later = Term(copy.term.epoch + 1, primary)
    machine.receive(primary, m.Release(KEY, later, 3), world.now)
    assert KEY in machine.copies
    assert m.Released(KEY, later, 3) in [
        effect.message for effect in machine.take_effects() if isinstance(effect, Send)
    ]


def test_a_use_on_the_side_of_a_partition_that_yields_counts_when_the_sides_meet():
    # Else a session that somebody used a moment ago ends as idle.
    world = cluster(5, Options(idle_timeout_s=20.0))
    backup = world.backup()
    others = world.strangers()
    world.part(f"node1 {others[0]}", f"{backup} {others[1]} {others[2]}")
    world.run(14.0)
    for _ in range(4):
        world.read("node1")
        world.run(1.0)
    world.commit("node1", x=b"9")
    world.run(0.2)
    assert sorted(world.primaries()) == sorted(["node1", backup])
    world.heal()
    world.run(8.0)
    assert world.read(others[0], "x") == b"9"
