"""What the nodes of `million` host: sessions are made and used in the node's own process, as many as are asked for.

A web request for each of a million sessions would measure the client. So one request makes many, by the calls that
the middleware makes for one visitor; not more than `AT_ONCE` wait for their backup at a time.
"""

import asyncio
from hashlib import blake2b

from aiohttp import web

from sessiond.adapters.aiohttp import NODE, without_session
from sessiond.contract.session_id import Key
from tests.bench.memory import ATTRIBUTES
from tests.proof.lag import watched

AT_ONCE = 16
"""Writes under way, and the most that are begun in one turn of the loop."""


def create_app() -> web.Application:
    app = web.Application()
    app.add_routes([web.post("/fill/{count}", fill), web.post("/use/{count}", use)])
    return watched(app)


def key_of(node: str, number: int) -> Key:
    """As good as the hash of a token."""
    return blake2b(f"{node}/{number}".encode(), digest_size=16).digest()


@without_session
async def fill(request: web.Request) -> web.Response:
    """Make sessions; how many of them have a backup."""
    node, count = request.app[NODE], int(request.match_info["count"])
    protected = 0
    for first in range(0, count, AT_ONCE):
        keys = [key_of(node.name, number) for number in range(first, min(first + AT_ONCE, count))]
        done = await asyncio.gather(*(node.commit(key, ATTRIBUTES, create=True) for key in keys))
        protected += sum(committed.protected for committed in done)
    return web.json_response(protected)


@without_session
async def use(request: web.Request) -> web.Response:
    """Read every session once, as visitors would; how many were there."""
    node, count = request.app[NODE], int(request.match_info["count"])
    found = 0
    for number in range(count):
        checkout = node.try_open(key_of(node.name, number))
        if checkout is not None:
            found += 1
            checkout.release()
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    return web.json_response(found)
