"""The balancer as the admin port shows it: parts of the bodies of `/v1/nodes` and `/v1/events`."""

from typing import Any

from balancer.core.pool import Node, Pool
from balancer.proxy.service import ProxyService


def node_view(node: Node, service: ProxyService) -> dict[str, Any]:
    """`order`: the operator's. `latency`: counts of the times to first byte, by the buckets that events name."""
    counters = node.counters
    return {
        "name": node.name,
        "address": str(node.address),
        "state": node.state.value,
        "reason": node.reason,
        "order": node.order.value,
        "weight": node.weight,
        "active": node.active,
        "idle": service.connections[node.name].idle_count,
        "requests": counters.requests,
        "failures": counters.failures,
        "retries": counters.retries,
        "sessions": node.sessions,
        "queue": node.queued,
        "zone": node.zone,
        "load": node.load.figure if node.load is not None else None,
        "warmth": round(node.warmth, 3),
        "latency": list(counters.latency.counts),
    }


def nodes_view(pool: Pool, service: ProxyService) -> list[dict[str, Any]]:
    return [node_view(node, service) for node in pool.nodes.values()]


def totals_view(service: ProxyService) -> dict[str, Any]:
    """What concerns the balancer as a whole."""
    totals = service.totals
    return {
        "requests": totals.requests,
        "failures": totals.failures,
        "retries": totals.retries,
        "retries_refused": service.budget.refusals,
        "refused": totals.refused,
        "active_connections": service.active_connections,
        "tunnels": service.open_tunnels,
    }
