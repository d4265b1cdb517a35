"""Benches: what a request costs one worker of the balancer, and each of two. Their origin and checks are those of `proxies`.

Both have the same core and the same load, so neither gains by the other's waiting; what two cost more is their reports,
the supervisor, the switches between them, and that each finds half as many events when it wakes. With few connections
that last part is the largest, with the many that make one want workers it is nothing: there is a bench of each.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from tests.bench import proxies, wrk
from tests.bench.errors import BenchError
from tests.bench.measure import Bench, Contender, Group, Target, family
from tests.bench.processes import Cores

FEW, MANY = wrk.CONNECTIONS, 1000
SHARE_MIN, SHARE_MAX = 0.35, 0.65
"""Of the connections, for each of two workers. The kernel deals them out by a hash, so few of them may be uneven."""

IDLE_MAX = ("--node-idle-connections-max", str(MANY))
"""Else one worker would close and open connections to the nodes that two of them, each with this limit, keep."""

LOOK_INTERVAL_S = 0.2
SECONDS_MIN = 5
"""To connect a thousand clients takes a busy machine a second or two."""

ESTABLISHED = "01"


def connections_of(pids: Sequence[int], port: int, proc: Path = Path("/proc")) -> list[int]:
    """How many connections that clients made to the port each process has, of those that have any."""
    inodes = set()
    for line in (proc / "net/tcp").read_text().splitlines()[1:]:
        fields = (
            line.split()
        )  # proc_pid_net(5): local address, remote address, state, …, the tenth is the inode
        if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == ESTABLISHED:
            inodes.add(f"socket:[{fields[9]}]")
    counts = []
    for pid in pids:
        held = 0
        for descriptor in (proc / str(pid) / "fd").iterdir():
            try:
                held += str(descriptor.readlink()) in inodes
            except FileNotFoundError:
                continue  # closed since the directory was listed
        counts.append(held)
    return [count for count in counts if count]


def verify_shares(counts: Sequence[int], workers: int) -> None:
    """Every worker serves its share of the connections."""
    total = sum(counts)
    if len(counts) != workers or (
        workers == 2 and not all(SHARE_MIN <= count / total <= SHARE_MAX for count in counts)
    ):
        raise BenchError(f"{workers} workers have {counts} of {total} connections: these are no fair shares")


@dataclass(frozen=True, slots=True)
class Case:
    """One worker and two, under so many connections."""

    name: str
    connections: int

    def send(self, target: Target, seconds: int, core: int, directory: Path) -> wrk.Load:
        """Once all are connected, the shares are looked at, from outside."""
        seconds = max(seconds, SECONDS_MIN)
        requests = wrk.Requests(connections=self.connections)
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(
                partial(wrk.run, target.port, target.cookies, seconds, core, directory, requests=requests)
            )
            pids = list(family(process.pid for process in target.processes))
            counts: list[int] = []
            while sum(counts) < self.connections and not load.done():
                time.sleep(LOOK_INTERVAL_S)
                counts = max(counts, connections_of(pids, target.port), key=sum)
            if self.connections == MANY:
                # A supervisor and its workers, or one process.
                verify_shares(counts, max(1, len(pids) - 1))
            return load.result()

    @contextmanager
    def group(self, cores: Cores, directory: Path) -> Iterator[Group]:
        with proxies.origin_running(cores.load, directory) as origin:

            def contender(name: str, workers: int) -> Contender:
                options = (*IDLE_MAX, "--workers", str(workers))
                start = partial(
                    proxies.start_balancer,
                    origin,
                    cores.under_test,
                    options=options,
                    connections=self.connections,
                )
                return Contender(name, version("sessiond"), start)

            title = f"One worker and two on the same core, {self.connections} connections"
            yield Group(
                self.name, title, (contender("one worker", 1), contender("two workers", 2)), self.send
            )


CASES = (Case("workers", MANY), Case("workers-few", FEW))
BENCHES = {case.name: Bench((proxies.WRK, proxies.NGINX), case.group) for case in CASES}
