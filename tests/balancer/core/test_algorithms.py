"""Who gets a new session."""

import random
from collections import Counter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.algorithms import Algorithm, AlgorithmName, algorithm
from balancer.core.health import Patience
from balancer.core.pool import Node
from sessiond.contract.address import Address
from sessiond.contract.cluster_view import Load

DRAWS = 4000
NAMES: tuple[AlgorithmName, ...] = get_args(AlgorithmName)


def nodes_of(*weights: int) -> list[Node]:
    patience = Patience(rise=1, fall=3, request_fall=5)
    return [
        Node(name, Address("h", 80), patience, weight)
        for name, weight in zip("abcdefgh", weights, strict=False)
    ]


def chooser(name: AlgorithmName) -> Algorithm:
    return algorithm(name, random.Random(5))


def shares(choose: Algorithm, nodes: list[Node]) -> list[float]:
    """Which part of the choices each node got."""
    chosen = Counter(choose(nodes) for _ in range(DRAWS))
    return [chosen[node] / DRAWS for node in nodes]


def test_round_robin_follows_the_weights_and_interleaves() -> None:
    choose = chooser("round-robin")
    nodes = nodes_of(1, 1, 1)
    assert [choose(nodes).name for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]
    nodes = nodes_of(4, 1, 0)
    assert [choose(nodes).name for _ in range(10)] == ["a", "a", "b", "a", "a", "a", "a", "b", "a", "a"]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_in_a_whole_round_every_node_gets_its_weight(weights: list[int]) -> None:
    nodes = nodes_of(*weights)
    choose = chooser("round-robin")
    chosen = Counter(choose(nodes) for _ in range(sum(weights)))
    assert [chosen[node] for node in nodes] == weights


@pytest.mark.parametrize("heavy", [100, 1000])
def test_what_round_robin_owed_by_old_weights_sends_no_crowd_to_one_node_by_new_ones(heavy: int) -> None:
    choose = chooser("round-robin")
    nodes = nodes_of(heavy, 1)
    for _ in range(heavy // 2):
        choose(nodes)
    nodes[0].weight = 1
    assert abs(Counter(choose(nodes).name for _ in range(20))["a"] - 10) <= 1


def test_what_round_robin_owed_beside_a_big_node_sends_no_crowd_to_a_small_one_without_it() -> None:
    choose = chooser("round-robin")
    big, small, fresh = nodes_of(1000, 1, 1)
    for _ in range(500):
        choose([big, small])
    assert abs(Counter(choose([small, fresh]).name for _ in range(20))["b"] - 10) <= 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("round-robin", [1 / 6, 2 / 6, 3 / 6]),
        ("random", [1 / 3, 1 / 3, 1 / 3]),
        ("weighted", [1 / 6, 2 / 6, 3 / 6]),
        ("load", [1 / 6, 2 / 6, 3 / 6]),
    ],
)
def test_idle_nodes_get_what_the_algorithm_promises(name: AlgorithmName, expected: list[float]) -> None:
    assert shares(chooser(name), nodes_of(1, 2, 3)) == pytest.approx(expected, abs=0.03)


def test_least_connections_counts_requests_for_the_weight() -> None:
    choose = chooser("least-connections")
    nodes = nodes_of(1, 1, 4)
    for node, active in zip(nodes, (3, 2, 10), strict=True):
        node.active = active
    assert {choose(nodes) for _ in range(50)} == {
        nodes[2]
    }  # eleven for four, where the others would have more for one
    nodes[2].active = 12
    assert {choose(nodes) for _ in range(50)} == {nodes[1]}
    nodes[0].active = 2
    assert {choose(nodes) for _ in range(50)} == {nodes[0], nodes[1]}


def test_the_less_busy_of_two_is_taken_and_the_busiest_never() -> None:
    nodes = nodes_of(1, 1, 1)
    for node, active in zip(nodes, (0, 5, 9), strict=True):
        node.active = active
    assert shares(chooser("power-of-two"), nodes) == pytest.approx([2 / 3, 1 / 3, 0], abs=0.03)


def test_a_loaded_node_gets_fewer_sessions_and_one_without_a_report_the_usual() -> None:
    choose = chooser("load")
    nodes = nodes_of(1, 1, 1)
    nodes[0].load, nodes[1].load = Load(cpu=0.1), Load(cpu=0.7)
    first, second, unknown = shares(choose, nodes)
    assert first / second == pytest.approx(4.0, rel=0.2)
    assert unknown == pytest.approx((1 / 0.5) / (1 / 0.2 + 1 / 0.8 + 1 / 0.5), abs=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_weight_0_gets_nothing_unless_all_have_it(name: AlgorithmName) -> None:
    choose = chooser(name)
    assert shares(choose, nodes_of(1, 0, 0)) == [1.0, 0.0, 0.0]
    assert shares(choose, nodes_of(0, 0)) == pytest.approx([0.5, 0.5], abs=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_a_node_that_warms_up_gets_less(name: AlgorithmName) -> None:
    nodes = nodes_of(1, 1)
    nodes[1].warmth = 0.1
    for node in nodes:
        node.active = 5
    warm, cold = shares(chooser(name), nodes)
    assert cold < warm / 5


@given(
    name=st.sampled_from(NAMES),
    weights=st.lists(st.integers(0, 1000), min_size=1, max_size=8),
    seed=st.integers(),
    state=st.lists(
        st.tuples(st.integers(0, 50), st.floats(0.1, 1.0), st.floats(0, 100)), min_size=8, max_size=8
    ),
)
def test_the_choice_is_one_of_the_candidates(
    name: AlgorithmName, weights: list[int], seed: int, state: list[tuple[int, float, float]]
) -> None:
    nodes = nodes_of(*weights)
    for node, (active, warmth, cpu) in zip(nodes, state, strict=False):
        node.active, node.warmth, node.load = active, warmth, Load(cpu=cpu)
    choose = algorithm(name, random.Random(seed))
    for _ in range(20):
        chosen = choose(nodes)
        assert chosen in nodes
        assert chosen.weight or not any(weights)
