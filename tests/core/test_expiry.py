"""Sessions end by themselves when nobody uses them: never early, never twice, never to come back."""

import pytest

from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.expiry import IN_USE_RETRY_S, PACE_MAX, PACE_MIN, STEP_S, UNDER_WAY_MAX
from sessiond.core.options import Options
from sessiond.core.pace import MADE_UP_FOR_S
from tests.core.world import KEY, World

IDLE_S = 60.0
TOUCH_S = 5.0
OPTIONS = Options(idle_timeout_s=IDLE_S, absolute_timeout_s=0.0, touch_interval_s=TOUCH_S)


def cluster(options: Options = OPTIONS, nodes: int = 3) -> World:
    world = World.of(nodes, options)
    world.create("node1", n=b"1")
    return world


@pytest.fixture
def world() -> World:
    return cluster()


def test_a_session_that_nobody_uses_ends_everywhere(world):
    world.run(IDLE_S - 1.0)
    assert len(world.where()) == 2
    world.run(2.0)
    assert world.where() == {}
    assert world.machine("node1").stats.expired == 1
    for name in world.processes:
        assert world.machine(name).directory.is_gone(KEY)
        assert world.open(name) is None


def test_each_use_starts_the_time_anew(world):
    for _ in range(4):
        world.run(IDLE_S - 5.0)
        assert world.read("node1") == b"1"
    world.run(IDLE_S - 1.0)
    assert len(world.where()) == 2
    world.run(2.0)
    assert world.where() == {}


def test_a_session_ends_at_its_greatest_age_however_much_it_is_used():
    world = cluster(Options(idle_timeout_s=IDLE_S, absolute_timeout_s=100.0))
    for _ in range(9):
        world.run(10.0)
        assert world.read("node1") == b"1"
    world.run(11.0)
    assert world.where() == {}
    assert world.open("node2") is None


def test_the_greatest_age_goes_with_the_session_to_its_next_primary():
    world = cluster(Options(idle_timeout_s=IDLE_S, absolute_timeout_s=100.0))
    world.run(50.0)
    world.read("node2")
    world.run(45.0)
    assert world.read("node3") == b"1"
    world.run(6.0)
    assert world.where() == {}


def test_a_session_that_is_over_is_not_served_even_before_the_timer_has_come_to_it(world):
    world.run(IDLE_S - 0.4)
    world.now += 0.8  # the timer is late
    assert world.machine("node1").try_open(KEY, world.now) is None
    world.settle()
    assert world.open("node1") is None
    world.run(0.1)
    assert world.where() == {}


def test_a_session_in_use_does_not_end_and_its_time_runs_from_the_end_of_the_request(world):
    held = world.open("node1")
    world.run(2.5 * IDLE_S)
    assert world.commit("node1", n=b"2").protected
    held.release()
    world.run(IDLE_S - 5.0)
    assert world.read("node1") == b"2"


def test_a_session_in_use_beyond_its_greatest_age_ends_when_the_request_does():
    world = cluster(Options(idle_timeout_s=IDLE_S, absolute_timeout_s=100.0))
    held = world.open("node1")
    world.run(150.0)
    assert world.commit("node1", n=b"2").protected
    held.release()
    world.run(IN_USE_RETRY_S + 0.1)
    assert world.where() == {}


def test_a_session_in_long_use_survives_the_death_of_its_primary(world):
    # A browser with an open event stream: no request for hours, but it was there all the time.
    world.open("node1")
    world.run(10 * IDLE_S + 1.0)
    world.kill("node1")
    assert world.read("node2") == b"1"


def test_backups_hear_of_the_last_use_in_batches(world):
    keys = [i.to_bytes(16) for i in range(20)]
    for key in keys:
        world.create("node1", key)
    world.run(TOUCH_S)
    world.processes["node1"].sent.clear()
    for key in keys:
        world.read("node1", key=key)
    world.run(TOUCH_S)
    touches = [sent for sent in world.processes["node1"].sent if type(sent) is m.Touch]
    assert sum(len(touch.idle_s) for touch in touches) == len(keys)
    assert len(touches) <= 2


