"""Which node a request is sent to."""

import random
import sys
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from balancer.core.health import Patience
from balancer.core.pool import Node, NodeState, Policy, Pool
from balancer.core.routing import Router
from balancer.core.sticky import route_finder
from sessiond.contract.address import Address

TOKEN = b"A" * 28
PATIENCE = Patience(rise=1, fall=3, request_fall=5)


def pool_of(*names: str, zones: Mapping[str, str] = MappingProxyType({}), **policy: Any) -> Pool:
    nodes = [Node(name, Address("127.0.0.1", 80), PATIENCE, zone=zones.get(name, "")) for name in names]
    pool = Pool(nodes, policy=Policy(**policy))
    for node in pool.nodes.values():
        pool.check_passed(node, node.health.check_started(), sessions=None, draining=False)
    return pool


def router_of(pool: Pool) -> Router:
    return Router(pool, route_finder("SESSIONID"), random.Random(7))


def cookie(node: bytes) -> bytes:
    return b"SESSIONID=" + TOKEN + b"." + node


@pytest.mark.parametrize(
    ("field", "target", "route"),
    [
        (b"", b"/", None),
        (cookie(b"node1"), b"/", "node1"),
        (b"a=b; " + cookie(b"node1") + b"; c=d", b"/", "node1"),
        (b"a=b;" + cookie(b"node1"), b"/", "node1"),
        (b"xSESSIONID=" + TOKEN + b".node1", b"/", None),
        (b"sessionid=" + TOKEN + b".node1", b"/", None),
        (b"SESSIONID=short.node1", b"/", None),
        (b"SESSIONID=; " + cookie(b"node2"), b"/", "node2"),
        (b"SESSIONID=garbage; " + cookie(b"node2") + b"; " + cookie(b"node3"), b"/", "node2"),
        (cookie(b"no.de"), b"/", None),
        (cookie(b"../etc"), b"/", None),
        (cookie(b""), b"/", None),
        (b"SESSIONID=\xff\xfe" + TOKEN, b"/", None),
        (b"", b"/a;SESSIONID=" + TOKEN + b".node4?x", "node4"),
        (b"", b"/a;x=y;SESSIONID=" + TOKEN + b".node4/b", "node4"),
        (b"", b"/a?;SESSIONID=" + TOKEN + b".node4", None),
        (cookie(b"node1"), b"/a;SESSIONID=" + TOKEN + b".node4", "node1"),
        (b"a=b", b"/a;SESSIONID=" + TOKEN + b".node4", "node4"),
    ],
)
def test_the_route_is_the_suffix_of_the_first_id_that_has_the_shape_of_one(
    field: bytes, target: bytes, route: str | None
) -> None:
    assert route_finder("SESSIONID")(field, target) == route


def test_a_cookie_name_with_special_characters_is_taken_literally() -> None:
    find = route_finder("__Host-s.id")
    assert find(b"__Host-s.id=" + TOKEN + b".node1", b"/") == "node1"
    assert find(b"__Host-sxid=" + TOKEN + b".node1", b"/") is None


def test_long_cookies_are_read_and_not_remembered_so_that_memory_is_bounded() -> None:
    find = route_finder("SESSIONID")
    kept = []
    for padding in (100, 5000):
        field = cookie(b"node1") + b"; padding=" + b"x" * padding
        before = sys.getrefcount(field)
        assert find(field, b"/") == "node1"
        kept.append(sys.getrefcount(field) - before)
    assert kept == [1, 0]


def test_a_session_goes_to_its_node_while_that_is_up() -> None:
    pool = pool_of("node1", "node2", "node3")
    router = router_of(pool)
    assert {router.first(cookie(b"node2"), b"/") for _ in range(20)} == {pool.nodes["node2"]}


@pytest.mark.parametrize("state", ["down", "draining", "maintenance", "unknown"])
def test_a_session_whose_node_is_not_up_goes_to_any_that_is(state: str) -> None:
    pool = pool_of("node1", "node2", "node3")
    node = pool.nodes["node2"]
    match state:
        case "down":
            pool.unreachable(node, "refused")
        case "unknown":
            del pool.nodes["node2"]
            pool.set_order(pool.nodes["node1"], NodeState.DRAINING)  # regroups
            pool.set_order(pool.nodes["node1"], NodeState.UP)
        case order:
            pool.set_order(node, NodeState(order))
    router = router_of(pool)
    found = Counter(chosen.name for _ in range(200) if (chosen := router.first(cookie(b"node2"), b"/")))
    assert found.keys() == {"node1", "node3"}
    assert min(found.values()) > 50


