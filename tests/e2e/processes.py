"""Daemons under test as child processes: started, signalled and ended by pid, what they write kept in files.

Ports are the kernel's choice, and stay ours: each is held by a bound socket that does not listen. Our children
may listen there nevertheless (both sides set SO_REUSEADDR), also after a restart; nobody else is given the port,
not even for an outgoing connection.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.bench.processes import environment
from tests.e2e.waiting import wait_until

HOST = "127.0.0.1"
REPOSITORY = Path(__file__).resolve().parents[2]
"""Working directory of every child, so that ``tests.e2e.apps`` can be imported."""

LOG_LINES_SHOWN = 60


class Place(Protocol):
    """Where a daemon runs: this machine's loopback, or a network of the test's own."""

    @property
    def host(self) -> str:
        """The address at which daemons in other places reach it."""

    def take(self) -> int:
        """A port for a daemon here."""

    def command(self, command: Sequence[str]) -> Sequence[str]:
        """What to start, so that it runs here."""

    def socket(self) -> socket.socket:
        """An unconnected TCP socket of a client here."""


class Ports:
    """Loopback, the usual `Place`, and ports of it that are ours until `close`."""

    host = HOST

    def __init__(self) -> None:
        self._holders: list[socket.socket] = []

    def command(self, command: Sequence[str]) -> Sequence[str]:
        return command

    def socket(self) -> socket.socket:
        return socket.socket()

    def take(self) -> int:
        holder = socket.socket()
        self._holders.append(holder)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, 0))
        port: int = holder.getsockname()[1]
        return port

    def close(self) -> None:
        for holder in self._holders:
            holder.close()


class Process:
    """A child and its log, which goes on when it is started again."""

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        self.name = name
        self.command = command
        self.log = directory / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert not self.is_running, f"{self.name} runs already"
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                self.command,
                cwd=REPOSITORY,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the tests, which then end their children
            )

    @property
    def child(self) -> "subprocess.Popen[bytes]":
        assert self._child is not None, f"{self.name} was never started"
        return self._child

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal and do not wait for what it does."""
        os.kill(self.child.pid, number)

    def kill(self) -> None:
        """SIGKILL; afterwards the process is gone."""
        self.child.kill()
        self.child.wait()

    async def ended(self) -> int:
        """Wait for its end; the exit code."""

        async def has_ended() -> bool:
            return not self.is_running

        await wait_until(has_ended, f"{self.name} ends")
        return self.child.returncode

    def close(self) -> None:
        """Whatever happened: it runs no more."""
        if self.is_running:
            self.kill()

    def text(self) -> str:
        """All that it wrote so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log lines with this event name."""
        lines = [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    def log_tail(self) -> str:
        return "\n".join(self.text().splitlines()[-LOG_LINES_SHOWN:])


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our programs with this interpreter."""
    return [sys.executable, "-m", module, *arguments]
