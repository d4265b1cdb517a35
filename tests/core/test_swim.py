"""One failure detector, driven by hand: probes, relays, suspicions and rumours at literal times."""

from random import Random

import pytest

from sessiond.core import messages as m
from sessiond.core.detection import Answered, Pace, Refuted, Silent, Suspected
from sessiond.core.effects import Send
from sessiond.core.errands import ERRANDS_MAX
from sessiond.core.swim import ASKED_KEPT_S, RELAYS, Swim
from sessiond.core.types import Life
from tests.core.flock import STATUS

ME, NODE2, NODE3, NODE4, NODE5, NODE6 = (Life(f"node{number}", 10) for number in range(1, 7))
PACE = Pace()
START = 1000.0


def made(*others: Life, pace: Pace = PACE) -> Swim:
    swim = Swim(ME, pace, lambda: STATUS, Random(1), START)
    for life in others:
        swim.add(life, START)
    return swim


def until(swim: Swim, end: float) -> list[object]:
    """Tick at every deadline up to `end`; everything the detector wanted done."""
    effects: list[object] = []
    while (at := swim.next_deadline()) <= end:
        swim.tick(at)
        swim.check_invariants()
        effects += swim.take_effects()
    return effects


def told(swim: Swim, life: Life, message: m.Message, now: float) -> list[object]:
    swim.receive(life, message, now)
    swim.check_invariants()
    return swim.take_effects()


def ping(*rumours: m.Rumour, number: int = 77) -> m.Ping:
    return m.Ping(number, STATUS, rumours)


def sent(effects: list[object], kind: type) -> list[tuple[Life, m.Message]]:
    return [
        (effect.to[0], effect.message)
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, kind)
    ]


def of_kind(effects: list[object], kind: type) -> list[object]:
    return [effect for effect in effects if isinstance(effect, kind)]


def accused(life: Life, *accusers: Life, number: int = 0) -> m.Rumour:
    return m.Rumour(life, number, accusers)


def alive(life: Life, number: int) -> m.Rumour:
    return m.Rumour(life, number, ())


def first_ping(swim: Swim) -> tuple[Life, int, float]:
    """Whom it probes first, with which number, and when."""
    at = swim.next_deadline()
    ((life, message),) = sent(until(swim, at), m.Ping)
    return life, message.number, at


def among(swim: Swim, end: float, *well: Life) -> list[object]:
    """Tick at every deadline up to `end` while these members answer at once; as relays, that they heard nothing."""
    effects: list[object] = []
    while (at := swim.next_deadline()) <= end:
        done = until(swim, at)
        effects += done
        for to, message in sent(done, m.Ping):
            if to in well:
                effects += told(swim, to, m.Pong(message.number, STATUS, ()), at)
        for to, message in sent(done, m.PingRequest):
            if to in well:
                effects += told(swim, to, m.Relayed(message.number, message.life, answered=False), at)
    return effects


def suspecting(*others: Life) -> tuple[Swim, Life, float]:
    """A detector whose first probe has just failed, though its relays were well; whom it suspects since when."""
    swim = made(*others)
    life, _, at = first_ping(swim)
    effects = among(swim, at + PACE.probe_interval_s, *(set(others) - {life}))
    assert of_kind(effects, Suspected) == [Suspected(life, (ME,))]
    return swim, life, at + PACE.probe_interval_s


# --- probes -------------------------------------------------------------------------------------------


def test_one_member_is_probed_in_a_period_and_everybody_in_a_round():
    swim = made(NODE2, NODE3, NODE4)
    probed = []
    for _ in range(3):
        life, number, at = first_ping(swim)
        told(swim, life, m.Pong(number, STATUS, ()), at + 0.001)
        probed.append(life)
    assert sorted(probed) == [NODE2, NODE3, NODE4]


def test_alone_a_node_has_nothing_to_do_but_its_periods():
    swim = made()
    assert until(swim, START + 3.0) == []


def test_a_ping_is_answered_with_its_number():
    swim = made(NODE2)
    assert told(swim, NODE2, ping(number=5), START) == [Send((NODE2,), m.Pong(5, STATUS, ()))]


