"""The page of `form` on aiohttp-session with Redis: ``python -m tests.bench.redis_app PORT REDIS_PORT``.

As its documentation has it: the session is one JSON text, read at the beginning of a request and written at its end.
Served like a node serves: aiohttp on uvloop, no access log; ends on SIGTERM. It imports nothing of sessiond.
"""

import asyncio
import signal
import sys

import uvloop
from aiohttp import web
from aiohttp_session import get_session, setup
from aiohttp_session.redis_storage import RedisStorage
from redis import asyncio as redis

from tests.bench.form import answer_to


async def _fill(request: web.Request) -> web.Response:
    return web.Response(text=answer_to(await get_session(request)))


async def serve(port: int, redis_port: int) -> None:
    client = redis.Redis(host="127.0.0.1", port=redis_port)
    app = web.Application()
    setup(app, RedisStorage(client, max_age=1800))
    app.router.add_get("/", _fill)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await runner.cleanup()
    await client.aclose()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
