"""A node leaves in order: every session is handed over before it goes."""

import pytest

from sessiond.backend import Committed, Elsewhere
from sessiond.contract.cluster_view import MemberState
from sessiond.contract.drain_view import DrainView
from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.draining import HANDED_OVER_PER_TICK
from sessiond.core.options import Options
from sessiond.errors import Unavailable
from tests.core.world import KEY, World


def cluster(nodes: int = 3, sessions: int = 30, options: Options | None = None) -> World:
    """Nodes with sessions everywhere."""
    world = World(options)
    names = [f"node{i + 1}" for i in range(nodes)]
    world.boot(*names)
    world.run(1.0)
    for number in range(sessions):
        world.create(names[number % nodes], key(number), n=b"1")
    world.run(0.5)
    return world


def key(number: int) -> bytes:
    return bytes([number]) * 16


def drain(world: World, name: str, seconds: float = 5.0) -> None:
    world.machine(name).begin_drain(world.now)
    world.run(seconds)


def test_a_drained_node_holds_nothing_and_the_others_hold_everything_twice():
    world = cluster()
    drain(world, "node1")
    machine = world.machine("node1")
    assert machine.drained
    assert len(machine.copies) == 0
    for number in range(30):
        assert sorted(world.where(key(number)).values()) == ["B", "P"]


def test_nothing_is_lost_and_nobody_is_suspected_when_a_node_drains_and_leaves():
    world = cluster()
    drain(world, "node1")
    world.machine("node1").leave(world.now)
    world.settle()
    world.kill("node1")
    for number in range(30):
        assert world.read("node2", key=key(number)) == b"1"
    assert world.machine("node2").stats.deaths == 0


@pytest.mark.parametrize("nodes", [2, 3])
@pytest.mark.parametrize("held", [m.Put, m.Grant])
def test_a_node_is_not_drained_before_its_last_session_is_handed_over(nodes, held):
    world = cluster(nodes, sessions=1)
    assert world.where(key(0))["node1"] == "P"
    world.hold(held)
    if held is m.Put:
        world.kill(next(name for name, role in world.where(key(0)).items() if role == "B"))
        world.boot("node4", seeds=("node1",))
        world.run(0.1)
    else:
        world.open("node1", key(0))  # a request in flight
    world.machine("node1").begin_drain(world.now)
    world.settle()
    assert not world.machine("node1").drained
    world.let_go()
    world.run(5.0)
    assert world.machine("node1").drained


def test_a_session_is_handed_only_to_a_backup_that_is_in_step():
    world = cluster(sessions=1)
    holder = next(name for name, role in world.where(key(0)).items() if role == "B")
    world.hold(m.Patch, m.Put, to=holder)
    world.ask("node1", "commit", key(0), {"n": b"2"}, None)
    world.machine("node1").begin_drain(world.now)
    world.run(0.2)
    assert world.machine("node1").copies[key(0)].leads.handoff is None


def test_a_node_is_not_drained_before_its_backups_are_elsewhere():
    world = cluster(sessions=0)
    while world.where(KEY).get("node1") != "B":
        world.create("node2")
    world.hold(m.Put)
    world.machine("node1").begin_drain(world.now)
    world.run(0.1)
    assert not world.machine("node1").drained
    world.let_go()
    world.run(0.5)
    assert world.machine("node1").drained
    assert world.where() == {"node2": "P", "node3": "B"}


def test_a_draining_node_names_one_that_stays_for_visitors_it_takes_no_more():
    world = cluster(sessions=1)
    world.machine("node1").begin_drain(world.now)
    world.machine("node2").begin_drain(world.now)
    world.settle()
    assert world.machine("node1").drain.heir() == "node3"
    world.machine("node3").begin_drain(world.now)
    world.settle()
    assert world.machine("node1").drain.heir() is None


def test_a_session_begun_by_a_request_in_flight_is_handed_over_too():
    world = cluster(sessions=1)
    drain(world, "node1")
    assert world.machine("node1").drained
    begun = world.ask("node1", "create", b"n" * 16, {"n": b"1"})
    world.settle()
    assert world.outcome("node1", begun) == Committed(1, protected=True)
    assert not world.machine("node1").drained
    world.run(1.0)
    assert world.machine("node1").drained
    assert sorted(world.where(b"n" * 16)) == ["node2", "node3"]


