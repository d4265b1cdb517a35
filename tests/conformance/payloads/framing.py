"""Where a body ends: RFC 9112, sections 6 and 7."""

from tests.conformance.payloads.types import HIDDEN, Payload, chunked, get, post, table

_ENDED = b"0\r\n\r\n"
_HELLO = b"5\r\nhello\r\n"

_CODING = "9112 6.1: Transfer-Encoding"
_BOTH = "9112 6.1, 6.3: Transfer-Encoding with Content-Length"
_OLD = "9112 6.1: Transfer-Encoding in HTTP/1.0"
_LENGTH = "9112 6.2: Content-Length"
_LENGTHS = "9112 6.3: several Content-Lengths"
_SIZE = "9112 7.1: chunk sizes"
_CHUNK = "9112 7.1: chunks and their end"
_EXTENSION = "9112 7.1.1: chunk extensions"
_TRAILER = "9112 7.1.2, 9110 6.5.1: trailers"
_BODY = "9112 6.3, 9.3: bodies beside requests"

CHUNKS = (_SIZE, _CHUNK, _EXTENSION, _TRAILER)
"""The clauses that hold for answers too."""


def _coding(value: bytes, *more: bytes) -> bytes:
    return post(b"Transfer-Encoding: " + value, *more, body=_ENDED)


def _length(value: bytes, body: bytes = b"hello") -> bytes:
    return post(b"Content-Length: " + value, body=body)


