"""Running one of the two programs as a user does, until it ends."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

DEADLINE_S = 60

Run = Callable[..., "subprocess.CompletedProcess[str]"]
"""Called with arguments, and more environment as keywords."""


def environment(program: str, **more: str) -> dict[str, str]:
    """This process's, without what is meant for the program, and `more`."""
    prefix = f"{program.upper()}_"
    return {**{name: value for name, value in os.environ.items() if not name.startswith(prefix)}, **more}


def runner(program: str, directory: Path) -> Run:
    """Runs the program in a directory."""

    def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", program, *arguments],
            env=environment(program, **more),
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    return run


def refusal(program: str, run: Run) -> Callable[..., str]:
    """Runs what must be refused: exit code 2, one short message, no trace; returns the message."""

    def refuse(*arguments: str, **more: str) -> str:
        done = run(*arguments, **more)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert any(line.startswith(f"{program}: ") for line in done.stderr.splitlines()[-2:]), done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    return refuse
