import dataclasses

import msgpack
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.core.types import Life
from sessiond.errors import ConfigurationError
from sessiond.net import greetings, handshake
from sessiond.net.greetings import PROTOCOL_VERSION
from sessiond.net.handshake import Handshake, HandshakeRefused, Role, Stage

OLD, NEW, OTHER = b"the old secret", b"the new secret", b"another cluster's secret"


def identity(name, **changes):
    fields = {
        "life": Life(name, 7),
        "boot_id": name.encode()[:16].ljust(16, b"."),
        "cluster_name": "shop",
        "http": f"{name}:8101",
        "cluster": f"{name}:7101",
        "api": f"{name}:9101",
        "zone": "north",
    }
    return Identity(**{**fields, **changes})


def sides(initiator_secrets=(OLD,), acceptor_secrets=(OLD,), initiator=None, acceptor=None):
    return (
        Handshake(Role.INITIATOR, initiator or identity("node1"), initiator_secrets, b"i" * 16),
        Handshake(Role.ACCEPTOR, acceptor or identity("node2"), acceptor_secrets, b"a" * 16),
    )


class Conversation:
    """Carries messages between two sides until nobody has anything to say. `said`: (role, message) in order.

    `change(index, message)` stands for the network: what it returns is what arrives. None: nothing does.
    """

    def __init__(self, initiator, acceptor, *, initiator_says=None, acceptor_says=None, change=None):
        self.sides = (initiator, acceptor)
        self.decisions = (initiator_says, acceptor_says)
        self.said = []
        self.refusals = [None, None]  # HandshakeRefused, by side
        self._change = change or (lambda _index, message: message)
        self._run(initiator.begin())

    def _run(self, message):
        speaker = 0
        while message:
            self.said.append((speaker, message))
            message = self._change(len(self.said) - 1, message)
            if message is None:
                return
            speaker = 1 - speaker
            message = self._hear(speaker, message)

    def _hear(self, listener, message):
        side = self.sides[listener]
        try:
            answer = side.receive(message)
        except HandshakeRefused as refused:
            self.refusals[listener] = refused
            assert side.stage is Stage.REFUSED
            return refused.farewell
        if side.stage is Stage.DECISION:
            assert not answer, "nothing is said before the decision"
            return side.decide(self.decisions[listener])
        return answer

    @property
    def stages(self):
        return [side.stage for side in self.sides]

    @property
    def codes(self):
        return [refused and refused.refusal.code for refused in self.refusals]


def test_two_nodes_of_a_cluster_learn_who_the_other_is():
    initiator, acceptor = sides()
    talk = Conversation(initiator, acceptor)
    assert talk.stages == [Stage.OPEN, Stage.OPEN]
    assert initiator.peer == identity("node2")
    assert acceptor.peer == identity("node1")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ([OLD], [NEW, OLD]),
        ([NEW, OLD], [OLD]),
        ([NEW], [NEW, OLD]),
        ([NEW, OLD], [OLD, NEW]),
        ([OTHER, b"a", b"b", OLD], [OLD, b"c", b"d", NEW]),
        ([], []),
    ],
)
def test_one_secret_in_common_is_enough_wherever_it_stands(one, two):
    assert Conversation(*sides(one, two)).stages == [Stage.OPEN, Stage.OPEN]
    assert Conversation(*sides(two, one)).stages == [Stage.OPEN, Stage.OPEN]


@pytest.mark.parametrize(("one", "two"), [([OLD], [NEW]), ([], [OLD]), ([OLD], []), ([NEW, OTHER], [OLD])])
def test_without_a_common_secret_both_sides_are_told_so(one, two):
    talk = Conversation(*sides(one, two))
    assert talk.codes == [RefusalCode.SECRET, RefusalCode.SECRET]
    assert "--secret-file" in talk.refusals[0].refusal.detail


@pytest.mark.parametrize("secrets", [[], [OLD]])
def test_another_cluster_name_is_told_to_both_sides_even_if_the_secrets_differ_too(secrets):
    talk = Conversation(*sides(secrets, [OTHER], acceptor=identity("node2", cluster_name="bank")))
    assert talk.codes == [RefusalCode.CLUSTER_NAME, RefusalCode.CLUSTER_NAME]
    assert "'shop'" in talk.refusals[0].refusal.detail
    assert not any(b"bank" in message for _, message in talk.said), "without secrets the name is the key"


def test_another_protocol_version_is_told_to_both_sides_before_anything_else():
    initiator, acceptor = sides([OLD], [NEW], acceptor=identity("node2", cluster_name="bank"))

    def newer(index, message):
        hello = {"kind": "hello", "protocol": PROTOCOL_VERSION + 1, "new field": [{}]}
        return msgpack.packb(hello) if index == 0 else message

    talk = Conversation(initiator, acceptor, change=newer)
    assert talk.codes == [RefusalCode.PROTOCOL, RefusalCode.PROTOCOL]
    assert f"version {PROTOCOL_VERSION}" in talk.refusals[0].refusal.detail
    assert f"version {PROTOCOL_VERSION + 1}" in talk.refusals[0].refusal.detail


