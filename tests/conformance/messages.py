"""Messages as somebody read them: names of fields in lower case, bodies without chunks."""

import re
from typing import NamedTuple

Fields = tuple[tuple[bytes, bytes], ...]


class Message(NamedTuple):
    """A request."""

    method: bytes
    target: bytes
    fields: Fields
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.fields if found == name]


class Answer(NamedTuple):
    """A final answer."""

    status: int
    fields: Fields
    body: bytes


OF_ONE_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"http2-settings", b"expect"}
)
"""Not passed on, or not always."""

OF_PROXIES = frozenset({b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"forwarded"})
"""Added by us."""

OURS = frozenset({b"x-sessiond-replay", b"x-sessiond-owner"})
"""Between us and the nodes."""


def lasting(fields: Fields, more: frozenset[bytes] = frozenset()) -> Fields:
    """The fields that every hop has to pass on, sorted; not those in `more`, which Connection names."""
    dropped = OF_ONE_HOP | OF_PROXIES | OURS | more
    return tuple(sorted((name, value) for name, value in fields if name.replace(b"_", b"-") not in dropped))


def named_by_connection(fields: Fields) -> frozenset[bytes]:
    """The options of Connection fields."""
    values = [value for name, value in fields if name == b"connection"]
    return frozenset(token.strip().lower() for value in values for token in value.split(b","))


def meaning(message: Message) -> Message:
    """The part of a request that has to arrive; an absolute target in the form that servers get (9112, 3.2.2)."""
    target, fields = message.target, message.fields
    scheme, found, rest = target.partition(b"://")
    if found and scheme.lower() in (b"http", b"https"):
        host = re.split(rb"[/?]", rest, maxsplit=1)[0]
        target = rest[len(host) :]
        if not target.startswith(b"/"):
            target = b"*" if message.method == b"OPTIONS" and not target else b"/" + target
        fields = tuple((name, host if name == b"host" else value) for name, value in fields)
    return message._replace(target=target, fields=lasting(fields, named_by_connection(message.fields)))