def test_of_a_stranger_nothing_is_answered_or_believed():
    swim = made(NODE2)
    assert told(swim, NODE3, ping(accused(NODE2, NODE3)), START + 0.5) == []
    swim.remove(NODE2)
    assert told(swim, NODE2, ping(), START + 0.5) == []


def test_a_pong_tells_when_its_ping_was_sent():
    swim = made(NODE2)
    swim.ping(NODE2, START + 0.01)
    ((_, message),) = sent(swim.take_effects(), m.Ping)
    pong = m.Pong(message.number, STATUS, ())
    assert told(swim, NODE2, pong, START + 0.2) == [Answered(NODE2, START + 0.01)]
    assert told(swim, NODE2, pong, START + 0.3) == []  # once


def test_a_pong_that_answers_no_ping_of_this_node_is_no_answer():
    swim = made(NODE2, NODE3)
    swim.ping(NODE2, START)
    ((_, message),) = sent(swim.take_effects(), m.Ping)
    assert told(swim, NODE3, m.Pong(message.number, STATUS, ()), START) == []
    assert told(swim, NODE2, m.Pong(999, STATUS, ()), START) == []


def test_pings_that_nobody_answers_are_forgotten_in_the_end():
    swim = made(NODE2)
    for number in range(200):
        swim.ping(NODE2, START + number)
    assert len(swim._asked) <= ASKED_KEPT_S + 1


def test_without_an_answer_in_time_others_are_asked_and_never_the_silent_one():
    swim = made(NODE2, NODE3, NODE4, NODE5, NODE6)
    life, number, at = first_ping(swim)
    assert until(swim, at + PACE.probe_timeout_s - 0.001) == []
    asked = sent(until(swim, at + PACE.probe_timeout_s), m.PingRequest)
    assert len({relay for relay, _ in asked}) == RELAYS
    assert life not in {relay for relay, _ in asked}
    assert {message for _, message in asked} == {m.PingRequest(number, life)}


def test_a_member_that_answered_costs_no_more_in_its_period():
    swim = made(NODE2, NODE3)
    life, number, at = first_ping(swim)
    told(swim, life, m.Pong(number, STATUS, ()), at + 0.05)
    assert until(swim, at + 0.2499) == []


def test_anything_heard_of_the_probed_one_is_an_answer():
    swim = made(NODE2, NODE3)
    life, _, at = first_ping(swim)
    swim.heard(life, at + 0.2)
    assert of_kind(until(swim, at + 0.3), Suspected) == []


def test_a_relayed_answer_is_an_answer():
    swim = made(NODE2, NODE3)
    life, number, at = first_ping(swim)
    until(swim, at + 0.1)
    (relay,) = {NODE2, NODE3} - {life}
    told(swim, relay, m.Relayed(number, life, answered=True), at + 0.15)
    assert of_kind(until(swim, at + 0.3), Suspected) == []


def test_no_sign_by_the_end_of_the_period_is_a_suspicion():
    swim, life, _ = suspecting(NODE2, NODE3)
    assert swim.is_suspected(life)


# --- on behalf of others ------------------------------------------------------------------------------


def test_a_relay_pings_and_passes_the_answer_on():
    swim = made(NODE2, NODE3)
    ((to, message),) = sent(told(swim, NODE2, m.PingRequest(9, NODE3), START), m.Ping)
    assert to == NODE3
    effects = told(swim, NODE3, m.Pong(message.number, STATUS, ()), START + 0.01)
    assert sent(effects, m.Relayed) == [(NODE2, m.Relayed(9, NODE3, answered=True))]


def test_a_relay_says_in_time_that_it_heard_nothing_and_keeps_silent_after():
    swim = made(NODE2, NODE3)
    ((_, message),) = sent(told(swim, NODE2, m.PingRequest(9, NODE3), START), m.Ping)
    effects = until(swim, START + PACE.probe_timeout_s)
    assert sent(effects, m.Relayed) == [(NODE2, m.Relayed(9, NODE3, answered=False))]
    late = told(swim, NODE3, m.Pong(message.number, STATUS, ()), START + 0.12)
    assert sent(late, m.Relayed) == []