@pytest.mark.parametrize("decider", [0, 1])
def test_what_a_node_decides_by_itself_reaches_the_other_side_with_all_it_says(decider):
    dead = Refusal(RefusalCode.DEAD, "node1/7 is dead", incarnation_floor=12)
    name = ["initiator_says", "acceptor_says"][decider]
    talk = Conversation(*sides(), **{name: dead})
    assert talk.stages == [Stage.REFUSED, Stage.REFUSED]
    told = talk.refusals[1 - decider]
    assert told.refusal == dead
    assert not told.by_us


def test_a_stranger_learns_neither_who_answers_nor_anything_made_from_a_secret():
    stranger = Conversation(*sides([OTHER], [OLD]))
    said = b"".join(message for speaker, message in stranger.said if speaker == 1)
    assert b"node2" not in said
    assert b"8101" not in said
    kinds = [msgpack.unpackb(message)["kind"] for speaker, message in stranger.said if speaker == 1]
    assert kinds == ["challenge", "refused"]


def test_the_dialer_says_who_it_is_only_to_a_node_that_has_proven_itself():
    initiator, acceptor = sides()
    impostor = Handshake(Role.ACCEPTOR, identity("node2"), [OTHER], b"x" * 16)
    impostor.receive(initiator.begin())
    proof = initiator.receive(greetings.encode(greetings.Challenge(b"x" * 16)))
    assert b"node1" not in proof
    acceptor.receive(Handshake(Role.INITIATOR, identity("node3"), [OTHER], b"y" * 16).begin())
    with pytest.raises(HandshakeRefused) as refused:
        initiator.receive(greetings.encode(greetings.Sealed(b"who knows", bytes(32))))
    assert refused.value.refusal.code is RefusalCode.SECRET


def test_what_a_node_says_cannot_be_sent_back_to_it_as_if_it_were_the_other_side():
    initiator, _ = sides()
    hello = initiator.begin()
    with pytest.raises(HandshakeRefused) as refused:
        initiator.receive(hello)
    assert refused.value.refusal.code is RefusalCode.PROTOCOL

    # A mirror that knows the protocol: it takes the tags for its answer from the victim's own proof.
    initiator, _ = sides()
    initiator.begin()
    proof = initiator.receive(greetings.encode(greetings.Challenge(b"i" * 16)))
    tag = msgpack.unpackb(proof)["tags"][0]
    body = greetings.encode(greetings.Introduction(identity("node2")))
    for forged in (b"", body):
        mirror = Handshake(Role.INITIATOR, identity("node1"), [OLD], b"i" * 16)
        mirror.begin()
        mirror.receive(greetings.encode(greetings.Challenge(b"i" * 16)))
        with pytest.raises(HandshakeRefused):
            mirror.receive(greetings.encode(greetings.Sealed(forged, tag)))


def test_one_side_s_tag_is_never_the_other_s_even_for_the_same_words():
    tags = {handshake._tag(b"key", role, bytes(32), b"words") for role in Role}
    assert len(tags) == 2


def test_a_recorded_conversation_convinces_nobody_a_second_time():
    recorded = Conversation(*sides()).said
    fresh = Handshake(Role.ACCEPTOR, identity("node2"), [OLD], b"another nonce...")
    initiators = [message for speaker, message in recorded if speaker == 0]
    fresh.receive(initiators[0])
    with pytest.raises(HandshakeRefused) as refused:
        fresh.receive(initiators[1])
    assert refused.value.refusal.code is RefusalCode.SECRET


def test_a_refusal_that_only_a_proven_node_may_give_is_not_believed_from_a_stranger():
    """Else anybody on the way could make a node believe that it is dead, with any incarnation."""
    for code in RefusalCode:
        initiator, _ = sides()
        initiator.begin()
        with pytest.raises(HandshakeRefused) as refused:
            initiator.receive(greetings.encode(greetings.Refused(Refusal(code, "says the stranger", 2**62))))
        believed = not refused.value.by_us
        assert believed is (code in {RefusalCode.PROTOCOL, RefusalCode.CLUSTER_NAME, RefusalCode.SECRET})
        assert believed or refused.value.refusal.code is RefusalCode.PROTOCOL


@pytest.mark.parametrize("sealed", [greetings.Introduction(identity("node9")), greetings.Welcome()])
@pytest.mark.parametrize("messages_before", range(6))
def test_an_introduction_or_a_welcome_without_a_seal_is_refused_at_any_time(sealed, messages_before):
    def forge(index, message):
        return greetings.encode(sealed) if index == messages_before else message

    talk = Conversation(*sides(), change=forge)
    assert RefusalCode.PROTOCOL in talk.codes


