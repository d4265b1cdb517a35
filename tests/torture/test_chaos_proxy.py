"""The proxy passes bytes on unchanged, and does what it is told to."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.e2e.processes import Ports
from tests.e2e.waiting import wait_until
from tests.torture.chaos_proxy import ChaosProxy, Way

DEADLINE_S = 20.0
DELAY_S = 0.2


@dataclass
class Ends:
    """A connection through the proxy."""

    proxy: ChaosProxy
    dialer: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    node: tuple[asyncio.StreamReader, asyncio.StreamWriter]

    async def say(self, text: bytes) -> None:
        """From the dialer to the node, and back."""
        self.dialer[1].write(text)
        assert await self.node[0].readexactly(len(text)) == text
        self.node[1].write(text)
        assert await self.dialer[0].readexactly(len(text)) == text


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    place = Ports()
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    port = place.take()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accepted.put((reader, writer))

    server = await asyncio.start_server(accept, place.host, port, reuse_address=True)
    proxy = ChaosProxy(place, port)
    await proxy.start()
    async with asyncio.timeout(DEADLINE_S):
        dialer = await asyncio.open_connection(place.host, proxy.port)
        ends = Ends(proxy, dialer, await accepted.get())
        yield ends
        for _, writer in (ends.dialer, ends.node):
            writer.transport.abort()
        await proxy.close()
        server.close()
        await wait_until(lambda: _none_left(proxy), "the proxy has closed its connections")
    place.close()


async def _none_left(proxy: ChaosProxy) -> bool:
    return proxy.connections == 0


async def test_bytes_pass_both_ways_and_an_end_of_one_way_too(ends):
    await ends.say(b"x" * 200_000)
    ends.dialer[1].write_eof()
    assert await ends.node[0].read() == b""
    ends.node[1].write(b"still open")
    assert await ends.dialer[0].readexactly(10) == b"still open"


async def test_a_delay_holds_every_piece_back_for_so_long(ends):
    ends.proxy.delay(DELAY_S)
    began_at = time.perf_counter()
    await ends.say(b"hello")
    assert time.perf_counter() - began_at >= 2 * DELAY_S


async def test_a_stalled_direction_stands_still_until_told_otherwise_while_the_other_one_flows(ends):
    ends.proxy.stall(Way.IN)
    ends.dialer[1].write(b"held")
    ends.node[1].write(b"flows")
    assert await ends.dialer[0].readexactly(5) == b"flows"
    read = asyncio.ensure_future(ends.node[0].readexactly(4))
    await asyncio.wait([read], timeout=DELAY_S)
    assert not read.done()
    ends.proxy.behave()
    assert await read == b"held"


async def test_a_half_close_ends_one_direction_only(ends):
    ends.proxy.half_close(Way.OUT)
    assert await ends.dialer[0].read() == b""
    ends.dialer[1].write(b"still open")
    assert await ends.node[0].readexactly(10) == b"still open"


async def test_a_reset_reaches_both_ends(ends):
    ends.proxy.reset()
    for reader in (ends.dialer[0], ends.node[0]):
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
