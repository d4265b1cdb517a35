"""Evidence that a life has ended, and what is not evidence."""

import pytest

from sessiond.contract.cluster_view import MemberState
from sessiond.core import messages as m
from sessiond.core.effects import Dial
from sessiond.core.options import DEAD_SHOWN_S, Options
from sessiond.core.types import Life
from tests.core.world import KEY, World


@pytest.fixture
def world() -> World:
    """Three nodes, joined."""
    return World.of(3)


def state(world: World, seen_by: str, of: str) -> MemberState:
    rows = {row.name: row.state for row in world.machine(seen_by).cluster_view().members}
    return rows[of]


def test_a_killed_process_is_known_dead_everywhere_at_once(world):
    world.kill("node3")  # no time passes
    assert state(world, "node1", "node3") is MemberState.DEAD
    assert state(world, "node2", "node3") is MemberState.DEAD
    assert "reconnect failed" in world.logged("node1", "peer.dead")[0]["why"]


def test_one_vote_is_enough_for_everybody(world):
    # node2's own link tells it nothing: the network keeps the end of it back.
    dead = world.machine("node3").life
    world.part("node2", "node3")
    world.kill("node3")
    assert state(world, "node2", "node3") is MemberState.DEAD
    assert world.machine("node2").membership.is_dead(dead)
    assert world.logged("node2", "peer.dead")[0]["why"] == "node1 has evidence"


def test_silence_makes_suspect_then_dead(world):
    silence_s = world.options.silence_timeout_s
    world.stop("node3")
    assert state(world, "node1", "node3") is MemberState.ALIVE
    world.run(5 * world.options.probe_interval_s)
    assert state(world, "node1", "node3") is MemberState.SUSPECT
    assert world.logged("node1", "peer.suspected")
    world.run(silence_s)
    assert state(world, "node1", "node3") is MemberState.DEAD
    assert (
        "silent"
        in world.logged("node1", "peer.dead")[0]["why"] + world.logged("node2", "peer.dead")[0]["why"]
    )


def test_a_suspect_that_is_heard_again_is_alive(world):
    world.stop("node3")
    world.run(world.options.silence_timeout_s / 2 + 0.5)
    assert state(world, "node1", "node3") is MemberState.SUSPECT
    world.resume("node3")
    world.run(0.5)
    assert state(world, "node1", "node3") is MemberState.ALIVE
    assert world.machine("node1").stats.deaths == 0
    assert world.logged("node1", "peer.heard")


def test_a_suspect_gets_no_new_copies(world):
    world.stop("node3")
    world.run(world.options.silence_timeout_s / 2 + 0.5)
    for number in range(20):
        world.create("node1", number.to_bytes(16))
    assert {copy.backups[0].name for copy in world.machine("node1").copies.values()} == {"node2"}


def test_a_link_that_breaks_and_can_be_made_again_is_no_evidence(world):
    world.create("node1", n=b"1")
    term = world.machine("node1").copies[KEY].term
    for other in ("node2", "node3"):
        world.reset("node1", other)
    world.run(3.0)
    assert world.members("node1") == {"node1", "node2", "node3"}
    assert world.machine("node1").copies[KEY].term == term
    for name in world.processes:
        assert world.machine(name).stats.deaths == 0
        assert world.machine(name).stats.rejoins == 0


def test_a_handshake_without_an_answer_says_only_silent(world):
    # A stopped process: its kernel still takes connections.
    world.stop("node3")
    world.machine("node1").dial_failed("node3:7101", "handshake", "no answer", None, world.now)
    assert state(world, "node1", "node3") is MemberState.ALIVE
    world.reset("node1", "node3")
    assert state(world, "node1", "node3") is MemberState.ALIVE
    world.run(world.options.silence_timeout_s + 1.0)
    assert state(world, "node1", "node3") is MemberState.DEAD


