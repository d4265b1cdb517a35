"""Who has to hear of a drain, and when he has: times are literals."""

from sessiond.web.notice import ASKERS_MAX, NOTICE_MAX_S, Notice


def asked(*times: float, notice: Notice | None = None, name: str = "one") -> Notice:
    """A notice of checks by somebody, who was told that all is well."""
    notice = notice or Notice()
    for time in times:
        notice.asked(name, time, draining=False)
    return notice


def test_who_has_asked_again_after_he_was_told_knows():
    notice = asked(1, 2)
    assert notice.left_s(2.5) == NOTICE_MAX_S
    notice.asked("one", 3, draining=True)
    assert notice.left_s(3.5) > 0, "the answer is sent, but who knows whether it was read"
    notice.asked("one", 4, draining=True)
    assert notice.left_s(4.5) == 0


def test_everybody_who_asks_has_to_know_not_the_first_one():
    notice = asked(1, 2)
    asked(1.5, 2.5, notice=notice, name="two")
    for name, at in [("one", 3.0), ("two", 3.5), ("one", 4.0)]:
        notice.asked(name, at, draining=True)
        assert notice.left_s(at) > 0
    notice.asked("two", 4.5, draining=True)
    assert notice.left_s(4.5) == 0


def test_the_wait_is_short_for_who_asks_often():
    notice = asked(1, 1.1)
    assert notice.left_s(1.1) == 3 * (1.1 - 1)


def test_nobody_waits_for_who_asked_once_or_has_gone_away():
    assert Notice().left_s(1) == 0
    assert asked(1).left_s(1) == 0
    assert asked(1, 2).left_s(4) == 0
    notice = asked(1, 2)
    asked(1, 2, 3, 4, 5, notice=notice, name="two")
    for at in (6, 7):
        notice.asked("two", at, draining=True)
    assert notice.left_s(7) == 0


def test_a_check_out_of_turn_does_not_look_like_the_end_of_all_checks():
    assert asked(1, 2, 3, 3.01).left_s(3.1) > 0


def test_after_an_aborted_drain_the_next_one_is_news():
    notice = asked(1, 2)
    for at in (3, 4):
        notice.asked("one", at, draining=True)
    asked(5, notice=notice)
    assert notice.left_s(5) > 0
    notice.asked("one", 6, draining=True)
    assert notice.left_s(6) > 0
    notice.asked("one", 7, draining=True)
    assert notice.left_s(7) == 0


def test_no_more_askers_are_remembered_than_the_limit_says():
    notice = asked(1, 2)
    for number in range(ASKERS_MAX - 1):
        notice.asked(f"other{number}", 2.1, draining=False)
    assert notice.left_s(2.2) > 0
    notice.asked("one more", 2.1, draining=False)
    assert notice.left_s(2.2) == 0
