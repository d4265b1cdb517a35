"""Lives get numbers on the links of a node, which both ends agree on."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from sessiond import wire as wire_module
from sessiond.core import messages as m
from sessiond.core.checks import CodecError
from sessiond.core.codec import encode
from sessiond.core.types import Life, Location, Term
from sessiond.wire import Wire

KEY = b"k" * 16


def life(number: int) -> Life:
    return Life(f"node{number}", 1_790_000_000_000 + number)


@dataclass
class FakeLink:
    """One end of a link; what it sends waits until the test hands it over."""

    own: Life
    peer: SimpleNamespace
    sent: list[bytes] = field(default_factory=list)

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)


class Party:
    """A node that has nothing but links."""

    def __init__(self, number: int) -> None:
        self.life = life(number)
        self.open: dict[Life, FakeLink] = {}
        self.wire = Wire(self)

    def links(self) -> list[FakeLink]:
        return list(self.open.values())

    def link_to(self, life: Life) -> FakeLink | None:
        return self.open.get(life)

    def say(self, *to: "Party", message: m.Message) -> None:
        self.wire.send(self.life, tuple(other.life for other in to), message)


def link(one: Party, two: Party) -> None:
    for own, other in ((one, two), (two, one)):
        own.open[other.life] = FakeLink(own.life, SimpleNamespace(life=other.life))
        own.wire.opened(own.open[other.life])


def frames(sender: Party, receiver: Party) -> list[bytes]:
    taken = list(sender.open[receiver.life].sent)
    sender.open[receiver.life].sent.clear()
    return taken


def hear(receiver: Party, sender: Party) -> list[m.Message]:
    return list(receiver.wire.received(receiver.open[sender.life], frames(sender, receiver)))


def locations(owner: Life, *backups: Life, gone: bool = False) -> m.Locations:
    return m.Locations(((KEY, Location(Term(1, owner), 1, backups, gone)),))


@pytest.fixture
def trio() -> list[Party]:
    parties = [Party(number) for number in (1, 2, 3)]
    link(parties[0], parties[1])
    link(parties[0], parties[2])
    link(parties[1], parties[2])
    return parties


def test_where_a_session_lives_costs_24_bytes(trio):
    one, two, three = trio
    hear(three, one)
    one.say(three, message=locations(one.life, two.life))
    (frame,) = frames(one, three)
    assert len(frame) == 24
    assert list(three.wire.received(three.open[one.life], [frame])) == [locations(one.life, two.life)]


def test_whoever_is_linked_last_knows_the_names_of_all_before_it(trio):
    one, two, three = trio
    four = Party(4)
    link(four, one)
    for backups in ((two.life, three.life, four.life), (life(9),), (one.life,), ()):
        one.say(three, four, message=locations(one.life, *backups))
        assert hear(four, one) == hear(three, one) == [locations(one.life, *backups)]
    one.say(three, four, message=locations(two.life, four.life, one.life, gone=True))
    assert hear(four, one) == hear(three, one) == [locations(two.life, four.life, one.life, gone=True)]


def test_numbers_are_each_nodes_own(trio):
    one, two, three = trio
    two.say(three, message=locations(two.life, one.life))
    one.say(three, message=locations(one.life, two.life))
    assert hear(three, two) == [locations(two.life, one.life)]
    assert hear(three, one) == [locations(one.life, two.life)]


def test_a_link_in_the_place_of_another_begins_anew(trio):
    one, two, three = trio
    hear(three, one)
    link(one, three)
    one.say(three, message=locations(one.life, two.life))
    assert hear(three, one) == [locations(one.life, two.life)]
    three.wire.closed(three.open[one.life])
    link(three, one)
    one.say(three, message=locations(one.life, two.life))
    assert hear(three, one) == [locations(one.life, two.life)]


def test_who_has_no_number_is_named(trio, monkeypatch):
    monkeypatch.setattr(wire_module, "NUMBERED_MAX", 2)
    one, two, three = trio
    four = Party(4)
    link(one, four)
    one.say(three, four, message=locations(one.life, two.life, four.life))
    assert hear(three, one) == hear(four, one) == [locations(one.life, two.life, four.life)]


def test_a_peer_cannot_number_lives_without_end(trio, monkeypatch):
    one, two, _ = trio
    hear(two, one)
    monkeypatch.setattr(wire_module, "NUMBERED_MAX", 3)
    one.open[two.life].send(encode(m.Lives((life(7), life(8)))))
    with pytest.raises(CodecError, match="more than 3 lives"):
        hear(two, one)


def test_a_number_that_was_never_given_is_an_error(trio):
    one, two, _ = trio
    hear(two, one)
    one.wire._numbers[life(9)] = 9
    one.say(two, message=locations(one.life, life(9)))
    with pytest.raises(CodecError, match="an index below 2 expected, not int 9"):
        hear(two, one)
