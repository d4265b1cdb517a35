"""Answers of nodes that a client could read otherwise than the balancer: the mirror image of the requests.

A client that is misled shows one user what was meant for another, or what an attacker wrote. What comes behind the
end of an answer must never be taken for the next one.
"""

from collections.abc import Mapping
from typing import NamedTuple

from tests.conformance.payloads import framing

HIDDEN = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
"""The answer that an attacker wants somebody else to get."""

_ENDED = b"0\r\n\r\n"


class AnswerPayload(NamedTuple):
    """`status`: what the client gets. 502 stands for a refusal, or for a cut where a part was passed on before.

    `body`: of an answer that is passed on. `closes`: the node hangs up behind it.
    """

    clause: str
    name: str
    status: int
    message: bytes
    method: bytes = b"GET"
    body: bytes = b""
    closes: bool = False

    def __str__(self) -> str:
        return f"{self.clause} - {self.name}"


def _refused(
    clause: str, messages: Mapping[str, bytes], method: bytes = b"GET", *, closes: bool = False
) -> list[AnswerPayload]:
    return [
        AnswerPayload(clause, name, 502, message, method, closes=closes) for name, message in messages.items()
    ]


def _ok(*fields: bytes, body: bytes = b"", line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join((line, *fields)) + b"\r\n\r\n" + body


def _line(line: bytes) -> bytes:
    return _ok(b"Content-Length: 2", body=b"hi", line=line)


def _field(field: bytes) -> bytes:
    return _ok(b"Content-Length: 2", field, body=b"hi")


def _coding(value: bytes) -> bytes:
    return _ok(b"Transfer-Encoding: " + value, body=_ENDED)


def _length(value: bytes) -> bytes:
    return _ok(b"Content-Length: " + value, body=b"hello")


_STATUS_LINE = "9112 4: status line"
_LINES = "9112 2.2, 5: lines and fields of answers"
_CODING = "9112 6.1: Transfer-Encoding of answers"
_LENGTH = "9112 6.2, 6.3: Content-Length of answers"
_BODILESS = "9110 8.6, 9112 6.1: answers without body"
_HOPS = "9110 7.6.1, 7.8: Connection and Upgrade of answers"
_CUT = "9112 8: answers cut short"
SURPLUS = "9112 9.2: bytes behind an answer"
"""To be seen only if they come before the next request was sent, so they are never played byte by byte."""

_SIZES = "9110 15.6.3: sizes of answers"

ANSWERS: list[AnswerPayload] = [
    *_refused(_STATUS_LINE, {
        "no status": _line(b"HTTP/1.1"),
        "no status, with a space": _line(b"HTTP/1.1 "),
        "two digits": _line(b"HTTP/1.1 20 OK"),
        "four digits": _line(b"HTTP/1.1 2000 OK"),
        "letters": _line(b"HTTP/1.1 2xx OK"),
        "a sign": _line(b"HTTP/1.1 +200 OK"),
        "below 100": _line(b"HTTP/1.1 099 OK"),
        "above 599": _line(b"HTTP/1.1 600 OK"),
        "HTTP/2.0": _line(b"HTTP/2.0 200 OK"),
        "HTTP/0.9": _line(b"HTTP/0.9 200 OK"),
        "lower case": _line(b"http/1.1 200 OK"),
        "another protocol": _line(b"ICY 200 OK"),
        "two spaces before the status": _line(b"HTTP/1.1  200 OK"),
        "a tab before the status": _line(b"HTTP/1.1\t200 OK"),
        "a space first": _line(b" HTTP/1.1 200 OK"),
        "an empty line first": b"\r\n" + _line(b"HTTP/1.1 200 OK"),
        "NUL in the reason": _line(b"HTTP/1.1 200 O\x00K"),
        "CR in the reason": _line(b"HTTP/1.1 200 O\rK"),
        "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nhi",
        "a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "a page without a head": b"<html>\r\n\r\n</html>",
    }),
    *_refused(_LINES, {
        "bare LF after a field": b"HTTP/1.1 200 OK\r\nContent-Length: 2\nX: y\r\n\r\nhi",
        "bare LF everywhere": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
        "bare LF for the empty line": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nhi\r\n\r\n",
        "bare CR in a value": _field(b"X: a\rY: b"),
        "bare CR hides a Set-Cookie": _field(b"X: a\rSet-Cookie: b=c"),
        "CR CR LF": b"HTTP/1.1 200 OK\r\r\nContent-Length: 2\r\n\r\nhi",
        "space before the colon": _ok(b"Content-Length : 2", body=b"hi"),
        "tab before the colon": _ok(b"Transfer-Encoding\t: chunked", body=_ENDED),
        "no colon": _field(b"Set-Cookie"),
        "no name": _field(b": y"),
        "a space in a name": _field(b"Set Cookie: a=b"),
        "a bracket in a name": _field(b"X(y): z"),
        "a folded value": _field(b"X: a\r\n b"),
        "a folded Content-Length": _ok(b"Content-Length:\r\n 2", body=b"hi"),
        "a folded Transfer-Encoding": _ok(b"Transfer-Encoding:\r\n\tchunked", body=_ENDED),
        "whitespace before the first field": _ok(b" X: y", b"Content-Length: 2", body=b"hi"),
        "NUL in a value": _field(b"X: a\x00b"),
        "a control character in a value": _field(b"X: a\x0bb"),
        "DEL in a value": _field(b"X: a\x7fb"),
    }),
    *_refused(_CODING, {
        "with Content-Length": _ok(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=_ENDED + HIDDEN),
        "before Content-Length": _ok(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=_ENDED + HIDDEN),
        "with Content-Length: 0": _ok(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=_ENDED),
        "twice": _ok(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=_ENDED),
        "chunked not last": _coding(b"chunked, identity"),
        "chunked twice in a field": _coding(b"chunked, chunked"),
        "gzip before chunked": _coding(b"gzip, chunked"),
        "identity": _coding(b"identity"),
        "unknown": _coding(b"xchunked"),
        "quoted": _coding(b'"chunked"'),
        "with a parameter": _coding(b"chunked;q=1"),
        "a vertical tab before": _coding(b"\x0bchunked"),
        "empty": _coding(b""),
        "in HTTP/1.0": _ok(b"Transfer-Encoding: chunked", body=_ENDED, line=b"HTTP/1.0 200 OK"),
    }),
    *_refused(_CODING, {
        "with Content-Length, to HEAD": _ok(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        "chunked not last, to HEAD": _ok(b"Transfer-Encoding: chunked, identity"),
    }, b"HEAD"),
    *_refused(_LENGTH, {
        "twice, equal": _ok(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
        "twice, different": _ok(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"),
        "twice, the second 0": _ok(b"Content-Length: 5", b"Content-Length: 0", body=b"hello"),
        "a list": _length(b"5, 5"),
        "a plus sign": _length(b"+5"),
        "negative": _length(b"-5"),
        "hexadecimal": _length(b"0x5"),
        "an underscore": _length(b"0_5"),
        "a fraction": _length(b"5.0"),
        "a space inside": _length(b"0 5"),
        "empty": _length(b""),
        "too large for any integer": _length(b"99999999999999999999999"),
        "digits beyond ASCII": _length(b"\xd9\xa5"),
    }),
    *_refused(_LENGTH, {
        "twice, to HEAD": _ok(b"Content-Length: 5", b"Content-Length: 6"),
        "negative, to HEAD": _length(b"-5"),
    }, b"HEAD"),
    *_refused(_BODILESS, {
        "204 with a length": _ok(b"Content-Length: 5", body=b"hello", line=b"HTTP/1.1 204 No Content"),
        "204 with chunks": _ok(b"Transfer-Encoding: chunked", body=_ENDED, line=b"HTTP/1.1 204 No Content"),
        "100 with a length": _ok(b"Content-Length: 5", body=b"hello", line=b"HTTP/1.1 100 Continue"),
        "100 with chunks": _ok(b"Transfer-Encoding: chunked", body=_ENDED, line=b"HTTP/1.1 100 Continue"),
        "103 with a length": _ok(b"Content-Length: 5", body=b"hello", line=b"HTTP/1.1 103 Early Hints"),
        "199 with a length": _ok(b"Content-Length: 5", body=b"hello", line=b"HTTP/1.1 199 X"),
        "304 with two lengths": _ok(b"Content-Length: 5", b"Content-Length: 6", line=b"HTTP/1.1 304 X"),
        "304 with length and coding": _ok(
            b"Content-Length: 5", b"Transfer-Encoding: chunked", line=b"HTTP/1.1 304 Not Modified"
        ),
    }),
    AnswerPayload(_BODILESS, "204 with length 0", 204, _ok(b"Content-Length: 0", line=b"HTTP/1.1 204 X")),
    AnswerPayload(_BODILESS, "304 with a length", 304, _ok(b"Content-Length: 5", line=b"HTTP/1.1 304 X")),
    AnswerPayload(_BODILESS, "a length for HEAD", 200, _ok(b"Content-Length: 5"), b"HEAD"),
    AnswerPayload(_BODILESS, "chunks for HEAD", 200, _ok(b"Transfer-Encoding: chunked"), b"HEAD"),
    AnswerPayload(_BODILESS, "neither for HEAD", 200, _ok(b"X: y"), b"HEAD"),
    *_refused(_HOPS, {
        "names Content-Length": _field(b"Connection: content-length"),
        "names Transfer-Encoding": _ok(b"Connection: transfer-encoding", b"Transfer-Encoding: chunked", body=_ENDED),
        "names Set-Cookie": _field(b"Connection: close, Set-Cookie"),
        "names Content-Length in its second field": _ok(
            b"Connection: close", b"Connection: CONTENT-LENGTH", b"Content-Length: 2", body=b"hi"
        ),
        "101 that nobody asked for": _ok(
            b"Connection: Upgrade", b"Upgrade: websocket", line=b"HTTP/1.1 101 Switching Protocols"
        ),
        "101 to nothing": _ok(line=b"HTTP/1.1 101 Switching Protocols"),
        "101 with a length": _ok(
            b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 2", body=b"hi",
            line=b"HTTP/1.1 101 Switching Protocols",
        ),
        "101 to HTTP/2": _ok(b"Connection: Upgrade", b"Upgrade: h2c", line=b"HTTP/1.1 101 Switching Protocols"),
    }),
    *_refused(_CUT, {
        "nothing": b"",
        "within the status line": b"HTTP/1.1 20",
        "within a field": b"HTTP/1.1 200 OK\r\nContent-Le",
        "before the empty line": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        "within the body": _ok(b"Content-Length: 5", body=b"hel"),
        "before the body": _ok(b"Content-Length: 5"),
        "within a chunk's size": _ok(b"Transfer-Encoding: chunked", body=b"5"),
        "within a chunk": _ok(b"Transfer-Encoding: chunked", body=b"5\r\nhel"),
        "after a chunk": _ok(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n"),
        "within the last chunk": _ok(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n"),
        "within a trailer": _ok(b"Transfer-Encoding: chunked", body=b"0\r\nX: y\r\n"),
        "after an interim answer": _ok(line=b"HTTP/1.1 103 Early Hints"),
    }, closes=True),
    AnswerPayload(
        _CUT, "where only the end tells", 200, _ok(b"X: y", body=b"hello"), body=b"hello", closes=True
    ),
    AnswerPayload(
        _CUT, "HTTP/1.0", 200, _ok(b"X: y", body=b"hello", line=b"HTTP/1.0 200 OK"), body=b"hello", closes=True
    ),
    AnswerPayload(SURPLUS, "behind its length", 200, _length(b"5") + HIDDEN, body=b"hello"),
    AnswerPayload(SURPLUS, "behind length 0", 200, _ok(b"Content-Length: 0") + HIDDEN),
    AnswerPayload(
        SURPLUS, "behind its chunks", 200,
        _ok(b"Transfer-Encoding: chunked", body=b"2\r\nhi\r\n" + _ENDED) + HIDDEN, body=b"hi",
    ),
    AnswerPayload(SURPLUS, "behind a 204", 204, _ok(line=b"HTTP/1.1 204 X") + HIDDEN),
    AnswerPayload(SURPLUS, "behind a 304", 304, _ok(b"Content-Length: 5", line=b"HTTP/1.1 304 X") + HIDDEN),
    AnswerPayload(SURPLUS, "the body of a 304", 304, _ok(b"Content-Length: 5", body=b"hello", line=b"HTTP/1.1 304 X")),
    AnswerPayload(SURPLUS, "the body of an answer to HEAD", 200, _length(b"5"), b"HEAD"),
    AnswerPayload(SURPLUS, "chunks of an answer to HEAD", 200, _coding(b"chunked"), b"HEAD"),
    AnswerPayload(SURPLUS, "an empty line", 200, _length(b"5") + b"\r\n", body=b"hello"),
    AnswerPayload(SURPLUS, "half an answer", 200, _length(b"5") + b"HTTP/1.1 200", body=b"hello"),
    *_refused(_SIZES, {
        "a large field": _field(b"X: " + b"a" * 70_000),
        "a large name": _field(b"X" * 70_000 + b": a"),
        "many fields": _ok(*[b"X: y"] * 101, b"Content-Length: 0"),
        "many large fields": _ok(*[b"X: " + b"y" * 2000] * 50, b"Content-Length: 0"),
        "a large reason": _line(b"HTTP/1.1 200 " + b"a" * 70_000),
        "a first line without end": b"H" * 70_000,
        "a large chunk line": _ok(b"Transfer-Encoding: chunked", body=b"5;" + b"a" * 2000),
        "large trailers": _ok(b"Transfer-Encoding: chunked", body=b"0\r\nX: " + b"a" * 9000 + b"\r\n\r\n"),
    }),
]  # fmt: skip

ANSWERS += [
    AnswerPayload(
        f"{payload.clause}, of answers", payload.name, 502,
        _ok(b"Transfer-Encoding: chunked", body=payload.message.partition(b"\r\n\r\n")[2]) + HIDDEN,
    )
    for payload in framing.PAYLOADS
    if payload.status and payload.clause in framing.CHUNKS
]  # fmt: skip
"""What is wrong with chunks in a request is wrong with them in an answer."""
