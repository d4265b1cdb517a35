"""The stream that keeps the strip of nodes true: server-sent events of the cluster, without a session.

An event carries all nodes, so a page needs only the last one and loses nothing by a reconnect. A stream
ends by itself when its node begins to leave: the browser reconnects and the balancer picks another node.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from sessiond.adapters.aiohttp import without_session
from sessiond.contract.cluster_view import ClusterView, MemberState
from sessiond.demo.nodes import strip
from sessiond.ports import WebNode

STREAMS_MAX = 1000
"""Streams open at one node; each holds a connection, and anybody may ask for one."""

BEAT_S = 2.0
"""With no change the nodes are sent again after this: it refreshes the counts, and a page that hears
nothing for much longer knows that its node hangs (`SILENCE_MS` in shop.js)."""

RETRY_MS = 300
"""How long a browser waits before it reconnects."""

LEAVING = frozenset({MemberState.DRAINING, MemberState.LEFT})


class Events:
    """`GET /api/events` of one application."""

    def __init__(self, node: WebNode) -> None:
        self._node = node
        self._closing = asyncio.Event()
        self._open = 0

    async def close(self, _app: web.Application) -> None:
        """End every stream; called when the application shuts down, so that nobody waits for them."""
        self._closing.set()

    @without_session
    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self._open >= STREAMS_MAX:
            raise web.HTTPServiceUnavailable(
                text=f"{self._node.name} has {STREAMS_MAX} event streams open, its limit; try again later\n",
                headers={"Retry-After": "5"},
            )
        self._open += 1
        stream = EventSourceResponse(sep="\n")
        try:
            await stream.prepare(request)
            async with stream, aclosing(self._views()) as views:
                retry: int | None = RETRY_MS
                async for view in views:
                    await stream.send(_encode(view), retry=retry)
                    retry = None
        except ConnectionResetError:
            pass  # the page was closed: how most streams end
        finally:
            self._open -= 1
        return stream

    async def _views(self) -> AsyncGenerator[ClusterView, None]:
        """The view now, at every change and after a beat without one; the last one says that we leave."""
        changes = aiter(self._node.watch())
        change = asyncio.ensure_future(anext(changes, None))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            while True:
                await asyncio.wait({change, closing}, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
                if closing.done():
                    return
                view: ClusterView | None = self._node.cluster_view()
                if change.done():
                    view = change.result()
                    change = asyncio.ensure_future(anext(changes, None))
                if view is None:
                    return
                yield view
                if self._leaves(view):
                    return
        finally:
            change.cancel()
            closing.cancel()

    def _leaves(self, view: ClusterView) -> bool:
        return any(member.name == self._node.name and member.state in LEAVING for member in view.members)


def _encode(view: ClusterView) -> str:
    return json.dumps({"node": view.node, "nodes": strip(view)}, separators=(",", ":"))