def test_a_node_that_has_left_begins_no_session():
    world = cluster(sessions=1)
    world.machine("node1").leave(world.now)
    assert isinstance(world.create("node1", b"n" * 16), Unavailable)


def test_a_request_is_not_referred_to_a_node_that_drains_but_served_where_it_is():
    # The draining node could only send it on, or, if it may not be sent on again, refuse it.
    world = cluster(nodes=3, sessions=0)
    world.create("node1", n=b"1")
    world.run(0.2)
    (stranger,) = world.strangers()
    world.hold(m.Put, m.Grant, by="node1")
    world.machine("node1").begin_drain(world.now)
    world.settle()
    asked = world.ask(stranger, "open", KEY, may_refer=True)
    world.let_go()
    world.run(1.0)
    assert isinstance(world.outcome(stranger, asked), Checkout)


def test_a_request_that_waits_for_a_session_while_it_is_handed_over_is_sent_after_it_at_once():
    world = cluster(sessions=0)
    world.create("node1", n=b"1")
    world.run(0.2)
    world.hold(m.Grant, by="node1")
    world.hold(m.Put, by="node1")
    world.machine("node1").begin_drain(world.now)
    world.run(0.1)
    may_be_sent = world.ask("node1", "open", KEY, may_refer=True)
    may_not = world.ask("node1", "open", KEY, may_refer=False)
    world.let_go()
    world.run(0.3)
    assert isinstance(world.outcome("node1", may_be_sent), Elsewhere)
    assert isinstance(world.outcome("node1", may_not), Unavailable)


def test_a_draining_node_takes_nothing_over_but_refers():
    world = cluster(nodes=4, sessions=0)
    world.create("node1", n=b"1")
    world.run(0.2)
    leaving = min(set(world.processes) - set(world.where()))
    world.machine(leaving).begin_drain(world.now)
    assert world.open(leaving, may_refer=True) == Elsewhere("node1")
    refusal = world.open(leaving)
    assert isinstance(refusal, Unavailable)
    assert "try another node" in str(refusal)
    assert world.where()["node1"] == "P"


def test_a_draining_node_still_serves_what_it_still_has():
    world = cluster(sessions=0)
    world.create("node1", n=b"1")
    world.run(0.2)
    held = world.open("node1")
    world.machine("node1").begin_drain(world.now)
    world.run(0.2)
    assert world.commit("node1", n=b"2") == Committed(2, protected=True)
    held.release()
    world.run(1.0)
    assert world.machine("node1").drained
    assert world.read("node2") == b"2"


def test_a_draining_node_gets_no_new_backups_and_loses_those_it_has():
    world = cluster()
    drain(world, "node1")
    applied = world.machine("node1").stats.applied
    for number in range(30, 50):
        world.create("node2", key(number))
        assert world.where(key(number)) == {"node2": "P", "node3": "B"}
    assert world.machine("node1").stats.applied == applied


def test_everybody_sees_at_once_that_a_node_is_draining():
    world = cluster(sessions=0)
    world.machine("node1").begin_drain(world.now)
    world.settle()
    states = {row.name: row.state for row in world.machine("node2").cluster_view().members}
    assert states["node1"] is MemberState.DRAINING
    assert world.machine("node1").state is MemberState.DRAINING


def test_of_two_nodes_one_can_leave_at_any_time():
    world = cluster(nodes=2)
    drain(world, "node1")
    assert world.machine("node1").drained
    assert world.machine("node2").copies.counts["P"] == 30
    world.machine("node1").leave(world.now)
    world.settle()
    world.kill("node1")
    assert world.commit("node2", key(0), n=b"2") == Committed(2, protected=False)


def test_the_last_node_has_nobody_to_hand_anything_to_and_is_drained_at_once():
    world = cluster(nodes=1)
    world.machine("node1").begin_drain(world.now)
    assert world.machine("node1").drained
    assert world.machine("node1").copies.counts["P"] == 30


