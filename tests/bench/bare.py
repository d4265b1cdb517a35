"""What an answer costs without a session: the answer of `apps`, served as a node serves it.

``python -m tests.bench.bare PORT``: aiohttp on uvloop, no access log; ends on SIGTERM. It imports nothing
of sessiond.
"""

import asyncio
import signal
import sys

import uvloop
from aiohttp import web


async def _answer(_request: web.Request) -> web.Response:
    return web.json_response({"n": 12345})


async def serve(port: int) -> None:
    app = web.Application()
    app.router.add_get("/", _answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
