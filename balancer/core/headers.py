"""What changes in a head on its way through: hop-by-hop fields, forwarding fields, our own fields.

A head that needs no change travels as the bytes that came. Otherwise whole lines are left out and ours appended;
no value is ever rewritten in place, so nothing that llhttp approved is read differently by the next parser.
"""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from balancer.core.framing import Refused
from sessiond.contract.names import OWNER_HEADER, REPLAY_HEADER

Networks = Sequence[IPv4Network | IPv6Network]

REPLAY_LINE = f"{REPLAY_HEADER}: 1\r\n".encode()
REPLAY = REPLAY_HEADER.lower().encode()
OWNER = OWNER_HEADER.lower().encode()

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"http2-settings"}
)
"""Fields for one connection only (RFC 9110, 7.6.1). Transfer-Encoding is not here: bodies keep their chunks."""

KEEP_ALIVE = b"keep-alive"

ESSENTIAL = frozenset(
    {b"content-length", b"host", b"transfer-encoding", b"cookie", b"set-cookie", b"authorization"}
)
"""Fields that no Connection header may have removed: the message would mean something else without them."""


def without(head: bytes, names: Iterable[bytes]) -> bytes:
    """The head without its fields of these names (in lower case). llhttp has approved the head."""
    unwanted = frozenset(names)
    lines = head.split(b"\r\n")
    return b"\r\n".join(
        [lines[0], *(line for line in lines[1:] if line.partition(b":")[0].lower() not in unwanted)]
    )


def connection_tokens(value: bytes) -> set[bytes]:
    """The options of a Connection field, in lower case. Raises `Refused` if they name an essential field."""
    tokens = {token.strip(b" \t").lower() for token in value.split(b",")} - {b""}
    if not ESSENTIAL.isdisjoint(tokens):
        raise Refused(400, "Connection names a field that no hop may remove")
    return tokens


class Forwarding:
    """The X-Forwarded fields for the requests of one client connection.

    `peer`: the client's address. `default_host`: ours, for the requests of HTTP/1.0 that name none.
    `names_requests`: we set X-Request-Id, so the client's is removed.

    A client in a trusted network is a proxy of ours: what it says about its clients is kept, and it is added
    to the list. Anybody else's claims are removed.
    """

    __slots__ = (
        "_fixed",
        "_host",
        "_lines",
        "_scheme",
        "default_host",
        "is_trusted",
        "names_requests",
        "peer",
    )

    def __init__(
        self,
        peer: str,
        default_host: str,
        trusted: Networks,
        scheme: str = "http",
        *,
        names_requests: bool = False,
    ) -> None:
        self.names_requests = names_requests
        self.peer = peer.encode("ascii")
        self.default_host = default_host.encode("ascii")
        self._scheme = scheme.encode("ascii")
        self.is_trusted = is_within(peer, trusted)
        self._fixed = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (self.peer, self._scheme)
        self._host: bytes | None = None
        self._lines = b""

    def lines(self, host: bytes) -> bytes:
        """The lines to append to a request that has none of these fields."""
        if host is not self._host:  # read from remembered fields, the next request's is the very same object
            self._host = host
            self._lines = b"%bX-Forwarded-Host: %b\r\n" % (self._fixed, host)
        return self._lines

    def lines_continuing(self, host: bytes, claimed: Mapping[bytes, bytes]) -> bytes:
        """The same where the client sent some of them (`claimed`, by lower-case name), which the caller removes."""
        if not self.is_trusted:
            return self.lines(host)
        before = claimed.get(b"x-forwarded-for")
        lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (
            b"%b, %b" % (before, self.peer) if before else self.peer,
            claimed.get(b"x-forwarded-proto", self._scheme),
            claimed.get(b"x-forwarded-host", host),
        )
        forwarded = claimed.get(b"forwarded")
        return b"%bForwarded: %b\r\n" % (lines, forwarded) if forwarded else lines


def is_within(peer: str, networks: Networks) -> bool:
    """Whether the address lies in one of the networks."""
    if not networks:
        return False
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:  # a client that was gone before we could ask who it is
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return any(mapped in network for network in networks)
