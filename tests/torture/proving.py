"""What every proof needs: a command line, a directory, users, and its line."""

import argparse
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import uvloop

from tests.e2e.cluster import Cluster
from tests.torture.history import History
from tests.torture.users import User

APP = "tests.torture.apps:create_app"

FAULTS_SHOWN_MAX = 20

DETECTION_S = 3.0
"""The longest that silence may take to be known as a death: what docs/reliability.md promises."""

LEASE_S = 1.0
"""Under majority a vote counts only when it is as old as the lease: detection takes so much longer."""


class Timing(NamedTuple):
    """How long something took, and how long it may take on a machine that has nothing else to do."""

    what: str
    took_s: float
    bound_s: float

    def exceeds(self, patience: float) -> bool:
        return self.took_s > patience * self.bound_s

    def __str__(self) -> str:
        return f"{self.what} took {self.took_s:.2f} s, not {self.bound_s:.2f} s"


class Report(Protocol):
    """What a proof found. `str` of it is the line for the docs."""

    @property
    def faults(self) -> Sequence[str]:
        """What must not be, in words, however busy the machine is."""

    @property
    def timings(self) -> Sequence[Timing]:
        """What must not take too long. Proven: no fault, and every bound is kept."""


def main(
    description: str | None,
    arguments: dict[str, int | str],
    proof: Callable[..., Awaitable[Report]],
) -> int:
    """Run `proof(directory, **arguments)`, the arguments as options of the command line; the exit code."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in arguments.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--logs", type=Path, help="keep what the daemons write in this directory")
    given = vars(parser.parse_args())
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        directory = given.pop("logs") or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        report = uvloop.run(_awaited(proof(directory, **given)))
    return conclude(report)


async def _awaited(report: Awaitable[Report]) -> Report:
    return await report


def conclude(report: Report) -> int:
    sys.stdout.write(f"{report}\n")
    found = [*report.faults, *(str(timing) for timing in report.timings if timing.exceeds(1.0))]
    sys.stdout.writelines(f"  {fault}\n" for fault in found[:FAULTS_SHOWN_MAX])
    if len(found) > FAULTS_SHOWN_MAX:
        sys.stdout.write(f"  and {len(found) - FAULTS_SHOWN_MAX} more\n")
    return 1 if found else 0


async def users_of(cluster: Cluster, history: History, count: int) -> list[User]:
    """Users with a session each, spread over the nodes by the balancer, which is their first door."""
    users = []
    for number in range(count):
        user = User(history, number)
        user.open_door("balancer", cluster.browser(user.cookie), cluster.browser(user.cookie))
        await user.begin()
        users.append(user)
    return users


def settings_of(quorum: str, nodes: int) -> dict[str, str | int | float]:
    """The options of every node of a cluster with this quorum."""
    return {"quorum": quorum, "expect": nodes} if quorum == "majority" else {"quorum": quorum}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least so large a share of them does not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))] if ordered else 0.0


def milliseconds(values: Sequence[float]) -> str:
    return (
        f"p50 {percentile(values, 0.5) * 1000:.0f} ms, p99 {percentile(values, 0.99) * 1000:.0f} ms, "
        f"longest {max(values, default=0.0) * 1000:.0f} ms"
    )


def progress(text: str) -> None:
    """Something to see while it runs; the result alone is on stdout."""
    if sys.stderr.isatty():
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
