"""A joiner loads the directory chunk by chunk, whatever happens to it, its giver and the sessions meanwhile."""

import pytest

from sessiond.contract.cluster_view import MemberState
from sessiond.core import messages as m
from sessiond.core.directory import BUCKETS
from sessiond.core.options import SNAPSHOT_CHUNK, Options
from sessiond.core.snapshots import SNAPSHOT_WAIT_S, STRIPE_BUCKETS, STRIPES
from sessiond.core.types import Life, Location, Term
from tests.core.world import World

OWNER = Life("gone", 1)
ENTRIES = 3 * STRIPES * SNAPSHOT_CHUNK


def entry(number: int, seq: int = 1) -> tuple[bytes, Location]:
    key = (number * 40_503 % 65_536).to_bytes(2) + number.to_bytes(14)
    return key, Location(Term(1, OWNER), seq, ())


@pytest.fixture
def world() -> World:
    """Two nodes that know of sessions which nobody has any more: only their directories tell."""
    world = World(Options())
    world.boot("node1", "node2")
    world.run(1.0)
    for number in range(ENTRIES):
        for process in world.processes.values():
            process.machine.directory.merge(*entry(number), world.now)
    world.processes["node1"].sent.clear()
    world.processes["node2"].sent.clear()
    return world


def chunks(world: World, giver: str) -> list[m.Snapshot]:
    return [sent for sent in world.processes[giver].sent if type(sent) is m.Snapshot]


def begin(world: World, chunks_before: int) -> str:
    """node3 begins to join, and gets so many chunks; the name of who gives them."""
    world.hold(m.Snapshot)
    world.boot("node3", seeds=("node1",))
    giver = next(name for name in ("node1", "node2") if chunks(world, name))
    joiner = world.machine("node3")
    queue = world.links[frozenset({world.machine(giver).life, joiner.life})][joiner.life]
    for _ in range(chunks_before):
        held = len(chunks(world, giver))
        world.held.clear()
        while len(chunks(world, giver)) == held and queue:
            world._deliver()
            world.hold(m.Snapshot)
            world.settle()
    world.hold(m.Snapshot)
    return giver


def test_the_whole_directory_arrives_in_chunks_of_bounded_size(world):
    world.boot("node3", seeds=("node1",))
    world.run(0.5)
    joiner = world.machine("node3")
    assert joiner.state is MemberState.ALIVE
    assert dict(joiner.directory.items()) == dict(world.machine("node1").directory.items())
    giver = "node1" if chunks(world, "node1")[0].locations else "node2"
    sizes = [len(chunk.locations) for chunk in chunks(world, giver) if chunk.end]
    assert len(sizes) >= 3 * STRIPES
    bucket = max(len(joiner.directory.bucket(number)) for number in range(BUCKETS))
    assert max(sizes) < SNAPSHOT_CHUNK + bucket


def test_a_chunk_goes_out_only_when_the_one_before_in_its_stripe_has_arrived(world):
    giver = begin(world, 0)
    world.run(SNAPSHOT_WAIT_S / 2)
    assert [chunk.first for chunk in chunks(world, giver)] == [n * STRIPE_BUCKETS for n in range(STRIPES)]


def test_a_joiner_knows_the_members_before_it_has_the_directory(world):
    machine = world.machine("node1")
    machine.receive(world.machine("node2").life, m.SnapshotRequest(0), world.now)
    (first,) = [e.message for e in machine.take_effects() if type(e.message) is m.Snapshot]
    assert not first.last
    assert [row.life for row in first.roster] == [world.machine("node2").life]


def test_a_giver_that_dies_is_replaced_and_the_transfer_starts_anew(world):
    giver = begin(world, 1)
    other = "node2" if giver == "node1" else "node1"
    world.kill(giver)
    world.held.clear()
    world.run(1.0)
    joiner = world.machine("node3")
    assert joiner.membership.joined
    assert chunks(world, other)[0].first == 0
    assert len({chunk.first for chunk in chunks(world, other)}) >= 3 * STRIPES
    assert len(joiner.directory) == ENTRIES


def test_a_lost_link_to_the_giver_starts_the_transfer_anew(world):
    giver = begin(world, 1)
    world.reset(giver, "node3")
    world.held.clear()
    world.run(SNAPSHOT_WAIT_S + 1.0)
    joiner = world.machine("node3")
    assert joiner.membership.joined
    assert len(joiner.directory) == ENTRIES


def test_a_chunk_of_a_transfer_that_was_given_up_does_not_end_the_present_one(world):
    giver = begin(world, 0)
    joiner = world.machine("node3")
    stale = m.Snapshot((), last=True, roster=(), dead=(), first=BUCKETS - 1, end=BUCKETS)
    joiner.receive(world.machine(giver).life, stale, world.now)
    assert not joiner.membership.joined


def test_what_changes_behind_the_cursor_is_known_to_the_joiner_too(world):
    begin(world, 1)
    # Of the first bucket, which has been sent.
    key, newer = next((k, e) for k, e in (entry(n, seq=2) for n in range(ENTRIES)) if k[0] == 0)
    for name in ("node1", "node2"):
        world.machine(name).directory.merge(key, newer, world.now)
    world.let_go()
    world.run(0.5)
    assert world.machine("node3").directory.get(key) == newer


def test_a_request_beyond_the_last_bucket_is_answered_with_the_end(world):
    machine = world.machine("node1")
    machine.receive(world.machine("node2").life, m.SnapshotRequest(2**40), world.now)
    (end,) = [e.message for e in machine.take_effects() if type(e.message) is m.Snapshot]
    assert end.last
    assert end.locations == ()