def test_two_nodes_that_leave_together_hand_everything_to_the_third():
    world = cluster()
    world.machine("node1").begin_drain(world.now)
    world.machine("node2").begin_drain(world.now)
    world.run(5.0)
    assert world.machine("node1").drained
    assert world.machine("node2").drained
    assert world.machine("node3").copies.counts["P"] == 30


def test_sessions_that_cannot_be_handed_over_yet_do_not_hold_up_those_that_can():
    world = World(Options(reprotect_rate_max=1))
    world.boot("node1")
    for number in range(HANDED_OVER_PER_TICK + 10):
        world.create("node1", number.to_bytes(16))
    world.boot("node2", seeds=("node1",))
    world.run(0.5)
    world.create("node1", n=b"1")  # alone of all it has a backup at once
    world.run(0.5)
    world.machine("node1").begin_drain(world.now)
    world.run(0.5)
    assert world.where() == {"node1": "B", "node2": "P"}


def test_when_all_nodes_leave_none_waits_for_another():
    world = cluster()
    for name in world.processes:
        world.machine(name).begin_drain(world.now)
    world.settle()
    assert all(world.machine(name).drained for name in world.processes)


def test_a_grant_that_was_lost_on_the_way_to_an_heir_does_not_hold_the_drain_up():
    world = cluster(sessions=1)
    world.hold(m.Grant)
    world.machine("node1").begin_drain(world.now)
    world.run(0.2)
    heir = world.machine("node1").copies[key(0)].term.owner
    world.held = []
    world.reset("node1", heir.name)
    world.run(5.0)
    assert world.machine("node1").drained
    assert world.where(key(0))[heir.name] == "P"


def test_a_draining_arbiter_gives_the_session_of_a_dead_primary_to_a_node_that_stays():
    world = cluster(nodes=4, sessions=0, options=Options(reprotect_delay_s=0.2))
    world.create("node1", n=b"1")
    world.run(0.2)
    holder = next(name for name, role in world.where().items() if role == "B")
    world.hold(m.Put, by="node1")  # it cannot replace its backup before it dies
    world.machine(holder).begin_drain(world.now)
    world.settle()
    world.kill("node1")
    world.held = []
    world.run(5.0)
    assert world.machine(holder).drained
    assert world.machine(holder).stats.takeovers == 0
    assert sorted(world.where().values()) == ["B", "P"]


def test_a_draining_holder_does_not_claim_the_session_of_a_dead_primary():
    world = cluster(nodes=4, sessions=0, options=Options(copies=2, reprotect_delay_s=0.2))
    world.create("node1", n=b"1")
    world.run(0.2)
    _, second = [life.name for life in world.machine("node1").copies[KEY].backups]
    world.hold(m.Put, by="node1")
    world.machine(second).begin_drain(world.now)
    world.settle()
    world.kill("node1")
    world.held = []
    world.run(5.0)
    assert world.machine(second).stats.takeovers == 0
    assert world.machine(second).drained


@pytest.mark.parametrize("copies", [1, 2])
def test_requests_go_on_while_nodes_drain_one_after_another(copies):
    world = cluster(nodes=copies + 3, sessions=10, options=Options(copies=copies))
    visits = 1
    for leaving in ("node1", "node2"):
        world.machine(leaving).begin_drain(world.now)
        for _ in range(10):
            world.run(0.2)
            for number in range(10):
                operation = world.ask(f"node{copies + 3}", "open", key(number), may_refer=False)
                world.run(0.3)
                checkout = world.outcome(f"node{copies + 3}", operation)
                assert isinstance(checkout, Checkout)
                assert checkout.read("n") == b"%d" % visits
                checkout.release()
        assert world.machine(leaving).drained
        world.machine(leaving).leave(world.now)
        world.settle()
        world.kill(leaving)


# --- safe to stop -------------------------------------------------------------------------------------------


def view(world: World, name: str) -> DrainView:
    return world.machine(name).drain_view()