@pytest.mark.parametrize("kind", ["refused", "timeout", "unreachable", "name"])
def test_a_reconnect_that_finds_nobody_is_evidence_whatever_the_reason(world, kind):
    # Seen with containers: a connect to a vanished one hangs, and its name stops resolving.
    machine = world.machine("node1")
    life = world.machine("node3").life
    machine.link_closed(life, world.now)
    assert any(effect == Dial("node3:7101") for effect in machine.take_effects())
    machine.dial_failed("node3:7101", kind, "nobody", None, world.now)
    assert machine.membership.is_dead(life)


@pytest.mark.parametrize("kind", ["timeout", "unreachable", "name"])
def test_a_first_dial_that_finds_nobody_is_no_evidence_unless_it_is_refused(world, kind):
    # One lost packet is enough for it, and a node meets everybody anew when it begins another life.
    machine = world.machine("node1")
    life = world.machine("node3").life
    machine.rejoin(machine.life.incarnation, "test")
    assert any(effect == Dial("node3:7101") for effect in machine.take_effects())
    machine.link_closed(life, world.now)  # by this node itself, which the driver reports too
    machine.dial_failed("node3:7101", kind, "nobody", None, world.now)
    assert not machine.membership.is_dead(life)
    machine.dial_failed("node3:7101", "refused", "nobody listens", None, world.now)
    assert machine.membership.is_dead(life)


@pytest.mark.parametrize("awareness_max", [8, 0])
def test_a_time_out_of_a_dial_that_this_node_slept_through_is_no_evidence(awareness_max):
    world = World(Options(awareness_max=awareness_max))
    world.boot("node1", "node2", "node3")
    world.run(1.0)
    machine = world.machine("node1")
    life = world.machine("node3").life
    machine.link_closed(life, world.now)
    woken = world.now + 0.7  # its timers fire before it reads that the connection was made
    machine.dial_failed("node3:7101", "timeout", "no connection within 0.5 s", None, woken)
    assert machine.membership.is_dead(life) is (awareness_max == 0)


def test_a_time_out_of_a_dial_that_a_node_slept_through_before_counts(world):
    machine = world.machine("node1")
    life = world.machine("node3").life
    world.now += 0.7
    machine.tick(world.now)
    world.run(0.1)
    machine.link_closed(life, world.now)
    machine.dial_failed("node3:7101", "timeout", "no connection within 0.5 s", None, world.now + 0.01)
    assert machine.membership.is_dead(life)


def test_a_failed_dial_says_nothing_about_a_member_that_is_linked(world):
    world.machine("node1").dial_failed("node3:7101", "refused", "nobody", None, world.now)
    world.settle()
    assert state(world, "node1", "node3") is MemberState.ALIVE


def test_a_new_incarnation_at_a_name_ends_the_older_life(world):
    old = world.machine("node3").life
    world.stop("node1")  # it reads nothing of the death
    world.kill("node3")
    world.boot("node3", seeds=("node2",))
    world.resume("node1")
    world.run(0.5)
    new = world.machine("node3").life
    assert new > old
    assert world.machine("node1").membership.is_dead(old)
    assert not world.machine("node1").membership.is_dead(new)
    assert world.members("node1") == {"node1", "node2", "node3"}


def test_hearing_of_a_new_incarnation_ends_the_older_life_before_anybody_meets_it(world):
    old = world.machine("node3").life
    new = Life("node3", old.incarnation + 1)
    roster = (m.Acquaintance(new, "node3:7101"),)
    world.machine("node1").receive(
        world.machine("node2").life, m.Snapshot((), last=True, roster=roster, dead=()), world.now
    )
    assert world.machine("node1").membership.is_dead(old)
    assert not world.machine("node1").membership.is_dead(new)


def test_what_a_dead_life_still_says_is_not_heard(world):
    life = world.machine("node3").life
    world.kill("node3")
    world.machine("node1").receive(
        life, m.Vote(world.machine("node2").life, "node3", 0.0, certain=True), world.now
    )
    assert state(world, "node1", "node2") is MemberState.ALIVE


