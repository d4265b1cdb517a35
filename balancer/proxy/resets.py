"""Ending a connection with a reset: what is unsent is dropped, and the other end can tell that this was no orderly end."""

import asyncio
import socket
import struct

_LINGER_OF_NO_TIME = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """For a connection whose protocol has not heard `connection_lost` yet: after that its descriptor may be another's."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OF_NO_TIME)
    transport.abort()
