"""Asking every member for a session is done at a bounded rate; what users wait for comes first."""

from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.options import LOOKUPS_LIMITED_LOG_S, Options
from sessiond.core.throttle import TokenBucket
from sessiond.core.turns import Turns
from sessiond.errors import Unavailable
from tests.core.world import World

RATE = 10


def key(number: int) -> bytes:
    return number.to_bytes(2) + bytes(14)


def cluster(options: Options) -> World:
    world = World.of(3, options)
    world.processes["node1"].sent.clear()
    return world


def asked(world: World, name: str = "node1") -> int:
    """Rounds of WHO that a node has begun."""
    return sum(type(sent) is m.Who for sent in world.processes[name].sent)


# --- the bucket ---------------------------------------------------------------------------------------------


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate():
    bucket = TokenBucket(10.0, 5.0, 100.0)
    assert [bucket.take(100.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.next_at(100.0) == 100.1
    assert not bucket.take(100.09)
    assert bucket.take(100.1)
    assert sum(bucket.take(200.0) for _ in range(10)) == 5


def test_what_is_taken_beyond_the_last_token_is_owed():
    bucket = TokenBucket(10.0, 5.0, 0.0)
    assert bucket.take(0.0, 15.0)
    assert not bucket.take(1.0)
    assert bucket.next_at(1.0) == 1.1
    assert bucket.take(1.1)


def test_requests_come_before_repairs_which_leave_them_a_part_of_the_burst():
    turns = Turns(100, 0.0)  # a burst of ten
    begun = [turns.take(key(number), 0.0, wanted=False) for number in range(10)]
    assert begun == [True] * 5 + [False] * 5
    assert [turns.take(key(100 + number), 0.0, wanted=True) for number in range(6)] == [True] * 5 + [False]
    assert turns.next(0.0) is None
    assert turns.next(0.01) == key(105)


def test_a_repair_that_a_request_begins_to_wait_for_is_a_request():
    turns = Turns(10, 0.0)
    assert turns.take(key(0), 0.0, wanted=True)
    assert not turns.take(key(1), 0.0, wanted=False)
    assert not turns.take(key(2), 0.0, wanted=False)
    assert not turns.take(key(2), 0.0, wanted=True)
    assert len(turns) == 2
    assert [turns.next(0.1), turns.next(0.1), turns.next(0.2), turns.next(0.3)] == [
        key(2),
        None,
        key(1),
        None,
    ]


def test_who_waits_no_more_takes_no_turn():
    turns = Turns(10, 0.0)
    turns.take(key(0), 0.0, wanted=True)
    turns.take(key(1), 0.0, wanted=True)
    turns.leave(key(1))
    assert key(1) not in turns
    assert turns.next_deadline(0.0) is None
    assert turns.next(1.0) is None


# --- in a cluster -------------------------------------------------------------------------------------------


def test_rounds_are_asked_at_the_rate_and_requests_beyond_it_get_their_turn():
    world = cluster(Options(lookup_rate_max=RATE))
    operations = [world.ask("node1", "open", key(number), may_refer=False) for number in range(20)]
    assert asked(world) == 1
    world.run(1.01)
    assert asked(world) == 1 + RATE
    world.run(1.0)
    assert asked(world) == 20
    assert [world.outcome("node1", operation) for operation in operations] == [None] * 20
    assert world.machine("node1").stats.lookups_refused == 0


def test_a_request_whose_turn_does_not_come_in_time_is_refused_and_nothing_is_left_of_it():
    world = cluster(Options(lookup_rate_max=RATE, request_wait_s=1.0))
    operations = [world.ask("node1", "open", key(number), may_refer=False) for number in range(40)]
    world.run(1.2)
    outcomes = [world.outcome("node1", operation) for operation in operations]
    refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
    assert outcomes.count(None) + len(refused) == 40
    assert "lookup_rate_max" in str(refused[0])
    assert world.machine("node1").stats.lookups_refused == len(refused) >= 25
    world.run(1.0)
    assert world.machine("node1").lookup.is_idle
    assert asked(world) <= 2 * RATE


def test_that_look_ups_wait_is_logged_now_and_then_not_for_each():
    world = cluster(Options(lookup_rate_max=RATE))
    for number in range(10):
        world.ask("node1", "open", key(number), may_refer=False)
    assert len(world.logged("node1", "lookup.rate_limited")) == 1
    world.run(LOOKUPS_LIMITED_LOG_S)
    for number in range(20, 30):
        world.ask("node1", "open", key(number), may_refer=False)
    (first, second) = world.logged("node1", "lookup.rate_limited")
    assert first["rate_max"] == second["rate_max"] == RATE


def test_a_session_that_turns_up_while_its_request_waits_is_served_without_a_round():
    world = cluster(Options(lookup_rate_max=1))
    world.open("node1", key(1))
    world.create("node2", key(2))
    world.machine("node1").drop_copy(key(2))
    location = world.machine("node1").directory.get(key(2)) or world.machine("node2").copies[key(2)].location
    world.machine("node1").directory.forget(key(2))
    operation = world.ask("node1", "open", key(2), may_refer=False)
    assert world.outcome("node1", operation) == "pending"
    world.machine("node1").locating.learn([(key(2), location)])
    world.run(0.5)
    assert isinstance(world.outcome("node1", operation), Checkout)
    assert asked(world) == 1


def test_many_copies_in_doubt_are_validated_at_the_rate_and_a_request_is_not_behind_them():
    world = World(Options(lookup_rate_max=100))
    world.boot("node1", "node2", "node3")
    world.run(1.0)
    for number in range(100):
        world.create("node1", key(number))
    world.run(0.1)
    machine = world.machine("node1")
    machine.rejoin(machine.life.incarnation, "test")
    world.run(0.3)
    assert machine.copies.counts["Q"] > 40
    operation = world.ask("node1", "open", b"\xff" * 16, may_refer=False)
    world.run(0.05)
    assert world.outcome("node1", operation) is None
    world.run(3.0)
    assert machine.copies.counts["Q"] == 0
