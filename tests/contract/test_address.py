"""HOST:PORT: what is taken, and what the refusals say."""

import re

import pytest

from sessiond.contract.address import Address, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("node_1.example.org:65535", Address("node_1.example.org", 65535)),
        ("[::1]:7101", Address("::1", 7101)),
        ("[fe80::1%eth0]:80", Address("fe80::1%eth0", 80)),
    ],
)
def test_an_address_survives_being_parsed_and_written(text: str, address: Address) -> None:
    assert parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not HOST:PORT"),
        ("8080", "is not HOST:PORT"),
        (":8080", "0.0.0.0:8080 for every interface"),
        ("::1:7101", "an IPv6 address is written [ADDRESS]:PORT"),
        ("[::g]:7101", "an IPv6 address is written [ADDRESS]:PORT"),
        ("[127.0.0.1]:80", "an IPv6 address is written [ADDRESS]:PORT"),
        ("two words:80", "'two words' is not a host name"),
        ("http://node1:80", "is not HOST:PORT"),
        ("-x:80", "'-x' is not a host name"),
        ("a..b:80", "'a..b' is not a host name"),
        ("node1:", "'' is not a port"),
        ("node1:http", "'http' is not a port"),
        ("node1:65536", "'65536' is not a port"),
        ("node1:-1", "'-1' is not a port"),
        ("node1:８０", "is not a port"),
        ("node1:" + "9" * 5000, "is not a port"),
        ("node1:0", "port 0 means any free port"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse(text)


def test_port_0_is_for_listening_only() -> None:
    assert parse("127.0.0.1:0", may_listen=True).port == 0


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("fe80::1%lo", False),
    ],
)
def test_only_what_no_other_machine_can_reach_is_loopback(host: str, is_loopback: bool) -> None:
    assert Address(host, 80).is_loopback is is_loopback


@pytest.mark.parametrize(
    ("host", "is_every"), [("0.0.0.0", True), ("::", True), ("127.0.0.1", False), ("node1", False)]
)
def test_every_interface_is_told_apart(host: str, is_every: bool) -> None:
    assert Address(host, 80).is_unspecified is is_every
