"""`make demo` as a person uses it: start, kill, start again, stop; and a busy port."""

import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE_S = 90

pytestmark = pytest.mark.process


class Demo:
    """A running launcher: what it printed so far, and the processes it named."""

    def __init__(self, offset: int, *arguments: str) -> None:
        self.offset = offset
        self.directory = PROJECT / ".run" / f"port-offset-{offset}"
        self.text = ""
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "deploy/demo.py", f"--port-offset={offset}", *arguments],
            cwd=PROJECT,
            env={name: value for name, value in os.environ.items() if name not in ("NODES", "PORT_OFFSET")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.text += line
                self._changed.notify_all()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match of `pattern` in what is printed; fails after a generous time."""
        deadline = time.monotonic() + DEADLINE_S
        with self._changed:
            while (match := re.search(pattern, self.text)) is None:
                assert self._reader.is_alive(), f"the demo ended:\n{self.text}"
                assert self._changed.wait(deadline - time.monotonic()), f"no {pattern!r} in:\n{self.text}"
            return match

    def pids(self) -> dict[str, int]:
        return {name: int(pid) for name, pid in re.findall(r"(\w+) +pid (\d+)", self.text)}

    def end(self) -> int:
        """Ctrl-C, and the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.join()

    def join(self) -> int:
        code = self.process.wait(DEADLINE_S)
        self._reader.join()
        return code

    def clean_up(self) -> None:
        """Whatever happened: nothing of it runs on."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        for path in self.directory.glob("*"):
            path.unlink()
        if self.directory.exists():
            self.directory.rmdir()


@pytest.fixture
def offset() -> int:
    """By which all ports of a demo are free just now, below those that the system hands out."""
    for _ in range(100):
        offset = random.randrange(1000, 20_000)
        ports = [
            base + offset for base in (8080, 8090, *range(7101, 7104), *range(8101, 8104), *range(9101, 9104))
        ]
        if all(is_free(port) for port in ports):
            return offset
    raise AssertionError("no free ports")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def demo(offset: int) -> Iterator[Demo]:
    demo = Demo(offset, "--nodes=3")
    yield demo
    demo.clean_up()


class Visitor:
    """A browser at the balancer: it keeps its cookie."""

    def __init__(self, shop: str) -> None:
        self._shop = shop.rstrip("/")
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def visit(self) -> dict[str, Any]:
        return self._ask(urllib.request.Request(f"{self._shop}/api/session"))

    def buy(self, item: str) -> dict[str, Any]:
        body, headers = json.dumps({"item": item}).encode(), {"Content-Type": "application/json"}
        return self._ask(urllib.request.Request(f"{self._shop}/api/cart", body, headers))

    def _ask(self, request: urllib.request.Request) -> dict[str, Any]:
        with self._opener.open(request, timeout=DEADLINE_S) as answer:
            told: dict[str, Any] = json.load(answer)
            return told


def test_a_cart_survives_two_kills_and_a_killed_node_comes_back_by_the_command_that_is_shown(
    demo: Demo,
) -> None:
    shop = demo.wait_for(r"Open +(http://127\.0\.0\.1:\d+/)").group(1)
    dashboard = demo.wait_for(r"Dashboard +(http://127\.0\.0\.1:\d+)/").group(1)
    demo.wait_for(r"Ctrl-C stops everything")
    pids = demo.pids()
    assert set(pids) == {"node1", "node2", "node3", "balancer"}
    visitor = Visitor(shop)
    served_by = [visitor.buy("teapot")["node"]]
    cart = visitor.visit()["cart"]
    assert len(cart) == 1

    for kills in (1, 2):
        os.kill(pids[served_by[-1]], signal.SIGKILL)
        seen = visitor.visit()
        assert (seen["visits"], seen["cart"]) == (1 + kills, cart)
        assert seen["node"] not in served_by
        served_by.append(seen["node"])

    first = served_by[0]
    command = demo.wait_for(rf"{first} was killed by SIGKILL.*\n +(\S.*)\n").group(1)
    with (demo.directory / "again.log").open("wb") as log:
        again = subprocess.Popen(shlex.split(command), cwd=PROJECT, stdout=log, stderr=log)
    try:
        demo.wait_for(rf"{first} is back")
        until(lambda: states(dashboard)[first] == "up")
        assert visitor.visit()["cart"] == cart
        assert demo.end() == 0
        assert f"{first} was started in another terminal" in demo.text
        assert again.poll() is None
    finally:
        again.kill()
        again.wait()
    assert not any(is_running(pid) for pid in pids.values())


def states(dashboard: str) -> dict[str, str]:
    with urllib.request.urlopen(f"{dashboard}/v1/nodes", timeout=DEADLINE_S) as answer:
        return {row["name"]: row["state"] for row in json.load(answer)["nodes"]}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline


def test_the_secret_is_private_while_it_runs_and_gone_afterwards(demo: Demo) -> None:
    demo.wait_for(r"Ctrl-C stops everything")
    config = (demo.directory / "node1.toml").read_text()
    secret_file = Path(re.search(r'secret_file = "(.*)"', config).group(1))  # type: ignore[union-attr]  # or fail
    assert (secret_file.stat().st_mode & 0o777, secret_file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    secret = secret_file.read_text().strip()
    assert len(secret) == 64
    assert secret not in demo.text
    for path in demo.directory.iterdir():
        assert secret not in path.read_text()
    for pid in demo.pids().values():
        assert secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert demo.end() == 0
    assert not secret_file.exists()


def test_a_stop_while_starting_leaves_nothing_behind(demo: Demo) -> None:
    demo.wait_for(r"Starting 3 nodes")
    assert demo.end() == 0
    assert all(is_free(port + demo.offset) for port in (7101, 7102, 7103, 8080, 8090))


@pytest.mark.parametrize(("base", "whose"), [(8080, "balancer's --listen"), (7102, "node2's --cluster")])
def test_a_busy_port_is_named_before_anything_is_started(offset: int, base: int, whose: str) -> None:
    with socket.create_server(("127.0.0.1", base + offset)):
        demo = Demo(offset)
        try:
            assert demo.join() == 2
        finally:
            demo.clean_up()
    assert f"port {base + offset} ({whose})" in demo.text
    assert "PORT_OFFSET" in demo.text
    assert "Starting" not in demo.text


@pytest.mark.parametrize("nodes", ["0", "10", "many"])
def test_a_senseless_number_of_nodes_is_refused(offset: int, nodes: str) -> None:
    demo = Demo(offset, "--nodes", nodes)
    try:
        assert demo.join() == 2
    finally:
        demo.clean_up()
    assert "--nodes" in demo.text
