"""Rumours on messages that are sent anyway: each a few times, the newest first, a few at once, one for a life."""

from sessiond.core.gossip import QUEUE_MAX, RUMOURS_PER_MESSAGE, Gossip
from sessiond.core.messages import Rumour
from sessiond.core.types import Life


def rumour(number: int, refutation: int = 0) -> Rumour:
    return Rumour(Life(f"node{number}", 1), refutation, (Life("node0", 1),))


def told_in_all(gossip: Gossip, others: int) -> list[Rumour]:
    told = []
    while rumours := gossip.take(others):
        told += rumours
    return told


def test_a_rumour_is_told_a_number_of_times_that_grows_with_the_logarithm_of_the_size():
    times = []
    for others in (1, 9, 99, 999):
        gossip = Gossip()
        gossip.add(rumour(1))
        times.append(len(told_in_all(gossip, others)))
    assert times == [3, 10, 20, 30]


def test_what_was_told_least_goes_first_and_of_that_the_newest():
    gossip = Gossip()
    gossip.add(rumour(1))
    gossip.take(9)
    for number in range(2, RUMOURS_PER_MESSAGE + 3):
        gossip.add(rumour(number))
    first, second = gossip.take(9), gossip.take(9)
    assert first == tuple(rumour(number) for number in range(RUMOURS_PER_MESSAGE + 2, 2, -1))
    assert second[:2] == (rumour(2), rumour(RUMOURS_PER_MESSAGE + 2))


def test_a_message_carries_a_few_rumours_only():
    gossip = Gossip()
    for number in range(50):
        gossip.add(rumour(number))
    assert len(gossip.take(9)) == RUMOURS_PER_MESSAGE


def test_newer_talk_about_a_life_takes_the_place_of_older_and_starts_afresh():
    gossip = Gossip()
    gossip.add(rumour(1))
    gossip.take(9)
    gossip.add(rumour(1, refutation=1))
    told = told_in_all(gossip, 9)
    assert set(told) == {rumour(1, refutation=1)}
    assert len(told) == 10


def test_nothing_more_is_told_about_a_forgotten_life():
    gossip = Gossip()
    gossip.add(rumour(1))
    gossip.forget(Life("node1", 1))
    gossip.forget(Life("node2", 1))
    assert gossip.take(9) == ()


def test_beyond_its_bound_the_queue_lets_go_what_was_told_most_often():
    gossip = Gossip()
    gossip.add(rumour(0))
    gossip.take(9)
    for number in range(1, QUEUE_MAX + 1):
        gossip.add(rumour(number))
    assert len(gossip) == QUEUE_MAX
    assert rumour(0) not in told_in_all(gossip, 9)
