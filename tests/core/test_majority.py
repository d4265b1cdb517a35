"""`quorum = "majority"`: 503 rather than two primaries, and what a majority can do that a minority cannot."""

import pytest

from sessiond.backend import Committed
from sessiond.contract.cluster_view import MemberState
from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.options import Options
from sessiond.errors import Unavailable
from tests.core.world import KEY, World

MAJORITY = Options(quorum="majority", expect=3, request_wait_s=1.5)


def cluster(nodes: int = 3, options: Options | None = None) -> World:
    return World.of(nodes, options or MAJORITY)


@pytest.fixture
def world() -> World:
    """Three nodes that serve, and a session with its primary on node1."""
    world = cluster()
    world.create("node1", n=b"1")
    world.run(0.3)
    return world


def backup(world: World) -> str:
    (name,) = world.listed()
    return name


# --- starting ---------------------------------------------------------------------------------------------------


def test_a_cluster_serves_when_as_many_as_expected_have_met():
    world = World(MAJORITY)
    world.boot("node1", "node2", seeds=("node1", "node2"))
    world.run(5.0)
    assert not any(world.machine(name).may_act for name in ("node1", "node2"))
    refusal = world.create("node1")
    assert isinstance(refusal, Unavailable)
    assert "joining" in str(refusal)
    world.boot("node3", seeds=("node1",))
    world.run(2.0)
    assert all(world.machine(name).may_act for name in world.processes)
    assert world.create("node3") == Committed(1, protected=True)


def test_nobody_starts_a_cluster_of_a_size_that_nobody_has_named():
    world = cluster(3, Options(quorum="majority"))
    assert not any(process.machine.may_act for process in world.processes.values())


def test_a_node_that_restarts_without_memory_serves_again_with_the_others_help(world):
    world.kill("node3")
    world.run(2.0)
    world.boot("node3")
    world.run(1.0)
    assert world.machine("node3").may_act
    assert world.read("node3") == b"1"


def test_a_process_without_memory_neither_answers_nor_votes(world):
    # It could be one of the quorum that gave somebody else the lease, or voted for a death, a moment ago.
    world.kill("node3")
    world.hold(m.Snapshot)
    world.boot("node3")
    world.run(1.0)
    assert not world.machine("node3").membership.joined
    sent = [type(message) for message in world.processes["node3"].sent]
    assert m.LeaseAnswer not in sent
    world.kill("node2")
    world.run(5.0)
    assert not any(isinstance(message, m.Vote) for message in world.processes["node3"].sent)
    assert not world.machine("node1").may_act  # alone with a process that cannot speak


def test_a_joiner_makes_the_quorum_that_it_takes_larger(world):
    world.boot("node4", "node5")
    world.run(2.0)
    assert {process.machine.membership.size for process in world.processes.values()} == {5}
    world.part("node1 node2", "node3 node4 node5")
    world.run(4.0)
    assert not world.machine("node1").may_act
    assert world.machine("node3").may_act


# --- deaths -----------------------------------------------------------------------------------------------------


def test_a_death_counts_when_a_majority_has_had_evidence_for_the_time_of_a_lease(world):
    holder = backup(world)
    (witness,) = set(world.processes) - {"node1", holder}
    world.kill("node1")
    life = next(v.life for v in world.processes[holder].sent if isinstance(v, m.Vote))
    world.run(world.options.lease_s * 0.9)
    assert not world.machine(holder).membership.is_dead(life)
    assert world.machine(holder).membership.refuses(life)
    assert world.machine(witness).cluster_view().members[0].state is MemberState.SUSPECT
    world.run(world.options.lease_s * 0.3)
    assert world.machine(holder).membership.is_dead(life)
    assert world.read(witness) == b"1"


def test_a_death_that_one_node_alone_believes_in_does_not_count(world):
    # node2 cannot reach node1, node3 can: node1 stays what it is, and comes back to node2 in another life at worst.
    world.part("node1", "node2")
    world.run(1.9)
    assert world.commit("node1", n=b"2") in (Committed(2, protected=True), "pending")
    world.run(6.0)
    assert not world.machine("node3").membership.is_dead(world.machine("node1").life)
    world.heal()
    world.run(5.0)
    assert len(world.primaries()) == 1


