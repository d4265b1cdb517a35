"""Terms: each has one owner, is above all that came before, and is granted again if it was lost."""

import pytest

from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.copies import Role
from sessiond.core.options import Options
from sessiond.core.types import Life, Term
from tests.core.world import KEY, World

LATE = Options(reprotect_delay_s=60.0)
"""Nothing happens without a request."""


def cluster(options: Options = LATE) -> World:
    """Four nodes whose session has node1 as its primary."""
    return World.with_session(4, options)


@pytest.fixture
def world() -> World:
    return cluster()


def test_a_lost_grant_is_repeated_with_the_same_term_after_fencing_again():
    world = cluster(options=Options(copies=2, reprotect_delay_s=60.0))
    first, _second = world.listed()
    (asker,) = world.strangers()
    world.kill("node1")
    world.hold(m.Grant)
    operation = world.ask(asker, "open", KEY, may_refer=False)
    granted = world.term(first)
    world.processes[first].sent.clear()
    world.held = []
    world.reset(first, asker)  # the grant is lost with the link
    world.run(0.3)
    checkout = world.outcome(asker, operation)
    assert isinstance(checkout, Checkout)
    assert world.term(asker) == granted
    kinds = [type(sent) for sent in world.processes[first].sent if type(sent) in (m.Put, m.Grant)]
    assert kinds[:2] == [m.Put, m.Grant]


def test_a_granted_list_may_name_somebody_whom_the_new_primary_has_not_heard_of_yet():
    world = cluster(Options(location="query"))
    granter, machine = world.machine("node1"), world.machine(world.strangers()[0])
    copy, newcomer = granter.copies[KEY], Life("node9", 1)
    term = copy.term._replace(epoch=7, owner=machine.life)
    machine.receive(
        granter.life, m.Grant(KEY, term, (granter.life, newcomer), copy.data(world.now)), world.now
    )
    machine.check_invariants()
    granted = machine.copies[KEY]
    assert (granted.role, granted.backups) == (Role.PRIMARY, (granter.life, newcomer))
    assert machine.candidates.best_of(KEY, granted.backups)[1:], "either may be the one to keep"


def test_a_grant_that_was_lost_is_fetched_even_if_nobody_asks_for_the_session_any_more():
    world = cluster()
    (holder,) = world.listed()
    asker = world.strangers()[0]
    world.kill("node1")
    world.hold(m.Grant)
    world.ask(asker, "open", KEY, may_refer=False)
    lookups = world.machine(asker).lookup
    lookups._requests.clear()
    lookups._lookups.clear()
    world.held = []
    world.reset(holder, asker)
    world.run(0.2)
    assert world.where() == {holder: "B", asker: "P"}


def test_a_grant_goes_above_the_highest_epoch_that_the_asker_knows():
    # The directory of the asker may know a term that the arbiter has never heard of.
    world = cluster()
    (holder,) = world.listed()
    asker = world.strangers()[0]
    life = world.machine("node1").life
    machine = world.machine(asker)
    location = machine.directory.get(KEY)
    machine.directory.merge(KEY, location._replace(term=Term(9, life)), world.now)
    world.kill("node1")
    assert world.read(asker) == b"1"
    assert world.term(asker) == Term(10, machine.life)
    assert world.machine(holder).copies[KEY].term == Term(10, machine.life)


def test_a_grant_below_what_the_asker_knows_is_not_installed_but_answered_with_the_floor():
    # Protocol 8: a lost grant of a high epoch outranking a later activated one.
    world = cluster()
    (holder,) = world.listed()
    asker = world.strangers()[0]
    world.kill("node1")
    world.hold(m.Grant)
    world.ask(asker, "open", KEY, may_refer=False)
    machine = world.machine(asker)
    location = machine.directory.get(KEY)
    dead = location.term.owner
    machine.directory.merge(KEY, location._replace(term=Term(20, dead)), world.now)
    world.let_go()
    world.run(0.3)
    assert world.term(asker) == Term(21, machine.life)
    assert world.term(holder) == Term(21, machine.life)


def test_a_grant_that_comes_twice_is_installed_once(world):
    (holder,) = world.listed()
    asker = world.strangers()[0]
    world.kill("node1")
    world.open(asker).release()
    world.commit(asker, n=b"2")
    grant = next(sent for sent in world.processes[holder].sent if type(sent) is m.Grant)
    machine = world.machine(asker)
    copy = machine.copies[KEY]
    machine.receive(world.machine(holder).life, grant, world.now)
    machine.check_invariants()
    assert machine.copies[KEY] is copy
    assert (copy.version, copy.read("n")) == (2, b"2")


