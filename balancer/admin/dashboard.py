"""The dashboard: a page of files beside this module, filled by the admin API in the browser.

It has no data of its own: dashboard.js reads `/v1/events` and gives orders through `/v1/nodes`. The policy header lets the page load nothing
from elsewhere.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def routes() -> list[web.RouteDef]:
    """The page at ``/`` and what it loads, for the admin port's application."""
    files = {
        "/": "dashboard.html",
        "/dashboard.css": "dashboard.css",
        "/dashboard.js": "dashboard.js",
        "/figures.js": "figures.js",
    }
    return [web.get(path, _file(name)) for path, name in files.items()]


def _file(name: str) -> Callable[[web.Request], Awaitable[web.FileResponse]]:
    path = Path(__file__).with_name(name)

    async def serve(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers=HEADERS)

    return serve
