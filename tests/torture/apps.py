"""The application that tortured nodes host: rising numbers in attributes of a session, and a loop that can be starved.

Every answer of a session says which node gave it, in which term (`epoch`), and whether the session had a backup.
"""

import asyncio
import random
import time
from contextlib import suppress

from aiohttp import web

from sessiond.adapters.aiohttp import NODE, get_session, without_session
from sessiond.session import Session

LAG_PROBE_INTERVAL_S = 0.01


def create_app() -> web.Application:
    app = web.Application()
    app[_STARVATION] = Starvation()
    app.add_routes(
        [
            web.get("/read/{attribute}", read),
            web.post("/write/{attribute}/{number}", write),
            web.post("/log-out", log_out),
            web.post("/starve/{least_ms}/{most_ms}/{breathe_ms}", starve),
            web.post("/feed", feed),
        ]
    )
    return app


class Starvation:
    """A handler that blocks the loop again and again, and a probe that measures what the loop's other tasks see."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self.lags_ms: list[float] = []

    def begin(self, least_s: float, most_s: float, breathe_s: float) -> None:
        self.lags_ms.clear()
        self._tasks = [
            asyncio.create_task(self._block(least_s, most_s, breathe_s)),
            asyncio.create_task(self._probe()),
        ]

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()

    async def _block(self, least_s: float, most_s: float, breathe_s: float) -> None:
        rng = random.Random(1)
        while True:
            time.sleep(rng.uniform(least_s, most_s))  # noqa: ASYNC251 - blocking the loop is what this is for
            await asyncio.sleep(breathe_s)

    async def _probe(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(LAG_PROBE_INTERVAL_S)
            self.lags_ms.append((time.perf_counter() - before - LAG_PROBE_INTERVAL_S) * 1000)


_STARVATION = web.AppKey("starvation", Starvation)


async def read(request: web.Request) -> web.Response:
    session = await get_session(request)
    return _answer(request, session, session.get(request.match_info["attribute"], 0))


async def write(request: web.Request) -> web.Response:
    """Answers with the number that was there before, so that every write is a read too."""
    session = await get_session(request)
    attribute = request.match_info["attribute"]
    before = session.get(attribute, 0)
    session[attribute] = int(request.match_info["number"])
    await session.save()
    return _answer(request, session, before)


async def log_out(request: web.Request) -> web.Response:
    session = await get_session(request)
    answer = _answer(request, session, 0)
    await session.invalidate()
    return answer


@without_session
async def starve(request: web.Request) -> web.Response:
    """From now on the loop is blocked for a random time between these two, then runs for so long, and so on."""
    times = (int(request.match_info[name]) / 1000 for name in ("least_ms", "most_ms", "breathe_ms"))
    request.app[_STARVATION].begin(*times)
    return web.json_response({})


@without_session
async def feed(request: web.Request) -> web.Response:
    """The end of it: what the loop's lag was meanwhile."""
    starvation = request.app[_STARVATION]
    await starvation.end()
    return web.json_response({"lags_ms": starvation.lags_ms})


def _answer(request: web.Request, session: Session, found: int) -> web.Response:
    node, key = request.app[NODE], session.key
    place = node.locate(bytes.fromhex(key)) if key is not None else None
    return web.json_response(
        {
            "node": node.name,
            "found": found,
            "epoch": place.epoch if place is not None else 0,
            "protected": place is not None and bool(place.backups),
        }
    )
