"""Nodes whose requests fail though they pass their checks."""

from typing import Any

from balancer.core.health import Patience
from balancer.core.pool import Node, NodeState, Policy, Pool
from sessiond.contract.address import Address

FALL = 3
POLICY = {"eject_s": 10.0, "eject_max_s": 25.0, "eject_share_max": 0.5}


class Nodes:
    """A pool of so many nodes, all up and passing their checks, with a clock."""

    def __init__(self, count: int, **policy: Any) -> None:
        patience = Patience(rise=1, fall=3, request_fall=FALL)
        nodes = [Node(f"node{number}", Address("h", 80), patience) for number in range(1, count + 1)]
        self.pool = Pool(nodes, policy=Policy(**{**POLICY, **policy}))
        self.now = 1000.0
        self.at(0.0)

    def __getitem__(self, number: int) -> Node:
        return self.pool.nodes[f"node{number}"]

    def at(self, passed: float) -> None:
        """Time passes; checks pass."""
        self.now += passed
        self.pool.tick(self.now)
        for node in self.pool.nodes.values():
            self.pool.check_passed(node, node.health.check_started(), sessions=None, draining=False)
        self.pool.check_invariants()

    def fail(self, number: int) -> None:
        """Requests in a row."""
        for _ in range(FALL):
            self.pool.request_failed(self[number], "reset")
        self.pool.check_invariants()

    def time_out(self, number: int) -> float:
        """Seconds until it is back."""
        began = self.now
        while self[number].state is NodeState.DOWN:
            self.at(0.5)
        return self.now - began


def test_an_ejected_node_stays_out_for_its_time_though_its_checks_pass() -> None:
    nodes = Nodes(2)
    nodes.fail(1)
    assert nodes[1].counters.ejections == 1
    assert "kept out for 10 s" in nodes[1].reason
    assert nodes.pool.up == (nodes[2],)
    assert nodes.time_out(1) == 10.0


def test_each_repetition_takes_longer_up_to_a_limit_and_good_conduct_wipes_it_out() -> None:
    nodes = Nodes(2)
    found = []
    for _ in range(4):
        nodes.fail(1)
        found.append(nodes.time_out(1))
        nodes.at(5.0)
    assert found == [10.0, 20.0, 25.0, 25.0]
    nodes.at(25.0)
    nodes.fail(1)
    assert nodes.time_out(1) == 10.0


def test_only_a_share_of_the_nodes_is_out_at_a_time() -> None:
    nodes = Nodes(3)
    for number in (1, 2, 3):
        nodes.fail(number)
    assert nodes.pool.up == (nodes[2], nodes[3])
    assert (nodes[2].counters.ejections, nodes[2].counters.ejections_denied) == (0, 1)
    nodes.at(10.0)  # the first is back, and the second still fails
    nodes.fail(2)
    assert nodes.pool.up == (nodes[1], nodes[3])


def test_a_node_that_stands_alone_is_never_ejected() -> None:
    nodes = Nodes(1)
    nodes.fail(1)
    assert nodes[1].state is NodeState.UP


def test_a_node_that_died_is_back_as_soon_as_it_answers_and_it_is_not_held_against_it() -> None:
    nodes = Nodes(2)
    for _ in range(3):
        nodes.fail(1)  # its connections broke
        nodes.pool.unreachable(nodes[1], "refused")
        assert nodes[1].reason == "refused"
        nodes.at(0.5)
        assert nodes[1].state is NodeState.UP
    nodes.fail(1)
    assert nodes.time_out(1) == 10.0


def test_a_node_that_fails_its_checks_as_well_is_down_for_that() -> None:
    nodes = Nodes(2)
    nodes.fail(1)
    for _ in range(3):
        nodes.pool.check_failed(nodes[1], nodes[1].health.check_started(), "silent")
    assert nodes[1].reason == "silent"
    nodes.at(0.5)
    assert nodes[1].state is NodeState.UP


def test_without_a_time_the_next_checks_bring_it_back() -> None:
    nodes = Nodes(2, eject_s=0.0)
    nodes.fail(1)
    assert nodes[1].state is NodeState.DOWN
    nodes.at(0.0)
    assert nodes[1].state is NodeState.UP


def test_a_node_that_was_taken_out_makes_room() -> None:
    nodes = Nodes(4)
    for number in (1, 2):
        nodes.fail(number)
    assert len(nodes.pool.up) == 2
    nodes.pool.set_nodes(
        [node.spec for node in (nodes[2], nodes[3], nodes[4])], Patience(rise=1, fall=3, request_fall=FALL)
    )
    nodes.fail(3)
    assert nodes[3].state is NodeState.UP  # one of three is the most
    nodes.at(10.0)
    nodes.fail(3)
    assert nodes[3].state is NodeState.DOWN


def test_new_rules_for_ejections_begin_with_a_clean_slate() -> None:
    nodes = Nodes(2)
    nodes.fail(1)
    nodes.pool.set_policy(Policy(**{**POLICY, "eject_s": 4.0}))
    nodes.at(0.0)
    assert nodes[1].state is NodeState.UP
    nodes.fail(1)
    assert nodes.time_out(1) == 4.0


def test_the_same_rules_once_more_let_nobody_in_before_its_time() -> None:
    nodes = Nodes(2)
    nodes.fail(1)
    nodes.at(5.0)
    nodes.pool.set_policy(Policy(**POLICY, zone="z"))
    assert nodes.time_out(1) == 5.0
    nodes.fail(1)
    assert nodes.time_out(1) == 20.0
