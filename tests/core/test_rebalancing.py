"""A node that joins gets its share of the backups; a zone that comes back gets its copies again."""

from collections import Counter

from sessiond.contract.placement import Candidate, placement
from sessiond.core import messages as m
from sessiond.core.options import Options
from sessiond.core.rebalancing import LATE_S, PACE_CUT, PACE_MIN
from tests.core.world import World

SESSIONS = 60
OPTIONS = Options(rebalance_rate_max=100, rebalance_after_s=5.0)


def keys(count: int = SESSIONS) -> list[bytes]:
    return [index.to_bytes(16, "big") for index in range(1, count + 1)]


def world_with_sessions(options: Options = OPTIONS, zones: dict[str, str] | None = None) -> World:
    """Three nodes, and sessions whose primary is node1."""
    world = World(options, zones=zones)
    world.boot("node1", "node2", "node3")
    world.run(1.0)
    for key in keys():
        world.create("node1", key)
    world.run(OPTIONS.rebalance_after_s + 1.0)
    return world


def wanted(world: World, key: bytes, copies: int = 1) -> list[str]:
    members = [Candidate(name, world.zones.get(name, "")) for name in world.processes]
    return list(placement(key, Candidate("node1", world.zones.get("node1", "")), members, copies))


def check_places(world: World, copies: int = 1) -> None:
    """Every session has exactly the configured copies, where placement wants them, and nobody has another one."""
    for key in keys():
        assert sorted(world.listed(key)) == sorted(wanted(world, key, copies))
        assert world.where(key) == {"node1": "P", **dict.fromkeys(wanted(world, key, copies), "B")}


def test_a_newcomer_gets_its_share_of_the_backups_and_every_session_keeps_exactly_its_copies():
    world = world_with_sessions()
    world.boot("node4")
    world.run(OPTIONS.rebalance_after_s + 5.0)
    assert Counter(world.listed(key)[0] for key in keys())["node4"] > SESSIONS / 6
    check_places(world)
    assert world.machine("node1").unprotected == 0


def test_with_two_copies_a_newcomer_takes_the_place_of_the_worse_one():
    options = Options(rebalance_rate_max=100, rebalance_after_s=5.0, copies=2)
    world = world_with_sessions(options)
    world.boot("node4")
    world.run(OPTIONS.rebalance_after_s + 5.0)
    check_places(world, copies=2)


def test_rebalancing_keeps_its_rate():
    world = world_with_sessions(Options(rebalance_rate_max=10, rebalance_after_s=5.0))
    world.boot("node4")
    world.run(5.0)
    before = world.machine("node1").stats.rebalanced
    world.run(1.0)
    assert 0 < world.machine("node1").stats.rebalanced - before <= 12


def test_rebalancing_slows_down_when_the_loop_has_other_things_to_do():
    world = world_with_sessions(Options(rebalance_rate_max=1000, rebalance_after_s=5.0))
    world.boot("node4")
    machine = world.machine("node1")
    while not machine.rebalancing.backlog:
        world.run(0.01)
    pace = machine.rebalancing._pace.rate
    world.now = machine.rebalancing.next_deadline() + 2 * LATE_S
    machine.tick(world.now)
    assert machine.rebalancing._pace.rate == max(PACE_MIN, pace * PACE_CUT) < pace


def test_rebalancing_waits_for_those_who_are_to_take_what_was_sent(monkeypatch):
    monkeypatch.setattr("sessiond.core.rebalancing.UNDER_WAY_MAX", 3)
    world = world_with_sessions()
    world.boot("node4")
    world.hold(m.Ack, by="node4")
    world.run(OPTIONS.rebalance_after_s + 0.25)
    assert 3 < world.machine("node1").stats.rebalanced <= 5
    world.let_go()
    world.run(5.0)  # a newcomer that took its time to ack has not been sent away for that
    check_places(world)


def test_nothing_moves_before_the_members_have_been_steady():
    world = world_with_sessions()
    added = world.machine("node1").stats.backups_added
    world.boot("node4")
    for _ in range(5):
        world.run(3.0)
        world.kill("node4")
        world.run(1.0)
        world.boot("node4")
    assert world.machine("node1").stats.rebalanced == 0
    assert world.machine("node1").stats.backups_added == added
    assert all("node4" not in world.where(key) for key in keys())


def test_rebalancing_is_abandoned_when_the_members_change():
    world = world_with_sessions(Options(rebalance_rate_max=5, rebalance_after_s=5.0))
    world.boot("node4")
    world.run(6.0)
    moved = world.machine("node1").stats.rebalanced
    assert 0 < moved < 10
    world.boot("node5")
    world.run(4.0)
    assert world.machine("node1").stats.rebalanced - moved <= 2
    assert world.logged("node1", "rebalancing.abandoned")
    world.run(60.0)
    check_places(world)


def test_nothing_moves_while_a_session_of_another_node_is_unprotected():
    world = world_with_sessions()
    world.machine("node2").lists.unprotected[b"x" * 16] = None
    world.boot("node4")
    world.run(OPTIONS.rebalance_after_s + 5.0)
    assert world.machine("node1").stats.rebalanced == 0
    world.machine("node2").lists.unprotected.clear()
    world.run(5.0)
    check_places(world)


def test_a_session_in_the_midst_of_a_write_moves_later():
    world = world_with_sessions()
    world.boot("node4")
    moves = [key for key in keys() if wanted(world, key) == ["node4"]]
    world.run(OPTIONS.rebalance_after_s - 0.2)
    (busy,) = {world.listed(moves[0])[0]}
    world.hold(m.Ack, by=busy)
    world.commit("node1", moves[0], n=b"2")
    world.run(0.28)
    assert busy in world.listed(moves[0])
    world.let_go()
    world.run(5.0)
    check_places(world)


def test_after_a_zone_comes_back_no_backup_stays_in_the_zone_of_its_primary():
    world = world_with_sessions(zones={"node1": "east", "node2": "west", "node3": "east"})
    assert {world.listed(key)[0] for key in keys()} == {"node2"}
    world.kill("node2")
    world.run(3.0)
    assert {world.listed(key)[0] for key in keys()} == {"node3"}
    world.boot("node2")
    world.run(OPTIONS.rebalance_after_s + 5.0)
    assert {world.listed(key)[0] for key in keys()} == {"node2"}
    check_places(world)


def test_a_node_that_leaves_moves_nothing_towards_a_newcomer():
    world = world_with_sessions()
    world.boot("node4")
    world.machine("node1").begin_drain(world.now)
    world.run(OPTIONS.rebalance_after_s + 5.0)
    assert world.machine("node1").stats.rebalanced == 0
