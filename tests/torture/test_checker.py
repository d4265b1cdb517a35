"""The judge is tried on histories whose verdict is known."""

import pytest

from tests.e2e.client import Answer, Cookie
from tests.torture import users
from tests.torture.checker import Verdict, judge
from tests.torture.history import History, Kind, Operation
from tests.torture.users import Door


def write(began: float, ended: float, number: int, found: int, **more) -> Operation:
    return operation(Kind.WRITE, began, ended, number=number, found=found, **more)


def read(began: float, ended: float, found: int, **more) -> Operation:
    return operation(Kind.READ, began, ended, found=found, **more)


def unanswered(began: float, ended: float, number: int) -> Operation:
    return operation(Kind.WRITE, began, ended, number=number)


def unread(began: float, ended: float) -> Operation:
    return operation(Kind.READ, began, ended)


def operation(kind: Kind, began: float, ended: float, **more) -> Operation:
    answer = {"node": "node1", "epoch": 1, "protected": True} if "found" in more else {}
    return Operation("s1", "a0", kind, began, ended_at=ended, **{**answer, **more})


def judged(*operations: Operation, parted=()) -> Verdict:
    return judge(History(sorted(operations, key=lambda each: each.ended_at)), parted)


def test_numbers_that_only_rise_are_no_fault():
    verdict = judged(
        write(0, 1, 1, 0),
        read(1.5, 2, 1),
        unanswered(2, 3, 2),
        read(3.5, 4, 1),
        write(5, 6, 3, 2),
        read(7, 8, 3),
    )
    assert verdict.faults == []


def test_an_acknowledged_write_that_the_last_look_does_not_find_is_lost():
    verdict = judged(write(0, 1, 1, 0), write(2, 3, 2, 1), read(4, 5, 1))
    assert len(verdict.lost) == 1
    assert verdict.faults == verdict.lost


def test_a_promise_is_not_kept_if_the_last_look_gets_no_answer():
    verdict = judged(write(0, 1, 1, 0), write(2, 3, 2, 1), unread(4, 5), unread(6, 7))
    assert len(verdict.unseen) == 1
    assert verdict.faults == verdict.unseen
    assert "[6.000, 7.000]" in verdict.unseen[0]


def test_a_look_that_is_answered_in_the_end_tells_what_is_there():
    assert judged(write(0, 1, 1, 0), unread(2, 3), read(4, 5, 1)).faults == []
    verdict = judged(write(0, 1, 1, 0), unread(2, 3), read(4, 5, 0))
    assert verdict.faults == verdict.lost != []


def test_no_answer_about_what_nobody_was_promised_is_no_fault():
    assert judged(write(0, 1, 1, 0, protected=False), unread(2, 3)).faults == []
    assert judged(unanswered(0, 1, 1), unread(2, 3)).faults == []
    assert judged(read(0, 1, 0), unread(2, 3)).faults == []


def test_a_session_whose_end_was_asked_for_needs_no_answer_any_more():
    end = operation(Kind.LOG_OUT, 2, 3)
    assert judged(write(0, 1, 1, 0), end, unread(4, 5)).faults == []


def test_while_the_cluster_was_parted_a_last_look_without_an_answer_counts_too():
    verdict = judged(write(0, 1, 1, 0), unread(2, 3), parted=[(1.5, 4)])
    assert verdict.faults == verdict.unseen != []


class Reader:
    """A node or a balancer that answers only after some requests."""

    def __init__(self, refusals: int) -> None:
        self.cookie = Cookie("t.node1")
        self.refusals = refusals

    async def ask(self, _method: str, _path: str) -> Answer:
        if self.refusals:
            self.refusals -= 1
            return Answer(503, {}, b"not now")
        return Answer(200, {}, b'{"node": "node1", "found": 1, "epoch": 1, "protected": true}')


@pytest.mark.parametrize(("refusals", "answered"), [(3, True), (10**9, False)])
async def test_the_last_look_is_repeated_until_it_is_answered_or_its_time_is_up(
    monkeypatch, refusals, answered
):
    monkeypatch.setattr(users, "LOOK_PAUSE_S", 0.0)
    monkeypatch.setattr(users, "LOOK_S", users.LOOK_S if answered else 0.0)
    history = History()
    reader = Reader(refusals)
    await Door(history, "s1", "balancer", "a0", (reader, reader)).look()
    assert [each.is_answered for each in history.operations] == [False] * (3 if answered else 1) + [
        True
    ] * answered


