"""The `balancer` command: reads the settings, sets up logs and loop, and balances until it is told to stop."""

import asyncio
import signal
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import structlog

import balancer
from balancer.errors import ConfigurationError
from balancer.server import Balancer
from balancer.settings import Settings, validated
from balancer.workers.supervisor import Supervisor
from sessiond.contract import logs
from sessiond.contract.configuration import (
    FLATTENED,
    ConfigFile,
    command_line,
    invoke,
    reread,
    unknown_variables,
)
from sessiond.contract.process import run_process

PROGRAM = "balancer"
REFUSALS = (ConfigurationError,)
"""What a person has to put right; the text says how. Everything else is a fault and is logged with its trace."""

DEFAULTS = Settings()

app = command_line(PROGRAM, Settings, summary=balancer.__doc__)


@app.command
def run(*, settings: Annotated[Settings, FLATTENED] = DEFAULTS, config: ConfigFile = None) -> int:
    """Send every visitor to the node that has their session, until SIGTERM."""
    validated(settings)
    _configure_logs(settings)
    log = structlog.get_logger()
    for variable in unknown_variables(PROGRAM, Settings, "config"):
        log.warning("settings.unknown_variable", variable=variable)
    return run_process(partial(serve, settings), REFUSALS)


async def serve(settings: Settings, told: asyncio.Event) -> None:
    """Balance until `told`, then let requests in flight finish. SIGHUP: go on with what is configured then."""
    server = Balancer(settings) if settings.workers == 1 else Supervisor(settings)
    loop, wanted = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, wanted.set)
    reloading: asyncio.Task[None] | None = None
    try:
        await server.start()
        reloading = asyncio.create_task(reload(server, wanted), name="reloading")
        await told.wait()
    finally:
        if reloading is not None:
            reloading.cancel()
        await server.stop()


async def reload(server: Balancer | Supervisor, wanted: asyncio.Event) -> None:
    """Read the configuration anew whenever it is `wanted`. One that cannot work changes nothing."""
    log = structlog.get_logger("balancer")
    while True:
        await wanted.wait()
        wanted.clear()
        try:
            settings = reread(app, "settings")
            _configure_logs(settings)  # first: whoever writes many lines binds a logger when it is configured
            waiting = await server.reload(settings)
        except (ValueError, ConfigurationError) as error:
            _configure_logs(server.settings)
            log.error("configuration.refused", reason=str(error), kept="the one before")  # noqa: TRY400 - a person's mistake
        except Exception:
            _configure_logs(server.settings)
            log.exception("configuration.failed")
        else:
            if waiting:
                log.warning("configuration.needs_restart", settings=waiting)
            log.info("configuration.reloaded")


def _configure_logs(settings: Settings) -> None:
    logs.configure(settings.log_format, settings.log_level, may_change=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; `arguments` without the program's name, None for those of the process."""
    return invoke(app, arguments, REFUSALS)
