"""The collector lets what a large node holds alone, looks at everything else, and leaves a small node to Python."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from sessiond.collector import COPIES_MAX, PASSES_UNTIL_TENURE, Collector


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


class Held:
    """How many copies the node says it has."""

    def __init__(self, copies: int) -> None:
        self.copies = copies

    def __call__(self) -> int:
        return self.copies


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    yield
    assert gc.callbacks == callbacks
    assert gc.get_threshold() == thresholds
    gc.unfreeze()


@pytest.fixture
async def held():
    held = Held(COPIES_MAX + 1)
    collector = Collector(held)
    collector.start()
    yield held
    collector.stop()


async def passes() -> None:
    """As many young collections as it takes, and a turn of the loop."""
    for _ in range(PASSES_UNTIL_TENURE):
        gc.collect(0)
    await asyncio.sleep(0)


async def test_a_small_node_is_left_to_python(held):
    held.copies = COPIES_MAX
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    await passes()
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == frozen


async def test_on_a_large_node_what_survives_is_not_looked_at_again(held):
    kept = Knot()
    await passes()
    assert gc.get_freeze_count() > 0
    assert not any(each is kept for each in gc.get_objects())
    assert gc.get_threshold()[1:] > (1_000_000, 1_000_000), "Python collects nothing older by itself"


async def test_on_a_large_node_garbage_goes_before_anything_is_tenured(held):
    gone = weakref.ref(Knot())
    gc.collect(0)
    again = weakref.ref(Knot())
    await passes()
    assert gone() is None
    assert again() is None


async def test_fewer_passes_than_that_tenure_nothing(held):
    for _ in range(PASSES_UNTIL_TENURE - 1):
        gc.collect(0)
    await asyncio.sleep(0)
    assert gc.get_freeze_count() == 0


async def test_what_became_garbage_after_it_was_tenured_goes_when_the_node_is_small_again(held):
    thresholds = gc.get_threshold()
    knot = Knot()
    await passes()
    gone = weakref.ref(knot)
    del knot
    held.copies = COPIES_MAX  # not small enough yet: a node at the limit must not go back and forth
    await passes()
    assert gone() is not None
    held.copies = 0
    await passes()
    assert gone() is None
    assert gc.get_threshold() == thresholds


async def test_one_that_stops_leaves_nothing_behind():
    thresholds = gc.get_threshold()
    collector = Collector(Held(COPIES_MAX + 1))
    collector.start()
    await passes()
    assert collector.is_tenuring
    collector.stop()
    collector.stop()
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0
