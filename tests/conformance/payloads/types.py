"""What a payload is, and the short forms in which the tables are written."""

from collections.abc import Mapping
from typing import NamedTuple

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: evil\r\n\r\n"
"""The request that an attacker wants to get through unseen."""


class Payload(NamedTuple):
    """`status`: the balancer's answer, and nothing of it is a request for the origin; 0: it arrives as one request."""

    clause: str
    name: str
    status: int
    message: bytes

    @property
    def is_large(self) -> bool:
        """Its size is the point, not its bytes."""
        return len(self.message) > 3000

    def __str__(self) -> str:
        return f"{self.clause} - {self.name}"


def table(clause: str, status: int, messages: Mapping[str, bytes]) -> list[Payload]:
    """One verdict for all of them."""
    return [Payload(clause, name, status, message) for name, message in messages.items()]


def get(*fields: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    """A request without body, with a Host."""
    return b"\r\n".join((line, b"Host: a", *fields)) + b"\r\n\r\n"


def post(*fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return get(*fields, line=b"POST / HTTP/" + version) + body


def chunked(body: bytes, *fields: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *fields, body=body)
