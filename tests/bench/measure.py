"""How contenders are compared: in turns on one core, the same load, CPU per request, medians.

One round gives every contender of a group one turn, in order (A B C D A B C D …), so that a slow minute of
a shared machine hits all alike. A turn starts the contender afresh, warms it up, and counts requests and
the CPU time of all its processes between two readings of /proc. A ratio compares two turns of the same
round; what is printed is the median of the rounds, with the lowest and the highest.
"""

import os
import re
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench import wrk
from tests.bench.errors import BenchError
from tests.bench.install import Package
from tests.bench.processes import Cores, Process, inherit_priority

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a benchmark takes. Seconds are whole: wrk takes no others."""

    rounds: int
    warm_up_s: int
    measure_s: int
    is_quick: bool = False
    """Only the answers count: no contender gets the longer warm-up that it asks for."""

    def warm_up_of(self, contender: "Contender") -> int:
        return self.warm_up_s if self.is_quick else max(self.warm_up_s, contender.warm_up_s)


FULL = Plan(rounds=3, warm_up_s=2, measure_s=8)
QUICK = Plan(rounds=1, warm_up_s=1, measure_s=2, is_quick=True)


@dataclass(frozen=True, slots=True)
class Target:
    """A contender that runs and was seen to do its job.

    `check` is called with the number of requests answered, when the load has ended; it raises BenchError if
    the contender did not do what it is compared for.
    """

    port: int
    processes: tuple[Process, ...]
    """All that the thing under test consists of; their children are found by themselves."""
    cookies: Sequence[str]
    check: Callable[[int], None]


Send = Callable[[Target, int, int, Path], wrk.Load]
"""Loads a target for whole seconds from a core, with a directory for its files."""


def send_gets(target: Target, seconds: int, core: int, directory: Path) -> wrk.Load:
    return wrk.run(target.port, target.cookies, seconds, core, directory)


@dataclass(frozen=True, slots=True)
class Contender:
    """One of the things compared. `start` is given a directory of its own for each turn."""

    name: str
    version: str
    start: Callable[[Path], AbstractContextManager[Target]]
    warm_up_s: int = 0
    """Seconds of load before it is at its speed, if more than the plan's."""


@dataclass(frozen=True, slots=True)
class Group:
    """Contenders for one job. Ratios are to the first of them."""

    name: str
    title: str
    contenders: tuple[Contender, ...]
    send: Send = send_gets
    crowd: Callable[[Target], AbstractContextManager[float]] | None = None
    """Connects as many clients as the title says, before the load; gives the KiB of memory that each took."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a module of this package offers: a group with what all its turns share, in a directory of its own."""

    packages: tuple[Package, ...]
    """Programs that must be installed before."""
    group: Callable[[Cores, Path], AbstractContextManager[Group]]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn measured."""

    load: wrk.Load
    cpu_s: float
    idle_kib: float | None = None
    """Memory that each connection of the crowd took."""

    @property
    def cpu_us_per_request(self) -> float:
        return self.cpu_s * 1e6 / self.load.requests

    @property
    def requests_per_s(self) -> float:
        return self.load.requests / self.load.seconds

    @property
    def busy(self) -> float:
        """Share of its core that the contender used. Below 1 the load, not the contender, set requests/s."""
        return self.cpu_s / self.load.seconds


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure of several rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


@dataclass(frozen=True, slots=True)
class Result:
    """All turns of a contender, and those of its group's first one to compare with."""

    contender: Contender
    turns: tuple[Turn, ...]
    baseline: tuple[Turn, ...]

    def spread(self, figure: Callable[[Turn], float]) -> Spread:
        return Spread.of(figure(turn) for turn in self.turns)

    @property
    def ratio(self) -> Spread:
        """CPU per request, relative to the baseline's turn of the same round."""
        pairs = zip(self.turns, self.baseline, strict=True)
        return Spread.of(turn.cpu_us_per_request / base.cpu_us_per_request for turn, base in pairs)


def family(roots: Iterable[int], proc: Path = Path("/proc")) -> dict[int, int]:
    """Processes with their living descendants: for each the ticks of CPU so far, those of reaped children included."""
    ticks: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for directory in proc.glob("[0-9]*"):
        try:
            stat = (directory / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended since the directory was listed
        # The command's name, in parentheses, may hold anything; proc(5) numbers what follows from 3.
        fields = stat.rpartition(")")[2].split()
        pid, parent = int(directory.name), int(fields[1])
        ticks[pid] = sum(int(field) for field in fields[11:15])  # utime, stime, and those of reaped children
        children.setdefault(parent, []).append(pid)
    members: dict[int, int] = {}
    to_count = list(roots)
    while to_count:
        pid = to_count.pop()
        if pid not in ticks:
            raise BenchError(f"process {pid} ended while it was measured")
        members[pid] = ticks[pid]
        to_count += children.get(pid, ())
    return members


def cpu_seconds(roots: Iterable[int], proc: Path = Path("/proc")) -> float:
    """CPU time so far of processes, their threads and descendants, ended and reaped ones too."""
    return sum(family(roots, proc).values()) / TICKS_PER_S


def memory_kib(roots: Iterable[int], proc: Path = Path("/proc")) -> float:
    """Memory of processes and their descendants, shared pages divided among those that share them."""
    total = 0
    for pid in family(roots, proc):
        found = re.search(r"^Pss: +(\d+) kB$", (proc / str(pid) / "smaps_rollup").read_text(), re.MULTILINE)
        total += int(found[1]) if found else 0
    return total


def take_turn(contender: Contender, group: Group, plan: Plan, load_core: int) -> Turn:
    """Start, warm up, measure and stop one contender. Raises BenchError unless every request was answered."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        directory = Path(name)
        target = stack.enter_context(contender.start(directory))
        pids = [process.pid for process in target.processes]
        for pid in family(pids):
            inherit_priority(pid)
        warm_up = group.send(target, plan.warm_up_of(contender), load_core, directory)
        idle_kib = stack.enter_context(group.crowd(target)) if group.crowd is not None else None
        before = cpu_seconds(pids)
        load = group.send(target, plan.measure_s, load_core, directory)
        cpu_s = cpu_seconds(pids) - before
        for process in target.processes:
            process.must_live("under load")
        for run in (warm_up, load):
            if run.failed or not run.requests:
                logs = "\n".join(process.log_tail() for process in target.processes)
                raise BenchError(
                    f"{contender.name}: {run.failed} of {run.requests} requests failed: {run.errors}\n{logs}"
                )
        target.check(warm_up.requests + load.requests)
        return Turn(load, cpu_s, idle_kib)


def compare(
    group: Group, rounds: int, take: Callable[[Contender], Turn], progress: Callable[[str], None]
) -> list[Result]:
    """Let all contenders take a turn in each round. `progress` gets a line for each turn."""
    turns: dict[str, list[Turn]] = {contender.name: [] for contender in group.contenders}
    for number in range(1, rounds + 1):
        for contender in group.contenders:
            turn = take(contender)
            turns[contender.name].append(turn)
            progress(
                f"{group.name} {number}/{rounds} {contender.name}: "
                f"{turn.load.requests} requests, {turn.cpu_us_per_request:.1f} µs each"
            )
    baseline = tuple(turns[group.contenders[0].name])
    return [Result(contender, tuple(turns[contender.name]), baseline) for contender in group.contenders]
