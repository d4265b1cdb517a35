"""The handshake of a link: each side proves that it knows a secret of the cluster, then says who it is.

    initiator                                   acceptor
        Hello(protocol, cluster, nonce)  ──────▶  protocol? cluster name?
                                         ◀──────  Challenge(nonce)
        Proof(a tag per secret)          ──────▶  does one of my secrets make one of the tags?
        does one of mine make its tag?   ◀──────  sealed with that one: Introduction
        do I want this node?             ──────▶  sealed: Introduction
                                                  do I want this node?
        open                             ◀──────  sealed: Welcome, open

Strictly in turns. Every tag is an HMAC-SHA256, under a key derived from a secret for this purpose, of the
sender's role and all that was said so far in both directions. So a tag counts once, in one place of one
handshake, from one side: nothing can be reflected, replayed, or changed on the way. The dialer proves first:
a stranger that connects learns nothing that he could try passwords on. Two nodes need one secret in common,
whatever its place in their lists; without any, the key derives from the cluster name, as the session ids do.

A refusal ends the handshake on both sides with the same code. Those that a node decides by itself come sealed,
or they are not believed; protocol, cluster name and secret have to be said without a key.

No I/O, no clock, no randomness in here. What is not promised: the frames that follow are not sealed; on a
network where somebody can change packets, use TLS below.
"""

import hashlib
import hmac
from collections.abc import Sequence
from enum import Enum, StrEnum, auto

from sessiond.contract.session_id import derive
from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.errors import LinkError
from sessiond.net import greetings
from sessiond.net.greetings import (
    Challenge,
    Hello,
    Introduction,
    Malformed,
    Message,
    Proof,
    Refused,
    Sealed,
    Welcome,
)

UNPROVEN_REFUSALS = frozenset({RefusalCode.PROTOCOL, RefusalCode.CLUSTER_NAME, RefusalCode.SECRET})
"""What is believed without a tag: the two sides may have no key in common when they have to say it."""

_NO_COMMON_SECRET = (
    "the nodes have no secret in common: give each the same one (--secret-file or SESSIOND_SECRET)"  # noqa: S105 - a text
)


class Role(StrEnum):
    """The side of a handshake. The values go into the tags."""

    INITIATOR = "initiator"
    ACCEPTOR = "acceptor"

    @property
    def other(self) -> "Role":
        return Role.ACCEPTOR if self is Role.INITIATOR else Role.INITIATOR


class Stage(Enum):
    """What a side waits for next."""

    BEGIN = auto()  # initiator: `begin`
    HELLO = auto()  # acceptor
    CHALLENGE = auto()  # initiator
    PROOF = auto()  # acceptor
    INTRODUCTION = auto()  # both, each in its turn
    DECISION = auto()  # both: `decide` whether to take the peer, which has proven itself
    WELCOME = auto()  # initiator
    OPEN = auto()  # nothing: the link is made
    REFUSED = auto()  # nothing: one side refused


class HandshakeRefused(LinkError):
    """The handshake failed and no link was made.

    `by_us`: this side refused, and `farewell` is the message to send, so that the other one knows why too.
    """

    def __init__(self, refusal: Refusal, *, by_us: bool, farewell: bytes = b"") -> None:
        super().__init__(refusal.detail or f"refused: {refusal.code}")
        self.refusal = refusal
        self.by_us = by_us
        self.farewell = farewell


