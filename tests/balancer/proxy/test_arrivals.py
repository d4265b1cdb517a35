"""Connections that begin with a PROXY header: whose address counts, and who is not served."""

import asyncio
from typing import Any

import pytest

from tests.balancer.core.test_proxy_protocol import FOUR, version_2
from tests.balancer.proxy.stage import DEADLINE_S, OK, ScriptedNode, Stage, get
from tests.support import certificates

LINE = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"
TRUSTING: dict[str, Any] = {"proxy_protocol": True, "trusted_network": ("127.0.0.0/8",)}


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (LINE, b"192.0.2.1"),
        (version_2(0x21, 0x11, FOUR), b"192.0.2.1"),
        (b"PROXY UNKNOWN\r\n", b"127.0.0.1"),
        (version_2(0x20, 0x00, b""), b"127.0.0.1"),
    ],
    ids=["version 1", "version 2", "unknown", "local"],
)
@pytest.mark.parametrize("bytewise", [False, True])
async def test_the_address_of_the_header_is_the_clients(header: bytes, client: bytes, bytewise: bool) -> None:
    node = ScriptedNode("node1")
    async with Stage(node, **TRUSTING) as stage:
        browser = await stage.client()
        await browser.send(header + get() + get(), bytewise=bytewise)
        assert await browser.read(2 * len(OK)) == 2 * OK
        assert [request.fields[b"x-forwarded-for"] for request in node.requests] == [client, client]


@pytest.mark.parametrize(
    "data", [get(), LINE.replace(b"TCP4", b"TCP6") + get(), b"\x16\x03\x01" + bytes(200)]
)
async def test_connections_without_a_good_header_are_closed_unanswered(data: bytes) -> None:
    node = ScriptedNode("node1")
    async with Stage(node, **TRUSTING) as stage:
        client = await stage.client()
        await client.send(data)
        assert await client.everything() == b""
        assert stage.service.totals.refused == 1
    assert node.requests == []


async def test_a_sender_that_is_not_trusted_is_closed_whatever_it_says() -> None:
    node = ScriptedNode("node1")
    async with Stage(node, proxy_protocol=True, trusted_network=("10.0.0.0/8",)) as stage:
        client = await stage.client()
        await client.send(LINE + get())
        assert await client.everything() == b""
    assert node.requests == []


async def test_a_header_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Stage(ScriptedNode("node1"), request_head_timeout_s=0.1, **TRUSTING) as stage:
        client = await stage.client()
        await client.send(LINE[:10])
        assert await client.everything() == b""


async def test_tls_may_follow_the_header(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node = ScriptedNode("node1")
    monkeypatch.setattr(Stage, "uses_tls", True)
    async with Stage(node, **TRUSTING) as stage:
        monkeypatch.setattr(Stage, "uses_tls", False)
        client = await stage.client()
        await client.send(LINE)
        await client.writer.start_tls(certificates.client_context(), server_hostname="127.0.0.1")
        await client.send(get())
        assert await client.read(len(OK)) == OK
        assert node.requests[0].fields[b"x-forwarded-for"] == b"192.0.2.1"


async def test_who_has_said_his_header_keeps_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("balancer.proxy.arrivals.GREETINGS_MAX", 2)
    monkeypatch.setattr(Stage, "uses_tls", True)
    node = ScriptedNode("node1")
    async with Stage(node, tls_handshake_timeout_s=600, **TRUSTING) as stage:
        monkeypatch.setattr(Stage, "uses_tls", False)  # of clients: the header comes before the handshake
        for _ in range(2):
            await (await stage.client()).send(LINE)  # and then nothing
        third = await stage.client()
        await third.send(LINE)
        async with asyncio.timeout(DEADLINE_S):
            await third.writer.start_tls(certificates.client_context(), server_hostname="127.0.0.1")
        await third.send(get())
        assert (await third.answer())[0] == 200
