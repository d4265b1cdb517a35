"""What counts as late: a loop that stands still is late for everything that comes to it meanwhile."""

import asyncio
import gc
import time

import pytest

from tests.proof.lag import BEAT_S, LagWatch, figures_of


def test_a_loop_in_time_shows_nothing():
    watch = LagWatch()
    for _ in range(100):
        watch.observe(0.0, 0.0)
    late, own, _ = figures_of(watch.take())
    assert (late.p50, late.most, own.most) == (0.0, 0.0, 0.0)


def test_a_stall_weighs_as_much_as_it_lasts():
    watch = LagWatch()
    for _ in range(100):
        watch.observe(0.0, 0.0)
    watch.observe(100 * BEAT_S, 100 * BEAT_S)  # as long as all the rest
    late, own, _ = figures_of(watch.take())
    assert late.most == own.most == pytest.approx(100 * BEAT_S * 1000)
    assert late.p99 == pytest.approx(98 * BEAT_S * 1000, abs=2.1 * BEAT_S * 1000)
    assert late.p50 < 2 * BEAT_S * 1000


def test_what_the_machine_did_is_not_the_loops_own_doing():
    watch = LagWatch()
    watch.observe(0.1, 0.02)
    late, own, _ = figures_of(watch.take())
    assert late.most == pytest.approx(100.0)
    assert own.most == pytest.approx(20.0)
    assert own.p50 == 0.0


def test_each_time_it_tells_of_what_came_since():
    watch = LagWatch()
    watch.observe(0.1, 0.1)
    watch.take()
    watch.observe(0.001, 0.0)
    assert figures_of(watch.take()).late.most == pytest.approx(1.0)
    with pytest.raises(AssertionError):
        figures_of(watch.take())


async def test_a_callback_that_computes_for_long_is_seen():
    watch = LagWatch()
    watch.start()
    await asyncio.sleep(3 * BEAT_S)
    watch.take()
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    await asyncio.sleep(2 * BEAT_S)
    late, own, _ = figures_of(watch.take())
    watch.stop()
    assert late.most >= own.most >= 50 - BEAT_S * 1000


async def test_the_longest_collection_is_told_once():
    watch = LagWatch()
    watch.start()
    gc.collect()
    watch.stop()
    watch.observe(0.0, 0.0)
    assert figures_of(watch.take()).longest_collection_ms > 0.0
    watch.observe(0.0, 0.0)
    assert figures_of(watch.take()).longest_collection_ms == 0.0
