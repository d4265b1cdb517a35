"""Private PostgreSQL and Redis servers for tests, from Debian's packages: on free loopback ports, in directories of
their own, never as root, ended by pid.

    with redis(directory) as server:
        server.url, server.kill(), server.start(), server.pause(), server.resume()

``python -m tests.support.services`` says what is not installed, and fails if something is not.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

DEADLINE_S = 60.0
POLL_INTERVAL_S = 0.02

ORDINARY_USER = "nobody"
"""Who the servers run as when this is root: PostgreSQL refuses root."""

PASSWORD = "a password of tests"  # the server is ours, and listens on loopback only
PASSWORD_IN_URL = PASSWORD.replace(" ", "%20")
USER = "sessiond"

PACKAGES = {"redis-server": "redis-server", "initdb": "postgresql", "postgres": "postgresql"}


def find(program: str) -> str | None:
    """The path of a server's program. Debian keeps PostgreSQL's beside PATH, one directory for each version."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: float(each.parent.name))
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", *map(str, reversed(versions))])
    return shutil.which(program, path=path)


def missing(*programs: str) -> str:
    """Why servers cannot be started here; empty if they can."""
    packages = sorted({PACKAGES[program] for program in programs if find(program) is None})
    return f"not installed: {', '.join(packages)} (names of Debian packages)" if packages else ""


class Server(ABC):
    """A server process of ours, with all its children."""

    end_signal = signal.SIGTERM

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started; its children do some of the work."""
        assert self._process is not None
        return self._process.pid

    @property
    @abstractmethod
    def url(self) -> str:
        """What a store is given."""

    @abstractmethod
    def _command(self) -> Sequence[str]: ...

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it does its work; may take a second."""

    def start(self) -> None:
        """Return when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_as_ordinary_user(),
            )
        deadline = time.monotonic() + DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"{self._command()[0]} did not start:\n{self._log.read_text(errors='replace')}"
                )
            time.sleep(POLL_INTERVAL_S)

    def pause(self) -> None:
        """No process of the server runs any more; its sockets stay open."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """As if the power had failed, but for the disk's cache."""
        pids = self._pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait(DEADLINE_S)
        self._process = None

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self.resume()
        self._process.send_signal(self.end_signal)
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def _pids(self) -> list[int]:
        """The process and its children: PostgreSQL's lead groups of their own."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]


class Redis(Server):
    """Keeps its data when it is killed. `options` are more of its configuration: ``maxmemory="8mb"``."""

    def __init__(self, directory: Path, **options: str) -> None:
        super().__init__(directory)
        self._options = {"appendonly": "yes", "appendfsync": "always", "save": ""} | options

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def _command(self) -> Sequence[str]:
        program = find("redis-server")
        assert program is not None
        words = {"port": self.port, "bind": "127.0.0.1", "dir": self.directory, **self._options}
        return [
            program,
            *(word for name, value in words.items() for word in (f"--{name.replace('_', '-')}", str(value))),
        ]

    def _answers(self) -> bool:
        return self.ask("PING") in {b"+PONG", b"-NOAUTH Authentication required."}

    def ask(self, *words: str) -> bytes:
        """One command; the first line of the answer, empty without one."""
        request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(request.encode())
                return connection.makefile("rb").readline().strip()
        except OSError:
            return b""


class PostgreSQL(Server):
    """Databases are made by `new_database`; the server asks for a password. `options`: ``fsync="off"``."""

    end_signal = signal.SIGQUIT
    """At once: nobody needs its files any more."""

    def __init__(self, directory: Path, **options: str) -> None:
        super().__init__(directory)
        self._options = options
        self._databases = 0
        secret = directory / "password"
        secret.write_text(PASSWORD)
        program = find("initdb")
        assert program is not None
        command = [program, "--pgdata", str(directory / "data"), "--username", USER, "--pwfile", str(secret)]
        more = ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-instructions"]
        done = subprocess.run(
            [*command, *more],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
            **_as_ordinary_user(),
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        return f"postgresql://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{self.port}/{name}"

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"test{self._databases}"
        self.run(f"CREATE DATABASE {name}")
        return self.database_url(name)

    def run(self, *statements: str, url: str = "") -> list[Any]:
        """Run statements one by one; the rows of the last."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(url or self.url, timeout=DEADLINE_S)
            try:
                rows: list[Any] = []
                for statement in statements:
                    rows = await connection.fetch(statement)
                return rows
            finally:
                await connection.close()

        # In a thread of its own, as a test's event loop may run in this one.
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(lambda: asyncio.run(run())).result()

    def _command(self) -> Sequence[str]:
        program = find("postgres")
        assert program is not None
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "shared_buffers": "16MB",
            "max_connections": 60,
            **self._options,
        }
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [program, "-D", str(self.directory / "data"), *settings]

    def _answers(self) -> bool:
        try:
            self.run("SELECT 1")
        except (OSError, asyncpg.PostgresError):
            return False
        return True


@contextmanager
def running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def directory_for_servers(name: str) -> Iterator[Path]:
    """A directory that the servers' user can reach, and nothing else of the tests is in."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as made:
        if os.geteuid() == 0:
            shutil.chown(made, ORDINARY_USER)
        yield Path(made)


def _as_ordinary_user() -> dict[str, Any]:
    """For Popen."""
    return {"user": ORDINARY_USER, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


if __name__ == "__main__":
    sys.exit(missing(*PACKAGES) or 0)
