"""Reading messages: the verdict and the bytes do not depend on how the bytes arrive, and nothing is read too much."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.core.fields import finder, spellings
from balancer.core.framing import Refused
from balancer.core.headers import Forwarding
from balancer.core.reader import Limits
from balancer.core.request import RequestHead, RequestReader
from balancer.core.response import ResponseReader
from tests.conformance.payloads import REFUSED
from tests.conformance.payloads.types import HIDDEN, Payload

LIMITS = Limits(head_bytes_max=2000, header_count_max=20, body_bytes_max=5000, line_bytes_max=905)
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
            if head is None and (request := reader.whole(piece)) is not None:
                whole.append((request[0].forwarded, request[1]))
                continue
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


def verdict(pieces: list[bytes]) -> tuple[object, bool]:
    """The requests, and whether the rest is refused: of two faults in one head either may be noticed first."""
    requests, status = read_requests(pieces)
    return requests, status is not None


def read_answers(pieces: list[bytes], method: bytes) -> tuple[list[bytes], bool]:
    """Everything that would go to the client, answer by answer, and whether the node is believed so far."""
    reader = ResponseReader(Limits(head_bytes_max=2000, header_count_max=20, body_bytes_max=1 << 40))
    reader.expect(method)
    answers: list[bytes] = []
    in_body, answer = False, b""
    try:
        for piece in pieces:
            if not in_body and reader.whole(piece) is not None:
                answers.append(piece)
                continue
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
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


FRAGMENTS = [
    b"GET / HTTP/1.1\r\n", b"POST /a HTTP/1.1\r\n", b"HEAD * HTTP/1.0\r\n", b"Host: a\r\n", b"Host: b\r\n", b"\r\n", b"\n", b"\r",
    b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"X: " + b"y" * 900 + b"\r\n", b" folded\r\n", b"abc",
    b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\n", b"3;x=y\r\n", b"ffffff\r\n", b"Expect: 100-continue\r\n", b"\x00", b"A: b\r\n", b":",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 X\r\n", b"HTTP/1.1 100 X\r\n\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 304 X\r\n",
]  # fmt: skip
STREAMS = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map(b"".join)
CUTS = st.lists(st.integers(0, 5000), max_size=30)


@settings(max_examples=600, deadline=None)
@given(STREAMS, CUTS)
def test_any_split_of_requests_gives_the_same_requests_and_verdict(stream: bytes, places: list[int]) -> None:
    at_once = verdict([stream])
    assert verdict(cut(stream, places)) == at_once
    assert verdict([stream[i : i + 1] for i in range(len(stream))]) == at_once


@settings(max_examples=600, deadline=None)
@given(STREAMS, CUTS, st.sampled_from([b"GET", b"HEAD"]))
def test_any_split_of_answers_gives_the_same_answers_and_verdict(
    stream: bytes, places: list[int], method: bytes
) -> None:
    at_once = read_answers([stream], method)
    split = read_answers(cut(stream, places), method)
    if at_once[1]:
        assert split == at_once
    else:  # of an answer cut short more or less may have been passed on before
        assert split[1] == at_once[1]
        assert split[0] == at_once[0]


class LongWay(RequestReader):
    """Reads every request as one that needs a change."""

    def _ordinary(self, head: bytes) -> None:
        return None


def head_or_refusal(reader: RequestReader, data: bytes) -> RequestHead | int | None:
    reader.feed(data)
    try:
        return reader.head()
    except Refused as refused:
        return refused.status


LINES = [
    b"GET / HTTP/1.1", b"POST /a;b?c=d HTTP/1.1", b"PATCH /%41 HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET / HTTP/1.0", b"GET  / HTTP/1.1",
    b"GET http://b/ HTTP/1.1", b"BREW / HTTP/1.1", b"CONNECT a:1 HTTP/1.1", b"GET /# HTTP/1.1", b"GET /_sessiond/ HTTP/1.1", b"GET /\xff HTTP/1.1",
    b"DELETE //x HTTP/1.1", b"HEAD /?/_sessiond/ HTTP/1.1", b"get / HTTP/1.1", b"GET /\t HTTP/1.1", b"PUT /" + b"a" * 900 + b" HTTP/1.1",
]  # fmt: skip
FIELDS = [
    b"Host: a", b"Host: b:80", b"host:", b"Host: a,b", b"Host : a", b"Cookie: a=b", b"cookie: c", b"Cookie: ", b"Cookie:  d=e \t", b"Cookie: \x00", b"Cookie: a\nb", b"Cookie: a\r\n b", b"Cookie:\r\n b", b"Cookie: \r\n\tb", b"Content-Length: 0", b"Content-Length: 7",
    b"Content-Length: +7", b"Content-Length: 5001", b"Connection: keep-alive", b"Connection: Keep-Alive", b"Connection: close", b"Connection: host",
    b"Connection: upgrade", b"Upgrade: x", b"Transfer-Encoding: chunked", b"X-Forwarded-For: 1.2.3.4", b"X_Forwarded-For: 1", b"TE: trailers",
    b"Expect: 100-continue", b"X-Request-Id: 1", b"Accept:\t*/* ", b" folded", b"A: \x00", b"A: \xff", b"A\x80: b", b"A: b\nHost: c", b"A: b\rc", b": x",
    b"X-Sessiond-Replay: 1", b"Referer: http://a/\x7f", b"A: " + b"y" * 900,
]  # fmt: skip


@settings(max_examples=2000, deadline=None)
@given(st.sampled_from(LINES), st.lists(st.sampled_from(FIELDS), max_size=25))
def test_the_short_way_of_an_ordinary_request_ends_where_the_long_one_does(
    line: bytes, fields: list[bytes]
) -> None:
    head = b"\r\n".join([line, *fields, b"", b""])
    assert head_or_refusal(RequestReader(LIMITS, FORWARDING), head) == head_or_refusal(
        LongWay(LIMITS, FORWARDING), head
    )


@pytest.mark.parametrize("byte", range(256))
def test_any_byte_in_a_target_and_in_a_field_is_judged_alike_on_both_ways(byte: int) -> None:
    for form in (
        b"GET /a%bz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA%b: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b%bc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nCookie: b%bc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nCookie: %b\r\n\r\n",
    ):
        head = form.replace(b"%b", bytes([byte]))
        assert head_or_refusal(RequestReader(LIMITS, FORWARDING), head) == head_or_refusal(
            LongWay(LIMITS, FORWARDING), head
        )


def test_most_requests_and_answers_take_the_short_way() -> None:
    request = (
        b"POST /a HTTP/1.1\r\nHost: a\r\nCookie: b\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n\r\nhi"
    )
    found = RequestReader(LIMITS, FORWARDING).whole(request)
    assert found is not None
    assert found[1] == b"hi"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi"
    assert ResponseReader(LIMITS).whole(answer) is not None


def test_nothing_takes_the_short_way_while_bytes_before_it_wait() -> None:
    requests = RequestReader(LIMITS, FORWARDING)
    requests.feed(b"GET / HTTP/1.1\r\n")
    assert requests.head() is None
    assert requests.whole(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") is None
    answers = ResponseReader(LIMITS)
    answers.feed(b"HTTP/1.1 200 OK\r\n")
    assert answers.head() is None
    assert answers.whole(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") is None


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300), CUTS)
def test_arbitrary_bytes_are_refused_or_waited_for_and_nothing_else(data: bytes, places: list[int]) -> None:
    at_once = verdict([data])
    assert verdict(cut(data, places)) == at_once
    assert at_once[0] == []
    assert read_answers([data], b"GET") == read_answers(cut(data, places), b"GET")


@pytest.mark.parametrize("payload", REFUSED, ids=str)
@settings(max_examples=10, deadline=None)
@given(CUTS)
def test_no_split_gets_a_refused_message_through(payload: Payload, places: list[int]) -> None:
    whole, status = read_requests(cut(payload.message + HIDDEN, places))
    if payload.status != 404:  # which is not the reader's to refuse
        assert whole == []
        assert status is not None


@given(st.binary(max_size=3000), st.lists(st.integers(1, 700), max_size=10), CUTS)
@settings(deadline=None)
def test_a_chunked_body_is_passed_on_byte_for_byte(
    content: bytes, sizes: list[int], places: list[int]
) -> None:
    body = b""
    for size in sizes:
        piece, content = content[:size], content[size:]
        if piece:
            body += b"%x\r\n%b\r\n" % (len(piece), piece)
    body += b"0\r\nX-Trailer: 1\r\n\r\n"
    message = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body
    whole, status = read_requests(cut(message * 2, places))
    assert status is None
    assert [received for _, received in whole] == [body, body]


def test_a_chunked_body_can_be_read_without_its_chunks() -> None:
    reader = ResponseReader(LIMITS)
    reader.expect(b"GET")
    received = b""
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nA: b\r\n\r\n"
    )
    head = None
    for index in range(len(answer)):
        reader.feed(answer[index : index + 1])
        if head is None:
            head = reader.head()
            if head is None:
                continue
            reader.skip_head()
            reader.unchunk()
        reader.advance()
        received += reader.take()
    assert received == b"hello world"
    assert reader.complete


def test_an_empty_line_in_pieces_before_a_request_hides_nothing_of_it() -> None:
    assert read_requests([b"\r", b"\n", b"\n"]) == read_requests([b"\r\n\n"]) == ([], 400)


def test_a_short_answer_that_comes_after_an_interim_one_is_seen() -> None:
    interim, final = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 X\r\n\r\n"
    assert (
        read_answers([interim, final], b"POST")
        == read_answers([interim + final], b"POST")
        == ([interim, final, b""], True)
    )


def test_a_body_beyond_the_limit_is_refused_however_it_is_framed() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    assert read_requests([head + b"Content-Length: 5000\r\n\r\n"])[1] is None
    assert read_requests([head + b"Content-Length: 5001\r\n\r\n"])[1] == 413
    chunk = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    assert read_requests([head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 5 + b"0\r\n\r\n"])[1] is None
    assert read_requests([head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 5 + b"1\r\n"])[1] == 413


@pytest.mark.parametrize("bytewise", [False, True])
def test_a_line_beyond_the_limit_is_refused_before_it_ends(bytewise: bool) -> None:
    def status_of(stream: bytes) -> int | None:
        return read_requests([stream[i : i + 1] for i in range(len(stream))] if bytewise else [stream])[1]

    longest = b"x" * (LIMITS.line_bytes_max - len(b"GET / HTTP/1.1"))
    assert status_of(b"GET /" + longest + b" HTTP/1.1\r\nHost: a\r\n\r\n") is None
    assert status_of(b"GET /" + longest + b"x HTTP/1.1\r\nHost: a\r\n\r\n") == 414
    assert status_of(b"GET /" + longest + b"x" * 100) == 414
    field = b"x" * (LIMITS.line_bytes_max - len(b"A: "))
    assert status_of(b"GET / HTTP/1.1\r\nHost: a\r\nA: " + field + b"\r\n\r\n") is None
    assert status_of(b"GET / HTTP/1.1\r\nHost: a\r\nA: " + field + b"x\r\n\r\n") == 431
    assert status_of(b"GET / HTTP/1.1\r\nHost: a\r\nA: " + field + b"x" * 100) == 431


def test_the_rest_of_a_connection_that_leaves_http_is_handed_out_once() -> None:
    reader = RequestReader(LIMITS, FORWARDING)
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\x00\x01")
    head = reader.head()
    assert head is not None
    assert head.upgrade == b"x"
    assert (reader.rest(), reader.rest(), reader.pending_bytes) == (b"\x00\x01", b"", 0)


def test_spellings_are_all_mixes_of_hyphen_and_underscore() -> None:
    assert spellings(b"a-b-c", b"d") == {b"a-b-c", b"a_b-c", b"a-b_c", b"a_b_c", b"d"}


def test_fields_are_found_by_their_whole_names_in_any_case_and_joined() -> None:
    find = finder({b"host", b"te", b"cookie", b"via"}, loose={b"x-a-b"})
    head = (
        b"GET /te: HTTP/1.1\r\nHOST:  a \t\r\nTest: 1\r\nX-Te: 2\r\ncookie: a\r\nCookie: b\r\nvia: x\r\nVia: y\r\n"
        b"X_A-B: 3\r\nX-Via: te: 4\r\nTE:\r\n\r\n"
    )
    assert find(head) == {b"host": b"a", b"cookie": b"a; b", b"via": b"x, y", b"x_a-b": b"3", b"te": b""}
