"""The sockets that clients connect to: opened first, served later, perhaps by another process.

A socket is opened apart from whoever serves it, so that several processes can each have one at the same address
(SO_REUSEPORT spreads connections over them by hash), and so that connections which wait to be accepted survive the
process that was to accept them.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from balancer.errors import ConfigurationError
from balancer.proxy.arrivals import Arrivals
from balancer.proxy.service import ProxyService
from sessiond.contract.address import Address
from sessiond.contract.listening import listening

BACKLOG = 1024
"""Connections that wait to be accepted while the loop is busy."""

Sockets = Sequence[socket.socket]
"""One for each address that a host name stands for; mostly a single one."""


async def open_sockets(where: Address, count: int = 1) -> list[list[socket.socket]]:
    """`count` lists of listening sockets, each list for the same addresses. Raises `ConfigurationError`."""
    opened: list[list[socket.socket]] = []
    try:
        with listening("--listen", str(where), ConfigurationError):
            found = await asyncio.get_running_loop().getaddrinfo(
                where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            # Alone first: with SO_REUSEPORT we would share the port even with a program that we know nothing of.
            opened.append(_open(found, where.port, shared=False))
            if count > 1:
                port = opened[0][0].getsockname()[1]
                _close(opened.pop())
                for _ in range(count):
                    opened.append(_open(found, port, shared=True))  # noqa: PERF401 - what was opened is closed on error
    except BaseException:
        for sockets in opened:
            _close(sockets)
        raise
    return opened


def address_of(sockets: Sockets) -> Address:
    """Where they listen; the port is the real one."""
    host, port = sockets[0].getsockname()[:2]
    return Address(host, port)


def _open(
    found: Sequence[tuple[int, int, int, str, tuple[object, ...]]], port: int, *, shared: bool
) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, where in dict.fromkeys(found):
            opened = socket.socket(family, kind, protocol)
            sockets.append(opened)
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.bind((where[0], port, *where[2:]))
            opened.listen(BACKLOG)
            port = opened.getsockname()[1]  # a free port that was asked for is the same for all
    except BaseException:
        _close(sockets)
        raise
    return sockets


def _close(sockets: Sockets) -> None:
    for each in sockets:
        each.close()


class Listener:
    """Serves clients on open sockets, which it closes in the end. `start`, later `close`."""

    def __init__(self, service: ProxyService, sockets: Sockets, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._service = service
        self._sockets = sockets
        self._servers: list[asyncio.Server | Arrivals] = []

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {}
        if self._tls is not None:
            limit = self._service.settings.tls_handshake_timeout_s
            options = {"ssl": self._tls, "ssl_handshake_timeout": limit, "ssl_shutdown_timeout": limit}
        for each in self._sockets:
            if self._service.settings.proxy_protocol:
                self._servers.append(Arrivals(self._service, each, options))
                continue
            self._servers.append(
                await loop.create_server(self._service, sock=each, backlog=BACKLOG, **options)
            )
        self._service.is_listening = True

    async def close(self) -> None:
        """Accept no more connections."""
        for server in self._servers:
            server.close()
        for each in self._sockets:
            each.close()
        await asyncio.sleep(0)  # requests that have arrived begin before idle connections are closed