PAYLOADS: list[Payload] = [
    *table(_CODING, 400, {
        "twice": _coding(b"chunked", b"Transfer-Encoding: chunked"),
        "twice, in another case": _coding(b"chunked", b"transfer-encoding: CHUNKED"),
        "chunked not last": _coding(b"chunked, identity"),
        "chunked not last, in two fields": _coding(b"chunked", b"Transfer-Encoding: identity"),
        "chunked twice in a field": _coding(b"chunked, chunked"),
        "a comma behind": _coding(b"chunked,"),
        "a comma before": _coding(b",chunked"),
        "unknown": _coding(b"xchunked"),
        "unknown, chunked inside": _coding(b"chunkedx"),
        "without comma": _coding(b"gzip chunked"),
        "a semicolon for a comma": _coding(b"gzip;chunked"),
        "quoted": _coding(b'"chunked"'),
        "in single quotes": _coding(b"'chunked'"),
        "with a parameter": _coding(b"chunked;q=1"),
        "with a colon": _coding(b":chunked"),
        "a vertical tab before": _coding(b"\x0bchunked"),
        "a no-break space before": _coding(b"\xa0chunked"),
        "a lookalike": _coding(b"chun\xe2\x84\xaaed"),
        "empty": _coding(b""),
        "identity alone": post(b"Transfer-Encoding: identity", body=b"hello"),
        "a tab behind": _coding(b"chunked\t"),  # allowed by 9110, 5.6.3; refused by llhttp, which we let judge
        "gzip alone": post(b"Transfer-Encoding: gzip", body=b"hello"),
    }),
    *table(_CODING, 501, {
        "gzip before chunked": _coding(b"gzip, chunked"),
        "identity before chunked": _coding(b"identity, chunked"),
        "identity in a field before": post(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"),
    }),
    *table(_CODING, 0, {
        "any case of chunked": _coding(b"CHUNKED"),
        "blanks around": _coding(b" \t chunked  "),
    }),
    *table(_BOTH, 400, {
        "length first": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=_ENDED + HIDDEN),
        "coding first": post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=_ENDED + HIDDEN),
        "length 0": post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=_ENDED),
        "length of the chunks": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=_ENDED),
        "length in another case": post(b"CONTENT-LENGTH: 5", b"Transfer-Encoding: chunked", body=_ENDED),
        "coding in another case": post(b"Content-Length: 5", b"TRANSFER-ENCODING: CHUNKED", body=_ENDED),
        "another field between": post(b"Content-Length: 5", b"X: y", b"Transfer-Encoding: chunked", body=_ENDED),
        "identity": post(b"Transfer-Encoding: identity", b"Content-Length: 5", body=b"hello"),
        "an empty coding": post(b"Transfer-Encoding:", b"Content-Length: 5", body=b"hello"),
        "an unknown coding": post(b"Transfer-Encoding: x", b"Content-Length: 5", body=b"hello"),
        "an empty length": post(b"Transfer-Encoding: chunked", b"Content-Length:", body=_ENDED),
        "both hop-by-hop": post(
            b"Connection: content-length", b"Content-Length: 5", b"Transfer-Encoding: chunked", body=_ENDED
        ),
    }),
    *table(_OLD, 400, {
        "chunked": post(b"Transfer-Encoding: chunked", body=_ENDED, version=b"1.0"),
        "chunked, and a length": post(
            b"Transfer-Encoding: chunked", b"Content-Length: 5", body=_ENDED, version=b"1.0"
        ),
        "a length, and chunked": post(
            b"Content-Length: 5", b"Transfer-Encoding: chunked", body=_ENDED, version=b"1.0"
        ),
        "chunked, to be kept alive": post(
            b"Connection: keep-alive", b"Transfer-Encoding: chunked", body=_ENDED, version=b"1.0"
        ),
        "identity": post(b"Transfer-Encoding: identity", version=b"1.0"),
        "identity, and a length": post(
            b"Transfer-Encoding: identity", b"Content-Length: 5", body=b"hello", version=b"1.0"
        ),
        "two codings": post(b"Transfer-Encoding: gzip, chunked", body=_ENDED, version=b"1.0"),
        "with GET": get(b"Transfer-Encoding: chunked", line=b"GET / HTTP/1.0") + _ENDED,
    }),
    *table(_LENGTH, 400, {
        "a plus sign": _length(b"+5"),
        "negative": _length(b"-5"),
        "hexadecimal": _length(b"0x5"),
        "hexadecimal digits": _length(b"a"),
        "an underscore": _length(b"1_0", b"hellohello"),
        "a fraction": _length(b"5.0"),
        "an exponent": _length(b"5e0"),
        "a space inside": _length(b"1 0", b"hellohello"),
        "a tab inside": _length(b"1\t0", b"hellohello"),
        "quoted": _length(b'"5"'),
        "a comment behind": _length(b"5 (five)"),
        "a semicolon behind": _length(b"5;"),
        "empty": _length(b""),
        "blanks alone": _length(b" \t"),
        "too large for any integer": _length(b"99999999999999999999999"),
        "just too large for 64 bits": _length(b"18446744073709551616"),
        "digits beyond ASCII": _length(b"\xd9\xa5"),
        "for GET": get(b"Content-Length: x"),
    }),
    *table(_LENGTH, 0, {
        "zeros before": _length(b"0005"),
        "of a GET": get(b"Content-Length: 2") + b"ok",
        "of no bytes": _length(b"0", b""),
    }),
    *table(_LENGTHS, 400, {
        "equal": post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
        "different": post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
        "the second 0": post(b"Content-Length: 5", b"Content-Length: 0", body=b"hello"),
        "the first 0": post(b"Content-Length: 0", b"Content-Length: 5", body=b"hello"),
        "in another case": post(b"Content-Length: 5", b"content-length: 5", body=b"hello"),
        "another field between": post(b"Content-Length: 5", b"X: y", b"Content-Length: 5", body=b"hello"),
        "a list": _length(b"5, 5"),
        "a list without blanks": _length(b"5,5"),
        "a list with an empty element": _length(b"5,"),
        "three": post(*[b"Content-Length: 5"] * 3, body=b"hello"),
        "the second empty": post(b"Content-Length: 5", b"Content-Length:", body=b"hello"),
    }),
    *table(_SIZE, 400, {
        "none": chunked(b"\r\nhello\r\n" + _ENDED),
        "no number": chunked(b"xyz\r\nhello\r\n" + _ENDED),
        "0x before": chunked(b"0x5\r\nhello\r\n" + _ENDED),
        "x before": chunked(b"x5\r\nhello\r\n" + _ENDED),
        "h behind": chunked(b"5h\r\nhello\r\n" + _ENDED),
        "a sign": chunked(b"+5\r\nhello\r\n" + _ENDED),
        "negative": chunked(b"-5\r\nhello\r\n" + _ENDED),
        "negative zero": chunked(b"-0\r\n\r\n"),
        "an underscore": chunked(b"0_5\r\nhello\r\n" + _ENDED),
        "a fraction": chunked(b"5.0\r\nhello\r\n" + _ENDED),
        "quoted": chunked(b'"5"\r\nhello\r\n' + _ENDED),
        "too large": chunked(b"ffffffffffffffff1\r\nhello\r\n" + _ENDED),
        "wraps around in 64 bits": chunked(b"10000000000000005\r\nhello\r\n" + _ENDED),
        "zeros enough to hide it": chunked(b"0" * 2000 + b"5\r\nhello\r\n" + _ENDED),
        "space before": chunked(b" 5\r\nhello\r\n" + _ENDED),
        "space behind": chunked(b"5 \r\nhello\r\n" + _ENDED),
        "tab behind": chunked(b"5\t\r\nhello\r\n" + _ENDED),
        "space before the last": chunked(_HELLO + b" 0\r\n\r\n"),
        "space behind the last": chunked(_HELLO + b"0 \r\n\r\n"),
        "NUL behind": chunked(b"5\x00\r\nhello\r\n" + _ENDED),
        "digits beyond ASCII": chunked(b"\xd9\xa5\r\nhello\r\n" + _ENDED),
        "two": chunked(b"5 5\r\nhello\r\n" + _ENDED),
    }),
    *table(_SIZE, 0, {
        "both cases, and zeros": chunked(b"000A\r\n0123456789\r\n0b\r\n0123456789a\r\n00\r\n\r\n"),
        "one byte each": chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in b"hello") + _ENDED),
    }),
    *table(_CHUNK, 400, {
        "bare LF after the size": chunked(b"5\nhello\r\n" + _ENDED),
        "bare CR after the size": chunked(b"5\rhello\r\n" + _ENDED),
        "CR and another byte after the size": chunked(b"5\r\r;ABCD\r\n" + _ENDED),
        "bare LF after the chunk": chunked(b"5\r\nhello\n" + _ENDED),
        "bare CR after the chunk": chunked(b"5\r\nhello\r" + _ENDED),
        "no CRLF after the chunk": chunked(b"5\r\nhello" + _ENDED),
        "another CRLF after the chunk": chunked(b"5\r\nhello\r\n\r\n" + _ENDED),
        "two bytes for the chunk's CRLF": chunked(b"5\r\nhelloXX" + _ENDED),
        "a chunk longer than its size": chunked(b"5\r\nhello!\r\n" + _ENDED),
        "a chunk shorter than its size": chunked(b"6\r\nhello\r\n" + _ENDED),
        "bare LF at the end": chunked(b"0\n\n" + HIDDEN),
        "bare LF for the last empty line": chunked(b"0\r\n\n" + HIDDEN),
        "bare CR for the last empty line": chunked(b"0\r\n\rX" + HIDDEN),
        "no last empty line": chunked(b"0\r\n" + HIDDEN),
        "no last chunk": chunked(_HELLO + b"\r\n" + HIDDEN),
    }),
    *table(_EXTENSION, 400, {
        "bare CR": chunked(b"5;a\rb\r\nhello\r\n" + _ENDED),
        "bare LF": chunked(b"5;a\nb\r\nhello\r\n" + _ENDED),
        "bare LF hides a chunk": chunked(b"5;a\n0\r\n\r\n" + HIDDEN),
        "bare LF in quotes": chunked(b'5;a="\n"\r\nhello\r\n' + _ENDED),
        "CRLF in quotes": chunked(b'5;a="\r\nhello\r\n"\r\n' + _ENDED),
        "NUL": chunked(b"5;a\x00\r\nhello\r\n" + _ENDED),
        "NUL in a value": chunked(b"5;a=\x00\r\nhello\r\n" + _ENDED),
        "a control character in quotes": chunked(b'5;a="\x01"\r\nhello\r\n' + _ENDED),
        "a quote without end": chunked(b'5;a="b\r\nhello\r\n' + _ENDED),
        "text behind a quote": chunked(b'5;a="b"c\r\nhello\r\n' + _ENDED),
        "of the last chunk, bare LF": chunked(b"0;a\n\r\n" + HIDDEN),
        "without end": chunked(b"5;" + b"a" * 1500 + b"\r\nhello\r\n" + _ENDED),
    }),
    *table(_EXTENSION, 0, {
        "names and values": chunked(b'5;a=b;c="d;\\"e"\r\nhello\r\n0;x\r\n\r\n'),
        "digits that look like a size": chunked(b"5;5\r\nhello\r\n0;5\r\n\r\n"),
    }),
    *table(_TRAILER, 400, {
        "Content-Length": chunked(b"0\r\nContent-Length: 5\r\n\r\n" + HIDDEN),
        "Transfer-Encoding": chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n" + HIDDEN),
        "Host": chunked(b"0\r\nHost: evil\r\n\r\n"),
        "Connection": chunked(b"0\r\nConnection: close\r\n\r\n"),
        "Upgrade": chunked(b"0\r\nUpgrade: websocket\r\n\r\n"),
        "Expect": chunked(b"0\r\nExpect: 100-continue\r\n\r\n"),
        "our own field": chunked(b"0\r\nX-Sessiond-Replay: 1\r\n\r\n"),
        "our own field, disguised": chunked(b"0\r\nX_Sessiond_Replay: 1\r\n\r\n"),
        "a forwarded address": chunked(b"0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"),
        "a cookie": chunked(b"0\r\nCookie: a=b\r\n\r\n"),
        "an authorization": chunked(b"0\r\nAuthorization: Basic YTpi\r\n\r\n"),
        "a second Content-Length behind a harmless field": chunked(b"0\r\nA: b\r\nContent-Length: 5\r\n\r\n"),
        "bare LF": chunked(b"0\r\nA: b\n\r\n"),
        "bare CR": chunked(b"0\r\nA: b\rC: d\r\n\r\n"),
        "folded": chunked(b"0\r\nA: b\r\n c\r\n\r\n"),
        "no colon": chunked(b"0\r\nGET / HTTP/1.1\r\n\r\n"),
        "space before the colon": chunked(b"0\r\nA : b\r\n\r\n"),
        "space first": chunked(b"0\r\n A: b\r\n\r\n"),
        "NUL": chunked(b"0\r\nA: \x00\r\n\r\n"),
    }),
    *table(_TRAILER, 0, {
        "harmless ones": chunked(_HELLO + b"0\r\nX-A: b\r\nX-C: d\r\n\r\n"),
        "a digest, announced": chunked(_HELLO + b"0\r\nDigest: x\r\n\r\n", b"Trailer: Digest"),
    }),
    *table(_BODY, 0, {
        "a request in a body": _length(b"%d" % len(HIDDEN), HIDDEN),
        "a request in a chunk": chunked(b"%x\r\n%b\r\n" % (len(HIDDEN), HIDDEN) + _ENDED),
        "the last chunk in a body": _length(b"5", _ENDED),
        "the last chunk in a chunk": chunked(b"5\r\n0\r\n\r\n\r\n" + _ENDED),
        "line ends in a body": _length(b"8", b"\r\n\r\n\n\n\r\r"),
        "a request in the body of GET": get(b"Content-Length: %d" % len(HIDDEN)) + HIDDEN,
        "a request in the body of DELETE": get(b"Content-Length: %d" % len(HIDDEN), line=b"DELETE / HTTP/1.1") + HIDDEN,
        "chunks for GET": get(b"Transfer-Encoding: chunked") + _HELLO + _ENDED,
        "a POST without length": post(),
    }),
]  # fmt: skip
