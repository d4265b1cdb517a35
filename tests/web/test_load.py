"""Load rises with a late loop and with the processor time that is used."""

from sessiond.web.load import SAMPLE_INTERVAL_S, Meter


def test_one_slow_callback_shows_less_than_a_slow_loop():
    once, always = Meter(), Meter()
    for late_s in (0.1, 0.0, 0.0, 0.0):
        once.observe(SAMPLE_INTERVAL_S + late_s, 0.0)
    for _ in range(20):
        always.observe(SAMPLE_INTERVAL_S + 0.1, 0.0)
    assert once.lag_s < 0.02
    assert always.lag_s > 0.09


def test_processor_time_is_a_share_of_the_time_that_passed():
    meter = Meter()
    for _ in range(30):
        meter.observe(2 * SAMPLE_INTERVAL_S, SAMPLE_INTERVAL_S)
    assert 0.49 < meter.cpu <= 0.5


def test_a_loop_is_never_early():
    meter = Meter()
    meter.observe(SAMPLE_INTERVAL_S / 2, 0.0)
    assert meter.lag_s == 0.0


async def test_the_meter_stops_when_told():
    meter = Meter()
    meter.start()
    meter.stop()
    meter.stop()
