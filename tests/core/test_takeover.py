"""A primary dies: who takes its sessions over, and that of any number of nodes exactly one does."""

import pytest

from sessiond.backend import Committed, Elsewhere
from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.options import CLAIM_REPEAT_S, Options
from sessiond.core.types import Term
from sessiond.errors import Unavailable
from tests.core.world import KEY, World

LATE = Options(reprotect_delay_s=60.0)
"""Nothing happens without a request."""


def cluster(nodes: int = 4, options: Options = LATE) -> World:
    """Nodes whose session has node1 as its primary."""
    return World.with_session(nodes, options)


@pytest.fixture
def world() -> World:
    return cluster()


# --- the two cases ----------------------------------------------------------------------------------------


def test_the_holder_of_the_backup_becomes_primary_and_chooses_another_backup(world):
    (holder,) = world.listed()
    world.kill("node1")
    assert world.read(holder) == b"1"
    assert world.term(holder) == Term(2, world.machine(holder).life)
    world.run(0.1)
    (new,) = world.listed()
    assert new != holder
    assert world.where() == {holder: "P", new: "B"}
    for name in world.processes:
        assert world.machine(name).locate(KEY).primary == holder


def test_a_node_that_holds_nothing_becomes_primary_and_the_holder_stays_backup(world):
    (holder,) = world.listed()
    asker = world.strangers()[0]
    world.kill("node1")
    assert world.read(asker) == b"1"
    world.run(0.1)
    assert world.where() == {asker: "P", holder: "B"}
    assert world.term(asker) == world.term(holder) == Term(2, world.machine(asker).life)
    assert world.machine(holder).stats.grants == 1


def test_a_node_that_does_not_know_the_session_asks_everybody(world):
    (holder,) = world.listed()
    asker = world.strangers()[0]
    world.machine(asker).directory.forget(KEY)
    world.kill("node1")
    assert world.read(asker) == b"1"
    assert world.machine(asker).stats.lookups == 1
    assert world.where() == {asker: "P", holder: "B"}


def test_the_new_primary_serves_writes_that_survive_it_too(world):
    (holder,) = world.listed()
    world.kill("node1")
    world.open(holder).release()
    assert world.commit(holder, n=b"2") == Committed(2, protected=True)
    world.kill(holder)
    assert world.read(next(iter(world.processes))) == b"2"


def test_the_last_of_two_nodes_serves_alone():
    world = cluster(nodes=2)
    world.kill("node1")
    assert world.read("node2") == b"1"
    assert world.commit("node2", n=b"2") == Committed(2, protected=False)


def test_sessions_survive_node_after_node_down_to_the_last(world):
    value = 1
    while len(world.processes) > 1:
        victim = world.primaries()[0]
        world.kill(victim)
        survivor = next(iter(world.processes))
        assert world.read(survivor) == b"%d" % value
        value += 1
        assert world.commit(survivor, n=b"%d" % value).version == value
        world.run(0.2)


# --- one winner -------------------------------------------------------------------------------------------


def test_of_two_askers_at_once_the_arbiter_grants_to_the_first_and_refers_the_other():
    # Design check 4: both requests are answered, one session, no write is lost.
    world = cluster()
    (holder,) = world.listed()
    first, second = world.strangers()
    world.kill("node1")
    world.hold(m.Claim)
    one = world.ask(first, "open", KEY, may_refer=False)
    other = world.ask(second, "open", KEY, may_refer=False)
    world.let_go()
    world.run(0.01)
    answered = [node for node, op in ((first, one), (second, other)) if world.outcome(node, op) != "pending"]
    assert answered == [first]
    assert world.machine(holder).stats.grants == 1
    assert world.primaries() == [first]
    assert world.commit(first, visits=b"1") == Committed(2, protected=True)
    world.outcome(first, one).release()
    world.run(0.3)
    checkout = world.outcome(second, other)
    assert isinstance(checkout, Checkout)
    assert checkout.read("visits") == b"1"
    assert world.commit(second, visits=b"2") == Committed(3, protected=True)
    assert world.primaries() == [second]


def test_the_holder_and_another_asker_at_once_have_one_winner_too():
    world = cluster()
    (holder,) = world.listed()
    asker = world.strangers()[0]
    world.kill("node1")
    operations = {node: world.ask(node, "open", KEY, may_refer=False) for node in (holder, asker)}
    world.run(0.5)
    seen = []
    for _ in range(2):
        node = world.primaries()[0]
        checkout = world.outcome(node, operations[node])
        seen.append((node, checkout.read("visits")))
        world.commit(node, visits=b"%d" % len(seen))
        checkout.release()
        world.run(0.5)
    assert sorted(node for node, _ in seen) == sorted(operations)
    assert [visits for _, visits in seen] == [None, b"1"]


def test_with_two_backups_the_first_living_one_of_the_list_is_the_arbiter():
    world = cluster(options=Options(copies=2, reprotect_delay_s=60.0))
    first, second = world.listed()
    (asker,) = world.strangers()
    world.kill("node1")
    operation = world.ask(asker, "open", KEY, may_refer=False)
    assert isinstance(world.outcome(asker, operation), Checkout)
    assert world.machine(first).stats.grants == 1
    assert world.machine(second).stats.grants == 0


