"""Accepting connections on which a proxy says first, by the PROXY protocol, who its client is.

The header is taken off the socket before asyncio gets it, and not one byte more, so that what follows may be plain HTTP
or a TLS handshake alike. Only proxies in trusted networks are listened to; everybody else is closed.
"""

import asyncio
import socket
import ssl
from typing import Any

import structlog

from balancer.core import proxy_protocol
from balancer.core.headers import is_within
from balancer.proxy.downstream import Downstream
from balancer.proxy.service import ProxyService

GREETINGS_MAX = 1024
"""Connections whose header is being waited for; beyond it others wait to be accepted."""

ACCEPT_PAUSE_S = 1.0
"""After an accept that failed, mostly for want of descriptors."""

log = structlog.get_logger("balancer.proxy")


class Arrivals:
    """Serves one listening socket until `close`. `options`: TLS, for `connect_accepted_socket`."""

    def __init__(self, service: ProxyService, listening: socket.socket, options: dict[str, Any]) -> None:
        self._service = service
        self._listening = listening
        self._options = options
        self._places = asyncio.Semaphore(GREETINGS_MAX)
        self._greetings: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._accept(), name="arrivals")

    def close(self) -> None:
        for task in (self._task, *self._greetings):
            task.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._places.acquire()
            try:
                accepted, (host, *_) = await loop.sock_accept(self._listening)
            except OSError as error:
                self._places.release()
                log.warning("accept.failed", reason=error.strerror or str(error))
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            task = loop.create_task(self._greet(accepted, host))
            self._greetings.add(task)
            task.add_done_callback(self._greetings.discard)

    async def _greet(self, accepted: socket.socket, proxy: str) -> None:
        """Hear who the client is, and serve it."""
        service = self._service
        try:
            try:
                client = await self._client_of(accepted, proxy)
            finally:
                # What follows, a TLS handshake, is no stranger's: it must not keep others from being heard.
                self._places.release()
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(
                lambda: Downstream(service, client or proxy), accepted, **self._options
            )
        except proxy_protocol.Malformed as error:
            service.totals.refused += 1
            log.info("proxy_header.refused", sender=proxy, reason=str(error))
            accepted.close()
        except (OSError, TimeoutError, ssl.SSLError) as error:
            log.debug("arrival.failed", sender=proxy, reason=str(error) or type(error).__name__)
            accepted.close()
        except BaseException:
            accepted.close()
            raise

    async def _client_of(self, accepted: socket.socket, proxy: str) -> str | None:
        """Raises `Malformed`, OSError, TimeoutError."""
        if not is_within(proxy, self._service.trusted_networks):
            raise proxy_protocol.Malformed("the sender is in no trusted network")
        async with asyncio.timeout(self._service.settings.request_head_timeout_s):
            return proxy_protocol.client(await _header(accepted))


async def _header(accepted: socket.socket) -> bytes:
    """Take the header, and nothing of what follows it, off the socket. Raises `Malformed`, OSError."""
    taken = b""
    while True:
        await _readable(accepted)
        try:
            seen = accepted.recv(proxy_protocol.V2_BYTES_MAX, socket.MSG_PEEK)
        except BlockingIOError:
            continue
        if not seen:
            raise ConnectionResetError("closed within its header" if taken else "closed at once")
        end = proxy_protocol.length(taken + seen)
        # Taken off even if more is needed: else the socket would be readable all the time.
        taken += accepted.recv(len(seen) if end is None else end - len(taken))
        if end is not None:
            return taken


async def _readable(accepted: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        loop.remove_reader(accepted)
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(accepted, note)
    try:
        await ready
    finally:
        loop.remove_reader(accepted)
