"""What owner and backups took with them is forgotten by every directory, and not while anybody may hold it."""

from dataclasses import replace

import pytest

from sessiond.core import messages as m
from sessiond.core.forgetting import ROUND_INTERVAL_S
from sessiond.core.options import DIGEST_INTERVAL_S, Options
from tests.core.world import KEY, World

ROUND_S = ROUND_INTERVAL_S + 40.0
MAJORITY = Options(quorum="majority", expect=4)
SHORT = Options(tombstone_ttl_s=20.0, idle_timeout_s=10.0)
"""Ends are remembered for half a minute longer at most, whoever is away."""


def know(world: World) -> list[str]:
    return [name for name in world.processes if world.machine(name).directory.get(KEY) is not None]


def lose(world: World) -> list[str]:
    """Kill both holders in one instant; who is left."""
    (backup,) = world.listed()
    holders = ("node1", backup)
    for name in holders:
        world.kill(name)
    return [name for name in world.processes if name not in holders]


def test_a_session_that_nobody_holds_any_more_is_forgotten_everywhere_and_not_taught_back():
    world = World.with_session(4)
    left = lose(world)
    assert know(world) == left
    world.run(ROUND_S)
    assert know(world) == []
    assert sum(world.machine(name).stats.entries_forgotten for name in left) >= 1
    world.boot("node5")
    world.run(5 * DIGEST_INTERVAL_S)
    assert know(world) == []


def test_who_has_forgotten_first_is_not_taught_the_entry_again():
    world = World.with_session(4)
    first, second = lose(world)
    world.run(1.0)
    world.machine(first).directory.forget(KEY)
    world.run(10 * DIGEST_INTERVAL_S)
    assert know(world) == [second]


def test_a_session_whose_owner_died_before_its_backup_had_a_copy_is_forgotten_too():
    # The entry names a node that lives: nothing would ever be heard of it.
    world = World.of(3)
    world.hold(m.Put)
    world.ask("node1", "create", KEY, {"n": b"1"})
    world.run(0.1)
    assert len(know(world)) == 2  # the backup's link stands still
    world.kill("node1")
    assert len(know(world)) == 1
    world.let_go()
    world.run(ROUND_S)
    assert know(world) == []


def test_an_owner_that_knows_nothing_of_a_session_says_so_to_everybody():
    # A node that was away for longer than the end is remembered keeps its entry, and teaches it to the others.
    world = World.with_session(4, SHORT)
    (stranger, _) = world.strangers()
    world.stop(stranger)
    world.run(6.0)
    world.ask("node1", "invalidate", KEY)
    world.run(60.0)
    assert know(world) == [stranger]
    world.resume(stranger)
    world.run(5 * DIGEST_INTERVAL_S)
    assert know(world) == []


def test_a_session_that_lives_is_kept_and_nobody_is_asked_about_it():
    world = World.with_session(4)
    world.run(ROUND_S)
    assert know(world) == list(world.processes)
    assert world.read("node2") == b"1"


def test_under_majority_nothing_is_forgotten_while_a_member_cannot_be_asked():
    world = World.with_session(4, MAJORITY)
    (backup,) = world.listed()
    world.stop(backup)  # silent, and nobody knows whether it comes back
    world.kill("node1")
    world.run(ROUND_S)
    assert len(know(world)) >= 2


@pytest.mark.parametrize("options", [None, MAJORITY])
def test_a_member_that_comes_back_with_its_copy_is_found(options):
    world = World.with_session(4, options)
    (backup,) = world.listed()
    third = next(name for name in world.processes if name not in ("node1", backup))
    world.stop(backup)
    world.run(0.05)
    world.kill("node1")
    world.run(5.0)
    world.resume(backup)
    world.run(ROUND_S)
    assert world.read(third) == b"1"


def test_a_copy_that_missed_the_end_of_its_session_is_dropped_when_its_owner_knows_nothing_of_it():
    # Nobody was declared dead, so no life has changed: the two would teach and deny the entry for ever.
    world = World.with_session(3, replace(SHORT, quorum="majority", expect=3))
    world.run(2.0)
    world.create("node1", n=b"1")
    world.run(0.5)
    backup = world.backup()
    world.hold(m.Locations, by="node1", to=backup)
    operation = world.ask("node1", "invalidate", KEY)
    world.run(0.2)
    assert world.outcome("node1", operation) is None
    assert world.where() == {backup: "B"}
    world.part("node1", "node2", "node3")
    world.held = []
    for name in ("node2", "node3"):
        world.reset("node1", name)  # what was under way is lost
    world.run(60.0)
    world.heal()
    world.run(10 * DIGEST_INTERVAL_S)
    assert world.where() == {}
    assert know(world) == []