def test_the_second_backup_defers_to_the_first_and_takes_over_when_that_is_dead_too():
    world = cluster(options=Options(copies=2, reprotect_delay_s=60.0))
    first, second = world.listed()
    world.kill("node1")
    world.kill(first)
    assert world.read(second) == b"1"
    assert world.term(second).owner == world.machine(second).life


def test_the_arbiter_fences_the_other_holders_before_it_grants():
    world = cluster(options=Options(copies=2, reprotect_delay_s=60.0))
    first, second = world.listed()
    (asker,) = world.strangers()
    world.kill("node1")
    world.hold(m.Put, to=second)
    operation = world.ask(asker, "open", KEY, may_refer=False)
    world.run(0.2)
    assert world.outcome(asker, operation) == "pending"
    assert world.machine(first).copies[KEY].is_granting
    world.let_go()
    assert isinstance(world.outcome(asker, operation), Checkout)
    assert world.term(second) == world.term(asker)


def test_a_holder_that_dies_while_it_is_fenced_does_not_hold_the_grant_up():
    world = cluster(options=Options(copies=2, reprotect_delay_s=60.0))
    first, second = world.listed()
    (asker,) = world.strangers()
    world.kill("node1")
    world.hold(m.Put, to=second)
    operation = world.ask(asker, "open", KEY, may_refer=False)
    world.kill(second)
    assert isinstance(world.outcome(asker, operation), Checkout)
    assert world.where()[first] == "B"


def test_an_asker_that_dies_before_it_gets_the_grant_leaves_the_session_to_the_next():
    world = cluster()
    (holder,) = world.listed()
    asker, next_asker = world.strangers()
    world.kill("node1")
    world.hold(m.Grant)
    world.ask(asker, "open", KEY, may_refer=False)
    world.kill(asker)
    world.held = []
    assert world.read(next_asker) == b"1"
    world.run(0.1)
    assert world.where() == {next_asker: "P", holder: "B"}


# --- without a request ------------------------------------------------------------------------------------


def test_without_a_request_the_backup_takes_over_after_the_reprotect_delay():
    world = cluster(options=Options(reprotect_delay_s=1.0))
    (holder,) = world.listed()
    world.kill("node1")
    world.run(0.9)
    assert world.where() == {holder: "B"}
    world.run(0.3)
    assert world.primaries() == [holder]
    assert len(world.where()) == 2
    assert world.machine(holder).stats.takeovers == 1


def test_sessions_of_a_dead_primary_are_taken_over_at_a_bounded_rate_the_last_used_first():
    world = World(Options(reprotect_delay_s=0.5, reprotect_rate_max=100))
    world.boot("node1", "node2")
    world.run(1.0)
    keys = [i.to_bytes(16) for i in range(100)]
    for key in keys:
        world.create("node1", key)
    world.run(1.0)
    hot = keys[-10:]
    for key in hot:
        world.read("node1", key=key)
        world.commit("node1", key, n=b"2")
    world.kill("node1")
    world.run(0.85)
    taken = {key for key in keys if world.where(key) == {"node2": "P"}}
    assert set(hot) <= taken
    assert len(taken) < 40
    world.run(2.0)
    assert all(world.where(key) == {"node2": "P"} for key in keys)


def test_a_request_does_not_wait_for_the_reprotect_delay_or_the_rate():
    world = World(Options(reprotect_delay_s=60.0, reprotect_rate_max=1))
    world.boot("node1", "node2", "node3")
    world.run(1.0)
    keys = [i.to_bytes(16) for i in range(30)]
    for key in keys:
        world.create("node1", key)
    world.run(0.1)
    world.kill("node1")
    before = world.now
    for key in keys:
        assert world.read("node2", key=key) == b"1"
    assert world.now == before


# --- requests that cannot be served -----------------------------------------------------------------------


def test_a_request_is_refused_in_time_when_the_arbiter_is_silent():
    world = cluster(options=Options(reprotect_delay_s=60.0, request_wait_s=1.0, silence_timeout_s=5.0))
    (holder,) = world.listed()
    asker = world.strangers()[0]
    world.stop(holder)
    world.kill("node1")
    operation = world.ask(asker, "open", KEY, may_refer=False)
    world.run(0.9)
    assert world.outcome(asker, operation) == "pending"
    world.run(0.5)
    refusal = world.outcome(asker, operation)
    assert isinstance(refusal, Unavailable)
    assert "nothing was changed" in str(refusal)


def test_a_claim_that_gets_no_answer_is_sent_again():
    world = cluster()
    (holder,) = world.listed()
    asker = world.strangers()[0]
    world.hold(m.Claim)
    world.kill("node1")
    operation = world.ask(asker, "open", KEY, may_refer=False)
    world.held = []
    world.reset(asker, holder)  # the claim is lost with the link
    world.run(CLAIM_REPEAT_S + 0.2)
    assert isinstance(world.outcome(asker, operation), Checkout)


def test_a_request_that_may_be_referred_goes_to_the_winner_of_a_takeover():
    world = cluster()
    first, second = world.strangers()
    world.kill("node1")
    world.read(first)
    operation = world.ask(second, "open", KEY, may_refer=True)
    world.run(0.01)  # until the location is announced
    assert world.outcome(second, operation) == Elsewhere(first)
