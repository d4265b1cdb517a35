"""Requests that two parsers could read differently, with the clause of RFC 9112 (or 9110) that forbids them.

Each would hide a second request, or bytes of one, if any server behind us read it otherwise than we do. `status` is
what the balancer answers; the origin must receive nothing of it.
"""

from typing import NamedTuple


class Payload(NamedTuple):
    clause: str
    name: str
    status: int
    message: bytes


HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: evil\r\n\r\n"


def _post(*fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    head = b"POST / HTTP/%b\r\nHost: a\r\n" % version + b"".join(field + b"\r\n" for field in fields)
    return head + b"\r\n" + body


def _chunked(body: bytes, *fields: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", *fields, body=body)


_ENDED = b"0\r\n\r\n"
_TABLE: list[tuple[str, int, dict[str, bytes]]] = [
    (
        "9112 2.2: lines end with CRLF",
        400,
        {
            "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
            "bare LF after a field": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            "bare LF everywhere": b"GET / HTTP/1.1\nHost: a\n\n",
            "bare LF before the empty line": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
            "bare LF first": b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "bare CR in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n",
            "CR CR LF": b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
            "bare CR first": b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "whitespace before the first field": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        },
    ),
    (
        "9112 3: request line",
        400,
        {
            "two spaces after the method": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "two spaces before the version": b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            "tab for space": b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n",
            "space at the end": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "no version": b"GET /\r\nHost: a\r\n\r\n",
            "no target": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
            "lower-case http": b"GET / http/1.1\r\nHost: a\r\n\r\n",
            "control character in the target": b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
            "NUL in the target": b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
            "bytes beyond ASCII in the target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
            "a fragment": b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
            "three digits of version": b"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
        },
    ),
    (
        "9112 2.3: version",
        505,
        {
            "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            "HTTP/0.9": b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
        },
    ),
    (
        "9112 3.2: Host and target",
        400,
        {
            "no Host": b"GET / HTTP/1.1\r\n\r\n",
            "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "two equal Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
            "two Hosts in one field": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "a path in Host": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "credentials in Host": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "a space in Host": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "a port that is none": b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
            "an asterisk for GET": b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "a relative target": b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n",
            "another scheme": b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "credentials in the target": b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "no authority in an absolute target": b"GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n",
        },
    ),
    (
        "9112 5: field syntax",
        400,
        {
            "space before the colon": _post(b"Content-Length : 5", body=b"hello"),
            "tab before the colon": _post(b"Content-Length\t: 5", body=b"hello"),
            "no colon": _post(b"Content-Length"),
            "no name": _post(b": 5"),
            "a space in a name": _post(b"Content Length: 5"),
            "a bracket in a name": _post(b"X(y): 5"),
            "NUL in a value": _post(b"X: a\x00b"),
            "a control character in a value": _post(b"X: a\x0bb"),
            "DEL in a value": _post(b"X: a\x7fb"),
        },
    ),
    (
        "9112 5.2: folded lines",
        400,
        {
            "a folded value": _post(b"X: a\r\n b"),
            "a folded Content-Length": _post(b"Content-Length:\r\n 5", body=b"hello"),
            "a folded Transfer-Encoding": _post(b"Transfer-Encoding:\r\n\tchunked", body=_ENDED),
            "a folded chunked after another": _post(b"Transfer-Encoding: identity\r\n ,chunked", body=_ENDED),
        },
    ),
    (
        "9112 6.1: Transfer-Encoding",
        400,
        {
            "with Content-Length": _post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=_ENDED + HIDDEN),
            "before Content-Length": _post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=_ENDED + HIDDEN),
            "with Content-Length: 0": _post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=_ENDED),
            "twice": _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=_ENDED),
            "chunked not last": _post(b"Transfer-Encoding: chunked, identity", body=_ENDED),
            "chunked twice in a field": _post(b"Transfer-Encoding: chunked, chunked", body=_ENDED),
            "unknown": _post(b"Transfer-Encoding: xchunked", body=_ENDED),
            "quoted": _post(b'Transfer-Encoding: "chunked"', body=_ENDED),
            "with a parameter": _post(b"Transfer-Encoding: chunked;q=1", body=_ENDED),
            "with a vertical tab": _post(b"Transfer-Encoding: \x0bchunked", body=_ENDED),
            "empty": _post(b"Transfer-Encoding:", body=_ENDED),
            "identity alone": _post(b"Transfer-Encoding: identity", b"Content-Length: 5", body=b"hello"),
            "in HTTP/1.0": _post(b"Transfer-Encoding: chunked", body=_ENDED, version=b"1.0"),
            "with an underscore and Content-Length, folded": _post(b"Transfer_Encoding:\r\n chunked"),
        },
    ),
    (
        "9112 6.1: codings not implemented",
        501,
        {
            "gzip before chunked": _post(b"Transfer-Encoding: gzip, chunked", body=_ENDED),
            "identity in a field before": _post(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"),
        },
    ),
    (
        "9112 6.2: Content-Length",
        400,
        {
            "twice, equal": _post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
            "twice, different": _post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
            "a list": _post(b"Content-Length: 5, 5", body=b"hello"),
            "a sign": _post(b"Content-Length: +5", body=b"hello"),
            "negative": _post(b"Content-Length: -5", body=b"hello"),
            "hexadecimal": _post(b"Content-Length: 0x5", body=b"hello"),
            "an underscore": _post(b"Content-Length: 1_0", body=b"hellohello"),
            "a fraction": _post(b"Content-Length: 5.0", body=b"hello"),
            "a space inside": _post(b"Content-Length: 1 0", body=b"hellohello"),
            "empty": _post(b"Content-Length:", body=b"hello"),
            "too large for any integer": _post(b"Content-Length: 99999999999999999999999", body=b"hello"),
            "digits beyond ASCII": _post(b"Content-Length: \xd9\xa5", body=b"hello"),
        },
    ),
    (
        "9112 7.1: chunks",
        400,
        {
            "no size": _chunked(b"\r\nhello\r\n" + _ENDED),
            "a size that is no number": _chunked(b"xyz\r\nhello\r\n" + _ENDED),
            "0x before the size": _chunked(b"0x5\r\nhello\r\n" + _ENDED),
            "a sign before the size": _chunked(b"+5\r\nhello\r\n" + _ENDED),
            "a negative size": _chunked(b"-5\r\nhello\r\n" + _ENDED),
            "an underscore in the size": _chunked(b"0_5\r\nhello\r\n" + _ENDED),
            "a size too large": _chunked(b"ffffffffffffffff1\r\nhello\r\n" + _ENDED),
            "space before the size": _chunked(b" 5\r\nhello\r\n" + _ENDED),
            "space after the size": _chunked(b"5 \r\nhello\r\n" + _ENDED),
            "bare LF after the size": _chunked(b"5\nhello\r\n" + _ENDED),
            "bare LF after the chunk": _chunked(b"5\r\nhello\n" + _ENDED),
            "no CRLF after the chunk": _chunked(b"5\r\nhello" + _ENDED),
            "a chunk longer than its size": _chunked(b"5\r\nhello!\r\n" + _ENDED),
            "bare LF at the end": _chunked(b"0\n\n" + HIDDEN),
            "bare CR in an extension": _chunked(b"5;a\rb\r\nhello\r\n" + _ENDED),
            "bare LF in an extension": _chunked(b"5;a\nb\r\nhello\r\n" + _ENDED),
            "NUL in an extension": _chunked(b"5;a\x00\r\nhello\r\n" + _ENDED),
            "an extension without end": _chunked(b"5;" + b"a" * 5000 + b"\r\nhello\r\n" + _ENDED),
        },
    ),
    (
        "9112 7.1.2: trailers",
        400,
        {
            "Content-Length": _chunked(b"0\r\nContent-Length: 5\r\n\r\n" + HIDDEN),
            "Transfer-Encoding": _chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n" + HIDDEN),
            "Host": _chunked(b"0\r\nHost: evil\r\n\r\n"),
            "our own field": _chunked(b"0\r\nX-Sessiond-Replay: 1\r\n\r\n"),
            "our own field, disguised": _chunked(b"0\r\nX_Sessiond_Replay: 1\r\n\r\n"),
            "a forwarded address": _chunked(b"0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"),
            "a cookie": _chunked(b"0\r\nCookie: a=b\r\n\r\n"),
            "bare LF": _chunked(b"0\r\nA: b\n\r\n"),
            "folded": _chunked(b"0\r\nA: b\r\n c\r\n\r\n"),
            "no colon": _chunked(b"0\r\nGET / HTTP/1.1\r\n\r\n"),
        },
    ),
    (
        "9110 7.6.1: Connection",
        400,
        {
            "names Content-Length": _post(b"Connection: content-length", b"Content-Length: 5", body=b"hello"),
            "names Transfer-Encoding": _chunked(_ENDED, b"Connection: Transfer-Encoding"),
            "names Host": _post(b"Connection: close, host"),
            "names Cookie": _post(b"Connection: cookie", b"Cookie: a=b"),
        },
    ),
    (
        "9110 9.1: methods",
        501,
        {
            "unknown": b"FROBNICATE / HTTP/1.1\r\nHost: a\r\n\r\n",
            "lower case": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        },
    ),
    (
        "9110 10.1.1: Expect",
        417,
        {"unknown": _post(b"Expect: magic"), "twice": _post(b"Expect: 100-continue", b"Expect: 100-continue")},
    ),
    (
        "9112 3, 9110 5.4 and 15.5.14: sizes",
        431,
        {"large field": _post(b"X: " + b"a" * 40_000), "many fields": _post(*[b"X: y"] * 101)},
    ),
    ("9112 3: sizes", 414, {"long target": b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"}),
    ("9110 15.5.14: sizes", 413, {"large body": _post(b"Content-Length: 2000000000"), "large chunk": _chunked(b"7fffffff\r\n")}),
    (
        "the nodes' own paths",
        404,
        {
            target.decode("latin-1"): b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"
            for target in (
                b"/_sessiond/health", b"/_sessiond", b"/_sessiond?x", b"//_sessiond/health", b"/%5fsessiond/health",
                b"/%5Fsessiond/health", b"/_%73essiond/health", b"/%2f_sessiond/health", b"/./_sessiond/health",
                b"/a/../_sessiond/health", b"/a/%2e%2E/_sessiond/health", b"/%255fsessiond/health",
                b"/_sessiond%2fhealth", b"/_sessiond/../a", b"/_SESSIOND/health", b"/\\_sessiond/health".replace(b"\\", b"%5c"),
                b"/_sessiond;a=b/health", b"/..//_sessiond/health", b"http://a/_sessiond/health", b"http://a//%5fsessiond/",
            )
        },
    ),
]  # fmt: skip

PAYLOADS = [
    Payload(clause, name, status, message)
    for clause, status, messages in _TABLE
    for name, message in messages.items()
]
