"""Sessions get their copies again after a death without a request: hottest first, at a bounded rate, as foretold."""

import math

import pytest

from sessiond.core import messages as m
from sessiond.core.options import Options
from sessiond.core.pace import MADE_UP_FOR_S
from sessiond.core.reprotection import MARGIN, PACE_CUT, PACE_MIN, STEP_S
from tests.core.world import World

SESSIONS = 120
RATE = 100
OPTIONS = Options(reprotect_rate_max=RATE, reprotect_delay_s=1.0)


def keys(count: int = SESSIONS) -> list[bytes]:
    return [index.to_bytes(16, "big") for index in range(1, count + 1)]


def world_with_sessions(options: Options = OPTIONS, primary: str = "node1") -> World:
    world = World.of(3, options)
    for key in keys():
        world.create(primary, key)
        world.run(0.01)
    return world


def protected(world: World) -> int:
    return sum(sorted(world.where(key).values()) == ["B", "P"] for key in keys())


def until_protected(world: World, at_most_s: float) -> float:
    began = world.now
    while any(process.machine.unprotected for process in world.processes.values()):
        world.run(0.05)
        assert world.now - began <= at_most_s, "not protected again in time"
    return world.now - began


def test_the_gauge_counts_what_a_death_leaves_before_anything_is_mended():
    world = world_with_sessions(primary="node2")
    world.run(0.5)
    assert [world.machine(name).unprotected for name in ("node1", "node2", "node3")] == [0, 0, 0]
    world.kill("node2")
    assert world.machine("node1").unprotected + world.machine("node3").unprotected == SESSIONS
    until_protected(world, 10.0)
    assert protected(world) == SESSIONS


def test_sessions_that_lost_their_backup_count_at_once_too():
    world = world_with_sessions()
    backed_by_node2 = sum(world.listed(key) == ["node2"] for key in keys())
    world.kill("node2")
    assert world.machine("node1").unprotected == backed_by_node2 > 0


def test_a_session_that_is_being_created_is_not_counted_as_unprotected():
    world = world_with_sessions()
    world.hold(m.Ack)
    world.create("node1", b"x" * 16)
    assert world.machine("node1").unprotected == 0
    world.run(world.options.ack_timeout_s + 0.1)
    assert world.machine("node1").unprotected == 1


@pytest.mark.parametrize("primary", ["node1", "node2"])
def test_re_protection_ends_within_its_estimate(primary):
    world = world_with_sessions(primary=primary)
    world.kill("node2")
    estimate_s = max(world.machine(name).reprotection.seconds_left for name in ("node1", "node3"))
    took_s = until_protected(world, estimate_s)
    assert took_s > estimate_s / 5  # it says something
    assert all(world.machine(name).reprotection.seconds_left == 0.0 for name in ("node1", "node3"))


def test_the_estimate_shrinks_as_the_work_is_done():
    world = world_with_sessions(primary="node2")
    world.kill("node2")
    first = world.machine("node1").reprotection.seconds_left
    world.run(1.3)
    assert 0.0 < world.machine("node1").reprotection.seconds_left < first - 0.5


def test_a_node_shows_its_own_estimate_in_its_view_of_the_cluster():
    world = world_with_sessions()
    world.kill("node2")
    rows = {row.name: row for row in world.machine("node1").cluster_view().members}
    assert rows["node1"].reprotect_seconds > 0.5
    assert rows["node3"].reprotect_seconds is None
    until_protected(world, 10.0)
    rows = {row.name: row for row in world.machine("node1").cluster_view().members}
    assert rows["node1"].reprotect_seconds == 0.0


def test_the_estimate_is_infinite_when_no_node_could_take_a_copy_and_finite_once_one_can():
    world = world_with_sessions()
    world.kill("node2")
    world.kill("node3")
    world.run(5.0)
    assert world.machine("node1").reprotection.seconds_left == math.inf
    assert world.machine("node1").unprotected == SESSIONS
    world.boot("node4")
    world.run(0.3)
    until_protected(world, world.machine("node1").reprotection.seconds_left)
    assert protected(world) == SESSIONS


def test_re_protection_keeps_its_rate():
    world = world_with_sessions()
    lost = world.machine("node1")
    world.kill("node2")
    world.run(0.2)
    before = lost.unprotected
    world.run(0.2)
    assert 0 < before - lost.unprotected <= RATE * 0.2 + 3


def test_the_hottest_session_is_protected_first():
    world = world_with_sessions(Options(reprotect_rate_max=20))
    mine = [key for key in keys() if world.listed(key) == ["node2"]]
    hottest, coldest = mine[0], mine[1]
    world.read("node1", key=hottest)
    world.kill("node2")
    world.run(0.5)
    assert world.listed(hottest) == ["node3"]
    assert world.listed(coldest) == ["node2"]


def test_its_begin_and_end_are_logged_with_the_estimate():
    world = world_with_sessions()
    world.kill("node2")
    until_protected(world, 10.0)
    world.run(0.5)
    (began,) = world.logged("node1", "reprotection.began")
    (ended,) = world.logged("node1", "reprotection.ended")
    assert began["sessions"] == ended["sessions"] > 10
    assert 0 < ended["seconds"] <= began["estimate_s"] == ended["estimate_s"]


def test_a_loop_that_lags_slows_it_down_and_the_estimate_says_so():
    world = world_with_sessions(Options(reprotect_rate_max=1000))
    machine = world.machine("node1")
    for key in keys():
        machine.reprotection.look_after(key)
    pace = machine.reprotection._pace.rate
    machine.tick(world.now)
    world.now += 0.3
    machine.tick(world.now)
    assert machine.reprotection._pace.rate == pace * PACE_CUT
    burst = machine.reprotection._pace.least * MADE_UP_FOR_S
    assert 0 < SESSIONS - machine.reprotection.backlog <= burst + 1000 * 2 * STEP_S  # hardly a burst


def test_however_late_its_steps_come_it_keeps_the_least_pace():
    world = world_with_sessions(Options(reprotect_rate_max=1000))
    machine = world.machine("node1")
    for key in keys():
        machine.reprotection.look_after(key)
    machine.tick(world.now)
    for _ in range(4):
        world.now += 0.05
        machine.tick(world.now)
    assert SESSIONS - machine.reprotection.backlog >= PACE_MIN * 0.2 - 5


def test_a_death_is_gone_through_in_slices_and_the_gauge_never_says_that_all_is_well_meanwhile(monkeypatch):
    monkeypatch.setattr("sessiond.core.aftermath.SLICE_COPIES", 10)
    world = world_with_sessions()
    lost = sum(world.listed(key) == ["node2"] for key in keys())
    world.kill("node2")
    machine = world.machine("node1")
    assert 0 < machine.unprotected < lost
    assert machine.reprotection.seconds_left > MARGIN * SESSIONS / 2 / RATE  # what is unseen is reckoned with
    world.run(0.08)
    assert machine.unprotected == lost
    until_protected(world, 10.0)
    assert protected(world) == SESSIONS


def test_it_waits_while_too_many_copies_are_under_way(monkeypatch):
    monkeypatch.setattr("sessiond.core.reprotection.UNDER_WAY_MAX", 5)
    world = world_with_sessions(Options(reprotect_rate_max=8000))
    world.kill("node2")
    world.hold(m.Ack, by="node3")
    world.run(0.25)
    assert world.machine("node1").reprotection.backlog > 20
    world.let_go()
    world.run(3.0)
    assert world.machine("node1").unprotected == 0
