"""The list of nodes changes while they serve."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.health import Patience
from balancer.core.node_spec import NodeSpec
from balancer.core.pool import WARMTH_MIN, Node, NodeState, Policy, Pool
from sessiond.contract.address import Address

PATIENCE = Patience(rise=1, fall=3, request_fall=5)


def spec(name: str, port: int = 80, weight: int = 1, zone: str = "") -> NodeSpec:
    return NodeSpec(name, Address("127.0.0.1", port), weight, zone)


def pool_of(*specs: NodeSpec, **policy: Any) -> Pool:
    pool = Pool((), policy=Policy(**policy))
    pool.set_nodes(specs, PATIENCE)
    for node in pool.nodes.values():
        come_up(pool, node)
    return pool


def come_up(pool: Pool, node: Node) -> None:
    pool.check_passed(node, node.health.check_started(), sessions=None, draining=False)


def test_a_node_that_stays_keeps_what_is_known_of_it() -> None:
    pool = pool_of(spec("a"), spec("b"))
    stays = pool.nodes["a"]
    pool.set_order(stays, NodeState.DRAINING)
    pool.set_nodes([spec("c"), spec("a", zone="z")], PATIENCE)
    assert list(pool.nodes) == ["c", "a"]
    assert pool.nodes["a"] is stays
    assert (stays.state, stays.zone) == (NodeState.DRAINING, "z")
    assert pool.nodes["c"].state is NodeState.DOWN  # until somebody has asked it


def test_a_node_that_was_taken_out_is_nobodys_choice_and_no_news() -> None:
    heard: list[str] = []
    pool = pool_of(spec("a"), spec("b"))
    pool._on_change = lambda node: heard.append(node.name)
    gone = pool.nodes["a"]
    pool.set_nodes([spec("b")], PATIENCE)
    assert [node.name for node in pool.up] == ["b"]
    assert not gone.is_up
    pool.unreachable(gone, "refused")
    come_up(pool, gone)
    assert (heard, gone.is_up) == ([], False)
    pool.check_invariants()


def test_a_name_at_another_address_is_another_node_with_the_same_counters_and_orders() -> None:
    pool = pool_of(spec("a"), spec("b"))
    old = pool.nodes["a"]
    old.counters.requests = 7
    pool.set_order(old, NodeState.MAINTENANCE)
    pool.set_weight(old, 5)
    pool.set_nodes([spec("a", port=81), spec("b")], PATIENCE)
    new = pool.nodes["a"]
    assert new is not old
    assert (new.address.port, new.counters.requests, new.weight, new.state) == (
        81,
        7,
        5,
        NodeState.MAINTENANCE,
    )
    pool.set_order(new, NodeState.UP)
    assert new.state is NodeState.DOWN


def test_who_is_turned_away_hears_nothing_of_nodes_that_were_ordered_away() -> None:
    pool = pool_of(spec("a"), spec("b"), spec("c"))
    for node, said in zip(pool.nodes.values(), ("is old", "is odd", "is joining"), strict=True):
        number = node.health.check_started()
        pool.check_failed(node, number, f"the node says that it {said}", deliberate=True, said=said)
    pool.set_order(pool.nodes["a"], NodeState.MAINTENANCE)
    pool.set_order(pool.nodes["b"], NodeState.DRAINING)
    assert pool.why_none_is_up() == "no node is up; c is joining"
    pool.set_order(pool.nodes["c"], NodeState.MAINTENANCE)
    assert pool.why_none_is_up() == "no node is up"


def test_an_operators_weight_stays_until_the_list_says_another_one_than_before() -> None:
    pool = pool_of(spec("a", weight=2))
    pool.set_weight(pool.nodes["a"], 9)
    pool.set_nodes([spec("a", weight=2)], PATIENCE)
    assert pool.nodes["a"].weight == 9
    pool.set_nodes([spec("a", weight=3)], PATIENCE)
    assert pool.nodes["a"].weight == 3


def test_the_new_patience_counts_for_old_nodes_too() -> None:
    pool = pool_of(spec("a"))
    node = pool.nodes["a"]
    pool.set_nodes([spec("a")], Patience(rise=1, fall=1, request_fall=5))
    pool.check_failed(node, node.health.check_started(), "no")
    assert node.state is NodeState.DOWN


def test_followers_hear_of_everybody_who_is_there_and_then_of_changes_only() -> None:
    heard: list[tuple[list[str], list[str]]] = []

    def follower(gone: Sequence[Node], come: Sequence[Node]) -> None:
        heard.append(([str(node.address.port) for node in gone], [node.name for node in come]))

    pool = pool_of(spec("a"), spec("b"))
    pool.follow(follower)
    pool.set_nodes([spec("a", weight=4), spec("b", zone="z")], PATIENCE)
    pool.set_nodes([spec("b", port=81), spec("c")], PATIENCE)
    assert heard == [([], ["a", "b"]), (["80", "80"], ["b", "c"])]


def test_a_follower_that_fails_keeps_no_other_from_hearing() -> None:
    heard: list[str] = []

    def failing(gone: Sequence[Node], _come: Sequence[Node]) -> None:
        if gone:
            raise KeyError(gone[0].name)

    pool = pool_of(spec("a"))
    pool.follow(failing)
    pool.follow(lambda _gone, come: heard.extend(node.name for node in come))
    with pytest.raises(ExceptionGroup) as failure:
        pool.set_nodes([spec("b")], PATIENCE)
    assert [repr(error) for error in failure.value.exceptions] == ["KeyError('a')"]
    assert heard == ["a", "b"]
    pool.check_invariants()


def test_nodes_that_nobody_has_asked_yet_are_better_than_none() -> None:
    pool = pool_of(spec("a"))
    pool.set_nodes([spec("b"), spec("c")], PATIENCE)
    assert [node.name for node in pool.last_resort] == ["b", "c"]
    pool.unreachable(pool.nodes["b"], "refused")
    assert [node.name for node in pool.last_resort] == ["c"]
    come_up(pool, pool.nodes["c"])
    assert pool.last_resort == ()


def test_a_node_that_was_down_warms_up_in_a_straight_line() -> None:
    pool = pool_of(spec("a"), spec("b"), slow_start_s=10.0)
    node = pool.nodes["a"]
    assert node.warmth == 1.0
    pool.tick(100.0)
    pool.unreachable(node, "refused")
    come_up(pool, node)
    seen = []
    for now in (100.0, 102.5, 105.0, 110.0, 111.0):
        pool.tick(now)
        pool.check_invariants()
        seen.append(node.warmth)
    assert seen == pytest.approx([WARMTH_MIN, 0.325, 0.55, 1.0, 1.0])


def test_a_node_that_comes_up_for_the_first_time_gets_its_share_at_once() -> None:
    pool = Pool(
        (), policy=Policy(slow_start_s=10.0)
    )  # all start together: whose process was up first is no reason
    pool.set_nodes([spec("a")], PATIENCE)
    node = pool.nodes["a"]
    pool.unreachable(node, "refused")
    come_up(pool, node)
    assert node.warmth == 1.0


def test_a_node_that_was_up_and_moved_is_cold() -> None:
    pool = pool_of(spec("a"), slow_start_s=10.0)
    pool.set_nodes([spec("a", port=81)], PATIENCE)
    come_up(pool, pool.nodes["a"])
    assert pool.nodes["a"].warmth == WARMTH_MIN


def test_maintenance_makes_cold_and_draining_does_not() -> None:
    pool = pool_of(spec("a"), slow_start_s=10.0)
    node = pool.nodes["a"]
    pool.set_order(node, NodeState.DRAINING)
    pool.set_order(node, NodeState.UP)
    assert node.warmth == 1.0
    pool.set_order(node, NodeState.MAINTENANCE)
    pool.set_order(node, NodeState.UP)
    assert node.warmth == WARMTH_MIN


def test_without_slow_start_a_node_gets_its_share_at_once() -> None:
    pool = pool_of(spec("a"))
    pool.unreachable(pool.nodes["a"], "refused")
    come_up(pool, pool.nodes["a"])
    assert pool.nodes["a"].warmth == 1.0


def test_when_too_few_are_up_health_is_not_believed_until_enough_are() -> None:
    pool = pool_of(*(spec(name) for name in "abcd"), panic_threshold=0.5)
    a, b, c, d = pool.nodes.values()
    pool.unreachable(a, "refused")
    pool.unreachable(b, "refused")
    assert (pool.is_panicking, pool.usable) == (False, (c, d))
    pool.unreachable(c, "refused")
    assert (pool.is_panicking, pool.usable, pool.up) == (True, (a, b, c, d), (d,))
    assert c.state is NodeState.DOWN  # and is shown as what it is
    pool.check_invariants()
    come_up(pool, a)
    assert (pool.is_panicking, pool.usable) == (False, (a, d))


def test_nodes_that_were_ordered_away_are_not_used_in_a_panic_and_do_not_count() -> None:
    pool = pool_of(*(spec(name) for name in "abcd"), panic_threshold=0.5)
    a, b, c, d = pool.nodes.values()
    pool.set_order(a, NodeState.MAINTENANCE)
    pool.set_order(b, NodeState.DRAINING)
    assert not pool.is_panicking
    pool.unreachable(b, "refused")
    pool.unreachable(c, "refused")
    assert not pool.is_panicking  # one of two
    pool.unreachable(d, "refused")
    assert (pool.is_panicking, pool.usable) == (True, (c, d))


def test_nodes_that_nobody_has_asked_yet_are_no_reason_for_a_panic() -> None:
    pool = Pool((), policy=Policy(panic_threshold=1.0))
    pool.set_nodes([spec("a"), spec("b")], PATIENCE)
    assert not pool.is_panicking
    come_up(pool, pool.nodes["a"])
    assert not pool.is_panicking
    pool.unreachable(pool.nodes["b"], "refused")
    assert pool.is_panicking


def test_new_rules_are_followed_at_once() -> None:
    pool = pool_of(spec("a"), spec("b", zone="z"), spec("c", zone="z"))
    a, b, c = pool.nodes.values()
    pool.unreachable(a, "refused")
    pool.unreachable(b, "refused")
    assert (pool.near, pool.is_panicking) == ((c,), False)
    pool.set_policy(Policy(panic_threshold=0.5))
    assert (pool.near, pool.is_panicking) == ((a, b, c), True)
    pool.check_invariants()
    pool.set_policy(Policy(panic_threshold=0.5, zone="z"))
    assert pool.near == (b, c)
    pool.set_policy(Policy())
    assert (pool.near, pool.is_panicking) == ((c,), False)
    pool.check_invariants()


def test_a_node_that_warms_up_does_so_as_fast_as_the_new_rules_say() -> None:
    pool = pool_of(spec("a"), slow_start_s=10.0)
    node = pool.nodes["a"]
    pool.tick(100.0)
    pool.unreachable(node, "refused")
    come_up(pool, node)
    pool.tick(105.0)
    pool.set_policy(Policy(slow_start_s=50.0))
    assert node.warmth == pytest.approx(0.19)
    pool.set_policy(Policy())
    assert node.warmth == 1.0
    pool.tick(106.0)
    pool.check_invariants()


LISTS = st.lists(
    st.dictionaries(st.sampled_from("abcz"), st.tuples(st.integers(80, 82), st.integers(0, 3)), max_size=4),
    min_size=1,
    max_size=8,
)


@given(LISTS, st.randoms())
def test_pool_and_followers_agree_after_every_change(lists: list[dict[str, tuple[int, int]]], rng) -> None:
    known: dict[str, Node] = {}
    pool = Pool((), policy=Policy(zone="z", slow_start_s=1.0, panic_threshold=0.5))

    def follower(gone: Sequence[Node], come: Sequence[Node]) -> None:
        for node in gone:
            assert known.pop(node.name) is node
        for node in come:
            assert known.setdefault(node.name, node) is node

    pool.follow(follower)
    now = 0.0
    for wanted in lists:
        specs = [spec(name, *rest, zone=name if name == "z" else "") for name, rest in wanted.items()]
        pool.set_nodes(specs, PATIENCE)
        pool.check_invariants()
        assert known == pool.nodes
        assert [node.spec for node in pool.nodes.values()] == specs
        for node in tuple(pool.nodes.values()):
            if rng.random() < 0.5:
                come_up(pool, node)
            elif rng.random() < 0.5:
                pool.unreachable(node, "refused")
        pool.check_invariants()
        now += rng.random()
        pool.tick(now)
        pool.check_invariants()
