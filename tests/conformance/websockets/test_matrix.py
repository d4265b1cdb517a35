"""The byte streams of both ends are the same through the balancer as without it."""

from collections.abc import Callable

import pytest

from tests.balancer.proxy.stage import Stage, until
from tests.conformance.websockets.conversations import CONVERSATIONS, Conversation
from tests.conformance.websockets.peers import Client, EchoNode, Recorded, make_keys_predictable

WAYS = {
    "plain": (False, False),
    "deflate": (True, False),
    "plain, byte by byte": (False, True),
    "deflate, byte by byte": (True, True),
}


async def hold(
    conversation: Conversation, *, deflate: bool, bytewise: bool, direct: bool
) -> tuple[Recorded, Recorded]:
    """What the server and what the client got."""
    node = EchoNode("node1", deflate=deflate, bytewise=bytewise)
    async with Stage(node) as stage:
        client = Client(deflate=deflate, bytewise=bytewise)
        await client.connect(*(node.address if direct else stage.address))
        await conversation(client)
        await client.over()
        await until(lambda: node.recorded.ended)
    return node.recorded, client.recorded


def negotiated(head: bytes) -> list[bytes]:
    """What a handshake says about the WebSocket, in either direction."""
    lines = head.lower().split(b"\r\n")
    return sorted(line for line in lines if line.startswith((b"sec-websocket-", b"upgrade:", b"connection:")))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_both_ends_get_the_same_bytes_as_without_a_balancer(
    name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deflate, bytewise = WAYS[way]
    seen = []
    for direct in (True, False):
        make_keys_predictable(monkeypatch)
        seen.append(await hold(CONVERSATIONS[name], deflate=deflate, bytewise=bytewise, direct=direct))
    for directly, through in zip(*seen, strict=True):
        assert through.stream == directly.stream
        assert negotiated(through.head) == negotiated(directly.head)
    _, client = seen[0]
    assert (b"permessage-deflate" in client.head) == deflate
    assert client.stream


def test_the_matrix_is_counted(show: Callable[[str], None]) -> None:
    show(
        f"WebSockets: {len(CONVERSATIONS)} conversations in {len(WAYS)} ways, byte streams equal to the direct ones"
    )
