"""Finding the addresses of a name and connecting to one of them, in a bounded time.

Names are resolved anew at each attempt. A look-up cannot be cancelled (it occupies a thread of the loop), so
attempts for one name share a look-up that is still under way: a broken name server costs one thread a name.
What went wrong is told apart, because the cluster takes some of it as evidence that a node is dead.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from sessiond.contract.address import Address, parse
from sessiond.errors import LinkError
from sessiond.net.events import DialFailureKind

_LOCAL_ERRORS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
)
_LOCAL_NAME_ERRORS = frozenset({socket.EAI_MEMORY, socket.EAI_SYSTEM})

_AddressInfo = tuple[int, int, int, str, Any]
"""As `socket.getaddrinfo` returns them: family, type, protocol, canonical name, socket address."""


class ConnectFailed(LinkError):
    """No connection was made; `kind` says whom that tells something about."""

    def __init__(self, kind: DialFailureKind, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class Connector:
    """Makes outgoing connections."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lookups: dict[Address, asyncio.Task[Sequence[_AddressInfo]]] = {}

    async def connect(self, address: str, protocol: asyncio.Protocol) -> None:
        """Connect `protocol` to HOST:PORT, trying the addresses of HOST in turn. Raises ConnectFailed."""
        try:
            target = parse(address)
        except ValueError as error:
            raise ConnectFailed(DialFailureKind.NAME, str(error)) from error
        failures: list[OSError] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                for info in await self._resolved(target):
                    try:
                        return await _connect(info, protocol)
                    except OSError as error:
                        failures.append(error)
        except TimeoutError as error:
            detail = f"no connection within {self._timeout_s:g} s"
            raise ConnectFailed(DialFailureKind.TIMEOUT, detail) from error
        texts = dict.fromkeys(os.strerror(failure.errno or 0) for failure in failures)
        raise ConnectFailed(_kind_of(failures), "; ".join(texts))

    def close(self) -> None:
        """Forget the look-ups under way."""
        for lookup in self._lookups.values():
            lookup.cancel()

    async def _resolved(self, target: Address) -> Sequence[_AddressInfo]:
        try:
            # Numbers need no look-up, and so no thread.
            return socket.getaddrinfo(*target, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            pass
        lookup = self._lookups.get(target)
        if lookup is None:
            lookup = asyncio.get_running_loop().create_task(_look_up(target))
            self._lookups[target] = lookup
            lookup.add_done_callback(lambda done: self._looked_up(target, done))
        try:
            return await asyncio.shield(lookup)
        except socket.gaierror as error:
            kind = DialFailureKind.LOCAL if error.errno in _LOCAL_NAME_ERRORS else DialFailureKind.NAME
            raise ConnectFailed(kind, f"{target.host}: {error.strerror}") from error

    def _looked_up(self, target: Address, lookup: "asyncio.Task[Sequence[_AddressInfo]]") -> None:
        del self._lookups[target]
        if not lookup.cancelled():
            lookup.exception()  # seen: all who waited may have given up before


async def _look_up(target: Address) -> Sequence[_AddressInfo]:
    return await asyncio.get_running_loop().getaddrinfo(*target, type=socket.SOCK_STREAM)


async def _connect(info: _AddressInfo, protocol: asyncio.Protocol) -> None:
    # Not a socket of our own: uvloop closes the number of one twice if the connection ends at once.
    host, port = socket.getnameinfo(info[4], socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    await asyncio.get_running_loop().create_connection(lambda: protocol, host, int(port), family=info[0])


def _kind_of(failures: list[OSError]) -> DialFailureKind:
    """What all attempts together say. Refused is the strongest evidence, so every one must say it."""
    if any(failure.errno in _LOCAL_ERRORS for failure in failures):
        return DialFailureKind.LOCAL
    if all(isinstance(failure, ConnectionRefusedError) for failure in failures):
        return DialFailureKind.REFUSED
    if all(isinstance(failure, TimeoutError) for failure in failures):
        return DialFailureKind.TIMEOUT
    return DialFailureKind.UNREACHABLE
