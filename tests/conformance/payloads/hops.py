"""What is meant for one hop, or for us: Connection, Upgrade, Expect, methods, sizes, forwarding fields, nodes' paths."""

from tests.conformance.payloads.types import HIDDEN, Payload, chunked, get, post, table

_ENDED = b"0\r\n\r\n"

_CONNECTION = "9110 7.6.1: Connection"
_UPGRADE = "9110 7.8: Upgrade"
_METHOD = "9110 9.1, 9.3.6: methods"
_EXPECT = "9110 10.1.1: Expect"
_SIZES = "9112 3, 9110 5.4, 15.5.14: sizes"
_CLAIMS = "9110 7.6.3, 7239 8: what only proxies may say"
_INTERNAL = "the nodes' own paths"


def _connection(value: bytes, *fields: bytes) -> bytes:
    return get(b"Connection: " + value, *fields)


def _upgrade(value: bytes, *fields: bytes) -> bytes:
    return get(b"Connection: Upgrade", b"Upgrade: " + value, *fields)


def _expect(value: bytes) -> bytes:
    return post(b"Expect: " + value, b"Content-Length: 5", body=b"hello")


PAYLOADS: list[Payload] = [
    *table(_CONNECTION, 400, {
        "names Content-Length": post(b"Connection: content-length", b"Content-Length: 5", body=b"hello"),
        "names Transfer-Encoding": chunked(_ENDED, b"Connection: Transfer-Encoding"),
        "names Host": _connection(b"close, host"),
        "names Cookie": _connection(b"cookie", b"Cookie: a=b"),
        "names Authorization": _connection(b"authorization", b"Authorization: Basic YTpi"),
        "names Content-Length in another case": post(
            b"Connection: CONTENT-length", b"Content-Length: 5", body=b"hello"
        ),
        "names Content-Length in its second field": post(
            b"Connection: close", b"Connection: Content-Length", b"Content-Length: 5", body=b"hello"
        ),
        "names Host between blanks": _connection(b" ,\t host \t,"),
        "names Content-Length, which is not there": _connection(b"content-length"),
    }),
    *table(_CONNECTION, 0, {
        "empty elements": _connection(b", keep-alive ,"),
        "names another field": _connection(b"X", b"X: y"),
        "names a field that is not there": _connection(b"nothing"),
        "Proxy-Connection": get(b"Proxy-Connection: keep-alive"),
        "Keep-Alive": get(b"Keep-Alive: timeout=5"),
        "TE": get(b"Connection: TE", b"TE: trailers"),
    }),
    *table(_UPGRADE, 0, {
        "to HTTP/2": _upgrade(b"h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
        "to HTTP/2, its settings named": get(
            b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"
        ),
        "to HTTP/2 in capitals": _upgrade(b"H2C"),
        "to HTTP/2 with a version": _upgrade(b"h2c/1"),
        "to HTTP/2 after blanks": _upgrade(b"\t h2c"),
        "to HTTP/2 over TLS": _upgrade(b"h2"),
        "not named by Connection": get(b"Upgrade: websocket"),
        "named, but absent": _connection(b"upgrade"),
        "in HTTP/1.0": get(b"Connection: Upgrade", b"Upgrade: websocket", line=b"GET / HTTP/1.0"),
        "with a body": post(
            b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: %d" % len(HIDDEN), body=HIDDEN
        ),
        "with chunks": chunked(b"5\r\nhello\r\n" + _ENDED, b"Connection: Upgrade", b"Upgrade: websocket"),
        "in two fields, HTTP/2 second": get(b"Connection: Upgrade", b"Upgrade: x", b"Upgrade: h2c"),
    }),
    *table(_UPGRADE, 400, {
        "with chunks that are malformed": chunked(
            b"5\nhello\r\n" + _ENDED, b"Connection: Upgrade", b"Upgrade: websocket"
        ),
    }),
    *table(_METHOD, 501, {
        "unknown": get(line=b"FROBNICATE / HTTP/1.1"),
        "lower case": get(line=b"get / HTTP/1.1"),
        "mixed case": get(line=b"Get / HTTP/1.1"),
        "known, and a letter more": get(line=b"GETS / HTTP/1.1"),
        "known, and a letter less": get(line=b"GE / HTTP/1.1"),
        "marks that methods may have": get(line=b"!#$%&'*+-.^_`|~ / HTTP/1.1"),
        "CONNECT": get(line=b"CONNECT a:80 HTTP/1.1"),
        "CONNECT with a path": get(line=b"CONNECT / HTTP/1.1"),
        "very long": get(line=b"A" * 500 + b" / HTTP/1.1"),
    }),
    *table(_METHOD, 400, {
        "a bracket inside": get(line=b"G(T / HTTP/1.1"),
        "quoted": get(line=b'"GET" / HTTP/1.1'),
    }),
    *table(_EXPECT, 417, {
        "unknown": _expect(b"magic"),
        "twice": post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 0"),
        "a list": _expect(b"100-continue, magic"),
        "a comma behind": _expect(b"100-continue,"),
        "with a parameter": _expect(b"100-continue;a=b"),
        "another number": _expect(b"200-ok"),
        "a number alone": _expect(b"100"),
        "quoted": _expect(b'"100-continue"'),
        "empty": _expect(b""),
    }),
    *table(_EXPECT, 0, {
        "with its body at once": _expect(b"100-continue"),
        "in capitals": _expect(b"100-CONTINUE"),
        "without body": get(b"Expect: 100-continue"),
    }),
    *table(_SIZES, 431, {
        "a large field": get(b"X: " + b"a" * 40_000),
        "a large name": get(b"X" * 40_000 + b": a"),
        "many fields": get(*[b"X: y"] * 101),
        "many large fields": get(*[b"X: " + b"y" * 2000] * 50),
        "a large cookie": get(b"Cookie: " + b"a" * 40_000),
        "trailers": chunked(b"0\r\nX: " + b"a" * 9000 + b"\r\n\r\n"),
    }),
    *table(_SIZES, 414, {
        "a long target": get(line=b"GET /" + b"a" * 40_000 + b" HTTP/1.1"),
        "a long absolute target": get(line=b"GET http://a/" + b"a" * 40_000 + b" HTTP/1.1"),
        "a first line without end": b"G" * 40_000,
    }),
    *table(_SIZES, 413, {
        "a large body": post(b"Content-Length: 2000000000"),
        "a large body of GET": get(b"Content-Length: 2000000000"),
        "a large chunk": chunked(b"7fffffff\r\n"),
        "a large chunk, in 64 bits": chunked(b"7fffffffffffffff\r\n"),
    }),
    *table(_SIZES, 0, {
        "as many fields as there may be": get(*[b"X: y"] * 99),
    }),
    *table(_CLAIMS, 400, {
        "a length with an underscore": post(b"Content_Length: %d" % len(HIDDEN), body=HIDDEN),
        "a coding with an underscore": post(b"Transfer_Encoding: chunked", body=_ENDED),
        "a second length, with an underscore": post(b"Content-Length: 5", b"Content_Length: 0", body=b"hello"),
        "a length and a coding with an underscore": post(
            b"Content-Length: 5", b"TRANSFER_ENCODING: chunked", body=_ENDED
        ),
    }),
    *table(_CLAIMS, 0, {
        "X-Forwarded-For": get(b"X-Forwarded-For: 6.6.6.6"),
        "X-Forwarded-For with underscores": get(b"X_Forwarded_For: 6.6.6.6"),
        "X-Forwarded-For with one underscore": get(b"X-Forwarded_For: 6.6.6.6"),
        "X-Forwarded-For twice": get(b"X-Forwarded-For: 6.6.6.6", b"x-forwarded-for: 7.7.7.7"),
        "X-Forwarded-Host": get(b"X-Forwarded-Host: evil"),
        "X-Forwarded-Proto": get(b"X-Forwarded-Proto: https"),
        "Forwarded": get(b"Forwarded: for=6.6.6.6"),
        "our own field": get(b"X-Sessiond-Replay: 1"),
        "our own field, disguised": get(b"X_Sessiond_Replay: 1"),
        "our own field of answers": get(b"X-Sessiond-Owner: node2"),
    }),
    *table(_INTERNAL, 404, {
        target.decode("latin-1"): get(line=b"GET " + target + b" HTTP/1.1")
        for target in (
            b"/_sessiond/health", b"/_sessiond", b"/_sessiond?x", b"//_sessiond/health", b"/%5fsessiond/health",
            b"/%5Fsessiond/health", b"/_%73essiond/health", b"/%2f_sessiond/health", b"/./_sessiond/health",
            b"/a/../_sessiond/health", b"/a/%2e%2E/_sessiond/health", b"/%255fsessiond/health",
            b"/_sessiond%2fhealth", b"/_sessiond/../a", b"/_SESSIOND/health", b"/%5c_sessiond/health",
            b"/_sessiond;a=b/health", b"/..//_sessiond/health", b"http://a/_sessiond/health", b"http://a//%5fsessiond/",
        )
    }),
    *table(_INTERNAL, 0, {
        "a path that only resembles them": get(line=b"GET /_sessiondx/%20_sessiond/_sessiond HTTP/1.1"),
        "in a query": get(line=b"GET /?u=/_sessiond/health HTTP/1.1"),
    }),
]  # fmt: skip
