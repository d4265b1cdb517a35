"""Sessions that no node has in memory: who reads the store, who becomes primary, and what is said meanwhile."""

from dataclasses import replace

import pytest

from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.options import LOOKUP_ROUND_S, Options
from sessiond.core.stored import Trouble
from sessiond.core.storing import StoreState
from sessiond.errors import Unavailable
from tests.core.world import KEY, World

ALONE = Options(copies=0, store_kind="shared")
BACKED = Options(store_kind="shared")
OWN = Options(copies=0, store_kind="own")


def restart(world: World, *names: str) -> None:
    """All processes die at once, and are started anew."""
    names = names or tuple(world.processes)
    for name in list(world.processes):
        world.kill(name)
    world.boot(*names)
    world.run(1.0)


def read(world: World, name: str, attribute: str = "n") -> bytes | None:
    """What a user sees who waits for it."""
    operation = world.ask(name, "open", KEY, may_refer=False)
    world.run(1.0)
    checkout = world.outcome(name, operation)
    assert isinstance(checkout, Checkout), checkout
    value = checkout.read(attribute)
    checkout.release()
    world.settle()
    return value


@pytest.mark.parametrize("options", [ALONE, BACKED, OWN, replace(BACKED, location="query")])
@pytest.mark.parametrize("asked", ["node1", "node3"])
def test_a_cluster_that_was_killed_comes_back_with_its_sessions_wherever_they_are_asked_for(options, asked):
    world = World.with_session(3, options)
    world.commit("node1", n=b"2")
    restart(world)
    assert read(world, asked) == b"2"
    assert len(world.primaries()) == 1
    world.commit(world.primaries()[0], n=b"3")
    restart(world)
    assert read(world, "node2") == b"3"


def test_a_single_node_restarts_with_its_sessions():
    world = World.with_session(1, OWN)
    restart(world)
    assert world.read("node1") == b"1"


def test_any_node_loads_a_session_whose_primary_and_backup_died_together():
    world = World.with_session(4, BACKED)
    for name in list(world.where()):
        world.kill(name)
    stranger = min(world.processes)
    assert world.read(stranger) == b"1"
    world.run(0.5)
    assert sorted(world.where().values()) == ["B", "P"]


def test_without_backups_a_session_goes_on_at_another_node_when_its_own_dies():
    world = World.with_session(3, ALONE)
    world.kill("node1")
    assert world.read("node2") == b"1"
    assert world.primaries() == ["node2"]


def test_nothing_is_gone_before_the_store_has_said_so():
    world = World.of(2, ALONE)
    world.holds_store = True
    operation = world.ask("node1", "open", KEY, may_refer=False)
    assert world.outcome("node1", operation) == "pending"
    world.let_store_go()
    assert world.outcome("node1", operation) is None


def test_a_session_that_ended_stays_ended_after_a_restart():
    world = World.with_session(2, BACKED)
    assert world.outcome("node1", world.ask("node1", "invalidate", KEY)) is None
    restart(world)
    assert world.open("node2") is None


@pytest.mark.parametrize("options", [ALONE, BACKED])
def test_two_nodes_that_load_one_session_at_once_have_one_winner(options):
    world = World.with_session(3, options)
    restart(world)
    world.holds_store = True
    asked = {name: world.ask(name, "open", KEY, may_refer=False) for name in ("node1", "node2", "node3")}
    world.let_store_go()
    world.run(5.0)
    assert len(world.primaries()) == 1
    for name, operation in asked.items():
        checkout = world.outcome(name, operation)
        assert isinstance(checkout, Checkout)
        checkout.release()


@pytest.mark.parametrize("late", ["node2", "node3"])
def test_who_reads_a_session_while_another_one_decides_without_it_waits_for_that(late):
    # The first one has heard from everybody but one that nobody has it; the late one has read it meanwhile.
    world = World.with_session(4, ALONE)
    restart(world)
    first = "node1" if late == "node3" else "node3"
    world.ask(first, "open", KEY, may_refer=False)  # reads, and asks everybody once more
    world.machine(first).drop_copy(KEY)
    world.kill(first)
    world.boot(first)
    world.run(1.0)
    for process in world.processes.values():
        process.machine.directory.forget(KEY)
    world.holds_store = True
    one = world.ask(first, "open", KEY, may_refer=False)
    world.hold(m.Here, by="node4", to=first)
    world.let_store_go()
    assert world.where() == {first: "Q"}
    other = world.ask(late, "open", KEY, may_refer=False)
    assert world.where() == {first: "Q", late: "Q"}
    world.let_go()
    world.run(4.0)
    assert len(world.primaries()) == 1
    takeovers = sum(process.machine.stats.takeovers for process in world.processes.values())
    handoffs = sum(process.machine.stats.handoffs for process in world.processes.values())
    assert takeovers == handoffs + 1  # the session was activated once, then handed on
    assert {type(world.outcome(first, one)), type(world.outcome(late, other))} == {Checkout}