def test_a_relay_that_does_not_know_the_life_or_has_too_much_to_do_says_so_at_once():
    swim = made(NODE2, NODE3)
    assert told(swim, NODE2, m.PingRequest(9, NODE5), START) == [
        Send((NODE2,), m.Relayed(9, NODE5, answered=False))
    ]
    for number in range(ERRANDS_MAX):
        assert sent(told(swim, NODE2, m.PingRequest(number, NODE3), START), m.Ping)
    assert told(swim, NODE2, m.PingRequest(500, NODE3), START) == [
        Send((NODE2,), m.Relayed(500, NODE3, answered=False))
    ]


# --- suspicions ---------------------------------------------------------------------------------------


def test_an_accused_is_probed_again_at_once_and_told_why_and_nothing_else():
    swim = made(NODE2, NODE3)
    life, _, at = first_ping(swim)
    (other,) = {NODE2, NODE3} - {life}
    told(swim, other, ping(accused(ME, other)), at + 0.01)  # there is more to tell
    effects = among(swim, at + 2 * PACE.probe_interval_s, other)
    assert sent(effects, m.Ping)[0] == (life, m.Ping(2, STATUS, (accused(life, ME),)))


def test_others_are_told_and_an_accuser_is_named():
    swim, life, at = suspecting(NODE2, NODE3)
    (other,) = {NODE2, NODE3} - {life}
    ((_, pong),) = sent(told(swim, other, ping(), at + 0.01), m.Pong)
    assert pong.rumours == (accused(life, ME),)


def test_a_sign_of_life_ends_a_suspicion_and_the_accused_is_told_of_it_all_the_same():
    swim, life, at = suspecting(NODE2, NODE3)
    effects = told(swim, life, ping(), at + 0.01)
    assert of_kind(effects, Refuted) == [Refuted(life)]
    assert not swim.is_suspected(life)
    ((_, pong),) = sent(effects, m.Pong)
    assert accused(life, ME) in pong.rumours


def test_a_refutation_ends_a_suspicion_by_whomever_it_comes_and_travels_on():
    swim, life, at = suspecting(NODE2, NODE3)
    (other,) = {NODE2, NODE3} - {life}
    effects = told(swim, other, ping(alive(life, 1)), at + 0.01)
    assert of_kind(effects, Refuted) == [Refuted(life)]
    ((_, pong),) = sent(effects, m.Pong)
    assert pong.rumours == (alive(life, 1),)
    assert of_kind(until(swim, at + 0.2), Silent) == []


@pytest.mark.parametrize("number", [0, 1])
def test_what_was_refuted_is_not_believed_again(number):
    swim, life, at = suspecting(NODE2, NODE3)
    (other,) = {NODE2, NODE3} - {life}
    told(swim, other, ping(alive(life, 2)), at + 0.01)
    among(swim, at + 0.3, other)
    late = told(swim, other, ping(accused(life, other, number=number)), at + 0.3)
    assert of_kind(late, Suspected) == []


def test_an_accusation_with_the_number_of_the_refutation_is_a_new_one():
    swim, life, at = suspecting(NODE2, NODE3)
    (other,) = {NODE2, NODE3} - {life}
    told(swim, other, ping(alive(life, 2)), at + 0.01)
    among(swim, at + 0.3, other)
    late = told(swim, other, ping(accused(life, other, number=2)), at + 0.3)
    assert of_kind(late, Suspected) == [Suspected(life, (other,))]


def test_an_old_refutation_does_not_end_a_newer_suspicion():
    swim, life, at = suspecting(NODE2, NODE3)
    (other,) = {NODE2, NODE3} - {life}
    told(swim, other, ping(accused(life, other, number=4)), at + 0.01)
    assert of_kind(told(swim, other, ping(alive(life, 4)), at + 0.02), Refuted) == []
    assert swim.is_suspected(life)


def test_hearsay_about_a_member_heard_of_just_now_ends_here():
    swim = made(NODE2, NODE3)
    swim.heard(NODE3, START + 1.0)
    effects = told(swim, NODE2, ping(accused(NODE3, NODE2)), START + 1.1)
    assert of_kind(effects, Suspected) == []
    assert effects == [Send((NODE2,), m.Pong(77, STATUS, ()))]


def test_hearsay_about_another_life_of_a_member_is_nothing_to_it():
    swim = made(NODE2, NODE3)
    effects = told(swim, NODE2, ping(accused(Life("node3", 9), NODE2)), START + 1.1)
    assert of_kind(effects, Suspected) == []


