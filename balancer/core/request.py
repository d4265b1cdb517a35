"""Requests from clients: strict reading, and the head that goes to a node.

llhttp leaves some of RFC 9112 to its users; this closes it: exactly one Host, versions 1.0 and 1.1 only, one
space between the parts of the request line, no Transfer-Encoding in HTTP/1.0 and none but ``chunked``, a body
that comes with an Upgrade, limits on everything. What is not understood is refused, never guessed.

A request in which nothing needs to change takes a short way: its line and its fields are each looked up among the
last ones read: many clients ask for the same things, and say the same fields but for their cookies.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import httptools

from balancer.core.fields import Fields, finder, spellings
from balancer.core.framing import EMPTY, Framing, Refused, Sized
from balancer.core.headers import (
    HOP_BY_HOP,
    KEEP_ALIVE,
    OWNER,
    REPLAY,
    Forwarding,
    connection_tokens,
    without,
)
from balancer.core.naming import REQUEST_ID
from balancer.core.reader import NO_CALLBACKS, REMEMBERED_BYTES_MAX, REMEMBERED_MAX, Limits, MessageReader
from balancer.core.target import HOST, interpret, is_internal

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21\x22\x24-\x7e]+) HTTP/([0-9]\.[0-9])\r\n")
_CODINGS = re.compile(rb"[a-z0-9-]+(?:[ \t]*,[ \t]*[a-z0-9-]+)*[ \t]*,[ \t]*chunked")
_ORDINARY_LINE = re.compile(
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[\x21\x22\x24-\x7e]*) HTTP/1\.1\r\n"
)
_VERSIONS = frozenset({b"1.0", b"1.1"})

_CLAIMS_OF_PROXIES = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto")
_OURS = (REPLAY, OWNER)
_REQUEST_ID_FIELD = b"x-request-id"
_REQUEST_IDS = spellings(_REQUEST_ID_FIELD)
_CLAIMS = spellings(*_CLAIMS_OF_PROXIES)
_CLOSE_LINE = b"\r\nConnection: close\r\n"
_VALUE_BYTES = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
"""All bytes that the value of a field may have (RFC 9110, 5.5)."""
_ORDINARY = frozenset({b"host", b"cookie", b"content-length", b"connection"})
_STRIPPED = spellings(*_OURS) | (HOP_BY_HOP - {b"connection", b"upgrade"})
_LOOKALIKES = frozenset({b"content_length", b"transfer_encoding"})
"""What CGI calls the fields that frame a body. A server that takes them for those would find another end than we do."""

_find_fields = finder(
    _LOOKALIKES | {b"host", b"cookie", b"content-length", b"transfer-encoding", b"expect"} | HOP_BY_HOP,
    loose=(*_CLAIMS_OF_PROXIES, *_OURS, _REQUEST_ID_FIELD),
)

_TUNNELS_OF_HTTP = frozenset({b"h2c", b"h2"})
"""Never upgraded to: their tunnel would carry requests past everything that is checked here."""


@dataclass(slots=True)
class RequestHead:
    """One request as the rest of the balancer sees it.

    `forwarded`: the head for a node, without its empty line and without our replay field.
    `upgrade`: the protocol that the client wants to change to, or empty.
    `length`: bytes of the body, None if only its end will tell. `internal`: it aims at the nodes' own paths.
    """

    method: bytes
    target: bytes
    cookie: bytes
    forwarded: bytes
    is_http_1_0: bool
    keeps_alive: bool
    upgrade: bytes
    length: int | None
    internal: bool


class RequestReader(MessageReader):
    """Reads the requests of one client connection."""

    __slots__ = ("_forwarding",)

    def __init__(self, limits: Limits, forwarding: Forwarding) -> None:
        super().__init__(limits)
        self._forwarding = forwarding

    def whole(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Head and body, if `data` is one whole ordinary request and all that is here: the short way.

        Otherwise `feed` it.
        """
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end > self._remembered_bytes_max or self._position != len(self._buffer):
            return None
        body = data[end:]
        head = self._ordinary(data[:end] if body else data)
        return (head, body) if head is not None and head.length == len(body) else None

    def head(self) -> RequestHead | None:
        """The next request's head, once it is all there. Raises `Refused`."""
        # A client may send empty lines before a request line (RFC 9112, 2.2).
        while self._buffer.startswith(b"\r\n", self._position):
            self._position += 2
            self._scanned = 0  # may have been counted from before the line was whole
        if self._position == len(self._buffer):
            return None
        head = self._find_head()
        if head is None:
            return None
        self._taken = self._position  # the head itself is never handed out: `forwarded` is
        ordinary = self._ordinary(head) if len(head) <= REMEMBERED_BYTES_MAX else None
        if ordinary is None:
            return self._interpret(head)
        self._framing = Sized(ordinary.length) if ordinary.length else EMPTY
        return ordinary

    def _ordinary(self, head: bytes) -> RequestHead | None:
        """The request, if nothing in it but `Connection: close` stays here: else its bytes travel as they came."""
        fields_at = head.find(b"\r\n") + 2
        line = _ordinary_line(head[:fields_at])
        # The cookie is cut out of what is looked up: the other fields many users have in common.
        start = head.find(b"\r\nCookie: ", fields_at - 2) + 10
        if start < 10:
            cut_cookie = b""
            fields = _ordinary_fields(head[fields_at:])
        else:
            end = head.find(b"\r\n", start)
            cut_cookie = head[start:end]
            if cut_cookie.translate(None, _VALUE_BYTES):
                return None
            fields = _ordinary_fields(head[fields_at:start] + head[end:])
        if line is None or fields is None:
            return None
        host, cookie, length, field_count, closes = fields
        if cut_cookie:
            if cookie:  # there are several: the long way joins them
                return None
            cookie = cut_cookie.strip(b" \t")
        if field_count > self._limits.header_count_max or length > self._limits.body_bytes_max:
            return None
        method, target = line
        if closes:
            head = head.replace(_CLOSE_LINE, b"\r\n", 1)
        forwarded = head[:-2] + self._forwarding.lines(host)
        return RequestHead(method, target, cookie, forwarded, False, not closes, b"", length, False)

    def _interpret(self, head: bytes) -> RequestHead:
        """Any request: something may be left out, replaced or added, or all of it refused."""
        match = _REQUEST_LINE.match(head)
        if match is None:
            raise Refused(400, "malformed request line")
        method, asked, version = match.groups()
        if version not in _VERSIONS:
            raise Refused(505, "HTTP version not supported")
        self._judge(head, method)
        fields = _find_fields(head)
        is_http_1_0 = version == b"1.0"
        target = interpret(method, asked)
        host = self._host(fields, target.host, is_http_1_0=is_http_1_0)
        length = self._length(fields, is_http_1_0=is_http_1_0)

        dropped = fields.keys() & _STRIPPED
        keeps_alive, wants_upgrade = not is_http_1_0, False
        if b"connection" in fields:
            keeps_alive, wants_upgrade = _connection(fields[b"connection"], dropped, is_http_1_0=is_http_1_0)
        if b"expect" in fields:
            _check_expectation(fields[b"expect"], dropped, is_http_1_0=is_http_1_0)
        if self._forwarding.names_requests:
            dropped |= self._false_names(fields)
        claims = {name: fields[name] for name in fields.keys() & _CLAIMS}
        dropped |= claims.keys()
        appended = self._forwarding.lines_continuing(host, claims) if claims else self._forwarding.lines(host)
        upgrade = b""
        if b"upgrade" in fields:
            dropped |= {b"upgrade", b"connection"}
            upgrade = _tunnelled(fields[b"upgrade"]) if wants_upgrade and length == 0 else b""
            if upgrade:
                appended += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade
        if target.host is not None or b"host" not in fields:
            dropped.add(b"host")
            appended += b"Host: %b\r\n" % host

        self._framing = self._body_framing(head, length, has_upgrade=b"upgrade" in fields)
        forwarded = without(head, dropped) if dropped else head
        if is_http_1_0 or target.host is not None:
            line = b"%b %b HTTP/1.1" % (method, target.forwarded)
            forwarded = line + forwarded[forwarded.index(b"\r\n") :]
        return RequestHead(
            method,
            target.forwarded,
            fields.get(b"cookie", b""),
            forwarded[:-2] + appended,
            is_http_1_0,
            keeps_alive,
            upgrade,
            length,
            is_internal(target.forwarded),
        )

    def _false_names(self, fields: Fields) -> set[bytes]:
        """The request ids that are not to be believed: all but a good one of a proxy of ours."""
        found = fields.keys() & _REQUEST_IDS
        if self._forwarding.is_trusted and REQUEST_ID.fullmatch(fields.get(_REQUEST_ID_FIELD, b"")):
            found.discard(_REQUEST_ID_FIELD)
        return found

    def _judge(self, head: bytes, method: bytes) -> None:
        """Have llhttp read the head."""
        try:
            httptools.HttpRequestParser(NO_CALLBACKS).feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # it ends the message at its head, body or not: `_body_framing` sees to that
        except httptools.HttpParserInvalidMethodError:
            raise Refused(501, f"method {method.decode('ascii')} is not known here") from None
        except httptools.HttpParserError as error:
            raise Refused(400, str(error)) from error
        if method == b"CONNECT":
            raise Refused(501, "CONNECT is not offered here")
        if head.count(b"\r\n") - 2 > self._limits.header_count_max:
            raise Refused(431, "too many header fields")

    def _host(self, fields: Fields, authority: bytes | None, *, is_http_1_0: bool) -> bytes:
        host = fields.get(b"host")
        if host is None:
            if not is_http_1_0:
                raise Refused(400, "a request has exactly one Host")
            host = self._forwarding.default_host
        elif HOST.fullmatch(host) is None:  # two of them arrive here joined by a comma
            raise Refused(400, "a request has exactly one Host, a name or an address")
        return host if authority is None else authority

    def _length(self, fields: Fields, *, is_http_1_0: bool) -> int | None:
        """The body's length; None if it is chunked. llhttp has refused what is ambiguous between the two."""
        if not _LOOKALIKES.isdisjoint(fields):
            raise Refused(400, "a field that frames the body is spelled with an underscore")
        if b"transfer-encoding" in fields:
            if is_http_1_0:
                raise Refused(400, "Transfer-Encoding in HTTP/1.0")
            coding = fields[b"transfer-encoding"].lower()
            if coding != b"chunked":
                known = _CODINGS.fullmatch(coding) is not None and coding.count(b"chunked") == 1
                raise Refused(501 if known else 400, "transfer coding not supported")
            return None
        length = int(fields.get(b"content-length", 0))
        if length > self._limits.body_bytes_max:
            raise Refused(413, "body too large")
        return length

    def _body_framing(self, head: bytes, length: int | None, *, has_upgrade: bool) -> Framing:
        if length is not None:
            return Sized(length) if length else EMPTY
        # llhttp takes whatever follows an Upgrade for another protocol; without it, it reads the chunks.
        head = without(head, {b"upgrade"}) if has_upgrade else head
        return self._follow_chunks(httptools.HttpRequestParser, head)