def test_a_suffix_that_names_no_node_is_as_good_as_none() -> None:
    pool = pool_of("node1", "node2")
    pool.nodes["node1"].active = 100
    router = Router(pool, route_finder("SESSIONID"), random.Random(7), "least-connections")
    assert {router.first(field, b"/") for field in (b"", cookie(b"gone")) * 50} == {pool.nodes["node2"]}


def test_a_suffix_that_names_no_node_may_tell_of_a_likely_backup_all_the_same() -> None:
    pool = pool_of("node1", "node2")
    node1 = pool.nodes["node1"]
    node1.active = 100
    router = Router(
        pool, route_finder("SESSIONID"), random.Random(7), "least-connections", lambda *_arguments: node1
    )
    assert router.first(cookie(b"gone"), b"/") is node1


def test_without_a_node_that_is_up_draining_ones_serve_and_others_never() -> None:
    pool = pool_of("node1", "node2", "node3")
    router = router_of(pool)
    pool.unreachable(pool.nodes["node1"], "refused")
    pool.set_order(pool.nodes["node2"], NodeState.MAINTENANCE)
    pool.set_order(pool.nodes["node3"], NodeState.DRAINING)
    for field in (b"", cookie(b"node1"), cookie(b"node3")):
        assert router.first(field, b"/") is pool.nodes["node3"]
    pool.set_order(pool.nodes["node3"], NodeState.MAINTENANCE)
    assert router.first(b"", b"/") is None
    assert router.first(cookie(b"node3"), b"/") is None


def test_another_node_is_never_one_that_was_tried() -> None:
    pool = pool_of("node1", "node2", "node3")
    router = router_of(pool)
    one, two, three = pool.nodes.values()
    assert {router.another((one, two)) for _ in range(20)} == {three}
    assert router.another((one, two, three)) is None
    pool.set_order(three, NodeState.DRAINING)
    assert router.another((one, two)) is three


def test_an_owner_is_a_known_node_that_is_up() -> None:
    pool = pool_of("node1", "node2")
    router = router_of(pool)
    assert router.owner("node2") is pool.nodes["node2"]
    assert router.owner("node9") is None
    pool.set_order(pool.nodes["node2"], NodeState.DRAINING)
    assert router.owner("node2") is None


def test_our_own_zone_is_preferred_while_a_node_is_up_there() -> None:
    pool = pool_of("node1", "node2", "node3", zones={"node1": "a", "node2": "b", "node3": "b"}, zone="b")
    router = router_of(pool)
    local = {pool.nodes["node2"], pool.nodes["node3"]}
    assert {router.first(b"", b"/") for _ in range(20)} == local
    assert {router.first(cookie(b"node9"), b"/") for _ in range(40)} == local
    assert router.first(cookie(b"node1"), b"/") is pool.nodes["node1"]  # its session is there
    pool.set_weight(pool.nodes["node2"], 0)
    pool.unreachable(pool.nodes["node3"], "refused")
    assert {router.first(b"", b"/") for _ in range(20)} == {pool.nodes["node1"]}
    pool.set_weight(pool.nodes["node1"], 0)
    pool.set_order(pool.nodes["node2"], NodeState.MAINTENANCE)
    assert router.first(b"", b"/") is pool.nodes["node1"]


def test_a_retry_spills_over_to_another_zone_when_its_own_has_been_tried() -> None:
    pool = pool_of("node1", "node2", zones={"node1": "a", "node2": "b"}, zone="b")
    router = router_of(pool)
    assert router.another(()) is pool.nodes["node2"]
    assert router.another((pool.nodes["node2"],)) is pool.nodes["node1"]


def test_in_a_panic_a_session_is_sent_to_its_own_node_whatever_health_says() -> None:
    pool = pool_of("node1", "node2", "node3", panic_threshold=0.5)
    router = router_of(pool)
    for name in ("node1", "node2"):
        pool.unreachable(pool.nodes[name], "refused")
    assert router.first(cookie(b"node1"), b"/") is pool.nodes["node1"]
    assert {router.first(b"", b"/") for _ in range(20)} == set(pool.nodes.values())
    assert router.owner("node2") is pool.nodes["node2"]
