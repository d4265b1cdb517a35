"""Directories that differ come to the same contents by comparing digests, at a bounded cost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.core import messages as m
from sessiond.core.directory import BUCKETS, Directory, bucket_of
from sessiond.core.effects import Send
from sessiond.core.options import DIGEST_INTERVAL_S, Options
from sessiond.core.repair import STEP_ENTRIES, STEP_S
from sessiond.core.types import Key, Life, Location, Term
from tests.core.world import KEY, World

OWNER = Life("gone", 1)
TTL_S = Options().tombstone_ttl_s

keys = st.integers(0, 40).map(lambda number: (number * 0x0401).to_bytes(2) + bytes(14))
"""Some alone in their bucket, some beside others."""

locations = st.builds(
    lambda epoch, seq, gone: Location(Term(epoch, OWNER), seq, (), gone),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from((False, False, True)),
)
merges = st.lists(st.tuples(keys, locations), max_size=40)


def pair() -> World:
    """Two nodes that know of no session."""
    world = World.of(2)
    for process in world.processes.values():
        process.sent.clear()
    return world


def directories(world: World) -> list[Directory]:
    return [process.machine.directory for process in world.processes.values()]


def live(directory: Directory) -> dict[Key, Location]:
    return {key: location for key, location in directory.items() if not location.gone}


def exchanged(world: World) -> list[m.Dir]:
    return [sent for process in world.processes.values() for sent in process.sent if type(sent) is m.Dir]


def fill(world: World, name: str, count: int, first: int = 0) -> None:
    """Entries that only this node has heard of."""
    directory = world.machine(name).directory
    for number in range(first, first + count):
        key = (number * 40_503 % 65_536).to_bytes(2) + number.to_bytes(14)
        directory.merge(key, Location(Term(1, OWNER), 1, ()), world.now)


@settings(max_examples=60, deadline=None)
@given(merges, merges, merges)
def test_two_directories_converge_and_exchange_no_more_than_what_differs(common, one_hears, other_hears):
    world = pair()
    one, other = directories(world)
    for key, location in common:
        one.merge(key, location, world.now)
        other.merge(key, location, world.now)
    for key, location in one_hears:
        one.merge(key, location, world.now)
    for key, location in other_hears:
        other.merge(key, location, world.now)
    differ = {number for number in range(BUCKETS) if set(one.bucket(number)) != set(other.bucket(number))}
    held = sum(len(directory.bucket(number)) for directory in (one, other) for number in differ)
    rank = {
        key: max(known.rank for d in (one, other) if (known := d.get(key)) is not None)
        for key in {key for d in (one, other) for key, _ in d.items()}
    }

    world.run(2 * DIGEST_INTERVAL_S)

    assert live(one) == live(other)
    for directory in (one, other):
        directory.check_invariants()
        for key, location in live(directory).items():
            assert location.rank == rank[key]
    assert {message.bucket for message in exchanged(world)} <= differ
    # Either side may have begun, with the same differences.
    assert sum(len(message.entries) for message in exchanged(world)) <= 4 * held


@given(st.lists(st.tuples(keys, locations), max_size=20), st.data())
def test_equal_contents_have_equal_digests_in_whatever_order_they_came(heard, data):
    one, other = Directory(TTL_S), Directory(TTL_S)
    for key, location in heard:
        one.merge(key, location, 0.0)
    for key, location in data.draw(st.permutations(heard)):
        other.merge(key, location, 0.0)
    assert one.group_digests() == other.group_digests()
    one.check_invariants()


def test_nodes_that_agree_exchange_one_short_message_a_round():
    world = pair()
    for name in ("node1", "node2"):
        fill(world, name, 500)
    world.run(10 * DIGEST_INTERVAL_S)
    kinds = [type(sent) for process in world.processes.values() for sent in process.sent]
    assert kinds.count(m.Dir) == 0
    assert 18 <= kinds.count(m.Digest) <= 22


def test_one_difference_among_many_entries_costs_one_bucket():
    world = pair()
    for name in ("node1", "node2"):
        fill(world, name, 5000)
    fill(world, "node1", 1, first=5000)
    world.run(2 * DIGEST_INTERVAL_S)
    one, other = directories(world)
    assert dict(one.items()) == dict(other.items())
    sizes = [len(message.entries) for message in exchanged(world)]
    assert sum(sizes) <= 4 * 5001 / BUCKETS + 8


def test_what_a_broken_link_swallowed_is_known_as_soon_as_the_link_is_back():
    world = World.of(4)
    world.create("node1")
    world.run(0.1)
    taker, missing = world.strangers()
    lives = world.machine(taker).life, world.machine(missing).life
    world.hold(m.Locations, by=taker, to=missing)
    world.read(taker)
    world.run(0.1)
    world.links[frozenset(lives)][lives[1]].clear()  # lost with the connection
    world.held.clear()
    location = world.machine(taker).copies[KEY].location
    assert world.machine(missing).directory.get(KEY) != location
    world.reset(taker, missing)
    world.run(0.1)
    assert world.machine(missing).directory.get(KEY) == location


def test_a_tombstone_corrects_who_missed_it_and_is_not_handed_to_who_knows_nothing():
    world = pair()
    one, other = directories(world)
    live_there, unknown_there = b"\x10" * 16, b"\x20" * 16
    for key in (live_there, unknown_there):
        one.merge(key, Location(Term(1, OWNER), 1, (), gone=True), world.now)
    other.merge(live_there, Location(Term(1, OWNER), 1, ()), world.now)
    world.run(2 * DIGEST_INTERVAL_S)
    assert other.is_gone(live_there)
    assert other.get(unknown_there) is None


def test_tombstones_forgotten_at_different_moments_are_no_difference_and_do_not_come_back():
    world = pair()
    one, other = directories(world)
    gone = Location(Term(1, OWNER), 1, (), gone=True)
    one.merge(KEY, gone, world.now)
    other.merge(KEY, gone, world.now + 100.0)
    world.run(TTL_S + 50.0)
    assert (one.get(KEY), other.get(KEY)) == (None, gone)
    assert exchanged(world) == []
    # Something else in their bucket differs: still it is over where it is over.
    beside = KEY[:2] + b"x" * 14
    assert bucket_of(beside) == bucket_of(KEY)
    other.merge(beside, Location(Term(1, OWNER), 1, ()), world.now)
    world.run(2 * DIGEST_INTERVAL_S)
    assert one.get(beside) is not None
    assert one.get(KEY) is None


def test_a_large_difference_is_repaired_at_a_bounded_rate():
    world = pair()
    count = 20_000
    fill(world, "node1", count // 2)
    fill(world, "node2", count // 2, first=count // 2)
    world.reset("node1", "node2")
    for process in world.processes.values():
        process.machine.check_invariants = lambda: None  # of 20,000 entries, at each step
    steps = 0
    while len(world.machine("node1").directory) < count or len(world.machine("node2").directory) < count:
        for process in world.processes.values():
            process.sent.clear()
        world.run(STEP_S)
        steps += 1
        for process in world.processes.values():
            entries = sum(len(sent.entries) for sent in process.sent if type(sent) is m.Dir)
            assert entries <= 3 * STEP_ENTRIES
        assert steps < 100
    assert steps * STEP_ENTRIES * 2 >= count / 2


@pytest.mark.parametrize("joined", [True, False])
def test_a_node_that_has_not_joined_compares_nothing(joined):
    world = pair()
    machine = world.machine("node1")
    fill(world, "node1", 10)
    machine.membership.joining.joined = joined
    machine.receive(world.machine("node2").life, m.Digest(None, bytes(512)), world.now)
    sent = [effect.message for effect in machine.take_effects() if isinstance(effect, Send)]
    assert any(type(message) is m.Digest for message in sent) is joined
