"""A network of the test's own: places in network namespaces, joined by a bridge, where packets can be dropped.

    with Network(["node1", "node2"]) as network:
        network.block(["node1"], ["node2"])     # what node1 sends does not reach node2
        network.heal()

Everything is inside namespaces that are made here: the bridge and every cable end are in them, no interface, route
or rule of the machine is touched, and removing the namespaces, at the end and after a failure, removes it all. It
needs root, `ip` and `iptables`: `missing()` says what is not there.
"""

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

PREFIX = "torture"
NETWORK = "10.213.77"
"""Addresses of the places are in this /24, which exists in our namespaces only."""

PORT_FIRST = 7000

CLONE_NEWNET = 0x40000000
COMMAND_TIMEOUT_S = 20.0

_libc = ctypes.CDLL(None, use_errno=True)


class NetworkError(Exception):
    """The network could not be changed; what was made so far is removed when it is left."""


def missing() -> str:
    """Why no network can be made here; empty if one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    programs = [name for name in ("ip", "iptables") if shutil.which(name) is None]
    return f"{' and '.join(programs)} not installed" if programs else ""


class Namespace:
    """A `Place` (tests.e2e.processes) with an address of its own."""

    def __init__(self, name: str, host: str) -> None:
        self.name = name
        self.host = host
        self._ports = PORT_FIRST

    def take(self) -> int:
        self._ports += 1
        return self._ports

    def command(self, command: Sequence[str]) -> Sequence[str]:
        return [
            "ip",
            "netns",
            "exec",
            self.name,
            *command,
        ]  # `ip` becomes the command: its pid is the daemon's

    def socket(self) -> socket.socket:
        with self._entered():
            return socket.socket()

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """This thread is in the namespace; a socket belongs for good to the one that it was made in."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as home,
            Path(f"/run/netns/{self.name}").open("rb") as there,
        ):
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())


class Network:
    """Places by name. Traffic between any two can be dropped, in one direction or at random."""

    def __init__(self, names: Iterable[str]) -> None:
        stem = f"{PREFIX}-{os.getpid()}"
        self._switch = f"{stem}-switch"
        self.places = {
            name: Namespace(f"{stem}-{name}", f"{NETWORK}.{number}") for number, name in enumerate(names, 1)
        }
        self._made: list[str] = []

    def __enter__(self) -> Self:
        try:
            self._make(self._switch)
            _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
            _ip("-n", self._switch, "link", "set", "bridge", "up")
            for number, place in enumerate(self.places.values(), 1):
                self._plug_in(place, f"port{number}")
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _make(self, name: str) -> None:
        _ip("netns", "add", name)
        self._made.append(name)
        _ip("-n", name, "link", "set", "lo", "up")

    def _plug_in(self, place: Namespace, port: str) -> None:
        self._make(place.name)
        _ip(
            "-n",
            self._switch,
            "link",
            "add",
            port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            place.name,
        )
        _ip("-n", self._switch, "link", "set", port, "master", "bridge", "up")
        _ip("-n", place.name, "address", "add", f"{place.host}/24", "dev", "eth0")
        _ip("-n", place.name, "link", "set", "eth0", "up")

    def _remove(self) -> None:
        while self._made:
            _ip("netns", "delete", self._made.pop())

    # --- faults ---------------------------------------------------------------------------------------------

    def block(self, senders: Iterable[str], receivers: Iterable[str]) -> None:
        """What these send to those is dropped, silently."""
        addresses = ",".join(self.places[name].host for name in senders)
        for name in receivers:
            self._iptables(name, "--append", "INPUT", "--source", addresses, "--jump", "DROP")

    def part(self, one: Sequence[str], other: Sequence[str]) -> None:
        """A partition: no packet passes between the two sides."""
        self.block(one, other)
        self.block(other, one)

    def lose(self, name: str, share: float) -> None:
        """So large a share of the packets that this place sends, and of those that it gets, is dropped."""
        drop = ("--match", "statistic", "--mode", "random", "--probability", str(share), "--jump", "DROP")
        self._iptables(name, "--append", "INPUT", "!", "--in-interface", "lo", *drop)
        self._iptables(name, "--append", "OUTPUT", "!", "--out-interface", "lo", *drop)

    def heal(self) -> None:
        """Every packet arrives again."""
        for name in self.places:
            self._iptables(name, "--flush")

    def _iptables(self, name: str, *arguments: str) -> None:
        _ip("netns", "exec", self.places[name].name, "iptables", "--wait", *arguments)


def _ip(*arguments: str) -> None:
    command = ["ip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S)
    if done.returncode != 0:
        raise NetworkError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET) != 0:
        raise NetworkError(f"setns: {os.strerror(ctypes.get_errno())}")
