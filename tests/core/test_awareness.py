"""A node's doubt in itself: raised by signs that it is slow, lowered by answers, bounded both ways."""

from sessiond.core.awareness import Awareness


def test_a_healthy_node_waits_as_long_as_usual():
    awareness = Awareness(worst=8)
    awareness.improve()
    assert awareness.multiplier == 1


def test_signs_of_slowness_lengthen_the_waits_and_answers_shorten_them_step_by_step():
    awareness = Awareness(worst=8)
    awareness.worsen(3)
    awareness.worsen()
    assert awareness.multiplier == 5
    awareness.improve()
    assert awareness.multiplier == 4


def test_doubt_has_a_bound_and_is_over_after_as_many_answers():
    awareness = Awareness(worst=3)
    awareness.worsen(50)
    assert awareness.multiplier == 4
    for _ in range(3):
        awareness.improve()
    assert awareness.multiplier == 1


def test_with_a_bound_of_none_a_node_never_doubts_itself():
    awareness = Awareness(worst=0)
    awareness.worsen(5)
    assert awareness.multiplier == 1