class Handshake:
    """One side of one handshake. `peer` is set from the decision on, when the other side has proven itself.

    `secrets`: those of the cluster, at most `greetings.SECRETS_MAX`, the signing one first. `nonce`: 16 bytes
    from a cryptographic source, never used before. Raises ConfigurationError for an identity that is too long.
    """

    def __init__(self, role: Role, identity: Identity, secrets: Sequence[bytes], nonce: bytes) -> None:
        roots = list(secrets) or [derive(b"insecure", identity.cluster_name)]
        self._keys = [derive(root, "link handshake") for root in roots]
        self._role = role
        self._nonce = nonce
        self._key: bytes | None = None
        self._said = hashlib.sha256()
        self._introduction = greetings.encode(Introduction(identity))
        self.identity = identity
        self.peer: Identity | None = None
        self.stage = Stage.BEGIN if role is Role.INITIATOR else Stage.HELLO

    def begin(self) -> bytes:
        """The initiator's first message."""
        self._expect(Stage.BEGIN)
        self.stage = Stage.CHALLENGE
        return self._record(greetings.encode(Hello(self.identity.cluster_name, self._nonce)))

    def receive(self, payload: bytes) -> bytes:
        """Take a message of the other side; return the one to send, empty if it is not our turn.

        Raises HandshakeRefused, whatever the bytes are, and nothing else.
        """
        said = self._said.digest()
        try:
            message = self._read(payload, said)
        except Malformed as error:
            raise self.refuse(RefusalCode.PROTOCOL, str(error)) from error
        if isinstance(message, Refused):
            self.stage = Stage.REFUSED
            raise HandshakeRefused(message.refusal, by_us=False)
        self._record(payload)
        match self.stage, message:
            case Stage.HELLO, Hello():
                return self._on_hello(message)
            case Stage.CHALLENGE, Challenge():
                return self._on_challenge()
            case Stage.PROOF, Proof():
                return self._on_proof(message, said)
            case Stage.INTRODUCTION, Introduction():
                self.peer = message.identity
                self.stage = Stage.DECISION
                return b""
            case Stage.WELCOME, Welcome():
                self.stage = Stage.OPEN
                return b""
        raise self.refuse(RefusalCode.PROTOCOL, "a message came out of turn")

    def decide(self, refusal: Refusal | None) -> bytes:
        """In stage DECISION: take the peer (None) or refuse it. Returns the message to send."""
        self._expect(Stage.DECISION)
        if refusal is not None:
            self.stage = Stage.REFUSED
            return self._sealed(greetings.encode(Refused(refusal)))
        if self._role is Role.INITIATOR:
            self.stage = Stage.WELCOME
            return self._sealed(self._introduction)
        self.stage = Stage.OPEN
        return self._sealed(greetings.encode(Welcome()))

    def refuse(self, code: RefusalCode, detail: str) -> HandshakeRefused:
        """End the handshake, for a reason that the other side is told without a proof; raise what this returns."""
        self.stage = Stage.REFUSED
        refusal = Refusal(code, detail)
        return HandshakeRefused(refusal, by_us=True, farewell=greetings.encode(Refused(refusal)))

    def _read(self, payload: bytes, said: bytes) -> Message:
        """The message in `payload`, if it is of a kind to be believed as it comes, sealed or not."""
        message = greetings.decode(payload, self.identity.cluster_name)
        if isinstance(message, Sealed):
            message = greetings.decode(self._opened(message, said), self.identity.cluster_name)
            is_believed = isinstance(message, Introduction | Welcome | Refused)
        elif isinstance(message, Refused):
            is_believed = message.refusal.code in UNPROVEN_REFUSALS
        else:
            is_believed = not isinstance(message, Introduction | Welcome)
        if not is_believed:
            raise Malformed("a message came sealed that must not be, or the other way round")
        return message

    def _on_hello(self, hello: Hello) -> bytes:
        if hello.cluster_name != self.identity.cluster_name:
            # Our own name stays unsaid: without secrets it is what the keys are made of.
            detail = (
                f"the called node is not of cluster {hello.cluster_name!r}: compare --cluster-name and --join"
            )
            raise self.refuse(RefusalCode.CLUSTER_NAME, detail)
        self.stage = Stage.PROOF
        return self._record(greetings.encode(Challenge(self._nonce)))

    def _on_challenge(self) -> bytes:
        said = self._said.digest()
        tags = tuple(_tag(key, self._role, said, b"") for key in self._keys)
        self.stage = Stage.INTRODUCTION
        return self._record(greetings.encode(Proof(tags)))

    def _on_proof(self, proof: Proof, said: bytes) -> bytes:
        for key in self._keys:
            expected = _tag(key, self._role.other, said, b"")
            if any(hmac.compare_digest(tag, expected) for tag in proof.tags):
                self._key = key
                self.stage = Stage.INTRODUCTION
                return self._sealed(self._introduction)
        raise self.refuse(RefusalCode.SECRET, _NO_COMMON_SECRET)

    def _sealed(self, body: bytes) -> bytes:
        if self._key is None:
            raise RuntimeError("nothing can be sealed before the proof")
        tag = _tag(self._key, self._role, self._said.digest(), body)
        return self._record(greetings.encode(Sealed(body, tag)))

    def _opened(self, sealed: Sealed, said: bytes) -> bytes:
        if self._key is not None:
            keys = [self._key]
        elif self.stage is Stage.INTRODUCTION:
            keys = self._keys  # the acceptor chose one of those that our proof offered
        else:
            raise Malformed("a message came out of turn")
        for key in keys:
            if hmac.compare_digest(sealed.tag, _tag(key, self._role.other, said, sealed.body)):
                self._key = key
                return sealed.body
        raise self.refuse(RefusalCode.SECRET, _NO_COMMON_SECRET)

    def _record(self, payload: bytes) -> bytes:
        self._said.update(len(payload).to_bytes(4, "big"))
        self._said.update(payload)
        return payload

    def _expect(self, stage: Stage) -> None:
        if self.stage is not stage:
            raise RuntimeError(f"the handshake is in stage {self.stage.name}, not {stage.name}")


def _tag(key: bytes, role: Role, said: bytes, body: bytes) -> bytes:
    """The proof that `role` knows `key`, after all that was `said` (a hash, of fixed length), for `body`."""
    return hmac.digest(key, role.encode() + b"\0" + said + body, "sha256")
