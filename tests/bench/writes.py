"""Bench: one session write with a second copy of it, beside Tomcat's BackupManager and aiohttp-session on Redis.

All serve the page of `form`: a session of 300 bytes, of which each request changes 20. Everything that takes part is
on the one core and its CPU counts: both nodes, both Tomcats, the application and its Redis. That each request was one
write is checked with the sessions' own counts. A bare handler, without a session, says what a request costs before
anything of ours begins.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.bench import tomcat
from tests.bench.errors import BenchError, MachineError
from tests.bench.install import REDIS, WRK
from tests.bench.measure import Bench, Contender, Group, Target
from tests.bench.processes import Cores, answers, free_ports, get, running
from tests.bench.sessions import SESSIONS, nodes_running, start_bare, verify_copies
from tests.bench.wrk import CONNECTIONS

TOMCAT_WARM_UP_S = 30
"""Of load, until its compiler has done its work."""


def create(port: int) -> list[str]:
    """New sessions, as values of the Cookie header."""
    cookies = []
    for _ in range(SESSIONS):
        reply = get(port)
        if reply.status != 200 or reply.body != b"1" or "set-cookie" not in reply.headers:
            raise BenchError(
                f"a first request was answered with {reply.status}, {reply.body[:80]!r} and no cookie"
            )
        cookies.append(reply.headers["set-cookie"].partition(";")[0])
    return cookies


def count(port: int, cookies: list[str]) -> int:
    """Sum of all sessions' counts; reading one counts as well."""
    return sum(int(get(port, Cookie=cookie).body) for cookie in cookies)


def target(port: int, processes: tuple, check_copies: partial | None = None) -> Target:
    """Sessions at a port, and the check that the requests of the run were writes of theirs."""
    cookies = create(port)

    def check(requests: int) -> None:
        if check_copies is not None:
            check_copies(cookies)
        writes = count(port, cookies) - 2 * SESSIONS  # of the first request, and of this count
        under_way_max = 2 * CONNECTIONS  # at the end of the warm-up and of the measurement
        if not requests <= writes <= requests + under_way_max:
            raise BenchError(f"{requests} requests were answered, but the sessions count {writes} writes")

    return Target(port, processes, cookies, check)


@contextmanager
def start_nodes(core: int, directory: Path) -> Iterator[Target]:
    with nodes_running("tests.bench.apps:form", core, directory) as (http, api, processes):
        yield target(http[0], processes, partial(verify_copies, api[0]))


@contextmanager
def start_tomcats(core: int, directory: Path) -> Iterator[Target]:
    with tomcat.Tomcats("BackupManager", 2, directory, core=core) as tomcats:
        yield target(tomcats.ports[0], tuple(tomcats.processes))


@contextmanager
def start_redis(core: int, directory: Path) -> Iterator[Target]:
    port, redis_port = free_ports(2)
    server = [
        "redis-server",
        "--port",
        str(redis_port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    command = [sys.executable, "-m", "tests.bench.redis_app", str(port), str(redis_port)]
    with (
        running("redis", server, core, directory) as redis,
        running("redis_app", command, core, directory) as app,
    ):
        app.wait_until(answers(port), "answering")
        yield target(port, (app, redis))


def wanted_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        raise MachineError(
            f"{package} is not installed; run: pip install 'sessiond[bench]', or make bench-writes"
        ) from None


@contextmanager
def group(cores: Cores, _directory: Path) -> Iterator[Group]:
    """The bench. Ratios are to Tomcat and, of the same figures, can be made to any other."""
    core = cores.under_test
    wanted_version("redis")
    yield Group(
        "writes",
        f"Session write, 300 bytes of which 20 change, CPU of all that takes part, {CONNECTIONS} connections",
        (
            Contender("sessiond, 2 nodes", version("sessiond"), partial(start_nodes, core)),
            Contender(
                "Tomcat BackupManager, 2 nodes",
                tomcat.version(),
                partial(start_tomcats, core),
                warm_up_s=TOMCAT_WARM_UP_S,
            ),
            Contender(
                "aiohttp-session on Redis", wanted_version("aiohttp-session"), partial(start_redis, core)
            ),
            Contender("bare aiohttp, no session", version("aiohttp"), partial(start_bare, core)),
        ),
    )


BENCH = Bench((WRK, REDIS, tomcat.JAVA, tomcat.TOMCAT), group)
