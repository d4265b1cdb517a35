"""Each setting reaches the part that uses it, at the start and, if it is live, when it changes while requests are served."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from balancer.core.forwarded import Forwarded
from balancer.core.pool import Node, NodeState
from balancer.proxy.connections import NodeConnections
from balancer.proxy.service import ProxyService
from balancer.reloading import LIVE, NEEDS_RESTART, merged
from balancer.server import Balancer
from balancer.settings import Settings
from sessiond.contract.session_id import Keyring

NOBODY = "127.0.0.1:9"
"""Where nobody listens, which is found out at once."""

BASE = Settings(
    listen="127.0.0.1:0",
    admin="127.0.0.1:0",
    node=(f"node1={NOBODY}", f"node2={NOBODY};zone=far"),
    health_interval_s=3600.0,  # whether nodes are up is up to the test
)

APART = {
    # Files that only a handshake shows: see test_reload.
    "tls_certificate_file", "tls_key_file", "node_tls_ca_file", "node_tls_certificate_file", "node_tls_key_file",
}  # fmt: skip

SECRET = "a secret of these tests, 32 chars"


def test_of_each_setting_it_is_known_whether_it_needs_a_restart() -> None:
    names = {each.name for each in fields(Settings)}
    assert names == LIVE | NEEDS_RESTART
    assert not LIVE & NEEDS_RESTART


def test_a_change_that_needs_a_restart_is_named_and_does_not_count() -> None:
    for name, value in {
        "listen": "127.0.0.1:1",
        "admin": "127.0.0.1:1",
        "workers": 2,
        "tls_handshake_timeout_s": 1.0,
        "node_tls": True,
        "proxy_protocol": True,
    }.items():
        before = replace(BASE, trusted_network=("10.0.0.0/8",))
        assert merged(before, replace(before, **{name: value})) == (before, [name])
        assert name in NEEDS_RESTART


def test_to_begin_with_tls_or_to_end_it_needs_a_restart() -> None:
    with_tls = replace(BASE, tls_certificate_file=Path("nowhere"))
    assert merged(BASE, with_tls) == (BASE, ["tls_certificate_file"])


# What shows that a setting is in use.


def service(balancer: Balancer) -> ProxyService:
    assert balancer._service is not None
    return balancer._service


def of_service(name: str) -> Callable[[Balancer], Any]:
    """Of those that it looks up when it needs them."""
    return lambda balancer: getattr(service(balancer).settings, name)


def of_balancer(name: str) -> Callable[[Balancer], Any]:
    """Of those that are looked up there, perhaps by whoever runs it."""
    return lambda balancer: getattr(balancer.settings, name)


def connections(balancer: Balancer) -> NodeConnections:
    return service(balancer).connections["node1"]


def up(balancer: Balancer, *names: str) -> list[Node]:
    """These nodes pass a check, and keep well."""
    nodes = [balancer.pool.nodes[name] for name in names]
    for node in nodes:
        pass_checks(balancer, node)
        node.health.request_answered()
    return nodes


def pass_checks(balancer: Balancer, node: Node) -> int:
    """Until it is up; how many it takes."""
    for number in count(1):
        balancer.pool.check_passed(node, node.health.check_started(), sessions=None, draining=False)
        if node.state is NodeState.UP:
            return number
    raise AssertionError


def until_down(node: Node, fail: Callable[[], None]) -> int:
    """How often it has to fail."""
    for number in count(1):
        fail()
        if node.state is NodeState.DOWN:
            return number
    raise AssertionError


def checks_to_rise(balancer: Balancer) -> int:
    (node,) = up(balancer, "node1")
    balancer.pool.unreachable(node, "refused")
    return pass_checks(balancer, node)


def checks_to_fall(balancer: Balancer) -> int:
    (node,) = up(balancer, "node1")
    return until_down(
        node, lambda: balancer.pool.check_failed(node, node.health.check_started(), "no answer")
    )


def requests_to_fall(balancer: Balancer) -> int:
    node, _ = up(balancer, "node1", "node2")
    try:
        return until_down(node, lambda: balancer.pool.request_failed(node, "reset"))
    finally:
        balancer.pool.unreachable(node, "refused")


def ejection(balancer: Balancer) -> str:
    """How long a node is kept out, in words."""
    requests_failed_max = 20
    node, _ = up(balancer, "node1", "node2")
    for _ in range(requests_failed_max):
        balancer.pool.request_failed(node, "reset")
    words = node.reason.partition("kept out for ")[2]
    balancer.pool.unreachable(node, "refused")
    return words


def warmth(balancer: Balancer) -> float:
    """Of a node that comes back."""
    (node,) = up(balancer, "node1")
    balancer.pool.unreachable(node, "refused")
    up(balancer, "node1")
    return node.warmth


def panics_with_half_up(balancer: Balancer) -> bool:
    up(balancer, "node1")
    return balancer.pool.is_panicking


def preferred(balancer: Balancer) -> list[str]:
    up(balancer, "node1", "node2")
    return [node.name for node in balancer.pool.near]


def new_sessions_beside_a_busy_node(balancer: Balancer) -> set[str]:
    """Who gets some while node1 has much to do."""
    node, _ = up(balancer, "node1", "node2")
    node.active = 5
    chosen = [service(balancer).router.first(b"", b"/") for _ in range(8)]
    node.active = 0
    return {found.name for found in chosen if found is not None}


def backup_by(*secrets: str, cluster: str = "default") -> Callable[[Balancer], str | None]:
    """The likely backup of a lost node's session, whose token was signed with these."""
    token = Keyring([secret.encode() for secret in secrets], cluster).new_token(bytes(16))

    def found(balancer: Balancer) -> str | None:
        find, node = service(balancer).router._likely_backup, balancer.pool.nodes["node1"]
        chosen = find(f"SESSIONID={token}.lost".encode(), b"/", balancer.pool.nodes, [node]) if find else None
        return chosen.name if chosen else None

    return found


