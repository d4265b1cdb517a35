"""Running other programs: every failure says what was run and what it wrote."""

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from tests.bench.processes import search_path

COMMAND_TIMEOUT_S = 600


class EngineError(Exception):
    """This machine lacks something, or a program failed; the text says which and what to do."""


def needed(program: str) -> str:
    """Path of a program that this machine must have."""
    path = shutil.which(program, path=search_path())
    if path is None:
        raise EngineError(
            f"{program} is not installed; .ci/run names the Debian packages that `make e2e-docker` needs"
        )
    return path


def run(command: Sequence[str], environment: Mapping[str, str], *, show: bool = False) -> str:
    """Run to the end and return what was written to stdout; with `show` all of it goes to our own output."""
    finished = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=None if show else subprocess.PIPE,
        stderr=None if show else subprocess.PIPE,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )
    if finished.returncode != 0:
        wrote = "" if show else f":\n{finished.stdout}{finished.stderr}"
        raise EngineError(f"`{shlex.join(command)}` ended with code {finished.returncode}{wrote}")
    return finished.stdout or ""


def succeeds(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Run to the end without a word."""
    finished = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )
    return finished.returncode == 0