def test_a_grant_for_another_life_or_a_resigned_term_is_not_installed(world):
    (holder,) = world.listed()
    asker, other = world.strangers()
    world.kill("node1")
    world.open(asker).release()
    grant = next(sent for sent in world.processes[holder].sent if type(sent) is m.Grant)
    machine = world.machine(other)
    machine.receive(world.machine(holder).life, grant, world.now)
    assert KEY not in machine.copies
    mine = grant._replace(term=Term(7, machine.life))
    machine.takeover.resign(world.machine(holder).life, KEY, mine.term)
    machine.receive(world.machine(holder).life, mine, world.now)
    assert KEY not in machine.copies


def claimed(world: World, node: str, by: str, floor: Term | None) -> None:
    asker = world.machine(by).life
    world.machine(node).receive(asker, m.Claim(KEY, asker, None, floor, 1, None), world.now)
    world.settle()


def test_the_epoch_of_a_grant_is_above_the_floor_of_a_claim(world):
    (holder,) = world.listed()
    asker = world.strangers()[0]
    dead = world.machine("node1").life
    world.kill("node1")
    claimed(world, holder, asker, Term(9, dead))
    assert world.term(asker) == Term(10, world.machine(asker).life)


def test_the_epoch_of_a_grant_is_above_what_the_granter_s_directory_knows(world):
    (holder,) = world.listed()
    asker = world.strangers()[0]
    directory = world.machine(holder).directory
    known = directory.get(KEY)
    world.kill("node1")
    directory.merge(KEY, known._replace(term=Term(9, known.term.owner)), world.now)
    world.machine(asker).directory.forget(KEY)
    claimed(world, holder, asker, None)
    assert world.term(asker) == Term(10, world.machine(asker).life)


def test_a_holder_that_is_not_the_arbiter_grants_nothing():
    world = cluster(options=Options(copies=2, reprotect_delay_s=60.0))
    first, second = world.listed()
    (asker,) = world.strangers()
    world.kill("node1")
    world.hold(m.Claim, to=first)
    claimed(world, second, asker, None)
    world.run(0.1)
    assert world.machine(second).stats.grants == 0
    assert world.primaries() == []


def test_fencing_for_a_grant_does_not_teach_a_location_that_is_not_active_yet():
    world = cluster(options=Options(copies=2, reprotect_delay_s=60.0))
    _, second = world.listed()
    (asker,) = world.strangers()
    known = world.machine(second).directory.get(KEY)
    world.kill("node1")
    world.hold(m.Grant)
    world.ask(asker, "open", KEY, may_refer=False)
    assert world.term(second).epoch == 2
    assert world.machine(second).directory.get(KEY) == known


def test_an_end_that_only_the_new_primary_has_heard_of_is_final_when_the_holders_have_it():
    # It began that end in its former life, and gets the session back from holders that never heard of it.
    world = World.with_session(3, Options(reprotect_delay_s=2.0))
    backup = world.backup()
    world.hold(m.Put, by="node1", to=backup)
    world.ask("node1", "invalidate", KEY)
    world.stop("node1")
    world.run(Options().silence_timeout_s + 0.6)
    assert world.machine(backup).membership.is_dead(world.machine("node1").life)
    operation = world.ask("node1", "open", KEY, may_refer=False)
    world.held = []
    world.hold(m.Put, m.Patch, by="node1")
    world.resume("node1")
    world.run(1.0)
    assert world.where() == {"node1": "P", backup: "B"}
    assert not world.machine(backup).copies[KEY].tombstone
    assert world.outcome("node1", operation) == "pending"
    world.let_go()
    world.run(1.0)
    assert world.outcome("node1", operation) is None
    assert world.where() == {}


def test_a_fencing_copy_that_comes_late_does_not_take_an_active_list_back():
    # The next holders of that list would wait for each other when the primary dies.
    world = World.of(5, Options(copies=2, rebalance_after_s=1000.0))
    world.create("node1", n=b"1")
    world.run(0.5)
    first, second = world.listed()
    primary, newcomer = world.strangers()
    world.hold(m.Grant, by=first, to=primary)
    world.kill("node1")
    world.ask(primary, "open", KEY, may_refer=False)
    world.hold(m.Put, by=first, to=second)  # of the second round of fencing, for the grant is repeated
    world.run(0.3)
    world.let_go(m.Grant)
    world.run(0.3)
    for leaving in (first, newcomer):
        world.machine(leaving).begin_drain(world.now)
        world.run(0.6)
        world.machine(leaving).abort_drain(world.now)
        world.run(0.4)
    listed = world.listed()
    world.let_go()
    world.run(1.0)
    assert [life.name for life in world.machine(second).copies[KEY].backups] == listed
    world.kill(primary)
    world.run(5.0)
    assert len(world.primaries()) == 1
