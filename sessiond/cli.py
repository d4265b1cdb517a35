"""The `sessiond` command: reads the settings, sets up logs and loop, and runs a node until it is told to stop."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import structlog
from cyclopts import Parameter

from sessiond import daemon
from sessiond.contract import logs
from sessiond.contract.configuration import FLATTENED, ConfigFile, command_line, invoke, unknown_variables
from sessiond.contract.process import run_process
from sessiond.errors import ConfigurationError, JoinRefused
from sessiond.settings import Settings, validated

PROGRAM = "sessiond"
REFUSALS = (ConfigurationError, JoinRefused)
"""What a person has to put right; the text says how. Everything else is a fault and is logged with its trace."""

DEFAULTS = Settings()

app = command_line(
    PROGRAM, Settings, summary="Run and ask nodes: web sessions that survive the death of a server."
)


@app.command
def run(
    application: Annotated[str, Parameter(name="APP", show_default=False)] = "",
    /,
    *,
    settings: Annotated[Settings, FLATTENED] = DEFAULTS,
    config: ConfigFile = None,
) -> int:
    """Run a node and the web application that it hosts, until SIGTERM.

    Parameters
    ----------
    application:
        MODULE:APP, an aiohttp.web.Application or a function that returns one, looked up from the working
        directory. Without it the node hosts the demo shop.
    """
    validated(settings)
    logs.configure(settings.log_format, settings.log_level, node=settings.name)
    log = structlog.get_logger()
    for variable in unknown_variables(PROGRAM, Settings, "app", "config"):
        log.warning("settings.unknown_variable", variable=variable)
    return run_process(partial(daemon.run, settings, application), REFUSALS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; `arguments` without the program's name, None for those of the process."""
    return invoke(app, arguments, REFUSALS)
