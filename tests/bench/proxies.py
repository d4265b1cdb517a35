"""Bench: a sticky reverse proxy in front of two nodes; our balancer beside HAProxy, nginx and Apache.

Each has the same job: keep-alive on both sides, the suffix of the cookie names the node, X-Forwarded-For,
time-outs, no access log, one worker. The nodes behind them (one nginx on the load's core) refuse with 409
what was not routed by its cookie or lacks the header, so every single request of a run checks the job.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import jinja2

from sessiond.contract.names import COOKIE_NAME
from tests.bench.errors import BenchError
from tests.bench.install import APACHE, HAPROXY, NGINX, WRK, Package
from tests.bench.measure import Bench, Contender, Group, Target
from tests.bench.processes import Cores, answers, free_ports, get, running
from tests.bench.wrk import CONNECTIONS

TEMPLATES = Path(__file__).with_name("peers")

TOKEN = "c" * 28
"""As long as the token of a real session id; proxies look at the suffix only."""
COOKIES = tuple(f"{COOKIE_NAME}={TOKEN}.{node}" for node in ("node1", "node2"))
SAMPLES_PER_NODE = 10
REQUESTS_PER_CONNECTION_MIN = 100
"""A proxy that opens more connections to its nodes than this allows does not keep them alive."""
CONNECTIONS_FREE = 4
"""What it may open anyway for each of the clients' connections: each client may need a connection to either node, and anew after the warm-up, whose last
answers are cut off. Of large answers a run has few."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The two nodes behind the proxies."""

    node1: int
    node2: int
    status: int
    """Port of nginx's counters."""

    def connections(self) -> int:
        """Connections accepted so far."""
        found = re.search(rb"requests\s+(\d+) ", get(self.status).body)
        if found is None:
            raise BenchError("the origin's counters are not those of nginx's stub_status")
        return int(found.group(1))


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy from Debian: its configuration is ``peers/<name>.conf``; `command` runs it in the foreground."""

    name: str
    package: Package
    command: tuple[str, ...]

    @contextmanager
    def start(self, origin: Origin, core: int, directory: Path, **values: int) -> Iterator[Target]:
        """`values` go into the configuration."""
        (port,) = free_ports(1)
        config = write_config(
            self.name, directory, port=port, node1=origin.node1, node2=origin.node2, **values
        )
        command = [part.format(config=config, directory=directory) for part in self.command]
        with running(self.name, command, core, directory) as process:
            process.wait_until(answers(port, Cookie=COOKIES[0]), "answering")
            verify_stickiness(self.name, port)
            before = origin.connections()
            yield Target(
                port, (process,), COOKIES, lambda requests: verify_reuse(self.name, origin, before, requests)
            )


PEERS = (
    Peer("haproxy", HAPROXY, ("haproxy", "-db", "-f", "{config}")),
    Peer("nginx", NGINX, ("nginx", "-e", "stderr", "-p", "{directory}", "-c", "{config}")),
    Peer("apache", APACHE, ("apache2", "-DFOREGROUND", "-d", "{directory}", "-f", "{config}")),
)


def write_config(name: str, directory: Path, **values: int) -> Path:
    """Fill ``peers/<name>.conf`` in and write it to `directory`."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # configuration files, not HTML
    )
    template = environment.from_string((TEMPLATES / f"{name}.conf").read_text())
    path = directory / f"{name}.conf"
    path.write_text(template.render(directory=directory, cookie=COOKIE_NAME, **values))
    return path


def verify_stickiness(name: str, port: int) -> None:
    """The node that the cookie names answers, whatever the order of requests."""
    for _ in range(SAMPLES_PER_NODE):
        for cookie in COOKIES:
            reply = get(port, Cookie=cookie)
            wanted = cookie.rpartition(".")[2]
            if reply.status != 200 or reply.headers.get("x-node") != wanted:
                raise BenchError(
                    f"{name} sent a request for {wanted} to {reply.headers.get('x-node')} (status {reply.status}): "
                    "it does not do the job it is compared for"
                )


def verify_reuse(
    name: str, origin: Origin, connections_before: int, requests: int, connections: int = CONNECTIONS
) -> None:
    """The proxy kept its connections to the nodes alive."""
    opened = origin.connections() - connections_before
    if (opened - CONNECTIONS_FREE * connections) * REQUESTS_PER_CONNECTION_MIN > requests:
        raise BenchError(
            f"{name} opened {opened} connections for {requests} requests: it does not keep them alive"
        )


@contextmanager
def start_balancer(
    origin: Origin,
    core: int,
    directory: Path,
    *,
    options: Sequence[str] = (),
    connections: int = CONNECTIONS,
) -> Iterator[Target]:
    port, admin = free_ports(2)
    command = [
        *(sys.executable, "-m", "balancer", "run"),
        *("--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"),
        *(
            "--log-format",
            "console",
            "--node",
            f"node1=127.0.0.1:{origin.node1}",
            "--node",
            f"node2=127.0.0.1:{origin.node2}",
        ),
        *options,
    ]
    with running("balancer", command, core, directory) as process:
        process.wait_until(
            lambda: all(answers(port, Cookie=cookie)() for cookie in COOKIES), "answering for both nodes"
        )
        verify_stickiness("balancer", port)
        before = origin.connections()
        yield Target(
            port,
            (process,),
            COOKIES,
            lambda requests: verify_reuse("balancer", origin, before, requests, connections),
        )


@contextmanager
def origin_running(core: int, directory: Path) -> Iterator[Origin]:
    origin = Origin(*free_ports(3))
    ports = {"node1": origin.node1, "node2": origin.node2, "status": origin.status}
    config = write_config("origin", directory, **ports)
    command = ["nginx", "-e", "stderr", "-p", str(directory), "-c", str(config)]
    with running("origin", command, core, directory) as process:
        process.wait_until(answers(origin.status), "answering")
        yield origin


def contenders(origin: Origin, core: int, **values: int) -> tuple[Contender, ...]:
    """The peers, each with `values` in its configuration, and ours."""

    def contender(peer: Peer) -> Contender:
        return Contender(
            peer.name, peer.package.version(), lambda own: peer.start(origin, core, own, **values)
        )

    ours = Contender("balancer", version("sessiond"), lambda own: start_balancer(origin, core, own))
    return (*(contender(peer) for peer in PEERS), ours)


@contextmanager
def group(cores: Cores, directory: Path) -> Iterator[Group]:
    """The bench, with its origin running."""
    with origin_running(cores.load, directory) as origin:
        title = f"Sticky reverse proxy for 2 nodes, {CONNECTIONS} connections"
        yield Group("proxy", title, contenders(origin, cores.under_test))


PACKAGES = (WRK, HAPROXY, NGINX, APACHE)
BENCH = Bench(PACKAGES, group)
