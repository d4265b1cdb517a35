"""The PROXY protocol, versions 1 and 2: what a proxy in front of us says before the client's first byte.

After HAProxy's specification (doc/proxy-protocol.txt, 2020/03/05). It carries the address that everybody behind will
believe, so what is not exactly as specified is malformed. No byte beyond the header belongs to it: `length` tells
where it ends, and never needs to see what follows.
"""

import re
import struct
from ipaddress import AddressValueError, IPv4Address, IPv6Address

V1_BYTES_MAX = 107
"""The longest line that version 1 can make, with its end."""

V2_BYTES_MAX = 4096
"""Addresses take 36 bytes, or 216 of a Unix socket; the rest is for extensions, like a name or a certificate."""

V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD = struct.Struct("!12sBBH")
_V1_START = b"PROXY "
_V1 = re.compile(
    rb"PROXY (?:(UNKNOWN)(?: [\x20-\x7e]*)?|(TCP4|TCP6) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4}))\r\n"
)
_PORT_MAX = 65_535

_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6 = 0x00, 0x11, 0x21
_ADDRESSES: dict[int, tuple[type[IPv4Address] | type[IPv6Address], int]] = {
    _TCP4: (IPv4Address, 4),
    _TCP6: (IPv6Address, 16),
}
_EXTENSION_HEAD = struct.Struct("!BH")


class Malformed(Exception):
    """Not the header of a proxy that speaks the protocol; the text says what is wrong with it."""


def length(data: bytes) -> int | None:
    """Bytes of the header that `data` begins with; None if they are not all here, and then nothing else is either.

    Raises `Malformed` as soon as it cannot become one.
    """
    if V2_SIGNATURE.startswith(data[: len(V2_SIGNATURE)]):
        if len(data) < _V2_HEAD.size:
            return None
        total = _V2_HEAD.size + _V2_HEAD.unpack_from(data)[3]
        if total > V2_BYTES_MAX:
            raise Malformed(f"a header of {total} bytes, and {V2_BYTES_MAX} are allowed")
        return total if len(data) >= total else None
    if not _V1_START.startswith(data[: len(_V1_START)]):
        raise Malformed("no PROXY header")
    end = data.find(b"\r\n", 0, V1_BYTES_MAX)
    if end >= 0:
        return end + 2
    if len(data) >= V1_BYTES_MAX:
        raise Malformed("a line that is too long")
    return None


def client(header: bytes) -> str | None:
    """The client's address in a whole header; None if the proxy speaks for itself or does not know. Raises `Malformed`."""
    return _client_of_2(header) if header.startswith(V2_SIGNATURE) else _client_of_1(header)


def _client_of_1(header: bytes) -> str | None:
    match = _V1.fullmatch(header)
    if match is None:
        raise Malformed("a line that is not of version 1")
    unknown, family, source, destination, *ports = match.groups()
    if unknown:
        return None
    kind = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        found, _ = kind(source.decode("ascii")), kind(destination.decode("ascii"))
    except AddressValueError as error:
        raise Malformed(f"an address that is none: {error}") from None
    if any(int(port) > _PORT_MAX for port in ports):
        raise Malformed("a port that is none")
    return _text(found)


def _client_of_2(header: bytes) -> str | None:
    _, command, family, size = _V2_HEAD.unpack_from(header)
    if command == _LOCAL:
        return None
    if command != _PROXY:
        raise Malformed(f"version and command {command:#04x}")
    if family == _UNSPECIFIED:
        return None
    if family not in _ADDRESSES:
        raise Malformed(f"address family {family:#04x}: only TCP over IPv4 and IPv6 comes here")
    kind, width = _ADDRESSES[family]
    used = 2 * width + 4
    if size < used:
        raise Malformed("addresses that are cut short")
    start = _V2_HEAD.size
    _check_extensions(header[start + used :])
    return _text(kind(header[start : start + width]))


def _text(address: IPv4Address | IPv6Address) -> str:
    """An IPv4 address that was mapped into IPv6 is the IPv4 address."""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _check_extensions(data: bytes) -> None:
    """They mean nothing to us, but they must fit."""
    position = 0
    while position < len(data):
        if position + _EXTENSION_HEAD.size > len(data):
            raise Malformed("an extension that is cut short")
        position += _EXTENSION_HEAD.size + _EXTENSION_HEAD.unpack_from(data, position)[1]
    if position != len(data):
        raise Malformed("an extension that is cut short")
