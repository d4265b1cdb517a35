"""A node that was away for longer than the others remember: what ended meanwhile does not come back, all else does."""

from dataclasses import replace

import pytest

from sessiond.core.absence import REMEMBERED_IDLES
from sessiond.core.options import Options
from tests.core.world import KEY, World

TTL_S = 20.0
ANY = Options(tombstone_ttl_s=TTL_S)
MAJORITY = Options(tombstone_ttl_s=TTL_S, quorum="majority", expect=3)


def cluster(options: Options = ANY, nodes: int = 3) -> World:
    world = World.of(nodes, options)
    world.run(2.0)
    world.create("node1", n=b"1")
    world.run(0.5)
    return world


def ended(world: World, name: str) -> bool:
    """Whether a node says that there is no such session."""
    operation = world.ask(name, "open", KEY, may_refer=False)
    world.run(1.0)
    return world.outcome(name, operation) is None


def log_out(world: World, name: str) -> None:
    world.read(name)
    operation = world.ask(name, "invalidate", KEY)
    world.run(0.5)
    assert world.outcome(name, operation) is None


@pytest.mark.parametrize("options", [ANY, MAJORITY])
def test_a_paused_primary_does_not_bring_back_a_session_whose_end_nobody_remembers(options):
    world = cluster(options)
    world.stop("node1")
    world.run(6.0)
    log_out(world, "node2")
    world.run(TTL_S + 1.0)
    assert world.machine("node2").directory.is_gone(KEY)  # it would be forgotten, were all here
    world.resume("node1")
    world.run(5.0)
    assert all(ended(world, name) for name in world.processes)
    assert world.where() == {}


@pytest.mark.parametrize("options", [ANY, MAJORITY])
def test_a_paused_backup_does_not_either(options):
    world = cluster(options)
    backup = world.backup()
    world.stop(backup)
    world.run(6.0)
    log_out(world, "node1")
    world.run(TTL_S + 1.0)
    world.resume(backup)
    world.run(5.0)
    assert all(ended(world, name) for name in world.processes)


def test_a_session_that_expired_meanwhile_is_not_served_again():
    world = cluster(Options(tombstone_ttl_s=TTL_S, idle_timeout_s=30.0))
    world.stop("node1")
    world.run(60.0)
    world.resume("node1")
    world.run(5.0)
    assert all(ended(world, name) for name in world.processes)


def test_a_minority_does_not_bring_it_back():
    world = cluster(MAJORITY)
    backup = world.backup()
    (other,) = world.strangers()
    world.part("node1", f"{backup} {other}")
    world.run(6.0)
    log_out(world, backup)
    world.run(TTL_S + 1.0)
    world.heal()
    world.run(8.0)
    assert all(ended(world, name) for name in world.processes)


@pytest.mark.parametrize("options", [ANY, MAJORITY])
def test_a_session_whose_holders_were_away_together_is_there_again(options):
    # Discarding whatever comes back so late, as the protocol has it, would lose it, though nobody can have ended it.
    world = cluster(replace(options, expect=5), 5)
    holders = ["node1", world.backup()]
    others = world.strangers()
    world.part(" ".join(holders), " ".join(others))
    world.run(2 * TTL_S)
    world.heal()
    world.run(10.0)
    assert world.read(others[0]) == b"1"


def test_a_whole_cluster_that_was_suspended_for_long_finds_its_sessions_again():
    world = cluster()
    for name in world.processes:
        world.stop(name)
    world.run(3 * TTL_S)
    for name in world.processes:
        world.resume(name)
    world.run(5.0)
    assert world.read("node3") == b"1"


def test_a_copy_comes_back_after_an_absence_within_which_nothing_is_forgotten():
    world = cluster()
    backup = world.backup()
    world.stop("node1")
    world.stop(backup)
    world.run(TTL_S / 2 - 2.0)
    world.resume("node1")
    world.resume(backup)
    world.run(5.0)
    assert world.read("node3") == b"1"


def forgets(world: World, name: str) -> bool:
    return world.machine(name).directory.get(KEY) is None


def test_ends_are_forgotten_in_time_when_everybody_is_here():
    world = cluster()
    log_out(world, "node1")
    world.run(TTL_S + 1.0)
    assert all(forgets(world, name) for name in world.processes)


def test_ends_are_forgotten_when_who_was_away_has_been_back_for_their_time():
    world = cluster()
    (away,) = world.strangers()
    world.stop(away)
    world.run(6.0)
    log_out(world, "node1")
    world.run(2 * TTL_S)
    assert not forgets(world, "node1")
    world.resume(away)
    world.run(TTL_S + 5.0)
    assert all(forgets(world, name) for name in world.processes)


@pytest.mark.parametrize("how", ["killed", "left"])
def test_who_has_no_memory_to_come_back_with_is_not_waited_for(how):
    world = cluster()
    (other,) = world.strangers()
    if how == "left":
        world.machine(other).leave(world.now)
        world.settle()
    world.kill(other)
    world.run(2.0)
    log_out(world, "node1")
    world.run(TTL_S + 5.0)
    assert forgets(world, "node1")


def test_who_never_comes_back_is_waited_for_only_as_long_as_a_session_can_live():
    idle_s = 100.0
    world = cluster(replace(ANY, idle_timeout_s=idle_s))
    (other,) = world.strangers()
    world.stop(other)
    world.run(6.0)
    log_out(world, "node1")
    world.run(REMEMBERED_IDLES * idle_s - 10.0)
    assert not forgets(world, "node1")
    world.run(2 * TTL_S + 20.0)
    assert forgets(world, "node1")


def test_a_copy_that_is_older_than_ends_are_remembered_does_not_come_back():
    idle_s = 30.0
    world = cluster(Options(tombstone_ttl_s=TTL_S, idle_timeout_s=idle_s))
    world.stop("node1")
    world.run(6.0)
    log_out(world, "node2")
    world.run(REMEMBERED_IDLES * idle_s + 2 * TTL_S + 20.0)
    assert forgets(world, "node2")
    world.resume("node1")
    world.run(5.0)
    assert all(ended(world, name) for name in world.processes)
    assert world.machine("node1").stats.discarded == 1
    assert world.logged("node1", "session.discarded")


@pytest.mark.parametrize("order", ["together", "primary first", "backup first"])
def test_holders_that_were_each_alone_keep_the_session_in_whatever_order_they_come_back(order):
    # Whoever was declared dead as well is no witness of an end.
    world = cluster(replace(MAJORITY, expect=5), 5)
    backup, rest = world.backup(), world.strangers()
    world.part("node1", backup, " ".join(rest))
    world.run(TTL_S)
    if order != "together":
        first = "node1" if order == "primary first" else backup
        world.heal("node1", backup)
        world.run(0.3)
        world.heal(first, *rest)
        world.run(0.3)
    world.heal()
    world.run(8.0)
    assert world.read(rest[0]) == b"1"


def test_a_short_absence_discards_nothing_however_long_the_other_holder_is_missed():
    world = cluster(MAJORITY)
    backup = world.backup()
    (other,) = world.strangers()
    world.part(backup, f"node1 {other}")
    world.stop("node1")
    world.run(3.0)
    world.resume("node1")
    world.run(5.0)
    world.kill(backup)
    world.heal()
    world.run(TTL_S)
    world.boot(backup)
    world.run(10.0)
    assert world.read(other) == b"1"
