"""Backups ask their owners whether they still count: paced, those in use first, and now and then without a cause."""

from sessiond.core import messages as m
from sessiond.core.confirming import IN_USE_S, STEP_CONFIRMS, STEP_S
from sessiond.core.options import CONFIRM_INTERVAL_S, Options
from tests.core.world import World

OPTIONS = Options(idle_timeout_s=100_000.0, absolute_timeout_s=0.0)


def key(number: int) -> bytes:
    return number.to_bytes(2) + bytes(14)


def cluster(sessions: int) -> World:
    """node1 owns all sessions, node2 is their backup."""
    world = World.of(2, OPTIONS)
    for number in range(sessions):
        world.create("node1", key(number))
    world.run(0.1)
    world.processes["node2"].sent.clear()
    return world


def confirmed(world: World) -> list[bytes]:
    return [sent.key for sent in world.processes["node2"].sent if type(sent) is m.Confirm]


def test_a_link_that_opens_again_makes_backups_confirm_their_copies_a_few_at_a_time():
    count = 2 * STEP_CONFIRMS + 10
    world = cluster(count)
    world.reset("node1", "node2")
    assert confirmed(world) == []
    seen = []
    for _ in range(4):
        world.run(STEP_S - 0.001)
        seen.append(len(confirmed(world)))
    assert all(later - sooner <= STEP_CONFIRMS + 1 for sooner, later in zip([0, *seen], seen, strict=False))
    assert sorted(confirmed(world)) == [key(number) for number in range(count)]


def test_copies_in_use_are_confirmed_before_the_others():
    world = cluster(STEP_CONFIRMS + 50)
    world.run(IN_USE_S + 10.0)
    used = [key(number) for number in range(0, STEP_CONFIRMS, 10)]
    for each in used:
        world.commit("node1", each, n=b"2")
    world.processes["node2"].sent.clear()
    world.reset("node1", "node2")
    world.run(0.5)
    assert set(confirmed(world)[: len(used)]) == set(used)


def test_every_copy_is_confirmed_now_and_then_without_a_cause():
    world = cluster(3)
    world.run(CONFIRM_INTERVAL_S)
    assert len(confirmed(world)) == 3
    world.run(CONFIRM_INTERVAL_S)
    assert len(confirmed(world)) == 6


def test_an_owner_that_dies_is_asked_no_more():
    world = cluster(3 * STEP_CONFIRMS)
    world.reset("node1", "node2")
    world.run(STEP_S)
    world.kill("node1")
    world.processes["node2"].sent.clear()
    world.run(10 * STEP_S)
    assert confirmed(world) == []


def test_a_link_that_breaks_again_starts_the_round_anew():
    world = cluster(STEP_CONFIRMS)
    world.reset("node1", "node2")
    world.reset("node1", "node2")
    world.run(1.0)
    assert sorted(set(confirmed(world))) == [key(number) for number in range(STEP_CONFIRMS)]
