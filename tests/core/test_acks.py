"""Cumulative acks: what an ack means, and that it can never stand for a frame that was refused."""

from hypothesis import given
from hypothesis import strategies as st

from sessiond.core import messages as m
from sessiond.core.acks import AckLedger, Applied
from sessiond.core.types import Life, Term
from tests.core.world import KEY, World

TERM = Term(1, Life("node1", 1))


def applied(version: int) -> Applied:
    return Applied(KEY, TERM, 1, version)


def test_an_ack_means_every_frame_up_to_it():
    ledger = AckLedger()
    for version in (1, 2, 3):
        ledger.sent(applied(version))
    assert list(ledger.acked(2)) == [applied(1), applied(2)]
    assert list(ledger.acked(3)) == [applied(3)]
    assert ledger.under_way == 0


def test_an_ack_repeated_or_older_means_nothing_new():
    ledger = AckLedger()
    ledger.sent(applied(1))
    assert list(ledger.acked(1)) == [applied(1)]
    assert list(ledger.acked(1)) == []
    ledger.sent(applied(2))
    assert list(ledger.acked(1)) == []
    assert ledger.under_way == 1


def test_a_refused_frame_is_not_part_of_the_ack_that_follows():
    ledger = AckLedger()
    for version in (1, 2, 3):
        ledger.sent(applied(version))
    ledger.refused(2)
    assert list(ledger.acked(3)) == [applied(1), applied(3)]


def test_a_refusal_of_a_frame_that_is_not_under_way_changes_nothing():
    ledger = AckLedger()
    ledger.sent(applied(1))
    ledger.refused(7)
    assert list(ledger.acked(1)) == [applied(1)]


def test_the_receiver_owes_one_ack_for_all_that_came_in_a_turn_and_none_twice():
    ledger = AckLedger()
    assert ledger.owed() is None
    assert [ledger.received(), ledger.received()] == [1, 2]
    assert ledger.owed() == 2
    assert ledger.owed() is None


@given(st.lists(st.sampled_from(["applied", "refused", "end of turn"]), max_size=40))
def test_whatever_is_refused_the_sender_takes_exactly_the_applied_frames_for_applied(turns):
    sender, receiver = AckLedger(), AckLedger()
    stream: list[tuple[str, int]] = []
    right, version = [], 0
    for event in [*turns, "end of turn"]:
        if event == "end of turn":
            if (owed := receiver.owed()) is not None:
                stream.append(("ack", owed))
            continue
        version += 1
        sender.sent(applied(version))
        number = receiver.received()
        if event == "refused":
            stream.append(("nack", number))  # before the ack of the turn, in the same stream
        else:
            right.append(applied(version))
    understood = []
    for kind, number in stream:
        if kind == "ack":
            understood += sender.acked(number)
        else:
            sender.refused(number)
    assert understood == right
    assert sender.under_way == 0


def test_a_backup_refuses_before_it_acks_in_the_same_turn():
    world = World.of(2)
    backup = world.machine("node2")
    peer = world.machine("node1").life
    backup.receive(peer, m.Patch(KEY, Term(1, peer), 1, None, 4, 5, {"a": b"1"}, None), world.now)
    sent = [effect.message for effect in backup.take_effects()]
    assert [type(message) for message in sent] == [m.Nack, m.Gap, m.Ack]


def test_a_link_that_takes_the_place_of_another_begins_a_new_account():
    # Nobody has told that the older one ended.
    world = World.of(2)
    world.create("node1", n=b"1")
    world.hold(m.Ack)
    world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    machine, peer = world.machine("node1"), world.machine("node2")
    before = machine.links.ledgers[peer.life]
    machine.link_opened(peer.identity, None, world.now)
    assert machine.links.ledgers[peer.life] is not before
    assert machine.links.ledgers[peer.life].under_way == 1  # the write goes again


def test_frames_of_an_earlier_link_are_never_acked_on_the_next_one():
    world = World.of(2)
    world.create("node1", n=b"1")
    world.hold(m.Ack)
    operation = world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    life = world.machine("node2").life
    assert world.machine("node1").links.ledgers[life].under_way == 1
    world.hold(m.Put)  # what is sent again waits, so that nothing has been applied by the new link
    world.reset("node1", "node2")
    assert world.machine("node1").links.ledgers[life].under_way == 1
    world.machine("node1").receive(life, m.Ack(0), world.now)
    assert world.outcome("node1", operation) == "pending"
    world.let_go()
    assert world.outcome("node1", operation).version == 2
