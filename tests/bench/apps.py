"""The applications under test, for `sessiond run tests.bench.apps:counter`."""

from aiohttp import web

from sessiond.adapters.aiohttp import get_session
from tests.bench.form import answer_to


async def _count(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["n"] = session.get("n", 0) + 1
    return web.json_response({"n": session["n"]})


def counter() -> web.Application:
    """Every request is one session write."""
    app = web.Application()
    app.router.add_get("/", _count)
    return app


async def _fill(request: web.Request) -> web.Response:
    return web.Response(text=answer_to(await get_session(request)))


def form() -> web.Application:
    """Every request changes 20 bytes of a session of 300; see `tests.bench.form`."""
    app = web.Application()
    app.router.add_get("/", _fill)
    return app
