"""The `sessiond` command: runs a node until it is told to stop, or asks one that runs (`commands`)."""

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Annotated, Any

import structlog
from cyclopts import Parameter

from sessiond.commands.client import Asking, CommandFailed
from sessiond.commands.drain import drain_node
from sessiond.commands.locate import show_location
from sessiond.commands.status import show_status
from sessiond.contract import logs
from sessiond.contract.configuration import FLATTENED, ConfigFile, command_line, invoke, unknown_variables
from sessiond.contract.process import EXIT_AS_ASKED, EXIT_FAILED, run_process
from sessiond.errors import ConfigurationError, JoinRefused
from sessiond.settings import Settings, validated

PROGRAM = "sessiond"
REFUSALS = (ConfigurationError, JoinRefused)
"""What a person has to put right; the text says how. Everything else is a fault and is logged with its trace."""

DEFAULTS = Settings()
ASKING = Asking()

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
    from sessiond import daemon  # commands that ask a node start in half the time without it

    validated(settings)
    logs.configure(settings.log_format, settings.log_level, node=settings.name)
    log = structlog.get_logger()
    for variable in unknown_variables(PROGRAM, Settings, "app", "config"):
        log.warning("settings.unknown_variable", variable=variable)
    return run_process(partial(daemon.run, settings, application), REFUSALS)


@app.command
def status(
    *,
    asking: Annotated[Asking, FLATTENED] = ASKING,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Show the nodes of the cluster, and whether every session has its copies.

    Parameters
    ----------
    as_json:
        For programs: the body of /v1/cluster.
    """
    return _ask(show_status(asking, as_json=as_json))


@app.command
def locate(
    session: Annotated[str, Parameter(name="ID")],
    /,
    *,
    asking: Annotated[Asking, FLATTENED] = ASKING,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> int:
    """Show where a session is.

    Parameters
    ----------
    session:
        A cookie's value, or the 32 hex digits of a session's key as logs show it.
    as_json:
        For programs: the body of /v1/locate.
    """
    return _ask(show_location(session, asking, as_json=as_json))


@app.command
def drain(
    node: Annotated[str, Parameter(name="NODE")],
    /,
    *,
    asking: Annotated[Asking, FLATTENED] = ASKING,
    wait: Annotated[bool, Parameter(negative=())] = False,
    abort: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Let a node hand its sessions to the others, so that it can be stopped without anybody noticing.

    The node refuses new sessions from then on, and runs until it is stopped or the drain is aborted.

    Parameters
    ----------
    node:
        Its name. Any node may be asked (--api).
    wait:
        Show the progress until nothing is left there and the node is safe to stop.
    abort:
        Call a drain off: the node serves again. What it has handed over stays where it is.
    """
    if wait and abort:
        raise ConfigurationError("--wait and --abort contradict each other: keep one of them")
    return _ask(drain_node(node, asking, wait=wait, abort=abort))


def _ask(question: Coroutine[Any, Any, None]) -> int:
    try:
        asyncio.run(question)
    except CommandFailed as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    return EXIT_AS_ASKED


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; `arguments` without the program's name, None for those of the process."""
    return invoke(app, arguments, REFUSALS)