def test_votes_reach_members_that_have_no_link_to_the_voter():
    world = cluster(5, Options(quorum="majority", expect=5))
    life = world.machine("node5").life
    world.part("node1", "node2")
    world.kill("node5")
    world.run(0.5)
    ballots = world.machine("node1").membership.ballots
    assert {vote.voter for vote in ballots.all() if vote.life == life} == {"node1", "node2", "node3", "node4"}


def test_votes_survive_the_rejoin_of_the_voter(world):
    machine = world.machine("node2")
    life = world.machine("node3").life
    world.hold(m.Vote)
    world.stop("node3")
    world.run(world.options.silence_timeout_s + 0.5)
    assert machine.membership.refuses(life)
    machine.rejoin(machine.life.incarnation, "test")
    world.settle()
    assert machine.membership.refuses(life)


# --- the lease --------------------------------------------------------------------------------------------------


def test_the_minority_answers_503_and_says_why_while_the_majority_goes_on(world):
    holder = backup(world)
    others = " ".join(set(world.processes) - {"node1"})
    world.part("node1", others)
    world.run(world.options.lease_s + 0.1)
    machine = world.machine("node1")
    assert not machine.may_act
    assert machine.state is MemberState.SUSPECT
    assert machine.try_open(KEY, world.now) is None
    for refusal in (world.open("node1"), world.create("node1", b"n" * 16), world.commit("node1", n=b"9")):
        assert isinstance(refusal, Unavailable)
        assert "majority" in str(refusal)
    world.run(3.0)
    assert world.read(holder) == b"1"
    assert world.commit(holder, n=b"2") == Committed(2, protected=True)
    world.heal()
    world.run(5.0)
    assert world.primaries() == [holder]
    assert world.read("node1") == b"2"


def test_an_answer_that_waits_for_its_backup_is_not_given_when_the_lease_has_run_out(world):
    holder = backup(world)
    world.hold(m.Ack, by=holder)
    write = world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    world.part("node1", " ".join(set(world.processes) - {"node1"}))
    world.run(world.options.lease_s + 0.1)
    world.machine("node1").copies[KEY].leads.followers[
        world.machine(holder).life
    ].acked = 2  # it came too late
    world.run(0.3)
    assert world.outcome("node1", write) == "pending"
    world.run(2 * world.options.lease_s)
    outcome = world.outcome("node1", write)
    assert isinstance(outcome, Unavailable)
    assert "may or may not" in str(outcome)


def test_a_handshake_is_no_lease(world):
    world.hold(m.LeaseAnswer, to="node1")
    world.run(world.options.lease_s + 0.1)
    for other in ("node2", "node3"):
        world.reset("node1", other)
    world.run(0.3)
    assert world.members("node1") == {"node1", "node2", "node3"}
    assert not world.machine("node1").may_act


def test_the_lease_counts_from_when_it_was_asked_for(world):
    world.hold(m.LeaseAnswer, to="node1")
    world.run(world.options.lease_s * 0.8)
    world.let_go()  # answers to questions of up to 0.8 leases ago
    world.hold(m.LeaseAnswer, to="node1")
    assert world.machine("node1").may_act
    world.run(world.options.lease_s * 1.05)
    assert not world.machine("node1").may_act


def test_who_has_no_lease_votes_for_nobodys_death(world):
    world.part("node1", "node2 node3")
    world.run(10.0)
    assert not any(isinstance(message, m.Vote) for message in world.processes["node1"].sent)


def test_a_session_does_not_expire_in_the_minority():
    world = cluster(3, Options(quorum="majority", expect=3, idle_timeout_s=5.0))
    world.create("node1", n=b"1")
    world.run(0.3)
    holder = backup(world)
    world.part("node1", " ".join(set(world.processes) - {"node1"}))
    for _ in range(4):
        world.run(4.0)
        held = world.open(holder)
        assert isinstance(held, Checkout)
        held.release()
    assert not world.machine("node1").copies[KEY].tombstone
    world.heal()
    world.run(3.0)
    assert world.read("node1") == b"1"


