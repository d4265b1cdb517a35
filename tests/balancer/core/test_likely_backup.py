"""The balancer finds the backup where the nodes put it."""

import os
import random
from typing import Any

import pytest

from balancer.core.health import Patience
from balancer.core.likely_backup import likely_backup
from balancer.core.pool import Node, NodeState, Policy, Pool
from balancer.core.routing import Router
from balancer.core.sticky import route_finder, session_finder
from sessiond.contract.address import Address
from sessiond.contract.placement import Candidate, Scheme, placement
from sessiond.contract.session_id import Keyring

KEYRING = Keyring([b"a secret of these tests, 32 chars"], "shop")
ZONES = {"node1": "a", "node2": "a", "node3": "b", "node4": "b", "node5": "c"}
MEMBERS = [Candidate(name, zone) for name, zone in ZONES.items()]


def pool_of(**policy: Any) -> Pool:
    patience = Patience(rise=1, fall=3, request_fall=5)
    nodes = [Node(name, Address("h", 80), patience, zone=zone) for name, zone in ZONES.items()]
    pool = Pool(nodes, policy=Policy(**policy))
    for node in nodes:
        pool.check_passed(node, node.health.check_started(), sessions=None, draining=False)
    return pool


def router_of(pool: Pool, scheme: Scheme = "backup") -> Router:
    backup = likely_backup(session_finder("SESSIONID"), KEYRING.key_of, scheme)
    return Router(pool, route_finder("SESSIONID"), random.Random(3), likely_backup=backup)


def token() -> str:
    return KEYRING.new_token(os.urandom(16))


def placed(token: str, primary: str, members: list[Candidate]) -> str:
    key = KEYRING.key_of(token)
    assert key is not None
    (backup,) = placement(key, Candidate(primary, ZONES[primary]), members, 1)
    return backup


@pytest.mark.parametrize("in_path", [False, True])
def test_a_dead_nodes_sessions_go_each_to_its_backup(in_path: bool) -> None:
    pool = pool_of()
    router = router_of(pool)
    pool.unreachable(pool.nodes["node1"], "refused")
    found = set()
    for _ in range(200):
        session = token()
        where = f"/a;SESSIONID={session}.node1?b" if in_path else "/"
        cookie = "" if in_path else f"SESSIONID={session}.node1"
        node = router.first(cookie.encode(), where.encode())
        assert node is not None
        assert node.name == placed(session, "node1", MEMBERS)
        found.add(node.name)
    assert found == {"node3", "node4", "node5"}  # another zone than the primary's


def test_a_backup_that_was_tried_or_is_down_is_passed_over_for_the_next_one_in_rank() -> None:
    pool = pool_of()
    router = router_of(pool)
    pool.unreachable(pool.nodes["node1"], "refused")
    for _ in range(50):
        session = token()
        cookie = f"SESSIONID={session}.node1".encode()
        first = router.another((), cookie, b"/")
        assert first is not None
        second = router.another((first,), cookie, b"/")
        assert second is not None
        assert second.name == placed(
            session, "node1", [member for member in MEMBERS if member.name != first.name]
        )


def test_a_backup_with_no_place_free_is_not_waited_for() -> None:
    pool = pool_of(active_max=1, queued_max=9)
    router = router_of(pool)
    pool.unreachable(pool.nodes["node1"], "refused")
    cookie = f"SESSIONID={token()}.node1".encode()
    backup = router.first(cookie, b"/")
    assert backup is not None
    backup.active = 1
    other = router.first(cookie, b"/")
    assert other is not None
    assert other is not backup
    assert other.active == 0


@pytest.mark.parametrize("cookie", [b"", b"SESSIONID=" + b"A" * 28 + b".node1"])
def test_without_a_session_or_with_a_forged_one_any_live_node_will_do(cookie: bytes) -> None:
    pool = pool_of()
    router = router_of(pool)
    pool.unreachable(pool.nodes["node1"], "refused")
    assert len({router.another((), cookie, b"/") for _ in range(100)}) == 4


def test_with_pair_all_sessions_of_a_dead_node_go_to_its_partner() -> None:
    pool = pool_of()
    router = router_of(pool, "pair")
    pool.unreachable(pool.nodes["node1"], "refused")
    found = {router.first(f"SESSIONID={token()}.node1".encode(), b"/") for _ in range(50)}
    assert found == {pool.nodes["node3"]}  # the next one around the ring in another zone


@pytest.mark.parametrize("scheme", ["central", "none"])
def test_where_no_node_with_users_has_a_copy_any_live_one_will_do(scheme: Scheme) -> None:
    pool = pool_of()
    router = router_of(pool, scheme)
    pool.unreachable(pool.nodes["node1"], "refused")
    session = token()
    found = {router.first(f"SESSIONID={session}.node1".encode(), b"/") for _ in range(100)}
    assert len(found) == 4


def test_the_zone_of_the_dead_counts_and_not_our_own() -> None:
    pool = pool_of(zone="a")
    router = router_of(pool)
    pool.unreachable(pool.nodes["node1"], "refused")
    session = token()
    node = router.first(f"SESSIONID={session}.node1".encode(), b"/")
    assert node is not None
    assert node.name == placed(session, "node1", MEMBERS)


def test_when_nobody_is_up_a_draining_node_serves() -> None:
    pool = pool_of()
    router = router_of(pool)
    for node in pool.nodes.values():
        pool.unreachable(node, "refused")
    last = pool.nodes["node2"]
    pool.check_passed(last, last.health.check_started(), sessions=None, draining=True)
    assert last.state is NodeState.DRAINING
    assert router.first(f"SESSIONID={token()}.node1".encode(), b"/") is last