def test_a_node_is_safe_to_stop_once_nothing_of_it_is_left_and_not_before():
    world = cluster()
    assert not view(world, "node1").safe_to_stop, "it was not asked to leave"
    world.machine("node1").begin_drain(world.now)
    deadline = world.now + 5.0
    while not view(world, "node1").safe_to_stop:
        assert view(world, "node1").copies
        assert world.now < deadline
        world.run(0.001)
    assert view(world, "node1").copies == 0
    world.kill("node1")  # without a word, and nobody notices
    for number in range(30):
        assert sorted(world.where(key(number)).values()) == ["B", "P"]
    assert world.machine("node2").unprotected == world.machine("node3").unprotected == 0
    world.run(0.2)
    for number in range(30):
        (primary,) = world.primaries(key(number))
        assert world.read(primary, key=key(number)) == b"1"


@pytest.mark.parametrize("held", [m.Put, m.Grant, m.Release, m.Released])
def test_a_node_is_not_safe_to_stop_while_a_copy_is_on_its_way(held):
    world = cluster(sessions=0)
    # A message that is held holds up what follows on its link: a Released must have no Grant behind it.
    names = ("node2", "node3") if held is m.Released else ("node1", "node2", "node3")
    for number in range(6):
        world.create(names[number % len(names)], key(number))
    world.run(0.5)
    world.hold(held)
    world.machine("node1").begin_drain(world.now)
    world.run(1.0)
    before = view(world, "node1")
    if held is m.Released:  # its copies are gone, and were complete elsewhere before
        assert before.safe_to_stop
    else:
        assert before.copies
        assert not before.safe_to_stop
    world.let_go()
    world.run(2.0)
    assert view(world, "node1").safe_to_stop


def test_a_node_is_not_safe_to_stop_while_it_looks_for_a_session():
    world = cluster(sessions=0)
    world.hold(m.Who)
    operation = world.ask("node1", "open", KEY, may_refer=False)
    world.machine("node1").begin_drain(world.now)
    world.settle()
    assert world.machine("node1").drained, "nothing that another node could take"
    assert not view(world, "node1").safe_to_stop
    world.let_go()
    assert world.outcome("node1", operation) is None
    assert view(world, "node1").safe_to_stop


def test_a_node_is_not_safe_to_stop_while_a_late_write_follows_its_session():
    world = cluster(sessions=0)
    world.create("node1", n=b"1")
    world.run(0.2)
    world.open("node1")  # a request that outlasts the handoff
    world.machine("node1").begin_drain(world.now)
    world.run(5.0)
    assert view(world, "node1").safe_to_stop
    world.hold(m.Forward)
    operation = world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    assert not view(world, "node1").safe_to_stop
    world.let_go()
    assert world.outcome("node1", operation) == Committed(2, protected=True)
    assert view(world, "node1").safe_to_stop


def test_a_node_is_not_safe_to_stop_before_it_has_said_that_a_session_has_ended():
    world = cluster(sessions=0)
    world.create("node1", n=b"1")
    world.run(0.2)
    world.machine("node1").begin_drain(world.now)
    world.ask("node1", "invalidate", KEY)
    assert not view(world, "node1").safe_to_stop
    world.run(0.1)
    assert view(world, "node1").safe_to_stop


def test_the_last_node_says_that_its_sessions_live_only_there_and_is_never_safe_to_stop():
    world = cluster(nodes=1)
    world.machine("node1").begin_drain(world.now)
    world.run(5.0)
    assert not view(world, "node1").safe_to_stop
    assert view(world, "node1").hindrance.startswith("30 sessions live only here: ")


def test_a_last_node_without_sessions_is_safe_to_stop():
    world = cluster(nodes=1, sessions=0)
    world.machine("node1").begin_drain(world.now)
    assert view(world, "node1").safe_to_stop
    assert view(world, "node1").hindrance == ""


def test_of_two_nodes_none_is_safe_to_stop_since_the_other_would_have_no_backup():
    world = cluster(nodes=2, sessions=1)
    drain(world, "node1")
    assert world.machine("node1").drained
    assert not view(world, "node1").safe_to_stop
    assert view(world, "node1").hindrance.startswith(
        "1 session lives with too few copies once this node is gone"
    )