def test_nobody_believes_a_vote_about_itself(world):
    world.machine("node1").receive(
        world.machine("node2").life,
        m.Vote(world.machine("node1").life, "node2", 0.0, certain=True),
        world.now,
    )
    world.run(0.5)
    assert world.machine("node1").stats.rejoins == 0
    assert world.create("node1").protected


def test_a_vote_on_a_life_that_is_not_yet_known_here_ends_the_older_ones_too(world):
    # node3 comes back and dies again before node1 has met its second life: the vote of node2 is all it hears.
    first = world.machine("node3").life
    second = Life("node3", first.incarnation + 1)
    machine = world.machine("node1")
    machine.receive(world.machine("node2").life, m.Vote(second, "node2", 0.0, certain=True), world.now)
    assert machine.membership.is_dead(first)
    assert machine.membership.is_dead(second)
    assert first not in machine.membership.alive()  # or every look-up would wait for its answer, for ever
    assert state(world, "node1", "node3") is MemberState.DEAD


def test_leave_ends_a_life_in_order(world):
    world.machine("node3").leave(world.now)
    world.settle()
    assert state(world, "node1", "node3") is MemberState.LEFT
    assert state(world, "node2", "node3") is MemberState.LEFT
    assert world.machine("node1").stats.deaths == 0
    assert world.logged("node1", "peer.left")
    world.kill("node3")
    world.run(2.0)
    assert state(world, "node1", "node3") is MemberState.LEFT
    assert not world.logged("node1", "peer.dead")


def test_who_has_left_is_not_voted_dead(world):
    world.hold(m.Leave, to="node2")
    world.machine("node3").leave(world.now)
    world.settle()
    assert state(world, "node1", "node3") is MemberState.LEFT
    assert state(world, "node2", "node3") is MemberState.ALIVE
    world.let_go()
    assert state(world, "node2", "node3") is MemberState.LEFT


def test_a_node_that_leaves_does_not_come_back_when_its_links_are_closed(world):
    world.machine("node3").leave(world.now)
    world.run(5.0)
    assert world.machine("node3").stats.rejoins == 0


def test_a_dead_member_is_dialed_until_it_is_back(world):
    world.kill("node3")
    world.run(20.0)
    world.boot("node3", seeds=())  # it dials nobody by itself
    world.run(world.options.reconnect_backoff_max_s + 0.1)
    assert world.members("node1") == {"node1", "node2", "node3"}


def test_a_dead_member_is_listed_for_a_while_then_forgotten(world):
    world.kill("node3")
    world.run(DEAD_SHOWN_S - 10.0)
    assert state(world, "node1", "node3") is MemberState.DEAD
    world.run(20.0)
    assert [row.name for row in world.machine("node1").cluster_view().members] == ["node1", "node2"]


def test_a_node_that_stood_still_does_not_take_its_own_silence_for_that_of_others(world):
    world.stop("node1")
    world.run(world.options.silence_timeout_s / 2 + 0.2)
    before = {name: world.machine(name).life for name in world.processes}
    world.resume("node1")
    machine = world.machine("node1")
    world.now += 1.5  # its own loop only: nothing has been read yet
    machine.tick(world.now)
    assert machine.membership.alive() == [before["node2"], before["node3"]]
    assert world.logged("node1", "node.stood_still") or any(
        "stood_still" in str(effect) for effect in machine.take_effects()
    )


def test_the_view_shows_counts_of_the_living_and_none_of_the_dead(world):
    world.create("node1")
    world.run(0.5)
    rows = {row.name: row for row in world.machine("node2").cluster_view().members}
    assert rows["node1"].primaries == 1
    world.kill("node1")
    rows = {row.name: row for row in world.machine("node2").cluster_view().members}
    assert rows["node1"].primaries is None
    assert rows["node1"].state is MemberState.DEAD
