"""Where the balancer judges otherwise than llhttp, and by which clause. Everything else has to agree."""

from typing import NamedTuple


class Outcome(NamedTuple):
    """How many messages arrived whole, and the status with which the balancer refused the rest (0: it did not)."""

    arrived: int
    status: int


class Explained(NamedTuple):
    """An exception: what becomes of the case instead; of an answer in the words of test_answers."""

    outcome: Outcome | str
    clause: str
    reason: str


_NO_CONNECT = Explained(
    Outcome(0, 501), "9110 9.3.6", "CONNECT is for proxies that clients choose; a gateway has no use for it"
)
_OTHER_PROTOCOL = Explained(
    Outcome(0, 400), "9112 2.3", "HTTP is the only protocol here; llhttp also knows RTSP and ICE"
)
_FRAGMENT = Explained(
    Outcome(0, 400), "9112 3.2.1", "a target has no fragment: what a server would make of # is not known"
)
_BODY_BEFORE_UPGRADE = Explained(
    Outcome(1, 0), "9110 7.8", "the request comes first, body included; llhttp stops at its head"
)

REQUESTS: dict[str, Explained] = {
    "request/connection.md:715 Emitting part of body and pausing": _BODY_BEFORE_UPGRADE,
    "request/connection.md:814 Upgrade POST request": _BODY_BEFORE_UPGRADE,
    "request/method.md:29 CONNECT request": _NO_CONNECT,
    "request/method.md:64 CONNECT request with CAPS": _NO_CONNECT,
    "request/method.md:98 CONNECT with body": _NO_CONNECT,
    "request/method.md:137 M-SEARCH request": Explained(
        Outcome(0, 400), "9112 3.2.4", "the target * is for OPTIONS alone"
    ),
    "request/method.md:374 SOURCE request with ICE": _OTHER_PROTOCOL,
    "request/method.md:404 OPTIONS request with RTSP": _OTHER_PROTOCOL,
    "request/method.md:432 ANNOUNCE request with RTSP": _OTHER_PROTOCOL,
    "request/method.md:460 PRI request HTTP2": Explained(
        Outcome(0, 400), "9113 3.4", "the preface of HTTP/2 is there to be refused by others"
    ),
    "request/sample.md:316 No HTTP version": Explained(
        Outcome(0, 400), "9112 3", "a request line has a version; HTTP/0.9 is not spoken here"
    ),
    "request/transfer-encoding.md:188 Trailing headers": Explained(
        Outcome(0, 400),
        "9110 6.5.1",
        "Content-Type in a trailer comes too late, and could change the meaning",
    ),
    "request/transfer-encoding.md:753 POST with `chunked` as last transfer-encoding": _FRAGMENT,
    "request/transfer-encoding.md:795 POST with `chunked` as last transfer-encoding (multiple headers)": _FRAGMENT,
    "request/uri.md:167 Fragment in URI": _FRAGMENT,
    "request/uri.md:190 Underscore in hostname": _NO_CONNECT,
    "request/uri.md:224 `host:port` and basic auth": Explained(
        Outcome(0, 400),
        "9110 4.2.4",
        "a client must not send credentials in a URI; they would end up in logs",
    ),
}

_FRAMED_101 = Explained(
    "502", "9112 6.1, 9110 8.6", "a 101 has neither length nor coding; and nobody had asked for an upgrade"
)

ANSWERS: dict[str, Explained] = {
    "response/connection.md:295 HTTP 101 response with Upgrade and Content-Length header": _FRAMED_101,
    "response/connection.md:333 HTTP 101 response with Upgrade and Transfer-Encoding header": _FRAMED_101,
    "response/sample.md:42 RTSP response": Explained("502", "9112 2.3", "an answer in RTSP is none"),
    "response/sample.md:62 ICE response": Explained("502", "9112 2.3", "an answer in ICE is none"),
    "response/sample.md:647 HTTP version 0.9": Explained("502", "9110 2.5", "HTTP/0.9 has no status line"),
    "response/sample.md:697 Response starting with CRLF": Explained(
        "502",
        "9112 2.2",
        "empty lines are allowed before requests; before an answer they are the rest of another",
    ),
}
