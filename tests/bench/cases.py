"""Benches: the proxies at other work than small GETs. Their origin, configurations and checks are those of `proxies`.

One case each for bodies both ways, answers of 64 KiB and 10 MiB, heads of which no two are alike, a connection for
each request, a crowd of idle connections, and WebSockets.
"""

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import proxies, wrk
from tests.bench.errors import BenchError
from tests.bench.measure import Bench, Group, Target, memory_kib
from tests.bench.processes import Cores, answers, finished, free_ports, pinned, running

IDLE_CONNECTIONS = 1000
WEBSOCKETS = 500
APACHE_THREADS = WEBSOCKETS + 100
EXIT_DEADLINE_S = 30

FILES = {"64k": 64 * 1024, "10m": 10 * 1024 * 1024}
"""What the origin serves at /files/NAME, by its bytes."""


@contextmanager
def crowd(target: Target) -> Iterator[float]:
    """Clients that have been answered once and stay connected; the memory that each took."""
    pids = [process.pid for process in target.processes]
    before = memory_kib(pids)
    with ExitStack() as stack:
        for number in range(IDLE_CONNECTIONS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", target.port), timeout=10))
            cookie = target.cookies[number % len(target.cookies)]
            client.sendall(f"GET / HTTP/1.1\r\nHost: bench\r\nCookie: {cookie}\r\n\r\n".encode())
            if not client.recv(65_536).startswith(b"HTTP/1.1 200"):
                raise BenchError(f"idle connection {number} was not answered")
        yield (memory_kib(pids) - before) / IDLE_CONNECTIONS


@dataclass(frozen=True, slots=True)
class HttpCase:
    """A case whose load is wrk's, before the origin of `proxies`."""

    name: str
    title: str
    requests: wrk.Requests = wrk.GETS
    crowd: Callable[[Target], AbstractContextManager[float]] | None = None

    def send(self, target: Target, seconds: int, core: int, directory: Path) -> wrk.Load:
        return wrk.run(target.port, target.cookies, seconds, core, directory, requests=self.requests)

    @contextmanager
    def group(self, cores: Cores, directory: Path) -> Iterator[Group]:
        for file, size in FILES.items():
            (directory / file).write_bytes(b"x" * size)
        with proxies.origin_running(cores.load, directory) as origin:
            contenders = proxies.contenders(origin, cores.under_test)
            title = f"{self.title}, {wrk.CONNECTIONS} connections"
            yield Group(self.name, title, contenders, self.send, self.crowd)


class EchoOrigin(proxies.Origin):
    """Connections become WebSockets, so there is nothing to count."""

    def connections(self) -> int:
        return 0


def send_echoes(target: Target, seconds: int, core: int, directory: Path) -> wrk.Load:
    command = [
        sys.executable,
        "-m",
        "tests.bench.echoes",
        "load",
        str(target.port),
        str(WEBSOCKETS),
        str(seconds),
    ]
    with pinned(core):
        return wrk.parse(finished([*command, *target.cookies], seconds + EXIT_DEADLINE_S))


@contextmanager
def websockets(cores: Cores, directory: Path) -> Iterator[Group]:
    node1, node2 = free_ports(2)
    command = [sys.executable, "-m", "tests.bench.echoes", "serve", str(node1), str(node2)]
    with running("echoes", command, cores.load, directory) as process:
        process.wait_until(answers(node2), "answering")
        contenders = proxies.contenders(EchoOrigin(node1, node2, 0), cores.under_test, threads=APACHE_THREADS)
        yield Group("websockets", f"{WEBSOCKETS} WebSockets echoing 64 bytes each", contenders, send_echoes)


HTTP_CASES = (
    HttpCase("post", "POSTs of 4 KiB", wrk.Requests(body_bytes=4096)),
    HttpCase("64k", "Answers of 64 KiB", wrk.Requests(path="/files/64k")),
    HttpCase("10m", "Answers of 10 MiB", wrk.Requests(path="/files/10m")),
    HttpCase(
        "unlike", "GETs and answers of which no two are alike", wrk.Requests(path="/unlike", unlike=True)
    ),
    HttpCase("new", "A new connection for each GET", wrk.Requests(new_connections=True)),
    HttpCase("idle", f"GETs beside {IDLE_CONNECTIONS} idle connections", crowd=crowd),
)
BENCHES = {
    **{case.name: Bench(proxies.PACKAGES, case.group) for case in HTTP_CASES},
    "websockets": Bench(proxies.PACKAGES, websockets),
}