@pytest.mark.parametrize("life", [NODE2, NODE3, NODE4])
def test_who_hears_of_a_suspicion_in_a_small_cluster_probes_the_accused_next(life):
    swim = made(NODE2, NODE3, NODE4, NODE5)
    among(swim, START + 3.0, NODE2, NODE3, NODE4, NODE5)
    swim._members[life].heard_at = START + 1.0
    told(swim, NODE5, ping(accused(life, NODE5)), START + 3.0)
    probed = sent(among(swim, START + 3.0 + PACE.probe_interval_s), m.Ping)
    assert [to for to, _ in probed] == [life]


def test_alone_against_a_member_a_node_waits_long_and_with_others_not():
    swim, life, at = suspecting(NODE2, NODE3, NODE4, NODE5)
    others = {NODE2, NODE3, NODE4, NODE5} - {life}
    assert of_kind(among(swim, at + 2.5, *others), Silent) == []
    swim, life, at = suspecting(NODE2, NODE3, NODE4, NODE5)
    told(swim, min(others), ping(accused(life, *others)), at + 0.01)
    (silent,) = of_kind(among(swim, at + 2.0, *others), Silent)
    assert silent.silent_s >= PACE.silence_timeout_s
    assert set(silent.accusers) == {ME, *others}


def test_nobody_is_silent_before_the_silence_timeout_whoever_says_so():
    swim = made(NODE2, NODE3, pace=Pace(silence_timeout_s=30.0))
    now = START
    while now < START + 29.5:
        now += 0.2
        until(swim, now)
        told(swim, NODE2, ping(accused(NODE3, NODE2, ME)), now)
        assert of_kind(swim.take_effects(), Silent) == []
    found = of_kind(until(swim, START + 31.0), Silent)
    assert [silent.life for silent in found] == [NODE3]


def test_silence_counts_from_the_last_sign_through_a_peer_too():
    swim = made(NODE2, NODE3)
    life, number, at = first_ping(swim)
    (relay,) = {NODE2, NODE3} - {life}
    now = at
    while now < at + 20.0:
        now += 0.5
        until(swim, now)
        told(swim, relay, m.Relayed(number, life, answered=True), now)
    assert of_kind(swim.take_effects(), Silent) == []


def test_nobody_is_silent_by_hearsay_alone_the_hearer_asks_once_more():
    others = [Life(f"far{number}", 1) for number in range(5000)]
    swim = made(NODE2, *others)
    swim._period_ends_at = START + 1000.0  # no probe of its own falls into this test
    told(swim, others[0], ping(accused(NODE2, *others[:4])), START + 3.0)
    effects = until(swim, START + 60.0)
    assert [to for to, _ in sent(effects, m.Ping)] == [NODE2]
    assert [silent.life for silent in of_kind(effects, Silent)] == [NODE2]
    asked = next(i for i, effect in enumerate(effects) if isinstance(effect, Send))
    assert asked < next(i for i, effect in enumerate(effects) if isinstance(effect, Silent))


def test_a_silence_is_said_once_and_taken_back_when_the_life_is_heard_of():
    swim, life, at = suspecting(NODE2)
    effects = until(swim, at + 20.0)
    assert [silent.life for silent in of_kind(effects, Silent)] == [life]
    assert of_kind(told(swim, life, ping(), at + 20.0), Refuted) == [Refuted(life)]


def test_a_removed_member_is_probed_and_suspected_no_more():
    swim, life, at = suspecting(NODE2, NODE3)
    swim.remove(life)
    swim.check_invariants()
    assert not swim.is_suspected(life)
    effects = until(swim, at + 0.24)
    assert life not in [to for to, _ in sent(effects, m.Ping)]


# --- about this node ----------------------------------------------------------------------------------


def test_an_accused_node_refutes_with_a_higher_number_each_time():
    swim = made(NODE2, NODE3)
    ((_, pong),) = sent(told(swim, NODE2, ping(accused(ME, NODE3)), START), m.Pong)
    assert pong.rumours == (alive(ME, 1),)
    ((_, pong),) = sent(told(swim, NODE2, ping(accused(ME, NODE3, number=1)), START), m.Pong)
    assert pong.rumours == (alive(ME, 2),)


