"""Sessions put away in the store: when memory is short, and when a node leaves and nobody can take them."""

from dataclasses import replace

from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.options import Options
from sessiond.core.resting import IDLE_MIN_S
from sessiond.core.types import Location
from tests.core.world import World

SMALL = Options(store_kind="shared", memory_bytes_max=100_000, session_bytes_max=50_000)
ALONE = replace(SMALL, copies=0)


def key(number: int) -> bytes:
    return number.to_bytes(16)


SESSIONS = 16
COLD = 8
"""The first ones, used long before the others."""


def value(number: int) -> bytes:
    return b"%d" % number * 2000


def filled(nodes: int, options: Options) -> World:
    """A cluster whose node1 has sessions that fill some 80 % of its memory, the first one idle longest."""
    world = World.of(nodes, options)
    for number in range(1, SESSIONS + 1):
        world.create("node1", key(number), n=value(number))
        if number == COLD:
            world.run(20.0)  # classes of idle time are coarse
    world.run(IDLE_MIN_S)
    return world


def held(world: World, name: str = "node1") -> set[int]:
    return {int.from_bytes(copy.key) for copy in world.machine(name).copies.values()}


def settled_read(world: World, name: str, number: int) -> bytes | None:
    operation = world.ask(name, "open", key(number), may_refer=False)
    world.run(1.0)
    checkout = world.outcome(name, operation)
    assert isinstance(checkout, Checkout), checkout
    value = checkout.read("n")
    checkout.release()
    return value


def test_the_sessions_idle_longest_rest_in_the_store_when_memory_is_short():
    world = filled(1, ALONE)
    before = held(world)
    world.create("node1", key(100), n=b"x" * 28_000)  # above 90 %
    world.run(2.0)
    rested = before - held(world)
    assert 1 in rested
    assert rested <= set(range(1, COLD + 1))
    assert world.machine("node1").copies.bytes <= 0.85 * ALONE.memory_bytes_max
    assert world.machine("node1").stats.rested == len(rested)
    assert world.logged("node1", "memory.short")


def test_a_session_that_rests_comes_back_when_it_is_asked_for():
    world = filled(2, ALONE)
    world.create("node1", key(100), n=b"x" * 28_000)
    world.run(2.0)
    assert 1 not in held(world)
    assert settled_read(world, "node1", 1) == value(1)
    assert settled_read(world, "node2", 2) == value(2)


def test_backups_of_a_session_that_rests_are_released_and_nobody_says_where_it_lives():
    world = filled(3, SMALL)
    world.create("node1", key(100), n=b"x" * 28_000)
    world.run(2.0)
    assert world.machine("node1").stats.rested > 0
    rested = set(range(1, SESSIONS + 1)) - held(world)
    for name, process in world.processes.items():
        assert not rested & held(world, name)
        assert all(process.machine.directory.get(key(number)) is None for number in rested)
    assert settled_read(world, "node3", min(rested)) == value(min(rested))


def test_a_session_that_rests_survives_the_death_of_its_node():
    world = filled(2, ALONE)
    world.create("node1", key(100), n=b"x" * 28_000)
    world.run(2.0)
    world.kill("node1")
    assert settled_read(world, "node2", 1) == value(1)


def test_a_request_calls_the_putting_away_off():
    world = World.of(2, Options(store_kind="shared"))
    world.create("node1", key(1), n=b"1")
    world.run(1.0)
    machine = world.machine("node1")
    world.hold(m.Release)
    machine.storing.resting.begin(machine.copies[key(1)])
    world.settle()
    operation = world.ask("node1", "commit", key(1), {"n": b"2"}, None)
    world.let_go()
    world.run(1.0)
    assert world.outcome("node1", operation).protected
    assert sorted(world.where(key(1)).values()) == ["B", "P"]
    assert machine.copies[key(1)].leads.resting is None


def test_nothing_rests_that_the_store_does_not_have():
    world = filled(1, ALONE)
    world.shared_shelf.is_failing = True
    for number in held(world):
        world.commit("node1", key(number), n=b"n" * 4500)
    world.run(IDLE_MIN_S + 2.0)
    assert world.machine("node1").stats.rested == 0
    world.shared_shelf.is_failing = False
    world.run(10.0)
    assert world.machine("node1").stats.rested > 0


