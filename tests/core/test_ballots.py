"""Death votes: one life each, counted when enough of them are old enough."""

from sessiond.core.ballots import Ballots, CastVote
from sessiond.core.types import Life

OLD, NEW = Life("node9", 1), Life("node9", 2)


def test_a_life_is_over_when_a_quorum_has_voted_for_long_enough():
    ballots = Ballots(ripe_after_s=1.0)
    ballots.cast(CastVote(OLD, "node1", 10.0, certain=False))
    assert ballots.next_ripe(quorum=2, after=0.0) is None
    ballots.cast(CastVote(OLD, "node2", 10.5, certain=False))
    assert ballots.next_ripe(quorum=2, after=0.0) == 11.5
    assert not ballots.counts(OLD, quorum=2, now=11.4)
    assert ballots.counts(OLD, quorum=2, now=11.5)


def test_the_latest_of_more_votes_than_needed_is_not_waited_for():
    ballots = Ballots(ripe_after_s=1.0)
    for voter, at in (("node1", 10.0), ("node2", 10.1), ("node3", 99.0)):
        ballots.cast(CastVote(OLD, voter, at, certain=False))
    assert ballots.counts(OLD, quorum=2, now=11.2)


def test_a_vote_is_news_once_and_counts_from_the_earliest_word_of_it():
    ballots = Ballots(ripe_after_s=1.0)
    assert ballots.cast(CastVote(OLD, "node1", 10.0, certain=False))
    assert not ballots.cast(CastVote(OLD, "node1", 9.0, certain=False))
    assert ballots.next_ripe(quorum=1, after=0.0) == 10.0
    assert ballots.cast(CastVote(OLD, "node1", 11.0, certain=True))
    assert ballots.is_certain(OLD)
    assert ballots.next_ripe(quorum=1, after=0.0) == 10.0


def test_a_later_life_is_not_touched_by_votes_about_an_earlier_one():
    ballots = Ballots(ripe_after_s=0.0)
    ballots.cast(CastVote(OLD, "node1", 10.0, certain=True))
    assert not ballots.counts(NEW, quorum=1, now=20.0)
    ballots.cast(CastVote(NEW, "node2", 10.0, certain=False))
    assert not ballots.cast(CastVote(OLD, "node3", 10.0, certain=False))
    assert [vote.voter for vote in ballots.all()] == ["node2"]
    assert not ballots.has_cast(OLD, "node1")
    assert not ballots.is_certain(NEW)


def test_forgetting_takes_everything_back():
    ballots = Ballots(ripe_after_s=0.0)
    ballots.cast(CastVote(OLD, "node1", 10.0, certain=True))
    ballots.forget()
    assert ballots.lives() == []
    assert not ballots.counts(OLD, quorum=1, now=20.0)
