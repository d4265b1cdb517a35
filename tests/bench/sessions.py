"""Bench: one session write on two nodes with sync acks, beside the same answer without a session.

Every request writes its session at node1, which answers when node2 has applied the write; the CPU of both
nodes counts. That each request was one write is checked: the sessions' own counters add up to the requests.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from sessiond.contract.cluster_view import ClusterView, MemberState
from sessiond.contract.names import COOKIE_NAME
from tests.bench.errors import BenchError
from tests.bench.install import WRK
from tests.bench.measure import Bench, Contender, Group, Target
from tests.bench.processes import Cores, Process, answers, free_ports, get, running
from tests.bench.wrk import CONNECTIONS

SESSIONS = 200

BARE_COOKIES = tuple(f"{COOKIE_NAME}={number:028d}.node1" for number in range(SESSIONS))
"""As many and as long as those of real sessions: the load is the same, byte for byte in length."""


@contextmanager
def start_bare(core: int, directory: Path) -> Iterator[Target]:
    (port,) = free_ports(1)
    with running("bare", [sys.executable, "-m", "tests.bench.bare", str(port)], core, directory) as process:
        process.wait_until(answers(port), "answering")
        yield Target(port, (process,), BARE_COOKIES, lambda _requests: None)


@contextmanager
def nodes_running(
    app: str, core: int, directory: Path
) -> Iterator[tuple[list[int], list[int], tuple[Process, ...]]]:
    """Two nodes that have met and ack synchronously: their ports for users, those of their APIs, and the processes."""
    ports = free_ports(6)
    http, cluster, api = ports[0:2], ports[2:4], ports[4:6]
    seeds = ",".join(f"127.0.0.1:{port}" for port in cluster)

    def command(at: int) -> list[str]:
        return [
            *(sys.executable, "-m", "sessiond", "run", app),
            *("--name", f"node{at + 1}", "--http", f"127.0.0.1:{http[at]}"),
            *("--cluster", f"127.0.0.1:{cluster[at]}", "--api", f"127.0.0.1:{api[at]}"),
            *("--join", seeds, "--ack", "sync", "--log-format", "console"),
        ]

    with (
        running("node1", command(0), core, directory) as node1,
        running("node2", command(1), core, directory) as node2,
    ):
        for node, port in ((node1, api[0]), (node2, api[1])):
            node.wait_until(answers(port, "/readyz"), "ready")
            node.wait_until(partial(sees_both, port), "one of two living members")
        yield http, api, (node1, node2)


@contextmanager
def start_nodes(core: int, directory: Path) -> Iterator[Target]:
    with nodes_running("tests.bench.apps:counter", core, directory) as (http, api, processes):
        cookies = create_sessions(http[0])
        counts = read_counts(http[0], cookies)

        def check(requests: int) -> None:
            verify_copies(api[0], cookies)
            verify_counts(counts, read_counts(http[0], cookies), requests)

        yield Target(http[0], processes, cookies, check)


def sees_both(api_port: int) -> bool:
    """The node counts itself and the other one among the living."""
    view = ClusterView.from_json(json.loads(get(api_port, "/v1/cluster").body))
    return [member.state for member in view.members] == [MemberState.ALIVE, MemberState.ALIVE]


def create_sessions(http_port: int) -> list[str]:
    """New sessions, as values of the Cookie header."""
    cookies = []
    for _ in range(SESSIONS):
        reply = get(http_port)
        name, _, rest = reply.headers.get("set-cookie", "").partition("=")
        if reply.status != 200 or name != COOKIE_NAME:
            raise BenchError(f"a first request was answered with {reply.status} and no cookie {COOKIE_NAME}")
        cookies.append(f"{name}={rest.partition(';')[0]}")
    return cookies


def read_counts(http_port: int, cookies: list[str]) -> int:
    """Sum of all sessions' counters; reading one counts as well."""
    total = 0
    for cookie in cookies:
        reply = get(http_port, Cookie=cookie)
        if reply.status != 200 or "set-cookie" in reply.headers:
            raise BenchError(f"a session of the run was lost: status {reply.status}")
        total += json.loads(reply.body)["n"]
    return total


def verify_copies(api_port: int, cookies: list[str]) -> None:
    """Every session has its primary at node1 and its backup at node2, so every write went to both."""
    for cookie in cookies:
        reply = get(api_port, f"/v1/locate/{cookie.partition('=')[2]}")
        found = json.loads(reply.body)
        if reply.status != 200 or (found["primary"], found["backups"]) != ("node1", ["node2"]):
            raise BenchError(f"a session of the run was not at node1 with its backup at node2, but: {found}")


def verify_counts(before: int, after: int, requests: int) -> None:
    """Every request was one write: no fewer, and no more than those that wrk had under way at its end."""
    writes = after - before - SESSIONS
    under_way_max = 2 * CONNECTIONS  # at the end of the warm-up and of the measurement
    if not requests <= writes <= requests + under_way_max:
        raise BenchError(f"{requests} requests were answered, but the sessions count {writes} writes")


@contextmanager
def group(cores: Cores, _directory: Path) -> Iterator[Group]:
    """The bench."""
    core = cores.under_test
    yield Group(
        "session",
        f"Session write, 2 nodes, sync acks, CPU of both nodes, {CONNECTIONS} connections",
        (
            Contender("bare aiohttp", version("aiohttp"), lambda own: start_bare(core, own)),
            Contender("session write", version("sessiond"), lambda own: start_nodes(core, own)),
        ),
    )


BENCH = Bench((WRK,), group)
