"""Reading streams with the balancer's readers, in pieces: what would be passed on, and what refused."""

from itertools import pairwise

from balancer.core.framing import Refused
from balancer.core.headers import Forwarding
from balancer.core.reader import Limits
from balancer.core.request import RequestReader
from balancer.core.response import ResponseReader

LIMITS = Limits(head_bytes_max=2000, header_count_max=20, body_bytes_max=5000)
FORWARDING = Forwarding("192.0.2.1", "192.0.2.9:80", ())

Read = tuple[list[tuple[bytes, bytes]], int | None]


def read_requests(pieces: list[bytes]) -> Read:
    """Everything that would go to nodes as (head, body) of whole requests, and the status of a refusal."""
    reader = RequestReader(LIMITS, FORWARDING)
    whole: list[tuple[bytes, bytes]] = []
    head: bytes | None = None
    body = b""
    try:
        for piece in pieces:
            reader.feed(piece)
            while True:
                if head is None:
                    found = reader.head()
                    if found is None:
                        break
                    head = found.forwarded
                reader.advance()
                body += reader.take()
                if not reader.complete:
                    break
                whole.append((head, body))
                head, body = None, b""
    except Refused as refused:
        return whole, refused.status
    return whole, None


def read_answers(pieces: list[bytes], method: bytes) -> tuple[list[bytes], bool]:
    """Everything that would go to the client, answer by answer, and whether the node is believed so far."""
    reader = ResponseReader(Limits(head_bytes_max=2000, header_count_max=20, body_bytes_max=1 << 40))
    reader.expect(method)
    answers: list[bytes] = []
    in_body, answer = False, b""
    try:
        for piece in pieces:
            reader.feed(piece)
            while True:
                if not in_body:
                    if reader.head() is None:
                        break
                    in_body = True
                reader.advance()
                answer += reader.take()
                if not reader.complete:
                    break
                answers.append(answer)
                in_body, answer = False, b""
    except Refused:
        return answers, False
    return [*answers, answer], True


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces, divided at these places, which may lie anywhere."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]
