"""What the README promises, on containers: kill the one that serves you, and go on with your cart."""

import contextlib
import sys
import time
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.e2e_docker.cluster import DEADLINE_S, NODES, SERVICES, Cluster, wait_until
from tests.e2e_docker.visitor import REQUEST_TIMEOUT_S, Visitor

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1200)]

KILLED = 137
"""Exit code of a container that SIGKILL ended."""


class Customer(Visitor):
    """Knows what it has put into the cart, and how often it came: an answer that knows less fails the test."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._cart: list[str] = []
        self._visits = 0

    def visit(self) -> dict[str, Any]:
        answer = super().visit()
        assert answer["cart"] == self._cart
        assert answer["visits"] > self._visits
        self._visits = answer["visits"]
        return answer

    def add(self, item: str) -> dict[str, Any]:
        self._cart.append(item)
        answer = super().add(item)
        assert answer["cart"] == self._cart
        return answer


def test_a_cart_survives_docker_kill_of_every_node_that_serves_it(cluster: Cluster) -> None:
    with Customer(cluster.port) as customer:
        first = customer.add("teapot")["node"]
        token = customer.session_id.removesuffix(f".{first}")

        second = kill_the_serving_node(cluster, customer)
        assert customer.add("mug")["node"] == second
        third = kill_the_serving_node(cluster, customer)
        assert customer.add("lamp")["node"] == third
        assert {first, second, third} == set(NODES)
        alone = customer.visit()["session"]
        assert (alone["role"], alone["backups"]) == ("primary", [])
        assert customer.session_id == f"{token}.{third}"
        assert cluster.state(first)["ExitCode"] == cluster.state(second)["ExitCode"] == KILLED

        cluster.docker("start", cluster.containers[first])
        wait_until(lambda: node_of_a_new_visitor(cluster) == first, f"{first} gets new visitors again")
        wait_until(
            lambda: customer.visit()["session"]["backups"] == [first], f"{first} keeps the session's backup"
        )
        assert kill_the_serving_node(cluster, customer) == first
        assert "Reading lamp" in customer.page()


def test_the_cluster_stops_as_asked_and_starts_again_with_the_same_keys(cluster: Cluster) -> None:
    token = cluster.compose("exec", "-T", "balancer", "cat", "/var/lib/sessiond/admin-token").strip()
    assert ask_admin(cluster, "") == HTTPStatus.UNAUTHORIZED
    cluster.compose("stop")
    assert {service: cluster.state(service)["ExitCode"] for service in SERVICES} == dict.fromkeys(SERVICES, 0)
    cluster.compose("up", "--detach")
    wait_until(lambda: cluster.is_healthy("balancer"), "the balancer is healthy again")
    assert ask_admin(cluster, f"Bearer {token}") == HTTPStatus.OK
    assert node_of_a_new_visitor(cluster) in NODES


def ask_admin(cluster: Cluster, authorization: str) -> int:
    connection = HTTPConnection("127.0.0.1", cluster.admin_port, timeout=REQUEST_TIMEOUT_S)
    connection.request("GET", "/v1/nodes", headers={"Authorization": authorization})
    with contextlib.closing(connection), connection.getresponse() as response:
        return response.status


def node_of_a_new_visitor(cluster: Cluster) -> str:
    with Visitor(cluster.port) as visitor:
        node: str = visitor.visit()["node"]
        return node


def kill_the_serving_node(cluster: Cluster, customer: Customer) -> str:
    """`docker kill` it while the customer keeps looking at the shop. Returns the node that goes on."""
    victim: str = customer.visit()["node"]
    kill = cluster.kill(victim)
    deadline = time.monotonic() + DEADLINE_S
    node = victim
    while node == victim:
        assert time.monotonic() < deadline, f"{victim} serves on although it was to be killed"
        asked_at = time.monotonic()
        node = customer.visit()["node"]
    waited_ms = (time.monotonic() - asked_at) * 1000
    assert kill.wait(DEADLINE_S) == 0
    sys.stdout.write(f"\n{victim} killed: the next request was answered by {node} after {waited_ms:.1f} ms")
    return node
