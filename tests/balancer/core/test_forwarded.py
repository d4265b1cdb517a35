"""Forwarded (RFC 7239), alone and beside X-Forwarded-*, and what of others' claims is kept."""

from ipaddress import ip_network

import pytest

from balancer.core.forwarded import Forwarded
from balancer.core.naming import Trace, has_trace, trace_in

OURS = (ip_network("192.0.2.0/24"),)
CLAIMS = {
    b"forwarded": b"for=203.0.113.7;proto=https",
    b"x-forwarded-for": b"203.0.113.7",
    b"x_forwarded_for": b"6.6.6.6",
}


def test_the_client_is_named_in_the_rfcs_words() -> None:
    forwarding = Forwarded("198.51.100.1", "site:80", OURS, "https")
    assert forwarding.lines(b"site:8080") == b'Forwarded: for=198.51.100.1;proto=https;host="site:8080"\r\n'
    assert forwarding.lines(b"") == b"Forwarded: for=198.51.100.1;proto=https\r\n"
    assert (
        Forwarded("2001:db8::1", "", ()).lines(b"a")
        == b'Forwarded: for="[2001:db8::1]";proto=http;host="a"\r\n'
    )


def test_beside_it_the_others_are_set_too() -> None:
    assert Forwarded("198.51.100.1", "", (), beside=True).lines(b"a") == (
        b'Forwarded: for=198.51.100.1;proto=http;host="a"\r\n'
        b"X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"
    )


def test_strangers_claims_are_dropped() -> None:
    forwarding = Forwarded("198.51.100.1", "", OURS)
    assert forwarding.lines_continuing(b"a", CLAIMS) == forwarding.lines(b"a")


def test_what_a_trusted_proxy_says_is_continued() -> None:
    alone, both = (Forwarded("192.0.2.1", "", OURS, beside=beside) for beside in (False, True))
    continued = b'Forwarded: for=203.0.113.7;proto=https, for=192.0.2.1;proto=http;host="a"\r\n'
    assert alone.lines_continuing(b"a", CLAIMS) == continued + b"X-Forwarded-For: 203.0.113.7\r\n"
    assert both.lines_continuing(b"a", CLAIMS) == continued + (
        b"X-Forwarded-For: 203.0.113.7, 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"
    )


GOOD = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("value", "is_good"),
    [
        (GOOD, True),
        (b"cc" + GOOD[2:] + b"-more", True),
        (b"ff" + GOOD[2:], False),
        (GOOD.upper(), False),
        (GOOD[:-1], False),
        (b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", False),
        (b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01", False),
        (b"", False),
    ],
)
def test_a_trace_is_read_as_w3c_says(value: bytes, is_good: bool) -> None:
    head = b"GET / HTTP/1.1\r\nTraceParent: %b\r\nHost: a\r\n" % value
    expected = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331") if is_good else None
    assert trace_in(head) == expected
    assert has_trace(head)
    assert trace_in(head + b"traceparent: %b\r\n" % value) is None