def retries_per_request(balancer: Balancer) -> float:
    budget = service(balancer).budget
    budget.withdraw()
    before = budget.balance
    budget.deposit()
    return round(budget.balance - before, 6)


def discovery(name: str) -> Callable[[Balancer], Any]:
    return lambda balancer: getattr(balancer._discovery, name)


def note(name: str) -> Callable[[Balancer], Any]:
    return lambda balancer: getattr(service(balancer).notes, name)


@dataclass(frozen=True)
class Case:
    """`value` of the setting and what is `seen` then, the value itself if nothing else is `expected`. `beside`: settings
    that it makes sense with; those that are Paths name a file of the test's."""

    value: Any
    seen: Callable[[Balancer], Any]
    expected: Any = ...
    beside: dict[str, Any] = field(default_factory=dict)


FOLLOWING = {"discover": (NOBODY,)}
BACKUP = {"failover": "backup"}

CASES = {
    "node": Case(
        (f"node3={NOBODY}",), lambda balancer: list(balancer.pool.nodes), ["node3"]
    ),
    "discover": Case((NOBODY,), lambda balancer: [str(seed) for seed in balancer._discovery._seeds], [NOBODY], {"discover": ("127.0.0.1:7",)}),
    "discover_token_file": Case(Path("token"), discovery("_token"), "s3cret", FOLLOWING),
    "discover_interval_s": Case(7.0, discovery("_interval_s"), beside=FOLLOWING),
    "discover_forget_s": Case(7.0, lambda balancer: balancer._discovery._members.forget_s, beside=FOLLOWING),
    "algorithm": Case("least-connections", new_sessions_beside_a_busy_node, {"node2"}),
    "failover": Case("backup", backup_by(), "node1"),
    "placement": Case("none", backup_by(), None, BACKUP),
    "secret": Case(SECRET, backup_by(SECRET), "node1", BACKUP),
    "secret_file": Case(Path("secret"), backup_by(SECRET), "node1", BACKUP),
    "cluster_name": Case("shop", backup_by(cluster="shop"), "node1", BACKUP),
    "zone": Case("far", preferred, ["node2"]),
    "slow_start_s": Case(0.0, warmth, 1.0),
    "panic_threshold": Case(0.9, panics_with_half_up, True),
    "cookie_name": Case("ID", lambda balancer: service(balancer).router._route_of(b"ID=%b.node1" % (b"A" * 28), b"/"), "node1"),
    "admin_token_file": Case(Path("token"), lambda balancer: balancer._admin._api.token, "s3cret"),
    "insecure": Case(True, of_balancer("insecure")),
    "trusted_network": Case(("10.0.0.0/8",), lambda balancer: tuple(map(str, service(balancer).trusted_networks))),
    "request_head_bytes_max": Case(1001, lambda balancer: service(balancer).request_limits.head_bytes_max),
    "line_bytes_max": Case(1002, lambda balancer: service(balancer).request_limits.line_bytes_max),
    "response_head_bytes_max": Case(
        1003,
        lambda balancer: (connections(balancer).options.limits.head_bytes_max, balancer._checker._limits.head_bytes_max),
        (1003, 1003),
    ),
    "header_count_max": Case(
        104,
        lambda balancer: (
            service(balancer).request_limits.header_count_max,
            connections(balancer).options.limits.header_count_max,
            balancer._checker._limits.header_count_max,
        ),
        (104, 104, 104),
    ),
    "body_bytes_max": Case(1005, lambda balancer: service(balancer).request_limits.body_bytes_max),
    "connect_timeout_s": Case(7.0, lambda balancer: connections(balancer).options.connect_timeout_s),
    "node_keepalive_timeout_s": Case(7.0, lambda balancer: connections(balancer).options.idle_timeout_s),
    "node_idle_connections_max": Case(7, lambda balancer: connections(balancer).options.idle_max),
    "node_connections_max": Case(
        7,
        lambda balancer: (
            connections(balancer).active_max,
            connections(balancer).queue.active_max,
            balancer.pool.policy.active_max,
        ),
        (7, 7, 7),
        {"node_connections_max": 3},
    ),
    "node_queue_max": Case(
        7,
        lambda balancer: (connections(balancer).queue._waiting_max, balancer.pool.policy.queued_max),
        (7, 7),
        {"node_connections_max": 3},
    ),
    "node_queue_timeout_s": Case(
        7.0, lambda balancer: connections(balancer).queue._timeout_s, beside={"node_connections_max": 3}
    ),
    "health_path": Case("/other", lambda balancer: balancer._checker._path),
    "health_status": Case(("204",), lambda balancer: balancer._checker._expected, {204}),
    "health_interval_s": Case(1800.0, lambda balancer: balancer._checker._interval_s),
    "health_timeout_s": Case(7.0, lambda balancer: balancer._checker._timeout_s),
    "health_rise": Case(4, checks_to_rise),
    "health_fall": Case(5, checks_to_fall),
    "request_fall": Case(6, requests_to_fall),
    "eject_s": Case(7.0, ejection, "7 s"),
    "eject_max_s": Case(8.0, ejection, "8 s"),
    "eject_share_max": Case(0.1, ejection, ""),
    "retry_share": Case(0.5, retries_per_request),
    "retry_reserve": Case(2000, lambda balancer: service(balancer).budget.balance),
    "drain_timeout_s": Case(7.0, of_balancer("drain_timeout_s")),
    "forwarded": Case(
        "forwarded", lambda balancer: isinstance(service(balancer).forwarding("10.0.0.1", "a"), Forwarded), True
    ),
    "request_id": Case(True, lambda balancer: service(balancer).notes is not None),
    "request_id_in_answer": Case(True, note("_in_answers"), beside={"request_id": True}),
    "trace_context": Case("create", note("_begins_traces"), True, {"request_id": True}),
    "access_log": Case(
        True, lambda balancer: service(balancer).notes._log is not None, beside={"request_id": True}
    ),
    "log_format": Case("json", of_balancer("log_format")),
    "log_level": Case("error", of_balancer("log_level")),
    **{
        name: Case(7, of_service(name))
        for name in (
            "request_head_timeout_s", "body_idle_timeout_s", "body_rate_min", "response_head_timeout_s",
            "response_idle_timeout_s", "tunnel_idle_timeout_s", "client_keepalive_timeout_s", "half_close_timeout_s",
            "replay_bytes_max",
        )
    },
}  # fmt: skip


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Balancer]:
    balancer = Balancer(settings)
    try:
        await balancer.start()
        yield balancer
    finally:
        await balancer.stop()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("s3cret\n")
    (tmp_path / "secret").write_text(SECRET + "\n")
    return tmp_path


def before_and_after(name: str, directory: Path) -> tuple[Settings, Settings]:
    case = CASES[name]
    before = replace(BASE, **case.beside)
    value = directory / case.value if isinstance(case.value, Path) else case.value
    return before, replace(before, **{name: value})


def expected(name: str) -> Any:
    case = CASES[name]
    return case.value if case.expected is ... else case.expected


@pytest.mark.parametrize("name", sorted(LIVE - APART))
async def test_a_live_setting_is_in_use_from_the_start_and_as_soon_as_it_changes(
    name: str, directory: Path
) -> None:
    before, after = before_and_after(name, directory)
    seen = CASES[name].seen
    async with running(after) as balancer:
        assert seen(balancer) == expected(name)
    async with running(before) as balancer:
        assert seen(balancer) != expected(name)
        assert await balancer.reload(after) == []
        assert seen(balancer) == expected(name)
