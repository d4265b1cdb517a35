"""A session moves while its primary lives: nothing is lost, nobody waits for long, nothing ping-pongs."""

import pytest

from sessiond.backend import Committed, Elsewhere
from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.copies import Role
from sessiond.core.options import Options
from sessiond.core.types import Term
from sessiond.errors import SessionGone, Unavailable
from tests.core.world import KEY, World


def cluster(options: Options | None = None, nodes: int = 3) -> World:
    """Nodes whose session has node1 as its primary, for longer than the least tenure."""
    return World.with_session(nodes, options)


@pytest.fixture
def world() -> World:
    return cluster()


def stranger_of(world: World) -> str:
    (name,) = set(world.processes) - set(world.where())
    return name


def test_a_session_is_handed_from_a_live_primary_to_who_needs_it(world):
    asker = stranger_of(world)
    assert world.read(asker) == b"1"
    copy = world.machine(asker).copies[KEY]
    assert copy.role is Role.PRIMARY
    assert copy.term == Term(2, world.machine(asker).life)
    assert world.machine("node1").stats.handoffs == 1
    world.run(0.2)
    assert sorted(world.where().values()) == ["B", "P"]


def test_who_hands_a_session_off_stays_its_first_backup(world):
    world.read(stranger_of(world))
    world.run(0.2)
    assert world.where()["node1"] == "B"


def test_a_session_can_be_handed_to_its_own_backup(world):
    backup = world.backup()
    assert world.read(backup) == b"1"
    world.run(0.2)
    assert world.where() == {backup: "P", "node1": "B"}


def test_a_request_that_can_be_sent_elsewhere_is_sent_to_the_living_primary(world):
    for node in (world.backup(), stranger_of(world)):
        assert world.open(node, may_refer=True) == Elsewhere("node1")
    assert world.where()["node1"] == "P"
    assert isinstance(world.open("node1", may_refer=True), Checkout)


def test_of_two_requests_only_the_one_that_must_stay_moves_the_session(world):
    asker = stranger_of(world)
    world.hold(m.Claim)
    stays = world.ask(asker, "open", KEY, may_refer=False)
    goes = world.ask(asker, "open", KEY, may_refer=True)
    assert world.outcome(asker, goes) == Elsewhere("node1")
    assert world.outcome(asker, stays) == "pending"
    world.let_go()
    world.run(0.2)
    assert isinstance(world.outcome(asker, stays), Checkout)


def test_a_primary_keeps_a_session_for_its_least_tenure():
    world = cluster(Options(tenure_min_s=0.5))
    asker = stranger_of(world)
    world.run(0.5)
    world.read(asker)
    taken_at = world.now
    operation = world.ask("node1", "open", KEY, may_refer=False)
    world.run(0.4)
    assert world.outcome("node1", operation) == "pending"
    assert world.where()[asker] == "P"
    assert isinstance(world.open(asker), Checkout)  # meanwhile it is served where it is
    world.processes[asker].outcomes.popitem()[1].release()
    world.run(0.2)
    assert isinstance(world.outcome("node1", operation), Checkout)
    assert world.now - taken_at < 0.7


# --- requests in flight -----------------------------------------------------------------------------------


def test_requests_in_flight_delay_a_handoff(world):
    held = [world.open("node1"), world.open("node1")]
    asker = stranger_of(world)
    operation = world.ask(asker, "open", KEY, may_refer=False)
    for checkout in held:
        world.run(0.3)
        assert world.outcome(asker, operation) == "pending"
        assert world.commit("node1", n=b"2").protected  # what they write is part of what is handed over
        checkout.release()
    world.run(0.05)
    checkout = world.outcome(asker, operation)
    assert isinstance(checkout, Checkout)
    assert checkout.read("n") == b"2"


def test_a_request_in_flight_delays_a_handoff_for_so_long_and_no_longer():
    world = cluster(Options(handoff_wait_s=1.0))
    world.open("node1")  # and never released
    asker = stranger_of(world)
    operation = world.ask(asker, "open", KEY, may_refer=False)
    world.run(0.95)
    assert world.outcome(asker, operation) == "pending"
    world.run(0.2)
    assert isinstance(world.outcome(asker, operation), Checkout)


def test_no_new_request_gets_a_session_that_is_about_to_move(world):
    held = world.open("node1")
    asker = stranger_of(world)
    operation = world.ask(asker, "open", KEY, may_refer=False)
    late = world.ask("node1", "open", KEY, may_refer=False)
    assert world.outcome("node1", late) == "pending"
    assert world.machine("node1").try_open(KEY, world.now) is None
    held.release()
    world.run(0.05)
    world.outcome(asker, operation).release()
    world.run(0.5)
    assert isinstance(world.outcome("node1", late), Checkout)  # it came back for it


def test_releasing_a_checkout_twice_counts_once(world):
    one, other = world.open("node1"), world.open("node1")
    one.release()
    one.release()
    asker = stranger_of(world)
    operation = world.ask(asker, "open", KEY, may_refer=False)
    world.run(0.1)
    assert world.outcome(asker, operation) == "pending"
    other.release()
    world.run(0.1)
    assert world.where()["node1"] == "B"


# --- writes while it moves --------------------------------------------------------------------------------


