"""Load rises with waiting requests and with a late loop."""

from sessiond.web.load import FULL_IN_FLIGHT, FULL_LAG_S, LoopLag, load


def test_an_idle_node_has_no_load():
    assert load(0, 0.0) == 0.0


def test_waiting_requests_and_a_late_loop_add_up():
    assert load(FULL_IN_FLIGHT, 0.0) == 1.0
    assert load(0, FULL_LAG_S) == 1.0
    assert load(FULL_IN_FLIGHT, 2 * FULL_LAG_S) == 3.0


def test_one_slow_callback_shows_less_than_a_slow_loop():
    once, always = LoopLag(), LoopLag()
    for late_s in (0.1, 0.0, 0.0, 0.0):
        once.observe(late_s)
    for _ in range(20):
        always.observe(0.1)
    assert once.seconds < 0.02
    assert always.seconds > 0.09


def test_a_loop_is_never_early():
    lag = LoopLag()
    lag.observe(-1.0)
    assert lag.seconds == 0.0


async def test_the_meter_stops_when_told():
    lag = LoopLag()
    lag.start()
    lag.stop()
    lag.stop()
