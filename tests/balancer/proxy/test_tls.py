"""TLS as configured by files: what clients are offered, what nodes must show, and what is refused by name."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from balancer.errors import ConfigurationError
from balancer.server import Balancer
from balancer.settings import Settings, validated
from tests.balancer.proxy.stage import DEADLINE_S, ScriptedNode
from tests.balancer.running import serve, settings_for
from tests.support import certificates

NODE = ("node1=127.0.0.1:8101",)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    certificate, key = certificates.write(tmp_path)
    return {"tls_certificate_file": certificate, "tls_key_file": key}


@pytest.fixture
async def balancer(nodes: list[ScriptedNode], files: dict[str, Path]) -> AsyncIterator[Balancer]:
    balancer = Balancer(settings_for(nodes, body_bytes_max=1000, tls_handshake_timeout_s=0.5, **files))
    await balancer.start()
    yield balancer
    await balancer.stop()


async def ask(balancer: Balancer, request: bytes, context: ssl.SSLContext) -> bytes:
    """Everything that comes back until the connection ends."""
    reader, writer = await asyncio.open_connection(*balancer.listen_address, ssl=context)
    try:
        async with asyncio.timeout(DEADLINE_S):
            writer.write(request)
            return await reader.read()
    finally:
        writer.close()


def blocking_handshake(
    balancer: Balancer, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLSession, bool, str | None]:
    """Session, whether it was resumed, and the protocol agreed on, of one request with a blocking socket."""
    with (
        socket.create_connection(balancer.listen_address, timeout=DEADLINE_S) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        while client.recv(4096):
            pass  # tickets come with the first bytes
        assert client.session is not None
        return client.session, bool(client.session_reused), client.selected_alpn_protocol()


async def test_nodes_are_told_that_the_client_came_by_https(
    nodes: list[ScriptedNode], balancer: Balancer
) -> None:
    answer = await ask(
        balancer, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", certificates.client_context()
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    (request,) = (request for node in nodes for request in node.requests if b" / " in request.line)
    assert request.fields[b"x-forwarded-proto"] == b"https"


async def test_a_client_that_is_refused_while_it_sends_can_read_why(balancer: Balancer) -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500_000
    assert (await ask(balancer, request, certificates.client_context())).startswith(b"HTTP/1.1 413 ")


async def test_a_handshake_that_is_not_finished_is_cut_off(balancer: Balancer) -> None:
    reader, writer = await asyncio.open_connection(*balancer.listen_address)
    async with asyncio.timeout(DEADLINE_S):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"]
)
async def test_http_1_1_is_agreed_on_and_sessions_are_resumed(
    balancer: Balancer, version: ssl.TLSVersion
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    certificates.authority().configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.minimum_version = context.maximum_version = version
    session, resumed, agreed = await asyncio.to_thread(blocking_handshake, balancer, context)
    assert (resumed, agreed) == (False, "http/1.1")
    _, resumed, _ = await asyncio.to_thread(blocking_handshake, balancer, context, session)
    assert resumed


async def test_old_ciphers_are_refused(balancer: Balancer) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    certificates.authority().configure_trust(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-GCM-SHA256:AES128-SHA:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await asyncio.open_connection(*balancer.listen_address, ssl=context)


async def with_tls_nodes(tmp_path: Path, context: ssl.SSLContext, **more: Any) -> tuple[list[str], bytes]:
    """State and reason of a node that serves with this context, and the answer to a request."""
    node = ScriptedNode("node1", serve, tls=context)
    await node.start()
    ca_file = certificates.write_authority(tmp_path)
    balancer = Balancer(settings_for([node], node_tls=True, node_tls_ca_file=ca_file, **more))
    await balancer.start()
    try:
        reader, writer = await asyncio.open_connection(*balancer.listen_address)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        found = balancer.pool.nodes["node1"]
        return [found.state.value, found.reason], answer
    finally:
        await balancer.stop()
        await node.stop()


async def test_a_node_is_spoken_to_with_tls_and_checked_so(tmp_path: Path) -> None:
    state, answer = await with_tls_nodes(tmp_path, certificates.server_context())
    assert state == ["up", ""]
    assert answer.endswith(b"node1")


async def test_a_node_whose_certificate_is_not_believed_is_down_and_gets_nothing(tmp_path: Path) -> None:
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(stranger)
    (state, reason), answer = await with_tls_nodes(tmp_path, stranger)
    assert state == "down"
    assert "certificate verify failed" in reason
    assert answer.startswith(b"HTTP/1.1 503 ")


async def test_a_node_with_a_certificate_for_another_name_is_down(tmp_path: Path) -> None:
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.authority().issue_cert("10.0.0.1").configure_cert(other)
    (state, reason), _ = await with_tls_nodes(tmp_path, other)
    assert state == "down"
    assert "certificate verify failed" in reason


async def test_a_node_that_asks_for_a_certificate_gets_ours(tmp_path: Path) -> None:
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.authority().issue_cert("127.0.0.1").configure_cert(asking)
    certificates.authority().configure_trust(asking)
    asking.verify_mode = ssl.CERT_REQUIRED
    (state, _), _ = await with_tls_nodes(tmp_path, asking)
    assert state == "down"
    certificate, key = certificates.write(tmp_path, "balancer")
    (state, reason), answer = await with_tls_nodes(
        tmp_path, asking, node_tls_certificate_file=certificate, node_tls_key_file=key
    )
    assert (state, reason) == ("up", "")
    assert answer.endswith(b"node1")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tls_key_file": "key"}, "tls_key_file is of no use without tls_certificate_file"),
        ({"tls_certificate_file": "nowhere"}, "tls_certificate_file .*nowhere cannot be read: No such file"),
        ({"tls_certificate_file": "certificate"}, "give tls_key_file"),
        (
            {"tls_certificate_file": "certificate", "tls_key_file": "other key"},
            "with tls_key_file .* cannot be used",
        ),
        (
            {"tls_certificate_file": "certificate", "tls_key_file": "text"},
            "with tls_key_file .* cannot be used",
        ),
        ({"node_tls_ca_file": "certificate"}, "node_tls_ca_file is of no use without node_tls"),
        ({"node_tls": True, "node_tls_ca_file": "text"}, "node_tls_ca_file .*text cannot be used"),
        ({"node_tls": True, "node_tls_key_file": "key"}, "node_tls_key_file is of no use"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    (tmp_path / "one").mkdir()
    _, other_key = certificates.write(tmp_path / "one")
    certificate, key = certificates.write(tmp_path)
    text = tmp_path / "text"
    text.write_text("no certificate")
    files = {
        "certificate": certificate, "key": key, "other key": other_key, "text": text, "nowhere": tmp_path / "nowhere"
    }  # fmt: skip
    settings = Settings(node=NODE, **{name: files.get(value, value) for name, value in fields.items()})
    with pytest.raises(ConfigurationError, match=words):
        validated(settings)
