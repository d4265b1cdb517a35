"""PROXY headers: what is read from them, where they end, and what is none."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.proxy_protocol import V2_SIGNATURE, Malformed, client, length


def version_2(command: int, family: int, payload: bytes) -> bytes:
    return V2_SIGNATURE + struct.pack("!BBH", command, family, len(payload)) + payload


PORTS = struct.pack("!HH", 56324, 443)
FOUR = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.1") + PORTS
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2 + PORTS
EXTENSION = b"\x02" + struct.pack("!H", 4) + b"host"

GOOD = {
    b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n": "192.0.2.1",
    b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n": "2001:db8::1",
    b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n": "192.0.2.1",
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff:f::ffff ::1 65535 65535\r\n": None,
    version_2(0x21, 0x11, FOUR): "192.0.2.1",
    version_2(0x21, 0x21, SIX + EXTENSION * 3): "2001:db8::1",
    version_2(0x20, 0x00, b""): None,
    version_2(0x20, 0x11, FOUR): None,
    version_2(0x21, 0x00, b"whatever"): None,
}

BAD = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"proxy TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
    b"PROXY  TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 \r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 056324 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 -1 443\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.1 1 443\r\n",
    b"PROXY TCP4 192.0.02.1 198.51.100.1 1 443\r\n",
    b"PROXY TCP4 2001:db8::1 ::1 1 443\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.1 1 443\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 443\r\n",
    b"PROXY TCP4 192.0.2.1 1 443\r\n",
    b"PROXY UDP4 192.0.2.1 198.51.100.1 1 443\r\n",
    b"PROXY \r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.1 1 443\n" + b"x" * 100,
    b"PROXY UNKNOWN " + b"x" * 100,
    version_2(0x11, 0x11, FOUR),
    version_2(0x22, 0x11, FOUR),
    version_2(0x21, 0x12, FOUR),
    version_2(0x21, 0x31, bytes(216)),
    version_2(0x21, 0x11, FOUR[:-1]),
    version_2(0x21, 0x21, FOUR),
    version_2(0x21, 0x11, FOUR + EXTENSION[:-1]),
    version_2(0x21, 0x11, FOUR + b"\x02\x00"),
    version_2(0x21, 0x11, bytes(5000)),
]


@pytest.mark.parametrize(("header", "expected"), GOOD.items(), ids=range(len(GOOD)))
def test_headers_are_read_wherever_they_are_cut(header: bytes, expected: str | None) -> None:
    for cut in range(len(header)):
        assert length(header[:cut]) is None
    for following in (b"", b"GET / HTTP/1.1\r\n", header):
        assert length(header + following) == len(header)
    assert client(header) == expected


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_what_is_not_as_specified_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):  # noqa: PT012 - either of the two may find it
        end = length(data)
        assert end is not None
        client(data[:end])


@given(
    st.one_of(st.binary(max_size=300), st.binary(max_size=60).map(lambda tail: V2_SIGNATURE + b"\x21" + tail))
)
def test_no_bytes_whatever_are_taken_for_more_than_they_are(data: bytes) -> None:
    try:
        end = length(data)
        if end is not None:
            assert end <= len(data)
            client(data[:end])
    except Malformed:
        pass
