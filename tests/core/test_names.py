"""One name, one node: who may come in, who is refused, and who is left undisturbed."""

import pytest

from sessiond.core.effects import Admission, JoinRefusedForGood
from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.core.options import PROBE_WAIT_S
from sessiond.core.types import Life
from tests.core.world import World


@pytest.fixture
def world() -> World:
    """Two nodes, joined."""
    return World.of(2)


def identity(name: str, incarnation: int, boot: bytes, address: str) -> Identity:
    return Identity(Life(name, incarnation), boot * 16, "test", "", address, "", "")


def test_a_second_process_of_a_name_is_refused_for_good_and_the_holder_undisturbed(world):
    holder = world.machine("node2").life
    world.boot_as("intruder", "node2", seeds=("node1",))
    world.run(3.0)
    refusal = world.processes["intruder"].refused_for_good
    assert refusal is not None
    assert refusal.code is RefusalCode.DUPLICATE_NAME
    assert "--name" in refusal.detail
    assert not world.machine("intruder").membership.joined
    assert world.machine("node2").life == holder
    assert world.machine("node2").stats.rejoins == 0
    assert world.machine("node1").stats.deaths == 0
    assert world.members("node1") == {"node1", "node2"}


def test_a_process_that_takes_the_name_of_its_only_seed_is_refused_for_good(world):
    world.boot_as("intruder", "node1", seeds=("node1",))
    world.run(1.0)
    assert world.processes["intruder"].refused_for_good.code is RefusalCode.DUPLICATE_NAME
    assert world.machine("node1").stats.rejoins == 0


def test_a_holder_that_does_not_answer_makes_room_for_the_newcomer(world):
    # The old process hangs (its link is still there), and somebody starts it again elsewhere.
    old = world.machine("node2").life
    world.stop("node2")
    world.boot_as("again", "node2", seeds=("node1",))
    assert not world.machine("again").membership.joined
    world.run(PROBE_WAIT_S + 1.5)
    machine = world.machine("node1")
    assert world.machine("again").membership.joined
    assert machine.membership.is_dead(old)
    assert machine.membership.members["node2"].life == world.machine("again").life
    assert world.processes["again"].refused_for_good is None


def test_the_probe_of_a_holder_does_not_wait_longer_than_its_time(world):
    machine = world.machine("node1")
    world.stop("node2")
    machine.admit(77, identity("node2", 9_999_999, b"x", "elsewhere:1"), world.now)
    world.settle()
    assert 77 not in world.processes["node1"].admissions
    world.run(PROBE_WAIT_S + 0.01)
    assert world.processes["node1"].admissions[77] is None


def test_every_attempt_of_the_newcomer_gets_its_answer_and_a_third_process_is_refused_meanwhile(world):
    machine = world.machine("node1")
    world.stop("node2")
    machine.admit(71, identity("node2", 9_999_998, b"x", "elsewhere:1"), world.now)
    machine.admit(72, identity("node2", 9_999_998, b"x", "elsewhere:1"), world.now)
    machine.admit(73, identity("node2", 9_999_999, b"y", "third:1"), world.now)
    world.settle()
    admissions = world.processes["node1"].admissions
    assert admissions[73].code is RefusalCode.DUPLICATE_NAME
    world.run(PROBE_WAIT_S + 0.01)
    assert admissions[71] is None
    assert admissions[72] is None


def test_the_same_process_at_another_address_is_not_a_second_one(world):
    machine = world.machine("node1")
    known = machine.membership.members["node2"].identity
    machine.admit(7, known, world.now)
    assert Admission(7, None) in machine.take_effects()


def test_a_restart_at_the_same_address_is_not_probed_when_the_old_link_is_gone(world):
    machine = world.machine("node1")
    old = world.machine("node2").life
    machine.link_closed(old, world.now)
    machine.take_effects()
    machine.admit(7, identity("node2", old.incarnation + 1, b"x", "node2:7101"), world.now)
    assert Admission(7, None) in machine.take_effects()


def test_an_incarnation_that_is_too_low_is_told_so_and_comes_back_above_it(world):
    # A clock that was set back, or a machine that was restored.
    old = world.machine("node2").life
    world.kill("node2")
    world.boot("node2", seeds=("node1",), incarnation=5)
    world.run(1.0)
    new = world.machine("node2").life
    assert new.incarnation == old.incarnation + 1
    assert world.machine("node2").membership.joined
    assert world.members("node1") == {"node1", "node2"}


def test_dead_is_what_a_buried_life_is_told_with_the_floor(world):
    machine = world.machine("node1")
    life = world.machine("node2").life
    machine.membership.bury(Life("node2", life.incarnation + 3), "test", certain=True)
    machine.admit(7, identity("node2", life.incarnation, b"x", "node2:7101"), world.now)
    refusal = Refusal(RefusalCode.DEAD, f"{life} has been declared dead", life.incarnation + 3, members=1)
    assert Admission(7, refusal) in machine.take_effects()


@pytest.mark.parametrize(
    "code", [RefusalCode.PROTOCOL, RefusalCode.CLUSTER_NAME, RefusalCode.SECRET, RefusalCode.DUPLICATE_NAME]
)
def test_a_final_refusal_ends_a_node_that_has_not_joined_and_only_that(code):
    world = World()
    world._start("node1", "node1", ["other"], None)
    machine = world.machine("node1")
    refusal = Refusal(code, "why")
    machine.take_effects()
    machine.dial_failed("other:7101", "refusal", "why", refusal, world.now)
    assert JoinRefusedForGood(refusal, "other:7101") in machine.take_effects()
    machine = world_joined(world)
    machine.dial_failed("other:7101", "refusal", "why", refusal, world.now)
    assert not any(isinstance(effect, JoinRefusedForGood) for effect in machine.take_effects())


def world_joined(world: World):
    world.boot("alone", seeds=())
    machine = world.machine("alone")
    assert machine.membership.joined
    return machine


@pytest.mark.parametrize("code", [RefusalCode.SELF, RefusalCode.REDUNDANT])
def test_findings_about_an_address_end_the_dialing_of_it_and_nothing_else(code):
    world = World()
    world.boot("node1", seeds=("alias",))
    machine = world.machine("node1")
    machine.dial_failed("alias:7101", "refusal", code.value, Refusal(code), world.now)
    assert machine.membership._dialer.next_deadline() is None
    assert not any(isinstance(effect, JoinRefusedForGood) for effect in machine.take_effects())
    assert machine.membership.joined