def test_no_such_session_is_not_said_while_a_member_that_may_hold_it_cannot_be_asked():
    # The scenario of protocol 8: the minority holds all copies while the majority says "gone".
    world = cluster(5, Options(quorum="majority", expect=5, request_wait_s=1.0))
    world.create("node1", n=b"1")
    world.run(0.3)
    minority = ["node1", backup(world)]
    majority = sorted(set(world.processes) - set(minority))
    for name in majority:
        world.machine(name).directory.forget(KEY)
    world.part(" ".join(minority), " ".join(majority))
    world.run(5.0)
    asked = world.ask(majority[0], "open", KEY, may_refer=False)
    world.run(2.0)
    refusal = world.outcome(majority[0], asked)
    assert isinstance(refusal, Unavailable)
    assert "may hold the session" in str(refusal)
    world.heal()
    world.run(5.0)
    assert world.read(majority[0]) == b"1"


def test_no_such_session_is_said_when_the_missing_member_is_certainly_gone(world):
    world.kill("node3")
    world.run(2.0)
    assert world.open("node1", b"?" * 16) is None


def test_a_node_that_left_in_order_is_not_counted_any_more():
    world = cluster(4)
    assert world.machine("node1").membership.size == 4
    world.machine("node4").begin_drain(world.now)
    world.run(0.5)
    world.machine("node4").leave(world.now)
    world.settle()
    world.kill("node4")
    assert world.machine("node1").membership.size == 3
    assert world.machine("node1").may_act


def test_two_nodes_tolerate_nothing_under_majority():
    world = cluster(2, Options(quorum="majority", expect=2))
    world.create("node1", n=b"1")
    world.kill("node2")
    world.run(world.options.lease_s + 0.1)
    assert isinstance(world.open("node1"), Unavailable)


def test_a_vote_that_a_node_cast_before_it_was_restarted_binds_it(world):
    # Found by the simulator: it had a link to the accused by the time it heard, and ignored it from then on.
    accused, voter = world.machine("node3"), world.machine("node2")
    life = accused.life
    assert voter.membership.is_linked(life)
    vote = m.Vote(life, "node2", 5.0, False)
    voter.receive(world.machine("node1").life, vote, world.now)
    world.settle()
    assert not voter.membership.is_linked(life)
    world.run(2.0)
    assert accused.life.incarnation > life.incarnation
    assert voter.membership.is_linked(accused.life)


def test_who_joined_after_a_certain_death_says_no_such_session_as_the_others_do():
    world = cluster(5, Options(quorum="majority", expect=5))
    world.run(2.0)
    world.kill("node5")
    world.run(4.0)
    world.kill("node4")
    world.run(4.0)
    world.boot("node4")
    world.run(8.0)
    for name in ("node1", "node4"):
        operation = world.ask(name, "open", b"x" * 16, may_refer=False)
        world.run(1.0)
        assert world.outcome(name, operation) is None


def test_a_node_that_left_is_not_counted_again_when_one_comes_back_that_missed_it():
    world = cluster(4)
    world.run(3.0)
    world.part("node3", "node1 node2 node4")
    world.run(6.0)
    world.machine("node4").begin_drain(world.now, for_good=True)
    world.run(3.0)
    world.machine("node4").leave(world.now)
    world.settle()
    world.run(0.2)
    world.kill("node4")
    world.run(3.0)
    world.heal()
    world.run(10.0)
    for name in ("node1", "node2", "node3"):
        assert world.machine(name).membership.size == 3
    world.kill("node3")
    world.run(5.0)
    assert world.machine("node1").may_act
    assert world.machine("node2").may_act


def test_a_write_that_waits_for_a_move_hears_that_the_majority_is_out_of_reach():
    world = cluster()
    world.create("node1", n=b"1")
    successor = b"n" * 16
    world.create("node1", successor, n=b"1")
    world.run(0.5)
    world.part("node1", "node2 node3")
    world.ask("node1", "rotate", KEY, successor, 1)
    operation = world.ask("node1", "commit", KEY, {"a": b"2"}, None)
    world.run(5.0)
    outcome = world.outcome("node1", operation)
    assert isinstance(outcome, Unavailable)
    assert "nothing was changed" in str(outcome)
