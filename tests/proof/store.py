"""Kill every node of a cluster at once under load, again and again, with each store: ``make proof-store``.

Every answered write must be there when the cluster is back. The servers of PostgreSQL and Redis are started from what
the system has installed; a store whose server is missing is said to be left out.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from tests.e2e.cluster import Cluster
from tests.e2e.kill_everybody import Report, kill_everybody, place_stores
from tests.support import services

APP = "tests.e2e.apps:create_app"
NODES = 3
STORES = ("file", "sqlite", "postgresql", "redis")
PROGRAMS = {"postgresql": ("initdb", "postgres"), "redis": ("redis-server",)}
SERVERS = {"postgresql": services.PostgreSQL, "redis": services.Redis}


@contextmanager
def urls(store: str, directory: Path) -> Iterator[Callable[[str], str]]:
    """Node → URL of its store."""
    if store == "file":
        yield lambda name: f"file://{directory}/{name}"
    elif store == "sqlite":
        yield lambda name: f"sqlite:///{directory}/{name}.db"
    else:
        with (
            services.directory_for_servers(store) as place,
            services.running(SERVERS[store](place)) as server,
        ):
            yield lambda _: server.url


def prove(store: str, *, rounds: int, sessions: int, seconds: float, copies: int) -> Report:
    async def run(directory: Path, url_of: Callable[[str], str]) -> Report:
        cluster = Cluster(directory, nodes=NODES, app=APP, copies=copies)
        place_stores(cluster, url_of)
        async with cluster:
            return await kill_everybody(cluster, sessions=sessions, seconds=seconds, rounds=rounds)

    with tempfile.TemporaryDirectory() as directory, urls(store, Path(directory)) as url_of:
        return uvloop.run(run(Path(directory), url_of))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proof.store", description=__doc__)
    parser.add_argument("--store", choices=STORES, help="this one only")
    parser.add_argument("--rounds", type=int, default=10, help="kills of the whole cluster")
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load before each kill")
    parser.add_argument("--copies", type=int, default=1)
    given = parser.parse_args(arguments)
    wrong = 0
    for store in (given.store,) if given.store else STORES:
        if why := services.missing(*PROGRAMS.get(store, ())):
            _say(f"{store:10} left out: {why}")
            continue
        report = prove(
            store,
            rounds=given.rounds,
            sessions=given.sessions,
            seconds=given.seconds,
            copies=given.copies,
        )
        wrong += len(report.faults)
        _say("\n           ".join([f"{store:10} {report}", *report.faults[:10]]))
    return min(1, wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
