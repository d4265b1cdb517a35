"""One port of the process, served by aiohttp: opened after the application started, closed before it ends."""

from aiohttp import web

from sessiond.contract.address import Address, parse
from sessiond.contract.listening import listening
from sessiond.errors import ConfigurationError

CLOSE_TIMEOUT_S = 0.4
"""On stop a handler gets so long to end, and again so long after it was told that its request is over."""

BACKLOG = 1024
"""Connections that the kernel keeps while the loop is busy."""


class Listener:
    """Serves `app` at `address`, HOST:PORT, which is the value of `option`."""

    def __init__(self, app: web.Application, option: str, address: str) -> None:
        self._app = app
        self._option = option
        self._wanted = parse(address, may_listen=True)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Start the application and open the port. Raises ConfigurationError if the port cannot be had."""
        # No access log: the balancer has one, and a line costs as much as a session write.
        runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=CLOSE_TIMEOUT_S)
        self._runner = runner
        try:
            await runner.setup()
            with listening(self._option, str(self._wanted), ConfigurationError):
                await web.TCPSite(runner, self._wanted.host, self._wanted.port, backlog=BACKLOG).start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close the port and what is open on it; nothing to do if it never started."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @property
    def address(self) -> Address:
        """Where it listens; with port 0 the kernel chose the port."""
        if self._runner is None or not self._runner.addresses:
            return self._wanted
        return Address(self._wanted.host, self._runner.addresses[0][1])

    @property
    def requests(self) -> int:
        """Requests that came so far."""
        server = self._runner.server if self._runner is not None else None
        return server.requests_count if server is not None else 0
