"""The `balancer` command: reads the settings, sets up logs and loop, and balances until it is told to stop."""

import asyncio
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
from sessiond.contract.configuration import FLATTENED, ConfigFile, command_line, invoke, unknown_variables
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
    logs.configure(settings.log_format, settings.log_level)
    log = structlog.get_logger()
    for variable in unknown_variables(PROGRAM, Settings, "config"):
        log.warning("settings.unknown_variable", variable=variable)
    return run_process(partial(serve, settings), REFUSALS)


async def serve(settings: Settings, told: asyncio.Event) -> None:
    """Balance until `told`, then let requests in flight finish."""
    server = Balancer(settings) if settings.workers == 1 else Supervisor(settings)
    try:
        await server.start()
        await told.wait()
    finally:
        await server.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; `arguments` without the program's name, None for those of the process."""
    return invoke(app, arguments, REFUSALS)