def test_nodes_that_all_leave_say_that_somebody_has_to_stay():
    world = cluster(nodes=2)
    world.machine("node1").begin_drain(world.now)
    world.machine("node2").begin_drain(world.now)
    world.run(1.0)
    for name in ("node1", "node2"):
        assert "only on nodes that leave" in view(world, name).hindrance


def test_nodes_that_are_full_hinder_a_drain():
    options = Options(memory_bytes_max=1_000, session_bytes_max=900, attribute_bytes_max=900)
    world = cluster(nodes=3, sessions=0, options=options)
    world.create("node1", n=b"x" * 800)
    world.create("node2", key(1), n=b"x" * 800)
    world.create("node3", key(2), n=b"x" * 800)
    world.run(0.5)
    assert all(world.machine(name).status().full for name in world.processes)
    world.machine("node1").begin_drain(world.now)
    world.run(2.0)
    assert "the nodes that stay take no more copies" in view(world, "node1").hindrance
    assert not view(world, "node1").safe_to_stop


def test_a_node_in_the_minority_says_that_its_copies_cannot_move():
    options = Options(quorum="majority", expect=3)
    world = cluster(sessions=6, options=options)
    world.part("node1", "node2 node3")
    world.run(2 * options.lease_s)
    world.machine("node1").begin_drain(world.now)
    world.run(1.0)
    assert "cut off from the majority" in view(world, "node1").hindrance
    assert not view(world, "node1").safe_to_stop
    world.heal()
    world.run(10.0)
    assert view(world, "node1").safe_to_stop


def test_a_node_that_stood_still_is_not_safe_to_stop_before_it_knows_whether_it_counts():
    world = cluster(sessions=0)
    world.stop("node1")
    world.run(world.options.lease_s + 0.1)
    world.hold(m.StandingAsk)
    world.resume("node1")
    world.machine("node1").begin_drain(world.now)
    assert world.machine("node1").stall.is_active
    assert not view(world, "node1").safe_to_stop
    world.let_go()
    world.run(1.0)
    assert view(world, "node1").safe_to_stop


def test_a_drain_that_was_hindered_goes_on_when_a_node_joins():
    world = cluster(nodes=2)
    drain(world, "node1")
    assert view(world, "node1").hindrance
    world.boot("node3", seeds=("node1",))
    world.run(2.0)
    assert view(world, "node1").safe_to_stop
    assert world.where(key(0)).keys() == {"node2", "node3"}


def test_a_drained_node_stays_empty_refers_and_takes_nothing_over_whoever_dies():
    world = cluster(nodes=4, sessions=12, options=Options(reprotect_delay_s=0.2))
    drain(world, "node1")
    assert view(world, "node1").safe_to_stop
    takeovers = world.machine("node1").stats.takeovers
    owner = next(name for name, role in world.where(key(0)).items() if role == "P")
    world.kill(owner)
    assert isinstance(world.open("node1", key(0)), Unavailable)
    world.run(2.0)
    assert isinstance(world.open("node1", key(0), may_refer=True), Elsewhere)
    assert world.machine("node1").stats.takeovers == takeovers
    assert view(world, "node1").safe_to_stop


# --- abort --------------------------------------------------------------------------------------------------


def test_a_node_serves_again_after_an_aborted_drain():
    world = cluster(sessions=6)
    drain(world, "node1")
    assert world.machine("node1").abort_drain(world.now)
    world.settle()
    assert world.machine("node1").state is MemberState.ALIVE
    states = {row.name: row.state for row in world.machine("node2").cluster_view().members}
    assert states["node1"] is MemberState.ALIVE
    assert world.create("node1", KEY) == Committed(1, protected=True)
    assert world.read("node1", key=key(0)) == b"1"
    assert not view(world, "node1").safe_to_stop


def test_an_aborted_drain_hands_nothing_more_over():
    world = cluster(sessions=0)
    for number in range(HANDED_OVER_PER_TICK + 50):
        world.create("node1", number.to_bytes(16))
    world.run(0.5)
    world.machine("node1").begin_drain(world.now)
    counts = world.machine("node1").copies.counts
    while counts["P"] == HANDED_OVER_PER_TICK + 50:
        world.run(0.001)
    left = counts["P"]
    assert left == 50
    world.machine("node1").abort_drain(world.now)
    world.run(2.0)
    assert counts["P"] == left
    for number in range(HANDED_OVER_PER_TICK + 50):
        assert sorted(world.where(number.to_bytes(16)).values()) == ["B", "P"]


