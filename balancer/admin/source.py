"""What the admin port shows and gives orders to: one process's own state, or that of all workers together.

The port itself knows neither of pools nor of processes; whoever starts it hands it a `Source`.
"""

from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from balancer.admin.metrics import Numbers, numbers, registry_of
from balancer.admin.view import node_view, nodes_view, totals_view
from balancer.core.node_spec import checked_weight
from balancer.core.pool import NodeState, Pool
from balancer.proxy.service import ProxyService


class UnknownNode(Exception):
    """An order for a node that there is not; the text names those that there are. Nothing was changed."""


class Source(Protocol):
    """`registry` collects the metrics when it is read."""

    registry: CollectorRegistry

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes as `/v1/nodes` shows them."""

    def totals(self) -> dict[str, Any]:
        """What concerns the balancer as a whole."""

    def hindrance(self) -> tuple[str, str] | None:
        """Why requests cannot be served now, as a word and a text; None if they can."""

    async def order(self, name: str, order: Any) -> dict[str, Any]:
        """Change a node as the body of a PUT says; its new row. Raises UnknownNode, ValueError, TimeoutError."""


class LocalSource:
    """The `Source` of a balancer that is one process."""

    def __init__(self, pool: Pool, service: ProxyService) -> None:
        self._pool = pool
        self._service = service
        self.registry = registry_of(pool, service)

    def nodes(self) -> list[dict[str, Any]]:
        return nodes_view(self._pool, self._service)

    def totals(self) -> dict[str, Any]:
        return totals_view(self._service)

    def numbers(self) -> Numbers:
        """What the metrics are made of."""
        return numbers(self._pool, self._service)

    def hindrance(self) -> tuple[str, str] | None:
        if self._service.is_stopping:
            return "stopping", "the balancer is stopping"
        if not self._service.is_listening:
            return "starting", "the balancer does not listen yet"
        # A last resort that drains serves; one that nobody has checked yet promises nothing.
        if not self._pool.usable and not self._pool.draining:
            return "no_node_up", self._pool.why_none_is_up()
        return None

    async def order(self, name: str, order: Any) -> dict[str, Any]:
        return self.order_now(name, order)

    def order_now(self, name: str, order: Any) -> dict[str, Any]:
        node = self._pool.nodes.get(name)
        if node is None:
            known = ", ".join(self._pool.nodes)
            raise UnknownNode(f"there is no node of that name; the nodes are {known}")
        state, weight = parsed_order(order)
        if weight is not None:
            self._pool.set_weight(node, weight)
        if state is not None:
            self._pool.set_order(node, state)
        return node_view(node, self._service)


def parsed_order(body: Any) -> tuple[NodeState | None, int | None]:
    """State and weight of a PUT. Raises ValueError, with a text for whoever sent it."""
    if not isinstance(body, dict) or not body or not body.keys() <= {"state", "weight"}:
        raise ValueError('the body must be {"state": …, "weight": …}, with either or both')
    state, weight = body.get("state"), body.get("weight")
    if state not in (None, "up", "draining", "maintenance"):
        raise ValueError(f"state must be up, draining or maintenance, not {state!r}")
    if weight is not None and (not isinstance(weight, int) or isinstance(weight, bool)):
        raise ValueError(f"weight must be a whole number, not {weight!r}")
    return None if state is None else NodeState(state), None if weight is None else checked_weight(weight)
