"""Whatever arrives is accepted or refused, the same way however it was cut, and read by others as we read it."""

import h11
from hypothesis import event, given, settings
from hypothesis import strategies as st

from balancer.core.framing import Refused
from balancer.core.response import ResponseReader
from tests.balancer.core.test_readers import LIMITS, cut, read_answers, read_requests
from tests.conformance.fuzz.messages import CUTS, EDITS, answers, edited, requests
from tests.conformance.messages import lasting, meaning
from tests.conformance.player import read_answer
from tests.conformance.tempers import disagreements, h11_reads, plain

EXAMPLES = 1500

Edits = list[tuple[int, int, bytes]]


def verdict(pieces: list[bytes]) -> tuple[list[tuple[bytes, bytes]], bool]:
    """What would be forwarded, and whether the rest is refused. Of several faults any may be the one that is named."""
    whole, status = read_requests(pieces)
    return whole, status is not None


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=3).map(b"".join), EDITS, CUTS)
def test_requests_are_forwarded_as_everybody_reads_them(
    stream: bytes, edits: Edits, places: list[int]
) -> None:
    stream = edited(stream, edits)
    whole, is_refused = verdict([stream])
    event(f"{len(whole)} forwarded, {'then refused' if is_refused else 'clean'}")
    assert verdict(cut(stream, places)) == (whole, is_refused)
    assert verdict([stream[i : i + 1] for i in range(len(stream))]) == (whole, is_refused)
    forwarded = b"".join(head + b"\r\n" + body for head, body in whole)
    assert disagreements(forwarded) == []
    assert len(plain(forwarded)) == len(whole)
    # h11 stops at what it refuses, and behind a Connection: close; what it sees, it sees as we do.
    for seen, sent in zip(h11_reads(stream), plain(forwarded), strict=False):
        has_host = bool(seen.values(b"host"))  # a request of HTTP/1.0 without it is given ours
        fields = tuple(field for field in sent.fields if has_host or field[0] != b"host")
        assert meaning(seen) == meaning(sent._replace(fields=fields))


def deliver(pieces: list[bytes], method: bytes) -> tuple[bytes, bool]:
    """What a client gets of the first final answer, and whether that was passed on to its end."""
    reader = ResponseReader(LIMITS)
    reader.expect(method)
    said = b""
    head = None
    try:
        for piece in pieces:
            reader.feed(piece)
            while head is None:
                head = reader.head()
                if head is None:
                    break
                if head.upgrade or head.status == 101:
                    return b"", False  # which the exchange refuses: nobody asked
                said += head.rewritten()
                reader.skip_head()
                head = None if head.is_interim else head
            else:
                reader.advance()
                said += reader.take()
                if reader.complete:
                    return said, True
    except Refused:
        return said, False
    return said, head is not None and reader._framing.ends_with_connection


@settings(max_examples=EXAMPLES, deadline=None)
@given(answers(), EDITS, CUTS, st.sampled_from([b"GET", b"GET", b"HEAD"]))
def test_answers_are_passed_on_as_everybody_reads_them(
    stream: bytes, edits: Edits, places: list[int], method: bytes
) -> None:
    stream = edited(stream, edits)
    said, is_whole = deliver([stream], method)
    event("whole" if is_whole else "refused or incomplete")
    in_pieces, is_whole_in_pieces = deliver(cut(stream, places), method)
    assert is_whole_in_pieces == is_whole
    if is_whole:
        assert in_pieces == said
        got = read_answer(said, method)
        assert got.is_complete
        assert got.surplus == b""
        try:
            meant = read_answer(stream, method)
        except h11.RemoteProtocolError:
            return  # stricter than we are
        if meant.is_complete and meant.answer is not None and got.answer is not None:
            assert (got.answer.status, got.answer.body) == (meant.answer.status, meant.answer.body)
            assert set(lasting(got.answer.fields)) <= set(lasting(meant.answer.fields))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=200), EDITS, CUTS)
def test_arbitrary_bytes_get_a_verdict_and_nothing_else(data: bytes, edits: Edits, places: list[int]) -> None:
    stream = edited(data, edits)
    assert verdict(cut(stream, places)) == verdict([stream])
    assert read_answers(cut(stream, places), b"GET")[1] == read_answers([stream], b"GET")[1]
