"""How requests are told apart: request ids of ours and of trusted proxies, and W3C trace context.

A traceparent that comes is passed on untouched, whoever sent it: it says what the client wants to find again, and
gives nobody a right. So the balancer is no span of its own in somebody's trace.
"""

import re
from random import Random
from typing import NamedTuple

REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._~+/=:@-]{0,127}")
"""Ids that are taken over from a trusted proxy: what logs and headers carry without quoting."""

_REQUEST_ID_LINE = re.compile(rb"\r\nx-request-id:[ \t]*([^\r]*)", re.IGNORECASE)
_TRACEPARENT_LINE = re.compile(rb"\r\ntraceparent:[ \t]*([^\r]*)", re.IGNORECASE)
_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?[ \t]*"
)

TRACE_ID_BITS, SPAN_ID_BITS = 128, 64


class Trace(NamedTuple):
    """The trace that a request belongs to, and the span that sent it."""

    trace_id: str
    span_id: str

    @property
    def line(self) -> bytes:
        """As a field: version 00, sampled, for who begins a trace wants to see it."""
        return f"traceparent: 00-{self.trace_id}-{self.span_id}-01\r\n".encode()


def request_id_in(head: bytes) -> str | None:
    """The id that a head carries, of the one field that the reader has let through."""
    match = _REQUEST_ID_LINE.search(head)
    return match[1].rstrip(b" \t").decode("ascii") if match is not None else None


def trace_in(head: bytes) -> Trace | None:
    """The trace of a head; None if it names none, or in a way that nobody is to understand (W3C, 3.2.2)."""
    values = _TRACEPARENT_LINE.findall(head)
    match = _TRACEPARENT.fullmatch(values[0]) if len(values) == 1 else None
    return Trace(match[1].decode(), match[2].decode()) if match is not None else None


def has_trace(head: bytes) -> bool:
    """Whether there is a traceparent at all, good or not: then there is to be no second one."""
    return _TRACEPARENT_LINE.search(head) is not None


def new_trace(rng: Random) -> Trace:
    """A trace that begins here."""
    return Trace(
        f"{rng.getrandbits(TRACE_ID_BITS) or 1:032x}",
        f"{rng.getrandbits(SPAN_ID_BITS) or 1:016x}",
    )