def test_a_copy_in_doubt_is_not_believed_before_the_store_has_been_read():
    world = World.with_session(3, BACKED)
    holder = world.backup()
    machine = world.machine(holder)
    world.hold(m.Put, m.Patch, to=holder)
    machine.quarantine(machine.copies[KEY])
    world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    assert world.shared_shelf.value(KEY, "n") == b"2"
    world.kill("node1")
    assert world.read(holder) == b"2"


def test_a_newer_copy_in_memory_wins_over_what_is_stored():
    world = World.with_session(2, BACKED)
    world.shared_shelf.is_failing = True
    world.commit("node1", n=b"2")
    world.shared_shelf.is_failing = False
    machine = world.machine("node2")
    machine.quarantine(machine.copies[KEY])
    world.hold(m.Offer)
    world.kill("node1")
    world.run(6.0)
    assert world.read("node2") == b"2"


# --- a store that cannot be read -------------------------------------------------------------------------


def test_a_store_that_is_down_makes_a_session_unavailable_and_never_gone():
    world = World.with_session(2, ALONE)
    restart(world)
    world.shared_shelf.is_failing = True
    outcome = world.open("node2")
    assert isinstance(outcome, Unavailable)
    assert "the shelf fails" in str(outcome)
    assert world.machine("node2").storing.state is StoreState.DOWN
    reads = world.shared_shelf.reads
    for _ in range(50):
        assert isinstance(world.open("node2"), Unavailable)
    assert world.shared_shelf.reads == reads
    world.shared_shelf.is_failing = False
    world.run(6.0)
    assert world.read("node2") == b"1"


def test_another_nodes_own_store_that_cannot_be_read_makes_a_session_unavailable():
    world = World.with_session(2, OWN)
    restart(world)
    world.shelf("node1").is_failing = True
    outcome = world.open("node2")
    assert isinstance(outcome, Unavailable)
    assert "node1" in str(outcome)


def test_a_damaged_record_is_reported_and_its_visitor_gets_a_new_session():
    world = World.with_session(1, ALONE)
    restart(world)
    world.shared_shelf.unreadable[KEY] = Trouble.DAMAGED
    assert world.open("node1") is None
    assert world.logged("node1", "store.record_damaged")[0]["key"] == KEY.hex()
    assert world.machine("node1").stats.records_unreadable == 1
    assert KEY in world.shared_shelf.records


def test_a_record_of_a_newer_release_is_left_alone_and_its_visitor_asked_to_try_again():
    world = World.with_session(1, ALONE)
    restart(world)
    world.shared_shelf.unreadable[KEY] = Trouble.NEWER
    outcome = world.open("node1")
    assert isinstance(outcome, Unavailable)
    assert "newer release" in str(outcome)
    del world.shared_shelf.unreadable[KEY]
    assert world.read("node1") == b"1"


# --- stores of one node each ----------------------------------------------------------------------------------


def test_of_several_stores_the_newest_copy_wins_whoever_is_asked():
    world = World.with_session(3, OWN)
    assert world.read("node2") == b"1"  # handed over: node1's store keeps what it has
    world.run(0.2)
    world.commit("node2", n=b"2")
    assert world.shelf("node1").value(KEY, "n") == b"1"
    for asked in ("node1", "node3", "node2"):
        restart(world)
        assert read(world, asked) == b"2"


def test_an_end_in_one_store_counts_for_older_copies_in_others():
    world = World.with_session(2, OWN)
    assert world.read("node2") == b"1"
    world.run(0.2)
    assert world.outcome("node2", world.ask("node2", "invalidate", KEY)) is None
    restart(world)
    assert world.open("node1") is None


def test_a_member_that_is_asked_keeps_no_copy_of_what_it_finds():
    world = World.with_session(2, OWN)
    restart(world)
    world.hold(m.Claim)
    world.ask("node2", "open", KEY, may_refer=False)
    assert world.where() == {}
    world.let_go()
    world.run(1.0)
    assert world.read("node2") == b"1"


# --- under majority --------------------------------------------------------------------------------------


def test_under_majority_a_member_that_cannot_be_asked_still_makes_it_unavailable():
    options = replace(BACKED, quorum="majority", expect=3, request_wait_s=1.0)
    world = World.of(3, options)
    world.stop("node3")
    world.run(5.0)
    operation = world.ask("node1", "open", KEY, may_refer=False)
    world.run(2.0 + LOOKUP_ROUND_S)
    assert isinstance(world.outcome("node1", operation), Unavailable)