def test_a_write_that_meets_the_end_of_a_handoff_follows_the_session_and_is_applied_once(world):
    asker = stranger_of(world)
    world.hold(m.Patch)
    first = world.ask("node1", "commit", KEY, {"a": b"1"}, None)
    operation = world.ask(asker, "open", KEY, may_refer=False)
    late = world.ask("node1", "commit", KEY, {"b": b"2"}, None)  # nothing in flight: frozen
    assert world.outcome("node1", late) == "pending"
    world.let_go()  # no time passes
    assert world.outcome("node1", first) == Committed(2, protected=True)
    assert world.outcome("node1", late) == Committed(3, protected=True)
    checkout = world.outcome(asker, operation)
    assert (checkout.read("a"), checkout.read("b")) == (b"1", b"2")


@pytest.mark.parametrize("verb", ["commit", "invalidate"])
def test_a_write_that_waits_for_a_handoff_goes_on_when_the_handoff_is_called_off(verb):
    # The node that wanted the session dies: nobody else would ever answer this write.
    world = cluster()
    asker = stranger_of(world)
    world.hold(m.Patch)
    world.ask("node1", "commit", KEY, {"a": b"1"}, None)
    world.ask(asker, "open", KEY, may_refer=False)
    args = (KEY, {"b": b"2"}, None) if verb == "commit" else (KEY,)
    late = world.ask("node1", verb, *args)
    assert world.outcome("node1", late) == "pending"
    copy = world.machine("node1").copies[KEY]
    assert (copy.version, copy.tombstone) == (2, False)  # or writes could keep a session from moving for ever
    world.kill(asker)
    world.let_go()
    world.run(1.0)
    assert world.outcome("node1", late) == (Committed(3, protected=True) if verb == "commit" else None)


def test_a_write_that_waits_for_a_handoff_is_answered_when_its_node_loses_the_session(world):
    asker = stranger_of(world)
    world.hold(m.Patch)
    world.ask("node1", "commit", KEY, {"a": b"1"}, None)
    world.ask(asker, "open", KEY, may_refer=False)
    late = world.ask("node1", "commit", KEY, {"b": b"2"}, None)
    machine = world.machine("node1")
    machine.rejoin(machine.life.incarnation, "test")
    world.let_go()
    world.run(world.options.request_wait_s + 1.0)
    assert isinstance(world.outcome("node1", late), Unavailable | Committed)


def test_a_handoff_waits_until_everything_written_is_applied(world):
    asker = stranger_of(world)
    world.hold(m.Patch)
    write = world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    operation = world.ask(asker, "open", KEY, may_refer=False)
    world.run(0.2)
    assert world.outcome(asker, operation) == "pending"
    world.let_go()
    world.run(0.1)
    assert world.outcome("node1", write) == Committed(2, protected=True)
    assert world.outcome(asker, operation).read("n") == b"2"


def test_a_handoff_to_a_node_that_dies_is_called_off_and_waiting_requests_are_served(world):
    held = world.open("node1")
    asker = stranger_of(world)
    world.ask(asker, "open", KEY, may_refer=False)
    late = world.ask("node1", "open", KEY, may_refer=False)
    world.run(0.1)
    world.kill(asker)
    assert isinstance(world.outcome("node1", late), Checkout)
    assert world.where()["node1"] == "P"
    held.release()


def test_a_primary_that_dies_after_granting_leaves_the_session_with_the_new_one(world):
    asker, backup = stranger_of(world), world.backup()
    world.hold(m.Grant)
    operation = world.ask(asker, "open", KEY, may_refer=False)
    world.kill("node1")  # the grant dies with it; the other holder was fenced, and repeats it
    world.held = []
    world.run(1.0)
    assert isinstance(world.outcome(asker, operation), Checkout)
    assert world.machine(asker).copies[KEY].read("n") == b"1"
    assert world.where() == {asker: "P", backup: "B"}


def test_a_session_that_ends_while_it_is_to_move_is_gone_for_who_asked(world):
    asker = stranger_of(world)
    held = world.open("node1")
    operation = world.ask(asker, "open", KEY, may_refer=False)
    ending = world.ask("node1", "invalidate", KEY)
    held.release()
    world.run(0.2)
    assert world.outcome("node1", ending) is None
    assert world.outcome(asker, operation) is None
    assert isinstance(world.commit("node1", n=b"2"), SessionGone)


def test_a_second_asker_gets_the_session_after_the_first():
    # Neither starves: with two backups the second asker is itself a holder, and is fenced meanwhile.
    world = cluster(Options(copies=2, request_wait_s=4.0), nodes=4)
    asker = stranger_of(world)
    holder = next(name for name, role in world.where().items() if role == "B")
    held = world.open("node1")
    operations = {node: world.ask(node, "open", KEY, may_refer=False) for node in (asker, holder)}
    world.run(1.0)  # longer than claims are repeated without asking everybody
    held.release()
    world.run(0.1)
    world.outcome(asker, operations[asker]).release()
    world.run(0.5)
    assert isinstance(world.outcome(holder, operations[holder]), Checkout)


def test_a_request_that_ends_when_its_node_has_just_stood_still_begins_no_grant():
    # Somebody else may have granted that very term meanwhile; the standstill shows at the next verb.
    world = cluster(Options(quorum="majority", expect=3, handoff_wait_s=30.0, request_wait_s=60.0))
    world.run(3.0)
    world.create("node1", n=b"1")
    world.run(0.5)
    checkout = world.open("node1")
    assert isinstance(checkout, Checkout)
    world.ask(stranger_of(world), "open", KEY, may_refer=False)
    world.run(1.0)
    machine = world.machine("node1")
    assert machine.copies[KEY].leads.handoff is not None
    world.stop("node1")
    world.run(8.0)
    world.processes["node1"].stopped = False
    checkout.release()
    assert machine.stats.grants == 0
    world.run(3.0)
    assert machine.stats.stalls == 1
    assert machine.stats.grants == 0
