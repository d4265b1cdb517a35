"""Uses of sessions are told in batches: all of them, whatever their number, and none in one turn with all the others."""

import pytest

from sessiond.core import messages as m
from sessiond.core import touches
from sessiond.core.options import Options
from sessiond.core.touches import STEP_S
from tests.core.world import World

TOUCH_S = 5.0


def touched(count: int) -> World:
    """Two nodes, and as many sessions of node1, all used in this interval."""
    world = World.of(2, Options(touch_interval_s=TOUCH_S))
    for number in range(count):
        world.create("node1", number.to_bytes(16))
    machine = world.machine("node1")
    machine.touches.flush()
    machine.take_effects()
    for copy in machine.copies.values():
        machine.touches.note(copy)
    return world


def told(world: World) -> list[int]:
    """The sizes of the batches that wait to be sent."""
    effects = world.machine("node1").take_effects()
    messages = [getattr(effect, "message", None) for effect in effects]
    return [len(message.idle_s) for message in messages if type(message) is m.Touch]


def test_many_uses_leave_in_one_batch_a_step(monkeypatch):
    monkeypatch.setattr(touches, "TOUCH_CHUNK", 4)
    world = touched(10)
    machine = world.machine("node1")
    at = machine.touches.next_deadline()
    for step, size in enumerate((4, 4, 2)):
        assert machine.touches.next_deadline() == pytest.approx(at + step * STEP_S)
        machine.touches.tick(machine.touches.next_deadline())
        assert told(world) == [size]
    assert machine.touches.next_deadline() > at + TOUCH_S


def test_what_is_used_while_they_are_told_is_told_the_next_time():
    world = touched(3)
    machine = world.machine("node1")
    at = machine.touches.next_deadline()
    machine.touches.tick(at)
    assert told(world) == [3]
    machine.touches.note(machine.copies[(0).to_bytes(16)])
    assert machine.touches.next_deadline() == at + TOUCH_S
    machine.touches.tick(at + STEP_S)
    assert told(world) == []
    machine.touches.tick(at + TOUCH_S)
    assert told(world) == [1]


def test_a_node_that_leaves_tells_all_at_once(monkeypatch):
    monkeypatch.setattr(touches, "TOUCH_CHUNK", 2)
    world = touched(3)
    machine = world.machine("node1")
    machine.touches.tick(machine.touches.next_deadline())
    assert told(world) == [2]
    machine.touches.note(machine.copies[(0).to_bytes(16)])
    machine.leave(world.now)
    assert told(world) == [1, 1]