def test_an_entry_of_a_session_that_rests_is_denied_by_its_owner():
    # node2 missed the message, and brings the entry back.
    world = World.of(3, ALONE)
    world.create("node1", key(1), n=b"1")
    world.run(1.0)
    machine = world.machine("node1")
    location = Location(machine.copies[key(1)].term, machine.copies[key(1)].seq, ())
    world.hold(m.Denied, to="node2")
    machine.storing.resting.begin(machine.copies[key(1)])
    world.run(0.1)
    world.held = []
    assert world.machine("node2").directory.get(key(1)) == location
    world.reset("node1", "node2")  # what was held is lost
    world.run(30.0)
    assert [p.machine.directory.get(key(1)) for p in world.processes.values()] == [None, None, None]


def test_a_session_that_rests_expires_with_its_record():
    world = filled(1, replace(ALONE, idle_timeout_s=60.0))
    world.create("node1", key(100), n=b"x" * 28_000)
    world.run(2.0)
    assert 1 not in held(world)
    world.run(90.0)
    assert world.open("node1", key(1)) is None


# --- leaving ------------------------------------------------------------------------------------------------


def test_a_node_that_leaves_puts_away_what_nobody_can_take_and_others_go_on_with_it():
    world = World.of(2, ALONE)
    for number in range(1, 20):
        world.create("node1", key(number), n=b"%d" % number)
    world.machine("node1").begin_drain(world.now)
    world.run(2.0)
    assert world.machine("node1").drain_view().safe_to_stop
    assert settled_read(world, "node2", 7) == b"7"


def test_the_last_node_leaves_every_session_to_the_store():
    world = World.of(1, replace(ALONE, store_kind="own"))
    world.create("node1", key(1), n=b"1")
    world.machine("node1").begin_drain(world.now)
    world.run(1.0)
    assert world.machine("node1").drain_view().safe_to_stop
    world.kill("node1")
    world.boot("node1")
    world.run(1.0)
    assert settled_read(world, "node1", 1) == b"1"


def test_a_node_whose_store_is_down_is_not_safe_to_stop_and_says_why():
    world = World.of(1, ALONE)
    world.shared_shelf.is_failing = True
    world.create("node1", key(1), n=b"1")
    world.machine("node1").begin_drain(world.now)
    world.run(1.0)
    view = world.machine("node1").drain_view()
    assert not view.safe_to_stop
    assert "the shelf fails" in view.hindrance
    assert not world.machine("node1").drained


def test_an_own_store_keeps_sessions_for_others_only_in_memory():
    # node2 could not read what rests on node1's disk once node1 is gone: it gets the sessions themselves.
    world = World.of(2, replace(SMALL, store_kind="own"))
    world.create("node1", key(1), n=b"1")
    world.run(0.5)
    world.machine("node1").begin_drain(world.now)
    world.run(2.0)
    assert world.primaries(key(1)) == ["node2"]


def test_memory_alone_does_not_put_sessions_into_a_store_of_the_node_s_own():
    # Others cannot read it when the node is gone: they would say that there is no such session.
    world = filled(3, replace(SMALL, store_kind="own"))
    before = held(world)
    world.create("node1", key(100), n=b"x" * 28_000)
    world.run(2.0)
    assert before <= held(world)
    world.kill("node1")
    world.run(3.0)
    assert settled_read(world, "node2", 1) == value(1)


def test_a_backup_is_not_released_before_the_store_has_what_it_acked():
    world = filled(3, SMALL)
    world.shared_shelf.is_failing = True
    for number in range(1, SESSIONS + 1):
        world.ask("node1", "commit", key(number), {"acked": b"1"}, None)
    world.run(2 * IDLE_MIN_S)
    world.create("node1", key(100), n=b"x" * 28_000)
    world.run(1.0)
    world.shared_shelf.is_failing = False
    world.machine("node1").storing.answers()  # it is up again, and behind
    world.holds_store = True
    world.run(2.0)
    for number in range(1, SESSIONS + 1):
        assert "B" in world.where(key(number)).values()
        assert world.shared_shelf.value(key(number), "acked") is None


def test_a_session_chosen_to_rest_while_the_lease_is_lost_rests_when_it_is_back():
    world = World.of(3, replace(ALONE, quorum="majority", expect=3))
    world.run(2.0)
    world.create("node1", key(1), n=b"1")
    world.run(0.5)
    world.part("node1", "node2 node3")
    world.run(1.1)
    assert not world.machine("node1").lease.is_held()
    world.machine("node1").begin_drain(world.now)
    world.run(0.2)
    world.heal()
    world.run(2.0)
    assert world.machine("node1").stats.rejoins == 0
    assert world.machine("node1").drain_view().safe_to_stop
