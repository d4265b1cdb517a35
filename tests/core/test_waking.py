"""The clock that stands still while its node does."""

from sessiond.core.waking import LATE_S, LISTEN_S, WakingClock


def late_clock(asked_for: float, woken: float) -> WakingClock:
    clock = WakingClock()
    clock.expect(asked_for)
    assert clock.wake(woken)
    return clock


def test_a_node_woken_about_in_time_reads_the_ordinary_clock():
    clock = WakingClock()
    clock.expect(10.0)
    assert not clock.wake(10.0 + LATE_S)
    assert clock.reading(10.0) == 10.0
    assert clock.may_judge(10.0)


def test_time_that_a_node_slept_through_is_left_out():
    clock = late_clock(10.0, 15.0)
    assert clock.reading(15.0) == 10.0 + LATE_S
    assert clock.reading(16.0) == 11.0 + LATE_S


def test_what_fell_due_meanwhile_is_judged_only_after_a_turn_of_reading():
    clock = late_clock(10.0, 15.0)
    assert not clock.may_judge(15.0)
    assert clock.has_come(10.0, 15.0)
    assert clock.wake_at(10.0) == 15.0 + LISTEN_S
    assert clock.may_judge(15.0 + LISTEN_S)


def test_a_node_that_is_always_late_judges_at_every_other_awakening():
    clock, now, judged = WakingClock(), 0.0, []
    clock.expect(now)
    for _ in range(6):
        now += 1.0
        clock.wake(now)
        judged.append(clock.may_judge(now))
        clock.expect(clock.wake_at(clock.reading(now)))
    assert judged == [False, True, False, True, False, True]


def test_readings_never_go_back():
    clock, readings = WakingClock(), []
    for now, asked_for in ((0.0, 0.1), (0.12, 0.2), (0.9, 0.95), (0.96, 1.0), (7.0, 7.1), (7.1, 8.0)):
        clock.wake(now)
        readings.append(clock.reading(now))
        clock.expect(asked_for)
    assert readings == sorted(readings)


def test_the_time_to_be_woken_at_is_the_time_at_which_it_has_come():
    clock = late_clock(0.1, 3.7)
    for reading in (3.1, 4.3, 1e6 + 0.1):
        assert clock.has_come(reading, clock.wake_at(reading))
