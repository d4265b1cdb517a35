"""Strategies: valid messages of every kind, and streams of them in which a few bytes were changed."""

from hypothesis import strategies as st

EDIT_PLACES = 4000
"""Edits fall anywhere in a message: their place is taken modulo its length."""

_TOKENS = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b" ", b"\t", b"\x00", b"\x0b", b"\x7f", b"\xff", b":", b",", b";", b'"', b"=",
    b"0", b"1", b"f", b"-", b"+", b"_", b"0x", b"chunked", b"identity", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Host: b\r\n", b"Connection: close\r\n", b"Connection: x\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"\r\n folded",
    b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0", b"Content_Length: 5\r\n",
    b"Expect: 100-continue\r\n", b"Trailer: x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"HEAD", b"CONNECT", b"*", b"http://b",
)  # fmt: skip
EDITS = st.lists(
    st.tuples(
        st.integers(0, EDIT_PLACES),  # where
        st.integers(0, 3),  # bytes removed
        st.sampled_from(_TOKENS) | st.binary(max_size=2),  # bytes put in
    ),
    max_size=3,
)
CUTS = st.lists(st.integers(0, EDIT_PLACES), max_size=12)

_METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"])
_TARGETS = st.sampled_from(
    [b"/", b"/a/b?c=d", b"/%2e%2e/;x=y", b"//a", b"http://b/c", b"http://b:80?q", b"*"]
)
_FIELDS = st.lists(
    st.sampled_from(
        [
            b"X-A: b", b"Cookie: SESSIONID=x.node1", b"cookie: c=d", b"Accept:\t*/* ", b"X-Empty:", b"X-High: \xe9\xff", b"Connection: close",
            b"Connection: keep-alive", b"Connection: X-A, keep-alive", b"X-Forwarded-For: 6.6.6.6", b"x_forwarded_for: 6", b"TE: trailers",
            b"Keep-Alive: timeout=5", b"Expect: 100-continue", b"X-Sessiond-Replay: 1", b"Upgrade: websocket", b"Set-Cookie: a=b", b"Date: x",
        ]
    ),
    max_size=5,
)  # fmt: skip
_CONTENT = st.binary(max_size=40) | st.sampled_from([b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", b"\r\n\r\n"])
_EXTENSIONS = st.sampled_from([b"", b";a", b";a=b", b';a="b;c"'])
_TRAILERS = st.sampled_from([b"", b"X-T: u\r\n", b"X-T: u\r\nX-V: w\r\n"])


@st.composite
def _chunks(draw: st.DrawFn) -> bytes:
    pieces = [content for content in draw(st.lists(_CONTENT, max_size=3)) if content]
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), draw(_EXTENSIONS), piece) for piece in pieces)
    return body + b"0" + draw(_EXTENSIONS) + b"\r\n" + draw(_TRAILERS) + b"\r\n"


@st.composite
def _framed(draw: st.DrawFn, *, may_be_chunked: bool = True) -> tuple[list[bytes], bytes]:
    """Fields that frame a body, and the body."""
    kind = draw(st.sampled_from(["none", "sized", "chunked"] if may_be_chunked else ["none", "sized"]))
    if kind == "chunked":
        return [b"Transfer-Encoding: chunked"], draw(_chunks())
    if kind == "sized":
        content = draw(_CONTENT)
        return [b"Content-Length: %d" % len(content)], content
    return [], b""


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request that is valid, or nearly so: it may ask for what is not offered."""
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]))
    framing, body = draw(_framed(may_be_chunked=version == b"1.1"))
    fields = draw(st.permutations([b"Host: a", *draw(_FIELDS), *framing]))
    line = b"%b %b HTTP/%b" % (draw(_METHODS), draw(_TARGETS), version)
    return b"\r\n".join((line, *fields)) + b"\r\n\r\n" + body


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """One answer, perhaps with interim ones before it."""
    interim = draw(
        st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 X\r\nLink: x\r\n\r\n"])
    )
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.0"]))
    status = draw(
        st.sampled_from([b"200 OK", b"200 ", b"404 Not Found", b"204 X", b"304 X", b"500 X", b"421 X"])
    )
    has_body = status[:3] not in (b"204", b"304")
    framing, body = draw(_framed(may_be_chunked=version == b"1.1")) if has_body else ([], b"")
    if has_body and not framing:
        body = draw(_CONTENT)  # ends with the connection
    fields = draw(st.permutations([*draw(_FIELDS), *framing]))
    return interim + b"\r\n".join((b"HTTP/%b %b" % (version, status), *fields)) + b"\r\n\r\n" + body


def edited(stream: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """The stream with a few bytes changed."""
    for place, removed, added in edits:
        at = place % (len(stream) + 1)
        stream = stream[:at] + added + stream[at + removed :]
    return stream
