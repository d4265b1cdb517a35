"""The balancer as the admin port shows it: parts of the bodies of `/v1/nodes` and `/v1/events`."""

from typing import Any

from balancer.core.pool import Node, Pool
from balancer.proxy.service import ProxyService


def node_view(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "address": str(node.address),
        "state": node.state.value,
        "reason": node.reason,
        "weight": node.weight,
        "active": node.active,
        "requests": node.counters.requests,
        "failures": node.counters.failures,
        "sessions": node.sessions,
        "queue": node.queued,
        "zone": node.zone,
        "load": node.load.figure if node.load is not None else None,
        "warmth": round(node.warmth, 3),
    }


def nodes_view(pool: Pool) -> list[dict[str, Any]]:
    return [node_view(node) for node in pool.nodes.values()]


def totals_view(service: ProxyService) -> dict[str, Any]:
    """What concerns the balancer as a whole."""
    totals = service.totals
    return {
        "requests": totals.requests,
        "failures": totals.failures,
        "retries": totals.retries,
        "refused": totals.refused,
        "active_connections": service.active_connections,
    }