def test_an_answer_that_goes_back_in_time_is_stale_if_the_number_comes_back():
    verdict = judged(write(0, 1, 1, 0), write(2, 3, 2, 1), read(4, 5, 1), read(6, 7, 2))
    assert len(verdict.stale) == 1
    assert verdict.faults == verdict.stale


def test_what_one_read_has_shown_the_next_one_must_show_too():
    verdict = judged(unanswered(0, 1, 1), read(2, 3, 1), read(4, 5, 0), read(6, 7, 1))
    assert len(verdict.stale) == 1


def test_a_write_that_replaces_something_old_is_seen_to():
    verdict = judged(write(0, 1, 1, 0), write(2, 3, 2, 0), read(4, 5, 2))
    assert len(verdict.stale) == 1


@pytest.mark.parametrize("began", [0.5, 2.5])
def test_a_read_that_overlaps_a_write_may_show_either_number(began):
    verdict = judged(write(0, 1, 1, 0), write(2, 3, 2, 1), read(began, 4, 1), read(5, 6, 2))
    assert verdict.stale == ([] if began > 2 else verdict.stale)
    assert verdict.lost == []


def test_an_unprotected_answer_obliges_nobody():
    verdict = judged(write(0, 1, 1, 0), write(2, 3, 2, 1, protected=False), read(4, 5, 1))
    assert verdict.faults == []


def test_answers_that_promise_nothing_are_counted():
    log_out = operation(Kind.LOG_OUT, 8, 9, found=0, protected=False)
    nobody = read(6, 7, 0, protected=False, epoch=0)
    verdict = judged(
        write(0, 1, 1, 0), write(2, 3, 2, 1, protected=False), unread(3, 4), read(4, 5, 2), nobody, log_out
    )
    assert (verdict.unprotected, verdict.answers) == (1, 3)
    assert verdict.unprotected_share == pytest.approx(1 / 3)
    assert judged().unprotected_share == 0


def test_a_number_that_nobody_had_sent_yet_is_invented():
    verdict = judged(read(0, 1, 1), write(2, 3, 1, 0))
    assert len(verdict.invented) == 1


def test_what_is_found_after_an_acknowledged_end_has_risen_from_the_dead():
    end = operation(Kind.LOG_OUT, 2, 3, found=0)
    verdict = judged(write(0, 1, 1, 0), end, read(2.5, 4, 1), read(5, 6, 1), read(7, 8, 0, vanished="s1"))
    assert len(verdict.resurrected) == 1
    assert verdict.faults == verdict.resurrected


def test_a_session_that_is_not_found_though_nobody_ended_it_has_vanished():
    verdict = judged(write(0, 1, 1, 0), read(2, 3, 0, vanished="s1"), read(4, 5, 1))
    assert verdict.faults == verdict.vanished != []


def test_a_session_may_be_gone_once_its_end_was_asked_for():
    end = operation(Kind.LOG_OUT, 2, 3)
    verdict = judged(write(0, 1, 1, 0), end, read(4, 5, 0, vanished="s1"))
    assert verdict.faults == []


def test_an_acknowledgement_in_a_term_below_an_earlier_ones_is_a_fault():
    verdict = judged(write(0, 1, 1, 0, epoch=2), write(2, 3, 2, 1, epoch=1), read(4, 5, 2, epoch=2))
    assert len(verdict.old_terms) == 1


def test_while_the_cluster_is_parted_old_answers_are_counted_but_a_loss_is_a_loss():
    operations = (write(0, 1, 1, 0), write(2, 3, 2, 1, epoch=2), read(4, 5, 1), read(8, 9, 2, epoch=2))
    verdict = judged(*operations, parted=[(3.5, 6)])
    assert verdict.faults == []
    assert verdict.forked == 2  # stale, and in an old term
    verdict = judged(*operations[:-1], read(8, 9, 1, epoch=2), parted=[(3.5, 6)])
    assert len(verdict.lost) == 1
