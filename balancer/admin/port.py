"""The admin port's life: opened before anything is served, closed after everything has ended."""

from aiohttp import web

from balancer.admin.api import AdminApi
from balancer.admin.source import Source
from balancer.errors import ConfigurationError
from balancer.settings import Settings, admin_token, listen_address
from sessiond.contract.address import Address
from sessiond.contract.listening import listening

BACKLOG = 128

SHUTDOWN_S = 1.0
"""Pages and probes get so long to finish."""


class AdminPort:
    """`start`, then `changed` when a node's state changes, later `stop`, which may be called twice."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self._where = listen_address(settings.admin, "admin")
        self._api = AdminApi(source)
        self.configure(settings)
        self._runner: web.AppRunner | None = None

    def configure(self, settings: Settings) -> None:
        """Ask for this token from now on."""
        self._api.token = admin_token(settings)

    @property
    def address(self) -> Address:
        """The real one, also if port 0 was asked for."""
        if self._runner is None:
            raise RuntimeError("not started")
        host, port = self._runner.addresses[0][:2]
        return Address(host, port)

    async def start(self) -> None:
        """Raises `ConfigurationError` if the address cannot be listened at."""
        self._runner = runner = web.AppRunner(
            self._api.application(), shutdown_timeout=SHUTDOWN_S, access_log=None
        )
        await runner.setup()
        with listening("--admin", str(self._where), ConfigurationError):
            await web.TCPSite(runner, self._where.host, self._where.port, backlog=BACKLOG).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def changed(self) -> None:
        self._api.changed()
