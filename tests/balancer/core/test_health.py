"""When a node is up, and why not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.core.health import Fitness, Health, Patience
from balancer.core.pool import Node, NodeState, Policy, Pool
from sessiond.contract.address import Address

PATIENCE = Patience(rise=2, fall=3, request_fall=4)


def up() -> Health:
    health = Health(PATIENCE)
    health.check_passed(health.check_started())
    assert health.fitness is Fitness.UP
    return health


def test_nothing_is_known_before_the_first_check_and_the_first_decides() -> None:
    health = Health(PATIENCE)
    assert (health.fitness, health.reason) == (Fitness.DOWN, "not checked yet")
    assert health.check_failed(health.check_started(), "timed out")
    assert (health.fitness, health.reason) == (Fitness.DOWN, "timed out")
    assert up().reason == ""


def test_checks_must_fail_in_a_row_and_pass_in_a_row() -> None:
    health = up()
    for _ in range(2):
        assert not health.check_failed(health.check_started(), "slow")
    assert not health.check_passed(health.check_started())
    for _ in range(2):
        assert not health.check_failed(health.check_started(), "slow")
    assert health.check_failed(health.check_started(), "slow")
    assert (health.fitness, health.reason) == (Fitness.DOWN, "slow")
    assert not health.check_passed(health.check_started())
    assert health.check_passed(health.check_started())
    assert health.fitness is Fitness.UP


def test_an_address_that_cannot_be_connected_to_is_down_at_once() -> None:
    health = up()
    assert health.unreachable("refused")
    assert not health.unreachable("refused")
    assert health.fitness is Fitness.DOWN


def test_a_node_that_says_it_is_not_ready_is_believed_at_once() -> None:
    health = up()
    assert health.check_failed(health.check_started(), "it is joining", deliberate=True)
    assert health.fitness is Fitness.DOWN


def test_a_check_from_before_the_death_does_not_bring_the_node_back() -> None:
    health = up()
    before = health.check_started()
    health.unreachable("refused")
    for _ in range(5):
        assert not health.check_passed(before)
    assert health.fitness is Fitness.DOWN


def test_a_draining_node_is_neither_up_nor_down_and_comes_back_up() -> None:
    health = up()
    assert health.check_passed(health.check_started(), draining=True)
    assert health.fitness is Fitness.DRAINING
    assert health.reason
    assert health.check_passed(health.check_started())
    assert health.fitness is Fitness.UP


def test_requests_must_fail_in_a_row() -> None:
    health = up()
    for _ in range(3):
        assert not health.request_failed()
    health.request_answered()
    for _ in range(3):
        assert not health.request_failed()
    assert health.request_failed()
    assert health.eject("reset", 0.0)
    assert health.fitness is Fitness.DOWN
    assert health.reason == "4 requests in a row failed, the last: reset"
    assert not health.request_failed()  # of the requests that died with it, the rest is no news


def test_a_node_that_is_held_does_not_come_back_by_its_checks_until_it_is_released() -> None:
    health = up()
    health.eject("reset", 10.0)
    assert health.reason.endswith("the last: reset; kept out for 10 s")
    for _ in range(5):
        assert not health.check_passed(health.check_started())
        for _ in range(2):
            assert not health.check_failed(health.check_started(), "slow")
    assert "kept out" in health.reason
    health.release()
    assert not health.check_passed(health.check_started())
    assert health.check_passed(health.check_started())
    assert health.fitness is Fitness.UP


def test_a_node_that_is_held_and_then_gone_comes_back_as_any_other() -> None:
    health = up()
    health.eject("reset", 10.0)
    assert health.unreachable("refused")
    for _ in range(2):
        health.check_passed(health.check_started())
    assert health.fitness is Fitness.UP


def test_a_node_that_is_held_and_fails_its_checks_comes_back_as_any_other() -> None:
    health = up()
    health.eject("reset", 10.0)
    for _ in range(3):
        health.check_failed(health.check_started(), "slow")
    assert health.reason == "slow"
    for _ in range(2):
        health.check_passed(health.check_started())
    assert health.fitness is Fitness.UP


EVENTS = st.lists(
    st.sampled_from(["pass", "drain", "fail", "refuse", "unreachable", "request", "answer", "tick", "draining", "maintenance", "up"]),
    max_size=60,
)  # fmt: skip


@given(EVENTS)
def test_health_and_pool_agree_after_every_event(events: list[str]) -> None:
    changes: list[tuple[NodeState, str, int]] = []
    node = Node("a", Address("127.0.0.1", 1), PATIENCE)
    policy = Policy(slow_start_s=2.0, panic_threshold=0.5, eject_s=3.0, eject_max_s=9.0)
    now = 0.0
    pool = Pool(
        [node], lambda changed: changes.append((changed.state, changed.reason, changed.weight)), policy
    )
    for event in events:
        before = (node.state, node.reason)
        heard = len(changes)
        number = node.health.check_started()
        match event:
            case "pass":
                pool.check_passed(node, number, sessions=3, draining=False)
            case "drain":
                pool.check_passed(node, number, sessions=3, draining=True)
            case "fail":
                pool.check_failed(node, number, "no")
            case "refuse":
                pool.check_failed(node, number, "not yet", deliberate=True)
            case "unreachable":
                pool.unreachable(node, "gone")
            case "request":
                pool.request_failed(node, "reset")
            case "answer":
                node.health.request_answered()
            case "tick":
                now += 1.0
                pool.tick(now)
            case order:
                pool.set_order(node, NodeState(order))
        pool.check_invariants()
        if (node.state, node.reason) != before:
            assert len(changes) == heard + 1
        assert (node.state is NodeState.UP) == (node.reason == "")


def test_the_operator_wins_over_health_and_health_returns_with_his_leave() -> None:
    node = Node("a", Address("127.0.0.1", 1), PATIENCE)
    pool = Pool([node])
    pool.check_passed(node, node.health.check_started(), sessions=5, draining=False)
    pool.set_order(node, NodeState.MAINTENANCE)
    pool.unreachable(node, "gone")
    assert (node.state, node.reason, pool.up) == (NodeState.MAINTENANCE, "set by the operator", ())
    pool.set_order(node, NodeState.DRAINING)
    assert (node.state, node.reason) == (NodeState.DOWN, "gone")
    pool.set_order(node, NodeState.UP)
    for _ in range(2):
        pool.check_passed(node, node.health.check_started(), sessions=5, draining=False)
    assert (node.state, pool.up) == (NodeState.UP, (node,))


def test_orders_and_weights_that_make_no_sense_are_refused() -> None:
    node = Node("a", Address("127.0.0.1", 1), PATIENCE)
    pool = Pool([node])
    with pytest.raises(ValueError, match="maintenance"):
        pool.set_order(node, NodeState.DOWN)
    for weight in (-1, 1001):
        with pytest.raises(ValueError, match="from 0 to 1000"):
            pool.set_weight(node, weight)
