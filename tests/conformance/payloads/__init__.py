"""Messages that two parsers could read differently, by the clause of RFC 9112 or 9110 that decides about them.

A refused one would hide a request, or bytes of one, if any server behind us read it otherwise than we do. An accepted
one looks alike and is clear, or becomes so on its way: it has to arrive as one request with the same meaning.
"""

from tests.conformance.payloads import framing, hops, lines
from tests.conformance.payloads.types import Payload

PAYLOADS: tuple[Payload, ...] = (*lines.PAYLOADS, *framing.PAYLOADS, *hops.PAYLOADS)
REFUSED = [payload for payload in PAYLOADS if payload.status]
