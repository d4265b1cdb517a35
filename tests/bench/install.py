"""The other programs of a comparison: Debian's packages, installed when root asks, named otherwise."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.errors import BenchError, MachineError
from tests.bench.processes import finished, search_path

LOCK_TIMEOUT_S = 300
"""How long apt-get waits for another one to finish."""

INSTALL_TIMEOUT_S = 600
VERSION_TIMEOUT_S = 10

POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian asks this program whether a package may start its service."""


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package and the program in it that a benchmark runs, or a file in it by its absolute path."""

    name: str
    program: str

    def is_missing(self) -> bool:
        if Path(self.program).is_absolute():
            return not Path(self.program).is_file()
        return shutil.which(self.program, path=search_path()) is None

    def version(self) -> str:
        """What ``program -v`` tells."""
        told = finished([self.program, "-v"], VERSION_TIMEOUT_S)
        found = re.search(r"\d+(\.\d+)+", told)
        if found is None:
            raise MachineError(f"{self.program} tells no version, but: {told}")
        return found.group()


WRK = Package("wrk", "wrk")
HAPROXY = Package("haproxy", "haproxy")
NGINX = Package("nginx-light", "nginx")
APACHE = Package("apache2-bin", "apache2")
"""The server and its modules alone: the package apache2 adds a service, which no benchmark wants."""
IPTABLES = Package("iptables", "iptables")
IP = Package("iproute2", "ip")
REDIS = Package("redis-server", "redis-server")


def ensure(packages: Iterable[Package], progress: Callable[[str], None]) -> None:
    """Install what is missing, if this is root on Debian. Raises MachineError with the command to type."""
    missing = sorted({package.name for package in packages if package.is_missing()})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise MachineError(f"not installed: {', '.join(missing)}; these are names of Debian packages")
    if os.geteuid() != 0:
        raise MachineError(
            f"not installed: {', '.join(missing)}; run: sudo apt-get install --no-install-recommends {' '.join(missing)}"
        )
    progress(f"installing {', '.join(missing)}")
    with services_held_back(POLICY):
        apt_get("update")
        apt_get("install", "--yes", "--no-install-recommends", *missing)
    if still := [package.program for package in packages if package.is_missing()]:
        raise MachineError(
            f"apt-get installed {', '.join(missing)}, yet there is no {', '.join(still)} in {search_path()}"
        )


def apt_get(*arguments: str) -> None:
    """Run apt-get without questions. Raises MachineError with what it printed."""
    wait = f"DPkg::Lock::Timeout={LOCK_TIMEOUT_S}"
    try:
        finished(
            ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", wait, "-qq", *arguments],
            INSTALL_TIMEOUT_S,
        )
    except BenchError as error:
        raise MachineError(str(error)) from error


@contextlib.contextmanager
def services_held_back(policy: Path) -> Iterator[None]:
    """Packages of daemons start them when installed; a benchmark wants the programs only.

    One that exists is the administrator's (or the container's) and stays.
    """
    try:
        with policy.open("x") as file:
            file.write("#!/bin/sh\nexit 101\n")
    except FileExistsError:
        yield
        return
    try:
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink()