class _OrdinaryFields(NamedTuple):
    host: bytes
    cookie: bytes
    length: int
    field_count: int
    closes: bool


@lru_cache(REMEMBERED_MAX)
def _ordinary_line(line: bytes) -> tuple[bytes, bytes] | None:
    """Method and target of a request line that llhttp accepts with any fields, and that aims at the application."""
    match = _ORDINARY_LINE.fullmatch(line)
    if match is None or is_internal(match[2]):
        return None
    return match[1], match[2]


@lru_cache(REMEMBERED_MAX)
def _ordinary_fields(fields: bytes) -> _OrdinaryFields | None:
    """What the fields say (to the end of the head), if llhttp accepts them and they may travel as they are."""
    head = b"GET / HTTP/1.1\r\n" + fields  # which line it is makes no difference to fields without Upgrade
    try:
        httptools.HttpRequestParser(NO_CALLBACKS).feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    found = _find_fields(head)
    connection = found.get(b"connection", KEEP_ALIVE).lower()
    closes = connection == b"close" and head.count(_CLOSE_LINE) == 1
    if not found.keys() <= _ORDINARY or not (closes or connection == KEEP_ALIVE):
        return None
    host = found.get(b"host")
    if host is None or HOST.fullmatch(host) is None:
        return None
    length, field_count = int(found.get(b"content-length", 0)), head.count(b"\r\n") - 2
    return _OrdinaryFields(host, found.get(b"cookie", b""), length, field_count, closes)


def _connection(value: bytes, dropped: set[bytes], *, is_http_1_0: bool) -> tuple[bool, bool]:
    """Whether the connection stays, and whether Upgrade is meant; adds the fields named to `dropped`."""
    tokens = connection_tokens(value)
    if tokens != {KEEP_ALIVE}:  # which is what we would say ourselves
        dropped.add(b"connection")
        dropped |= tokens
    keeps_alive = b"close" not in tokens and (not is_http_1_0 or KEEP_ALIVE in tokens)
    return keeps_alive, b"upgrade" in tokens and not is_http_1_0


def _check_expectation(value: bytes, dropped: set[bytes], *, is_http_1_0: bool) -> None:
    if value.lower() != b"100-continue":
        raise Refused(417, "expectation not known")
    if is_http_1_0:
        dropped.add(b"expect")  # such a client cannot mean it (RFC 9110, 10.1.1)


def _tunnelled(value: bytes) -> bytes:
    """The protocols of an Upgrade field that may be tunnelled."""
    protocols = (protocol.strip(b" \t") for protocol in value.split(b","))
    return b", ".join(
        protocol
        for protocol in protocols
        if protocol and protocol.partition(b"/")[0].lower() not in _TUNNELS_OF_HTTP
    )