def test_a_session_used_just_before_its_primary_died_does_not_end_early(world):
    # The backup has not heard of the last use; the successor allows for that.
    world.run(IDLE_S - 2.0)
    world.read("node1")
    world.kill("node1")
    world.run(TOUCH_S - 1.0)
    assert world.read("node2") == b"1"


def test_a_session_used_after_a_long_pause_and_just_before_its_primary_died_does_not_end_early(world):
    # Found by the simulator: the grace of a touch interval counted from the last use that was told.
    world.run(IDLE_S - 0.5)
    world.read("node1")
    world.kill("node1")
    world.run(IDLE_S - 1.0)
    assert world.read("node2") == b"1"


def test_uses_that_a_backup_has_heard_of_keep_its_clock_right(world):
    for _ in range(5):  # reads only: no write carries the time
        world.run(IDLE_S / 2)
        world.read("node1")
    world.run(TOUCH_S + 1.0)
    backup = world.backup()
    assert world.now - world.machine(backup).copies[KEY].accessed_at < TOUCH_S + 2.0
    world.kill("node1")
    world.run(IDLE_S - TOUCH_S - 2.0)
    assert isinstance(world.open(backup), Checkout)


def test_a_touch_never_sets_a_clock_back(world):
    backup = world.machine(world.backup())
    world.commit("node1", n=b"2")
    used_at = backup.copies[KEY].accessed_at
    backup.receive(world.machine("node1").life, m.Touch(((KEY, 30.0), (b"?" * 16, 1.0))), world.now)
    assert backup.copies[KEY].accessed_at == used_at


def test_a_successor_ends_an_idle_session_in_its_time_and_not_much_later(world):
    world.kill("node1")
    world.run(IDLE_S + TOUCH_S + 2.0)
    assert world.where() == {}
    assert sum(world.machine(name).stats.expired for name in world.processes) == 1


def test_only_the_primary_ends_a_session():
    world = cluster()
    world.stop("node1")
    silent_s = world.options.silence_timeout_s
    world.now += IDLE_S * 2  # the backup's clock alone says that it is over
    backup = world.backup()
    world.machine(backup).tick(world.now)
    assert world.machine(backup).stats.expired == 0
    assert KEY in world.machine(backup).copies
    assert silent_s < IDLE_S


def test_many_sessions_that_end_together_end_in_small_steps_at_a_bounded_pace():
    world = World(OPTIONS)
    world.boot("node1")
    for number in range(500):
        world.create("node1", number.to_bytes(16))
    machine = world.machine("node1")
    world.now += IDLE_S + 1.0
    began_at, most = world.now, 0
    while machine.stats.expired < 500:
        world.now = max(world.now, machine.next_deadline())
        before = machine.stats.expired
        machine.tick(world.now)
        machine.take_effects()
        most = max(most, machine.stats.expired - before)
    assert 0 < most <= max(2 * PACE_MAX * STEP_S, PACE_MIN * MADE_UP_FOR_S)
    assert STEP_S <= world.now - began_at <= 500 / PACE_MIN


def test_no_session_ends_while_a_backup_has_too_much_to_answer(world, monkeypatch):
    machine = world.machine("node1")
    monkeypatch.setattr(machine.links, "under_way_max", lambda: UNDER_WAY_MAX + 1)
    world.run(IDLE_S + 1.0)
    assert machine.stats.expired == 0
    monkeypatch.undo()
    world.run(2 * STEP_S)
    assert machine.stats.expired == 1


def test_a_session_that_comes_back_to_a_node_is_watched_again(world):
    world.run(30.0)
    world.read("node2")
    world.run(45.0)  # node1 has forgotten about it meanwhile
    world.read("node1")
    world.run(IDLE_S + TOUCH_S + 2.0)
    assert world.where() == {}