def test_to_a_stale_accusation_a_node_repeats_its_refutation():
    swim = made(NODE2, NODE3)
    told(swim, NODE2, ping(accused(ME, NODE3, number=6)), START)
    ((_, pong),) = sent(told(swim, NODE2, ping(accused(ME, NODE2)), START), m.Pong)
    assert pong.rumours == (alive(ME, 7),)


def test_an_accusation_of_an_earlier_life_is_none_of_this_ones_business():
    swim = made(NODE2, NODE3)
    swim.begin_life(Life("node1", 11), START)
    ((_, pong),) = sent(told(swim, NODE2, ping(accused(ME, NODE3)), START), m.Pong)
    assert pong.rumours == ()
    ((_, pong),) = sent(told(swim, NODE2, ping(accused(Life("node1", 11), NODE3)), START), m.Pong)
    assert pong.rumours == (alive(Life("node1", 11), 1),)


def test_being_accused_makes_a_node_doubt_itself_and_answered_probes_end_that():
    swim = made(NODE2)
    told(swim, NODE2, ping(accused(ME, NODE2)), START)
    assert swim.awareness.multiplier == 2
    life, number, at = first_ping(swim)
    told(swim, life, m.Pong(number, STATUS, ()), at + 0.01)
    until(swim, at + 2 * PACE.probe_interval_s)
    assert swim.awareness.multiplier == 1


def test_relays_that_do_not_answer_at_all_make_a_node_doubt_itself_and_those_that_do_spare_it():
    swim = made(NODE2, NODE3, NODE4, NODE5)
    _, _, at = first_ping(swim)
    assert of_kind(until(swim, at + PACE.probe_interval_s), Suspected)
    assert swim.awareness.multiplier == 1 + RELAYS
    swim, _, _ = suspecting(NODE2, NODE3, NODE4, NODE5)
    assert swim.awareness.multiplier == 1


def test_a_node_that_is_late_itself_gives_the_others_more_time_to_answer():
    swim = made(NODE2, NODE3)
    swim.next_deadline()
    swim.tick(START + 7.0)
    _, _, at = first_ping(swim)
    assert swim.lateness.multiplier == 2
    assert sent(until(swim, at + 2 * PACE.probe_timeout_s - 0.001), m.PingRequest) == []
    assert sent(until(swim, at + 2 * PACE.probe_timeout_s), m.PingRequest)
    assert of_kind(until(swim, at + 2 * PACE.probe_interval_s - 0.001), Suspected) == []


def test_a_node_that_others_doubt_probes_no_more_slowly_for_that():
    swim = made(NODE2, NODE3)
    told(swim, NODE2, ping(accused(ME, NODE2)), START)
    _, _, at = first_ping(swim)
    assert swim.awareness.multiplier == 2
    assert of_kind(until(swim, at + PACE.probe_interval_s), Suspected)


def test_a_node_that_doubts_itself_notices_naps_within_its_longer_periods_too():
    swim = made(NODE2, NODE3)
    for number in range(8):
        told(swim, NODE2, ping(accused(ME, NODE2, number=number)), START)
    _, _, at = first_ping(swim)
    assert swim.awareness.multiplier == 9  # the period lasts for 2.25 s now
    swim.next_deadline()
    assert swim.overslept_since(at, at + 1.0)
    assert not swim.overslept_since(at + 1.02, at + 1.02)


def test_a_late_awakening_is_doubt_and_the_answers_that_wait_are_read_before_anything_is_judged():
    swim = made(NODE2, NODE3)
    life, number, at = first_ping(swim)
    swim.next_deadline()
    swim.tick(at + 7.0)
    assert swim.take_effects() == []
    assert swim.awareness.multiplier == 2
    told(swim, life, m.Pong(number, STATUS, ()), at + 7.0)
    effects = among(swim, at + 7.2)
    assert sent(effects, m.Ping)  # the next period has begun
    assert life not in [found.life for found in of_kind(effects, Suspected)]
    assert of_kind(effects, Silent) == []


def test_a_node_that_trusts_itself_blindly_takes_its_own_pause_for_the_others_silence():
    swim = made(NODE2, NODE3, pace=Pace(awareness_max=0))
    life, _, at = first_ping(swim)
    swim.next_deadline()
    swim.tick(at + 7.0)
    assert [found.life for found in of_kind(swim.take_effects(), Suspected)] == [life]
