"""`make demo`: a cluster and its balancer on this machine, to open in a browser and to kill nodes of.

It starts every process with a configuration file in .run/, so that one which was killed comes back with one
short command in another terminal; waits until all of them are ready; then watches, and tells what dies and
what returns. It stops what it started, and nothing else. Needs the standard library and this project.
"""

import argparse
import errno
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
RUN = Path(".run")
"""In the project: configurations and logs, of one demo, or of each port offset."""

HOST = "127.0.0.1"
NODES_DEFAULT, NODES_MAX = 3, 9
PORT_OFFSET_MAX = 50_000

READY_DEADLINE_S = 60.0
"""Starting takes two seconds; a machine that is busy with other things gets much longer."""

STOP_DEADLINE_S = 10.0
"""Longer than a node's own drain time-out; what runs on after it is killed."""

WATCH_INTERVAL_S = 0.2
PROBE_TIMEOUT_S = 1.0
LOG_LINES_SHOWN = 15
COLOURS = ("31", "32", "33", "34", "35", "36", "91", "92", "94")


class DemoError(Exception):
    """The demo cannot go on; the text says why and what to do. Exit code 1, or 2 if nothing was started yet."""

    def __init__(self, text: str, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Member:
    """A node or the balancer: where it listens and what its configuration file says."""

    name: str
    program: str
    directory: Path
    ports: dict[str, int]
    settings: dict[str, Any]

    @property
    def is_node(self) -> bool:
        return self.program == "sessiond"

    @property
    def control(self) -> str:
        """Base of its own API: a node's `api`, the balancer's `admin`."""
        return f"http://{HOST}:{self.ports['api' if self.is_node else 'admin']}"

    @property
    def config_path(self) -> Path:
        return self.directory / f"{self.name}.toml"

    @property
    def log_path(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def command(self) -> list[str]:
        """What starts it, from the project's directory."""
        python = Path(sys.executable)
        if python.is_relative_to(PROJECT):
            python = python.relative_to(PROJECT)
        return [str(python), "-m", self.program, "run", "--config", str(self.config_path)]

    def is_ready(self) -> bool:
        return fetch(f"{self.control}/readyz") is not None


class Child:
    """A member's process, as the demo started it. It may be started anew elsewhere after it ended."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.was_up = True
        # A session of its own: Ctrl-C in the terminal is for the demo, which then stops its children in order.
        with (PROJECT / member.log_path).open("wb") as log:
            self.process = subprocess.Popen(
                member.command,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def is_running(self) -> bool:
        return self.process.poll() is None

    def how_it_ended(self) -> str:
        code = self.process.returncode
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def log_tail(self) -> str:
        lines = (PROJECT / self.member.log_path).read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LOG_LINES_SHOWN:]) or "  (nothing)"


class Screen:
    """Short, aligned lines for people; colours only on a terminal."""

    def __init__(self) -> None:
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours else text

    def bold(self, text: str) -> str:
        return self.paint(text, "1")

    def faint(self, text: str) -> str:
        return self.paint(text, "2")

    def line(self, text: str = "") -> None:
        print(f"  {text}".rstrip(), flush=True)

    def event(self, text: str, *more: str) -> None:
        stamp = time.strftime("%H:%M:%S")
        self.line(f"{self.faint(stamp)}  {text}")
        for each in more:
            self.line(f"{' ' * len(stamp)}  {each}")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    screen = Screen()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores the hang-up
            signal.signal(number, lambda *_: stop.set())
    try:
        with tempfile.TemporaryDirectory(prefix="sessiond-demo-") as private:
            members = plan(options.nodes, options.port_offset, Path(private) / "secret")
            refuse_busy_ports(members)
            run(members, screen, stop)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="demo", description="Start a cluster and its balancer on this machine; Ctrl-C stops them."
    )
    parser.add_argument(
        "--nodes",
        type=int,
        default=os.environ.get("NODES") or NODES_DEFAULT,
        metavar="N",
        help=f"how many nodes, 1 to {NODES_MAX} (default: {NODES_DEFAULT}; environment: NODES)",
    )
    parser.add_argument(
        "--port-offset",
        type=int,
        default=os.environ.get("PORT_OFFSET") or 0,
        metavar="N",
        help="added to every port, for a second demo beside the first (environment: PORT_OFFSET)",
    )
    options = parser.parse_args(arguments)
    if not 1 <= options.nodes <= NODES_MAX:
        parser.error(f"--nodes must be 1 to {NODES_MAX}, not {options.nodes}")
    if not 0 <= options.port_offset <= PORT_OFFSET_MAX:
        parser.error(f"--port-offset must be 0 to {PORT_OFFSET_MAX}, not {options.port_offset}")
    return options


def plan(count: int, offset: int, secret_file: Path) -> list[Member]:
    """The members of the demo, the balancer last."""
    directory = RUN / f"port-offset-{offset}" if offset else RUN
    nodes = []
    join = [f"{HOST}:{7100 + number + offset}" for number in range(1, count + 1)]
    for number in range(1, count + 1):
        ports = {
            "http": 8100 + number + offset,
            "cluster": 7100 + number + offset,
            "api": 9100 + number + offset,
        }
        settings: dict[str, Any] = {"name": f"node{number}"}
        settings |= {option: f"{HOST}:{port}" for option, port in ports.items()}
        settings |= {"join": join, "secret_file": str(secret_file), "log_format": "console"}
        nodes.append(Member(f"node{number}", "sessiond", directory, ports, settings))
    ports = {"listen": 8080 + offset, "admin": 8090 + offset}
    settings = {option: f"{HOST}:{port}" for option, port in ports.items()}
    settings["node"] = [f"{node.name}={node.settings['http']}" for node in nodes]
    settings["log_format"] = "console"
    return [*nodes, Member("balancer", "balancer", directory, ports, settings)]


def refuse_busy_ports(members: list[Member]) -> None:
    """Raise DemoError, before anything is started, if somebody listens at one of the ports."""
    busy = []
    for member in members:
        for option, port in member.ports.items():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise DemoError(f"cannot listen at {HOST}:{port}: {error.strerror}", 2) from error
                    busy.append(
                        f"  port {port} ({member.name}'s --{option}): ss -ltnp 'sport = :{port}' shows who"
                    )
    if busy:
        raise DemoError(
            "another program, perhaps another demo, listens where this one has to:\n"
            + "\n".join(busy)
            + "\nStop it, or move the whole demo to other ports: make demo PORT_OFFSET=1000",
            2,
        )


def run(members: list[Member], screen: Screen, stop: threading.Event) -> None:
    """Start all, watch them until `stop`, end them."""
    prepare(members)
    nodes = len(members) - 1
    screen.line()
    screen.line(f"Starting {nodes} node{'s' if nodes > 1 else ''} and the balancer ...")
    children: list[Child] = []
    try:
        children.extend(Child(member) for member in members)
        if wait_until_ready(children, stop):
            greet(children, screen)
            while not stop.wait(WATCH_INTERVAL_S):
                watch(children, screen)
    finally:
        stop.clear()
        end(children, screen, stop)


def prepare(members: list[Member]) -> None:
    """The files that the processes read: one secret for the cluster, one configuration for each."""
    secret_file = Path(members[0].settings["secret_file"])
    secret_file.touch(mode=0o600)
    secret_file.write_text(secrets.token_hex(32) + "\n")
    (PROJECT / members[0].directory).mkdir(parents=True, exist_ok=True)
    for member in members:
        # Texts and lists of texts are written alike in TOML and JSON.
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in member.settings.items()]
        (PROJECT / member.config_path).write_text("".join(lines))


def wait_until_ready(children: list[Child], stop: threading.Event) -> bool:
    """True when all nodes have met and the balancer sends visitors to each of them; False if told to stop."""
    deadline = time.monotonic() + READY_DEADLINE_S
    nodes = sum(child.member.is_node for child in children)
    waiting = list(children)
    while waiting:
        for child in children:
            if not child.is_running():
                raise DemoError(
                    f"{child.member.name} {child.how_it_ended()} while starting; its log, {child.member.log_path}, "
                    f"ends with:\n{child.log_tail()}"
                )
        waiting = [
            child for child in waiting if not (child.member.is_ready() and knows_all(child.member, nodes))
        ]
        if waiting and time.monotonic() > deadline:
            names = ", ".join(child.member.name for child in waiting)
            raise DemoError(
                f"not ready after {READY_DEADLINE_S:.0f} s: {names}; the logs in {children[0].member.directory}/ say why"
            )
        if stop.wait(0.05):
            return False
    return True


def knows_all(member: Member, nodes: int) -> bool:
    """Whether a node sees so many nodes alive, itself included, or the balancer sends visitors to so many."""
    path, rows, good = ("/v1/cluster", "members", "alive") if member.is_node else ("/v1/nodes", "nodes", "up")
    view = fetch(f"{member.control}{path}")
    return view is not None and sum(row["state"] == good for row in json.loads(view)[rows]) == nodes


def greet(children: list[Child], screen: Screen) -> None:
    *nodes, balancer = children
    shop = f"http://{HOST}:{balancer.member.ports['listen']}/"
    screen.line()
    screen.line(f"{screen.bold('Open')}       {screen.bold(shop)}")
    screen.line(f"Dashboard  {balancer.member.control}/")
    screen.line(f"Logs       {balancer.member.directory}/")
    screen.line()
    for number, node in enumerate(nodes):
        pid = node.process.pid
        screen.line(f"{screen.paint(f'{node.member.name:<9}', COLOURS[number])}  pid {pid:<9}  kill -9 {pid}")
    screen.line(f"{'balancer':<9}  pid {balancer.process.pid}")
    screen.line()
    screen.line("Fill a cart, see which node serves you, kill that node in another terminal, go on shopping.")
    screen.line("Ctrl-C stops everything.")
    screen.line()


def watch(children: list[Child], screen: Screen) -> None:
    """Tell who ended and who is back since the last look."""
    for child in children:
        member = child.member
        is_up = child.is_running() or member.is_ready()
        if child.was_up and not is_up:
            screen.event(
                f"{screen.bold(member.name)} {child.how_it_ended()}; to start it again, in another terminal, here:",
                screen.bold(shlex.join(member.command)),
            )
        elif is_up and not child.was_up:
            screen.event(f"{screen.bold(member.name)} is back")
        child.was_up = is_up


def end(children: list[Child], screen: Screen, hurry: threading.Event) -> None:
    """SIGTERM to all; SIGKILL to those that still run after the deadline, or at once if asked again."""
    ended_before = [child.member for child in children if not child.is_running()]
    elsewhere = [member.name for member in ended_before if member.is_ready()]
    screen.line()
    screen.line("Stopping ...")
    deadline = time.monotonic() + STOP_DEADLINE_S
    # The balancer goes last: nodes wait until it has seen them drain.
    for group in (children[:-1], children[-1:]):
        for child in group:
            child.process.terminate()
        while any(child.is_running() for child in group):
            if hurry.wait(0.05) or time.monotonic() > deadline:
                for child in group:
                    child.process.kill()
                    child.process.wait()
    for name in elsewhere:
        screen.line(f"{name} was started in another terminal and runs on: Ctrl-C stops it there.")
    screen.line("Stopped.")


def fetch(url: str) -> bytes | None:
    """The body of a 200 answer; None for any other one, or none."""
    try:
        with urllib.request.urlopen(url, timeout=PROBE_TIMEOUT_S) as answer:  # noqa: S310 - our own http address
            body: bytes = answer.read()
    except (OSError, ValueError):
        return None
    return body


if __name__ == "__main__":
    sys.exit(main())
