"""Several workers behind one port, and one request to them."""

import asyncio

from balancer.workers.supervisor import Supervisor

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def ask(supervisor: Supervisor) -> bytes:
    """One request over a connection of its own; the answer's body."""
    reader, writer = await asyncio.open_connection(*supervisor.listen_address)
    try:
        async with asyncio.timeout(20):
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            return await reader.readexactly(5)
    finally:
        writer.close()