def test_a_node_that_serves_again_is_given_backups_again():
    world = cluster(nodes=2)
    drain(world, "node1")
    world.machine("node1").abort_drain(world.now)
    world.run(1.0)
    for number in range(30):
        assert sorted(world.where(key(number)).values()) == ["B", "P"]
    assert world.create("node2", KEY) == Committed(1, protected=True)


def test_a_request_that_waits_at_a_leaving_node_is_served_when_the_drain_is_aborted():
    world = cluster(nodes=3, sessions=1)
    asked = next(name for name in world.processes if name not in world.where(key(0)))
    world.hold(m.Claim)
    operation = world.ask(asked, "open", key(0), may_refer=False)
    world.machine(asked).begin_drain(world.now)
    world.held = []
    world.run(0.5)
    world.machine(asked).abort_drain(world.now)
    world.run(1.0)
    assert isinstance(world.outcome(asked, operation), Checkout)


def test_a_node_that_is_about_to_end_cannot_be_told_to_stay():
    world = cluster(sessions=6)
    world.machine("node1").begin_drain(world.now)
    world.machine("node1").begin_drain(world.now, for_good=True)
    assert not world.machine("node1").abort_drain(world.now)
    world.run(5.0)
    assert world.machine("node1").state is MemberState.DRAINING
    assert view(world, "node1").safe_to_stop


def test_asking_twice_to_leave_or_to_stay_changes_nothing():
    world = cluster(sessions=0)
    for _ in range(2):
        world.machine("node1").begin_drain(world.now)
    world.settle()
    for _ in range(2):
        assert world.machine("node1").abort_drain(world.now)
    world.settle()
    events = [event for event, _ in world.processes["node1"].events if event.startswith("node.drain")]
    assert events == ["node.draining", "node.drain_aborted"]


def test_a_copy_that_no_node_could_take_moves_when_the_link_to_one_is_back():
    # Found by the simulator: the link was broken for a moment just when the drain was announced.
    world = World.with_session(3)
    backup = world.backup()
    (other,) = world.strangers()
    machine, leaving = world.machine("node1"), world.machine(backup)
    machine.link_closed(world.machine(other).life, world.now)
    leaving.begin_drain(world.now)
    machine.membership.status_told(leaving.life, leaving.status(), world.now)
    machine.tick(machine.next_deadline())
    assert world.listed() == [backup]
    world.reset("node1", other)
    world.run(1.0)
    assert world.where() == {"node1": "P", other: "B"}


def test_a_node_whose_link_to_the_only_other_one_is_being_made_anew_has_somebody_to_wait_for():
    world = World.of(2)
    world.create("node1", n=b"1")
    world.run(0.5)
    machine, other = world.machine("node1"), world.machine("node2").life
    del world.links[frozenset({machine.life, other})]
    machine.link_closed(other, world.now)  # the dial is an effect that has not been carried out
    machine.begin_drain(world.now, for_good=True)
    assert not machine.drained
    world.machine("node2").link_closed(machine.life, world.now)
    world.run(2.0)
    assert world.primaries() == ["node2"]
    assert machine.drained


def test_a_last_node_with_a_store_waits_for_what_it_takes_over_from_a_node_that_has_just_died():
    world = World.of(2, Options(store_kind="shared", store_write="behind"))
    world.create("node1", n=b"1")
    world.run(0.5)
    world.holds_store = True
    world.commit("node1", n=b"2")
    world.kill("node1")  # what it had asked of the store died with it
    world.let_store_go()
    world.run(0.2)
    machine = world.machine("node2")
    machine.begin_drain(world.now, for_good=True)
    world.settle()
    assert not machine.drained
    world.run(5.0)
    assert machine.drained
    assert world.shared_shelf.value(KEY, "n") == b"2"
