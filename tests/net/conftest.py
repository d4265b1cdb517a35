"""Every asynchronous test of links runs on asyncio's own loop and on uvloop."""

import asyncio

import pytest_asyncio
import uvloop

from tests.net.nodes import HandPeer, Node


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def start_node():
    """Makes nodes that listen on a free port; all are closed at the end, and nothing of them may be left."""
    nodes = []

    async def start(name, address="127.0.0.1:0", **options):
        node = Node(name, **options)
        nodes.append(node)
        return await node.start(address)

    yield start
    for node in nodes:
        await node.hub.close()
        node.hub.check_invariants()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest_asyncio.fixture
async def connect_by_hand():
    peers = []

    async def connect(address):
        peers.append(await HandPeer.connect(address))
        return peers[-1]

    yield connect
    for peer in peers:
        await peer.close()


@pytest_asyncio.fixture
async def listen_by_hand():
    """Starts a TCP server that treats each connection as it is told; returns its address."""
    servers = []

    async def listen(treat):
        async def handle(reader, writer):
            try:
                await treat(HandPeer(reader, writer))
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        return f"127.0.0.1:{port}"

    yield listen
    for server in servers:
        server.close()
        await server.wait_closed()
