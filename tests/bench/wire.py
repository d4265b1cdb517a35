"""What programs send to each other, counted by the kernel: a network of this process's own, with iptables in it.

    wire.enter()                                   # once, early: children belong to the network too
    meter = Meter({"cluster": CLUSTER_PORTS})
    before = meter.read(); …; (meter.read() - before).bytes

The network has a loopback and nothing else, so every port is free and nobody else's packet is counted; it ends with
the processes in it. A packet is counted once, when it arrives, with all its headers and with the bare ACKs of TCP:
that is what a wire would carry, but for the frames of Ethernet.
"""

import ctypes
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from tests.bench.errors import MachineError
from tests.bench.processes import finished, search_path

CLUSTER_PORTS = range(7000, 7100)
HTTP_PORTS = range(8000, 8100)
API_PORTS = range(9000, 9100)
"""By what is served there; all below the ports that the kernel gives to clients."""

CLONE_NEWNET = 0x40000000
COMMAND_TIMEOUT_S = 20.0

_RULE = re.compile(r"^\[(\d+):(\d+)\] -A INPUT .*--comment \"?(\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of whole IP packets, and how many packets they were."""

    bytes: float = 0
    packets: float = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.bytes + other.bytes, self.packets + other.packets)

    def __sub__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.bytes - other.bytes, self.packets - other.packets)

    def times(self, factor: float) -> "Traffic":
        return Traffic(self.bytes * factor, self.packets * factor)


def enter() -> None:
    """Move this process, which must have one thread still, into a network of its own. Raises MachineError."""
    missing = [name for name in ("ip", "iptables") if shutil.which(name, path=search_path()) is None]
    if missing:
        raise MachineError(f"not installed: {', '.join(missing)} (Debian: iproute2, iptables)")
    if os.geteuid() != 0:
        raise MachineError("counting packets needs a network namespace, and that needs root: sudo make …")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise MachineError(
            f"no network namespace can be made here: {os.strerror(ctypes.get_errno())}; a container needs "
            "CAP_SYS_ADMIN for it"
        )
    finished(["ip", "link", "set", "lo", "up"], COMMAND_TIMEOUT_S)


class Meter:
    """Counters of the packets from and to ranges of ports, each range by its name. One in a network."""

    def __init__(self, ranges: Mapping[str, range]) -> None:
        finished(["iptables", "--wait", "--flush", "INPUT"], COMMAND_TIMEOUT_S)
        for name, ports in ranges.items():
            for side in ("--sport", "--dport"):  # of a connection one end only is in the range
                rule = ["-p", "tcp", side, f"{ports[0]}:{ports[-1]}", "-m", "comment", "--comment", name]
                finished(["iptables", "--wait", "--append", "INPUT", *rule], COMMAND_TIMEOUT_S)

    def read(self) -> Traffic:
        """All ranges together, so far."""
        return sum(self.by_name().values(), Traffic())

    def by_name(self) -> dict[str, Traffic]:
        return parse(finished(["iptables-save", "-c", "-t", "filter"], COMMAND_TIMEOUT_S))


def parse(saved: str) -> dict[str, Traffic]:
    """The counters of our rules in the output of ``iptables-save -c``, by comment."""
    counted: dict[str, Traffic] = {}
    for packets, octets, name in _RULE.findall(saved):
        counted[name] = counted.get(name, Traffic()) + Traffic(int(octets), int(packets))
    return counted
