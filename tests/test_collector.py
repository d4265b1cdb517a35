"""The collector lets what a large node holds alone, looks at everything else, and leaves a small node to Python."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from sessiond import collector
from sessiond.collector import OBJECTS_MAX, Collector


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


class Held:
    """How many objects the node says it has."""

    def __init__(self, objects: int) -> None:
        self.objects = objects
        self.asked = asyncio.Event()

    def __call__(self) -> int:
        self.asked.set()
        return self.objects


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    yield
    assert gc.callbacks == callbacks
    assert gc.get_threshold() == thresholds
    gc.unfreeze()


@pytest.fixture
async def large(monkeypatch: pytest.MonkeyPatch):
    """A collector that has begun to tenure, and what it is told. Each further look tenures."""
    monkeypatch.setattr(collector, "TENURE_AFTER_S", 0.0)
    held = Held(OBJECTS_MAX + 1)
    each = Collector(held)
    each.start()
    each.look()
    yield each, held
    each.stop()


async def test_a_small_node_is_left_to_python():
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    each = Collector(Held(OBJECTS_MAX))
    each.start()
    for _ in range(10):
        gc.collect(0)
        each.look()
    assert not each.is_tenuring
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == frozen
    each.stop()


async def test_on_a_large_node_what_survives_is_not_looked_at_again(large):
    each, _ = large
    assert each.is_tenuring
    assert gc.get_threshold()[1:] > (1_000_000, 1_000_000), "Python collects nothing older by itself"
    kept = Knot()
    assert any(other is kept for other in gc.get_objects())
    each.look()
    assert not any(other is kept for other in gc.get_objects())


async def test_on_a_large_node_garbage_goes_before_anything_is_tenured(large):
    each, _ = large
    gone = weakref.ref(Knot())
    gc.collect(0)
    middle = Knot()
    gc.collect(0)
    old = weakref.ref(middle)
    del middle
    each.look()
    assert gone() is None
    assert old() is None


async def test_a_large_node_passes_over_the_young_though_python_sees_no_cause(large, monkeypatch):
    each, _ = large
    monkeypatch.setattr(collector, "TENURE_AFTER_S", 1000.0)
    gone = weakref.ref(Knot())
    frozen = gc.get_freeze_count()
    each.look()
    assert gone() is None
    assert gc.get_freeze_count() <= frozen, "nothing is tenured before passes have cost enough"


async def test_it_looks_by_itself():
    held = Held(OBJECTS_MAX + 1)
    each = Collector(held)
    each.start()
    async with asyncio.timeout(30):
        await held.asked.wait()
    assert each.is_tenuring
    each.stop()


async def test_what_became_garbage_after_it_was_tenured_goes_when_the_node_is_small_again(large):
    each, held = large
    knot = Knot()
    each.look()
    gone = weakref.ref(knot)
    del knot
    held.objects = OBJECTS_MAX  # not small enough yet: a node at the limit must not go back and forth
    each.look()
    assert each.is_tenuring
    assert gone() is not None
    held.objects = 0
    each.look()
    assert gone() is None
    assert not each.is_tenuring


async def test_one_that_stops_leaves_nothing_behind():
    thresholds = gc.get_threshold()
    each = Collector(Held(OBJECTS_MAX + 1))
    each.start()
    each.look()
    assert each.is_tenuring
    each.stop()
    each.stop()
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0
