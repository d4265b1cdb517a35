"""Tags: every request carries one of its own, and every byte of its answer says which it belongs to."""

import random
import re
from dataclasses import dataclass
from enum import StrEnum

BODY_BYTES_MAX = 30_000
"""Large enough for several segments, small enough for a million."""

HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]+)\r\n")
_TAG = re.compile(rb"\r\nX-Tag: ([0-9a-z.]+)\r\n")


class Mishap(StrEnum):
    """What a node does to an answer, beside giving it."""

    NONE = "answered as it should be"
    RESET_BEFORE = "connection reset instead of an answer"
    RESET_IN_HEAD = "connection reset within a head"
    RESET_IN_BODY = "connection reset within a body"
    CLOSED_SILENTLY = "connection closed behind an answer without a word"
    CLOSED_LATER = "idle connection closed a little later"
    SLOW = "answered late, in pieces"


WEIGHTS: dict[Mishap, int] = {
    Mishap.NONE: 71,
    Mishap.RESET_BEFORE: 2,
    Mishap.RESET_IN_HEAD: 1,
    Mishap.RESET_IN_BODY: 2,
    Mishap.CLOSED_SILENTLY: 5,
    Mishap.CLOSED_LATER: 5,
    Mishap.SLOW: 14,
}
"""How often of 100."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """A request: GET and HEAD may be repeated by the balancer, POST may not."""

    tag: bytes
    method: bytes

    @property
    def message(self) -> bytes:
        line = b"%b /%b HTTP/1.1\r\nHost: a\r\nX-Tag: %b\r\n" % (self.method, self.tag, self.tag)
        if self.method != b"POST":
            return line + b"\r\n"
        body = filled(self.tag, 40 * (1 + len(self.tag) % 3))
        return b"%bContent-Length: %d\r\n\r\n%b" % (line, len(body), body)


def filled(tag: bytes, size: int) -> bytes:
    """So many bytes that say nothing but the tag."""
    return (tag * (size // len(tag) + 1))[:size]


def is_filled(tag: bytes, body: bytes) -> bool:
    """Whether a body, or the beginning of one, belongs to the tag."""
    return body == filled(tag, len(body))


def tag_of(head: bytes) -> bytes:
    """The tag in a head, or empty."""
    match = _TAG.search(head)
    return match[1] if match else b""


def length_of(head: bytes) -> int | None:
    """The length in a head; None if it names none."""
    match = _LENGTH.search(head)
    return int(match[1]) if match else None


def answer_to(tag: bytes, method: bytes, rng: random.Random) -> bytes:
    """A node's answer, with a length or in chunks."""
    size = int(rng.paretovariate(0.7) * 20) % BODY_BYTES_MAX
    head = b"HTTP/1.1 200 OK\r\nX-Tag: %b\r\n" % tag
    if rng.random() < 0.7:
        body = filled(tag, size)
        framed, field = body, b"Content-Length: %d\r\n\r\n" % size
    else:
        cut = rng.randint(0, size)
        chunks = (filled(tag, cut), filled(tag, size)[cut:])
        framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk) + b"0\r\n\r\n"
        field = b"Transfer-Encoding: chunked\r\n\r\n"
    return head + field + (b"" if method == b"HEAD" else framed)