@st.composite
def tamperings(draw):
    """One message of an honest conversation changed, cut, grown, or replaced by garbage or another message."""
    honest = [message for _, message in Conversation(*sides([NEW, OLD], [OLD, NEW])).said]
    index = draw(st.integers(0, len(honest) - 1))
    original = honest[index]
    position = draw(st.integers(0, len(original) - 1))
    changed = draw(
        st.one_of(
            st.integers(1, 255).map(
                lambda mask: (
                    original[:position] + bytes([original[position] ^ mask]) + original[position + 1 :]
                )
            ),
            st.just(original[:position]),
            st.binary(min_size=1, max_size=40).map(lambda more: original + more),
            st.sampled_from(honest),
            st.binary(max_size=3000),
            st.binary(max_size=64).map(lambda body: greetings.encode(greetings.Sealed(body, bytes(32)))),
        )
    )
    assume(changed != original)
    return index, changed


@given(tamperings())
def test_a_changed_message_makes_no_link_and_no_other_error(tampering):
    index, changed = tampering
    initiator, acceptor = sides([NEW, OLD], [OLD, NEW])
    talk = Conversation(initiator, acceptor, change=lambda i, message: changed if i == index else message)
    assert initiator.stage is not Stage.OPEN
    if index < 5:  # the last one is the acceptor's welcome: it cannot know whether that arrives
        assert acceptor.stage is not Stage.OPEN
    assert any(talk.refusals)


messagepack = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary() | st.integers(0, 99), inner),
    max_leaves=6,
)
kinds = st.sampled_from(["hello", "challenge", "proof", "introduction", "welcome", "refused", "sealed", "?"])
field_names = st.sampled_from(
    ["protocol", "cluster", "nonce", "tags", "code", "detail", "floor", "body", "tag"]
)
nearly_messages = st.builds(
    lambda kind, fields: {"kind": kind, **fields}, kinds, st.dictionaries(field_names, messagepack)
)


@given(
    st.sampled_from(list(Role)),
    st.lists(
        st.binary(max_size=200) | messagepack.map(msgpack.packb) | nearly_messages.map(msgpack.packb),
        max_size=4,
    ),
)
def test_garbage_raises_the_documented_error_and_nothing_else(role, messages):
    side = Handshake(role, identity("node1"), [OLD], b"n" * 16)
    if role is Role.INITIATOR:
        side.begin()
    for message in messages:
        try:
            side.receive(message)
        except HandshakeRefused:
            assert side.stage is Stage.REFUSED
    assert side.stage not in {Stage.OPEN, Stage.DECISION}


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x91" * 2000,  # arrays in arrays
        b"\xdf\xff\xff\xff\xff",  # a map said to have four billion entries
        b"\xc6\xff\xff\xff\xff",  # so many bytes
        msgpack.packb({"kind": msgpack.ExtType(4, b"x")}),
        msgpack.packb(msgpack.Timestamp(1)),
        bytes(2049),
        msgpack.packb({"kind": "hello", "protocol": True, "cluster": "shop", "nonce": bytes(16)}),
        msgpack.packb({"kind": "hello", "protocol": 1, "cluster": "sh\x1b[31mop", "nonce": bytes(16)}),
        msgpack.packb({"kind": "hello", "protocol": 1, "cluster": "shop", "nonce": bytes(15)}),
        msgpack.packb({"kind": "hello", "protocol": 1, "cluster": "shop", "nonce": bytes(16), "more": 1}),
    ],
)
def test_what_is_not_exactly_a_message_is_refused_as_another_protocol(bomb):
    _, acceptor = sides()
    with pytest.raises(HandshakeRefused) as refused:
        acceptor.receive(bomb)
    assert refused.value.by_us
    assert refused.value.refusal.code is RefusalCode.PROTOCOL


@pytest.mark.parametrize(
    "changes",
    [{"zone": "z" * 256}, {"zone": "bad\nzone"}, {"cluster": "h" * 256}, {"zone": "é" * 128}],
)
def test_an_identity_that_no_peer_would_take_is_a_configuration_error(changes):
    with pytest.raises(ConfigurationError):
        Handshake(Role.ACCEPTOR, identity("node1", **changes), [OLD], bytes(16))


def test_the_longest_identity_and_refusal_fit_into_a_message():
    longest = identity("n" * 63, **dict.fromkeys(["http", "cluster", "api", "zone"], "ü" * 127))
    longest = dataclasses.replace(longest, life=Life("n" * 63, 2**63 - 1))
    refusal = Refusal(RefusalCode.DUPLICATE_NAME, "line\none " + "ü" * 500, 2**63 - 1)
    talk = Conversation(
        *sides([OLD, NEW, OTHER, b"4"], acceptor=longest, initiator=longest), acceptor_says=refusal
    )
    assert max(len(message) for _, message in talk.said) <= greetings.MESSAGE_BYTES_MAX
    told = talk.refusals[0].refusal
    assert told.detail.startswith("line one üü")
    assert told.incarnation_floor == 2**63 - 1
