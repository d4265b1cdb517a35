"""Child processes of a benchmark: pinned to a core, waited for until ready, ended by pid.

Invariant: whoever leaves `running` leaves no process behind: the child leads a process group of its own,
gets SIGTERM, and after `STOP_DEADLINE_S` the whole group is killed. A child's output goes to a file,
whose last lines are part of every error about it.
"""

import http.client
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.bench.errors import BenchError, MachineError

READY_DEADLINE_S = 150.0
STOP_DEADLINE_S = 15.0
POLL_INTERVAL_S = 0.02
REQUEST_TIMEOUT_S = 5.0
LOG_TAIL_LINES = 20

REPOSITORY = Path(__file__).resolve().parents[2]
"""Working directory of every child, so that ``tests.bench.apps`` can be imported."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where: the thing under test shares its core with nobody of ours."""

    under_test: int
    load: int

    @classmethod
    def of_this_machine(cls) -> "Cores":
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            raise MachineError(
                f"a benchmark needs 2 cores, this process may use {len(usable)}: one to test, one for the load"
            )
        return cls(usable[0], usable[1])


def unwind_on_sigterm() -> None:
    """SIGTERM unwinds this process like an exception, so that every child is stopped."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, end)


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Pin this process to a core; a child started meanwhile stays there, with its threads and children. None: to none."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that were free a moment ago; all different."""
    with ExitStack() as sockets:
        taken = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to `get`."""

    status: int
    headers: dict[str, str]
    """Names are in lower case; of a repeated header the last one."""
    body: bytes


def get(port: int, path: str = "/", *, timeout_s: float = REQUEST_TIMEOUT_S, **headers: str) -> Reply:
    """One GET on a connection of its own. Raises BenchError if there is no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        names_and_values = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, names_and_values, response.read())
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"GET http://127.0.0.1:{port}{path} got no answer: {error!r}") from error
    finally:
        connection.close()


def answers(
    port: int, path: str = "/", *, timeout_s: float = REQUEST_TIMEOUT_S, **headers: str
) -> Callable[[], bool]:
    """The condition that a GET is answered with 200."""

    def condition() -> bool:
        try:
            return get(port, path, timeout_s=timeout_s, **headers).status == 200
        except BenchError:
            return False

    return condition


@dataclass(frozen=True, slots=True)
class Process:
    """A child that this program started. `name` is for messages."""

    name: str
    child: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.child.pid

    def log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"  {self.name}: {line}" for line in lines)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition while the child lives. Raises BenchError with the end of the child's log."""
        deadline = time.monotonic() + READY_DEADLINE_S
        while not condition():
            self.must_live(f"before {what}")
            if time.monotonic() > deadline:
                raise BenchError(
                    f"{self.name} was not {what} within {READY_DEADLINE_S:.0f} s\n{self.log_tail()}"
                )
            time.sleep(POLL_INTERVAL_S)

    def must_live(self, when: str) -> None:
        """Raises BenchError if the child has ended."""
        if self.child.poll() is not None:
            raise BenchError(f"{self.name} ended with code {self.child.returncode} {when}\n{self.log_tail()}")

    def kill(self) -> None:
        """SIGKILL: it has no time to say anything."""
        self.child.kill()
        self.child.wait()

    def stop(self) -> None:
        self.child.terminate()
        try:
            self.child.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self.child.wait()


@contextmanager
def running(name: str, command: Sequence[str], core: int | None, directory: Path) -> Iterator[Process]:
    """Run a command in the foreground, it and all its threads and children pinned to one core (None: to none)."""
    log = directory / f"{name}.log"
    with log.open("ab") as output, pinned(core):
        child = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    inherit_priority(child.pid)
    process = Process(name, child, log)
    try:
        yield process
    finally:
        process.stop()


def inherit_priority(pid: int, proc: Path = Path("/proc")) -> None:
    """Give a child's session our niceness: with autogroups (sched(7)) a session of its own has one of its own, too."""
    group = proc / str(pid) / "autogroup"
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if nice and group.exists():
        group.write_text(str(nice))


def finished(command: Sequence[str], timeout_s: float) -> str:
    """Run a command to its end; what it printed. Raises BenchError with that if it fails or takes too long."""
    line = shlex.join(command)
    try:
        done = subprocess.run(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"`{line}` did not end within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise BenchError(f"`{line}` failed with code {done.returncode}:\n{done.stdout}")
    return done.stdout


def environment() -> dict[str, str]:
    """Ours, without what would configure the programs under test, and with the places of Debian's daemons."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("SESSIOND_", "BALANCER_"))
    }
    return {**kept, "PATH": search_path()}


def search_path() -> str:
    """PATH with the directories of daemons, which ordinary users lack."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
