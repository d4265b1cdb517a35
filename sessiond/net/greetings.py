"""The messages of the handshake, and their strict encoding.

Each is a small MessagePack map whose ``kind`` names it. Everything is checked before the handshake sees it:
size, kind, the exact set of fields, type and length of each. Texts are printable, because they end up in
logs and on terminals. `Hello.protocol` and the shape of `Refused` are what every version must go on
understanding: they are how nodes of different versions tell each other that they differ.

Which message may come when, and who may believe it, is not decided here but in `handshake`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import msgpack

from sessiond.contract.names import NODE_NAME
from sessiond.contract.placement import NodeRole
from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.core.types import Life
from sessiond.errors import ConfigurationError

PROTOCOL_VERSION = 3
"""Raised with every change that makes nodes misunderstand each other, of the handshake or of what follows it."""

MESSAGE_BYTES_MAX = 2048
"""Longest message of the handshake."""

TEXT_BYTES_MAX = 255
"""Longest address, zone, cluster name or text of a refusal, in UTF-8."""

NONCE_BYTES = 16
BOOT_ID_BYTES = 16
TAG_BYTES = 32

SECRETS_MAX = 4
"""Most secrets of a node: a new and an old one while they change, and some to spare."""

INTEGER_MAX = 2**63 - 1


FieldT = TypeVar("FieldT")


class Malformed(ValueError):
    """The bytes are no message of this handshake; the text says why and may be shown to the sender."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Opens the handshake, from whoever dialed."""

    cluster_name: str
    nonce: bytes
    protocol: int = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class Challenge:
    """The answer to `Hello`: prove that you know a secret."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """One tag for each secret of the sender; one that the receiver can verify is enough."""

    tags: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Introduction:
    """Who the sender is. Sealed."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class Welcome:
    """The link is open. Sealed."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The handshake is over. Sealed as soon as there is a key for it."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Sealed:
    """A message under the key that both sides turned out to share: its bytes and their tag."""

    body: bytes
    tag: bytes


Message = Hello | Challenge | Proof | Introduction | Welcome | Refused | Sealed


def encode(message: Message) -> bytes:
    """The bytes of a message of our own making. A text too long or not printable is a ConfigurationError."""
    match message:
        case Hello(cluster_name, nonce, protocol):
            _own_text("cluster_name", cluster_name)
            fields = {"kind": "hello", "protocol": protocol, "cluster": cluster_name, "nonce": nonce}
        case Challenge(nonce):
            fields = {"kind": "challenge", "nonce": nonce}
        case Proof(tags):
            fields = {"kind": "proof", "tags": tags}
        case Introduction(identity):
            fields = {"kind": "introduction", **_identity_fields(identity)}
        case Welcome():
            fields = {"kind": "welcome"}
        case Refused(refusal):
            fields = {
                "kind": "refused",
                "code": str(refusal.code),
                "detail": _shortened(refusal.detail),
                "floor": refusal.incarnation_floor,
                "members": refusal.members,
            }
        case Sealed(body, tag):
            fields = {"kind": "sealed", "body": body, "tag": tag}
    payload: bytes = msgpack.packb(fields)
    return payload


def decode(payload: bytes, cluster_name: str) -> Message:
    """The message in `payload`. Raises Malformed, and nothing else.

    `cluster_name` completes an introduction: who introduces itself has proven to be of this cluster.
    """
    if len(payload) > MESSAGE_BYTES_MAX:
        raise Malformed(f"a message of {len(payload)} bytes is over the limit of {MESSAGE_BYTES_MAX}")
    try:
        raw = msgpack.unpackb(
            payload, use_list=False, raw=False, strict_map_key=True, ext_hook=_no_extensions
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise Malformed("that is not a message of the cluster protocol (not MessagePack)") from error
    if type(raw) is not dict:
        raise Malformed("that is not a message of the cluster protocol (not a map)")
    fields = _Fields(raw)
    kind = fields.text("kind")
    reader = _READERS.get(kind)
    if reader is None:
        raise Malformed("that is not a message of the cluster protocol (unknown kind)")
    message = reader(fields, cluster_name)
    fields.end(kind)
    return message


class _Fields:
    """Takes the fields of a map out one by one, each checked."""

    def __init__(self, raw: dict[Any, Any]) -> None:
        self._raw = raw

    def _take(self, name: str, kind: type[FieldT]) -> FieldT:
        value: FieldT = self._raw.pop(name, None)
        if type(value) is not kind:
            raise Malformed(f"the field {name} is missing or not a {kind.__name__}")
        return value

    def text(self, name: str) -> str:
        value: str = self._take(name, str)
        if not _is_text(value):
            raise Malformed(f"the field {name} is too long or not printable")
        return value

    def integer(self, name: str) -> int:
        value: int = self._take(name, int)
        if not 0 <= value <= INTEGER_MAX:
            raise Malformed(f"the field {name} is out of range")
        return value

    def binary(self, name: str, length: int | None = None) -> bytes:
        value: bytes = self._take(name, bytes)
        if length is not None and len(value) != length:
            raise Malformed(f"the field {name} has {len(value)} bytes, not {length}")
        return value

    def tags(self, name: str) -> tuple[bytes, ...]:
        value: tuple[Any, ...] = self._take(name, tuple)
        if not 1 <= len(value) <= SECRETS_MAX:
            raise Malformed(f"the field {name} has {len(value)} entries, not 1 to {SECRETS_MAX}")
        if any(type(tag) is not bytes or len(tag) != TAG_BYTES for tag in value):
            raise Malformed(f"the field {name} holds something else than tags")
        return value

    def end(self, kind: str) -> None:
        if self._raw:
            raise Malformed(f"a message of kind {kind} has fields that it should not have")


def _read_hello(fields: _Fields, _cluster_name: str) -> Hello:
    protocol = fields.integer("protocol")
    if protocol != PROTOCOL_VERSION:
        # Before anything else is looked at: another version may say hello with other fields.
        raise Malformed(
            f"the caller speaks version {protocol} of the cluster protocol and the node that it called version "
            f"{PROTOCOL_VERSION}: run releases that share one"
        )
    return Hello(fields.text("cluster"), fields.binary("nonce", NONCE_BYTES), protocol)


def _read_introduction(fields: _Fields, cluster_name: str) -> Introduction:
    name = fields.text("name")
    if NODE_NAME.fullmatch(name) is None:
        raise Malformed("the field name is not a node's name")
    return Introduction(
        Identity(
            life=Life(name, fields.integer("incarnation")),
            boot_id=fields.binary("boot_id", BOOT_ID_BYTES),
            cluster_name=cluster_name,
            http=fields.text("http"),
            cluster=fields.text("cluster"),
            api=fields.text("api"),
            zone=fields.text("zone"),
            quorum=fields.text("quorum"),
            location=fields.text("location"),
            role=_role(fields.text("role")),
        )
    )


def _role(text: str) -> NodeRole:
    if text not in get_args(NodeRole):
        raise Malformed("the field role is none that this version knows")
    return "state" if text == "state" else "app"


def _read_refused(fields: _Fields, _cluster_name: str) -> Refused:
    try:
        code = RefusalCode(fields.text("code"))
    except ValueError as error:
        raise Malformed("the refusal has a code that this version does not know") from error
    detail, floor, members = fields.text("detail"), fields.integer("floor"), fields.integer("members")
    return Refused(Refusal(code, detail, floor, members))


_READERS: dict[str, Callable[[_Fields, str], Message]] = {
    "hello": _read_hello,
    "challenge": lambda fields, _: Challenge(fields.binary("nonce", NONCE_BYTES)),
    "proof": lambda fields, _: Proof(fields.tags("tags")),
    "introduction": _read_introduction,
    "welcome": lambda _fields, _: Welcome(),
    "refused": _read_refused,
    "sealed": lambda fields, _: Sealed(fields.binary("body"), fields.binary("tag", TAG_BYTES)),
}


def _identity_fields(identity: Identity) -> dict[str, Any]:
    name, incarnation = identity.life
    texts = {
        "http": identity.http,
        "cluster": identity.cluster,
        "api": identity.api,
        "zone": identity.zone,
        "quorum": identity.quorum,
        "location": identity.location,
        "role": identity.role,
    }
    for field, value in texts.items():
        _own_text(field, value)
    return {"name": name, "incarnation": incarnation, "boot_id": identity.boot_id, **texts}


def _own_text(name: str, value: str) -> None:
    if not _is_text(value):
        raise ConfigurationError(
            f"{name} {value!r} is longer than {TEXT_BYTES_MAX} bytes or not printable; shorten it"
        )


def _is_text(value: str) -> bool:
    return len(value.encode("utf-8", "surrogatepass")) <= TEXT_BYTES_MAX and value.isprintable()


def _shortened(detail: str) -> str:
    printable = "".join(character if character.isprintable() else " " for character in detail)
    return printable.encode()[:TEXT_BYTES_MAX].decode("utf-8", "ignore")


def _no_extensions(_code: int, _data: bytes) -> object:
    raise Malformed("that is not a message of the cluster protocol (extension type)")
