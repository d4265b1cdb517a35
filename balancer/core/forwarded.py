"""The Forwarded field (RFC 7239), in place of the X-Forwarded ones or beside them."""

from collections.abc import Mapping

from balancer.core.headers import Forwarding, Networks

_EXTENDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"})


class Forwarded(Forwarding):
    """As `Forwarding`, with one more element of Forwarded for us. `beside`: the X-Forwarded fields are set as well."""

    __slots__ = ("_beside", "_element")

    def __init__(
        self,
        peer: str,
        default_host: str,
        trusted: Networks,
        scheme: str = "http",
        *,
        names_requests: bool = False,
        beside: bool = False,
    ) -> None:
        super().__init__(peer, default_host, trusted, scheme, names_requests=names_requests)
        self._beside = beside
        node = b'"[%b]"' % self.peer if b":" in self.peer else self.peer  # RFC 7239, 6
        self._element = b"for=%b;proto=%b" % (node, self._scheme)

    def lines(self, host: bytes) -> bytes:
        if host is not self._host:
            lines = self._line(host, b"")
            if self._beside:
                lines += b"%bX-Forwarded-Host: %b\r\n" % (self._fixed, host)
            self._host, self._lines = host, lines
        return self._lines

    def lines_continuing(self, host: bytes, claimed: Mapping[bytes, bytes]) -> bytes:
        if not self.is_trusted:
            return self.lines(host)
        line = self._line(host, claimed.get(b"forwarded", b""))
        others = {name: value for name, value in claimed.items() if name in _EXTENDED}
        if self._beside:
            return line + super().lines_continuing(host, others)
        return line + b"".join(b"%b: %b\r\n" % (name.title(), value) for name, value in others.items())

    def _line(self, host: bytes, before: bytes) -> bytes:
        # An HTTP/1.0 client may name no host; the others' hosts need quotes for their ports.
        element = b'%b;host="%b"' % (self._element, host) if host else self._element
        return b"Forwarded: %b, %b\r\n" % (before, element) if before else b"Forwarded: %b\r\n" % element
