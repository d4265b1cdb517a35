"""The application under test, for `sessiond run tests.bench.apps:counter`."""

from aiohttp import web

from sessiond.adapters.aiohttp import get_session


async def _count(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["n"] = session.get("n", 0) + 1
    return web.json_response({"n": session["n"]})


def counter() -> web.Application:
    """Every request is one session write."""
    app = web.Application()
    app.router.add_get("/", _count)
    return app
