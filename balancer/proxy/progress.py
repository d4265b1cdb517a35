"""Whether somebody to whom much was written still takes any of it, however slowly.

A full buffer alone does not say: behind it lie the kernel's, megabytes that a slow but steady reader takes minutes for,
while nothing changes in ours. So what the kernel has left is counted as well, where it can be asked (Linux).
"""

import asyncio
import fcntl
import struct
import termios

_INT = struct.Struct("i")


def unsent_bytes(transport: asyncio.WriteTransport) -> int:
    """What was written and not yet acknowledged by the other end's kernel."""
    unsent = transport.get_write_buffer_size()
    raw = transport.get_extra_info("socket")
    if raw is not None:
        try:
            (queued,) = _INT.unpack(fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))
        except (OSError, ValueError):  # not on this system, or the socket is closed: what we hold has to do
            return unsent
        unsent += queued
    return unsent


class Progress:
    """Of one transport that is full; begin anew each time that it becomes so."""

    __slots__ = ("_transport", "_unsent")

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport
        self._unsent = unsent_bytes(transport)

    def goes_on(self, least: float = 1) -> bool:
        """Whether so many bytes were taken since this was last asked."""
        before, self._unsent = self._unsent, unsent_bytes(self._transport)
        return before - self._unsent >= least
