"""The answer to the balancer's health check: 200 while sessions can begin here, else 503 with the reason.

A state node is alive and answers 503 all the same: the balancer is to send it nobody.
"""

from dataclasses import replace

from aiohttp import web

from sessiond.contract.cluster_view import HealthView, Load, MemberState
from sessiond.ports import WebNode

RETRY_AFTER_S = 1


def health_view(node: WebNode, load: Load) -> HealthView:
    return replace(node.health(), load=load)


def health_response(view: HealthView, *, serving: bool) -> web.Response:
    """`serving`: the node can open sessions; a node that is alive but in the minority cannot."""
    if serving and view.state is MemberState.ALIVE and view.role == "app":
        return web.json_response(view.to_json(), headers={"Cache-Control": "no-store"})
    return web.json_response(
        view.to_json(),
        status=503,
        headers={"Cache-Control": "no-store", "Retry-After": str(RETRY_AFTER_S)},
    )
