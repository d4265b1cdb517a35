"""The list of nodes changes while they serve."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from balancer.core.health import Patience
from balancer.core.node_spec import NodeSpec
from balancer.core.pool import Node, NodeState, Pool
from sessiond.contract.address import Address

PATIENCE = Patience(rise=1, fall=3, request_fall=5)


def spec(name: str, port: int = 80, weight: int = 1, zone: str = "") -> NodeSpec:
    return NodeSpec(name, Address("127.0.0.1", port), weight, zone)


def pool_of(*specs: NodeSpec) -> Pool:
    pool = Pool(())
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


def test_nodes_that_nobody_has_asked_yet_are_better_than_none() -> None:
    pool = pool_of(spec("a"))
    pool.set_nodes([spec("b"), spec("c")], PATIENCE)
    assert [node.name for node in pool.last_resort] == ["b", "c"]
    pool.unreachable(pool.nodes["b"], "refused")
    assert [node.name for node in pool.last_resort] == ["c"]
    come_up(pool, pool.nodes["c"])
    assert pool.last_resort == ()


LISTS = st.lists(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(80, 82), st.integers(0, 3)), max_size=4),
    min_size=1,
    max_size=8,
)


@given(LISTS, st.randoms())
def test_pool_and_followers_agree_after_every_change(lists: list[dict[str, tuple[int, int]]], rng) -> None:
    known: dict[str, Node] = {}
    pool = Pool(())

    def follower(gone: Sequence[Node], come: Sequence[Node]) -> None:
        for node in gone:
            assert known.pop(node.name) is node
        for node in come:
            assert known.setdefault(node.name, node) is node

    pool.follow(follower)
    for wanted in lists:
        specs = [spec(name, *rest) for name, rest in wanted.items()]
        pool.set_nodes(specs, PATIENCE)
        pool.check_invariants()
        assert known == pool.nodes
        assert [node.spec for node in pool.nodes.values()] == specs
        for node in tuple(pool.nodes.values()):
            if rng.random() < 0.5:
                come_up(pool, node)
        pool.check_invariants()
