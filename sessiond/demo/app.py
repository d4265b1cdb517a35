"""The demo shop: a page and a small JSON API around one session, to watch it outlive its node.

What a visitor stores is two attributes, `visits` and `cart`. Every change of them goes through `_update`,
so that requests of one session that run in parallel, on one node or on several, each count exactly once.
The page works without JavaScript; shop.js only saves it the reloads and keeps the strip of nodes moving.
The host installs the session middleware; nothing here knows of cookies.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import jinja2
from aiohttp import web

from sessiond.adapters.aiohttp import Session, get_session, without_session
from sessiond.demo import cart as goods
from sessiond.demo.events import Events
from sessiond.demo.nodes import colour_of, strip
from sessiond.errors import Conflict
from sessiond.ports import WebNode

T = TypeVar("T")

UPDATE_ATTEMPTS_MAX = 50
"""Times a change is tried again because another request wrote first: more than one session has in flight."""

BODY_BYTES_MAX = 4096
"""Largest request body: an item's name."""

ASSETS = ("shop.css", "shop.js")

IN_PLACE_HEADER = "X-In-Place"
"""Sent by shop.js: answer a form with the page itself, without a redirect that would count a visit."""

PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def create_app(node: WebNode) -> web.Application:
    """The shop, served by `node`."""
    shop = _Shop(node)
    events = Events(node)
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.on_shutdown.append(events.close)
    app.add_routes(
        [
            web.get("/", shop.page),
            web.get("/cart", shop.look),
            web.post("/cart", shop.add_by_form),
            web.post("/cart/empty", shop.empty_by_form),
            web.get("/api/session", shop.session),
            web.post("/api/cart", shop.add),
            web.delete("/api/cart", shop.empty),
            web.get("/api/events", events.handle),
            *(web.get(f"/{name}", _asset(name)) for name in ASSETS),
        ]
    )
    return app


class _Refusal(Exception):
    """The request cannot be granted as it stands; nothing was changed."""

    def __init__(self, status: HTTPStatus, error: str, message: str, **more: object) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": error, "message": message, **more}


class _Shop:
    """The handlers; they keep nothing but the node and the page's template."""

    def __init__(self, node: WebNode) -> None:
        self._node = node
        templates = jinja2.Environment(
            loader=jinja2.PackageLoader("sessiond.demo", ""),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._template = templates.get_template("shop.html")

    async def page(self, request: web.Request) -> web.Response:
        session = await get_session(request)
        return self._page(session, visits=await _update(session, _count_visit))

    async def look(self, request: web.Request) -> web.Response:
        """The page without counting a visit: what is kept, and where, for shop.js and for reloads."""
        return self._page(await get_session(request))

    async def add_by_form(self, request: web.Request) -> web.Response:
        item = str((await request.post()).get("item", ""))
        title = goods.CATALOGUE[item].title if item in goods.CATALOGUE else item
        return await self._change_by_form(
            request, partial(_add, item), f"{title} added. {self._node.name} keeps your cart."
        )

    async def empty_by_form(self, request: web.Request) -> web.Response:
        return await self._change_by_form(request, _empty, f"{self._node.name} emptied your cart.")

    async def _change_by_form(
        self, request: web.Request, change: Callable[[Session], None], done: str
    ) -> web.Response:
        session = await get_session(request)
        try:
            await _update(session, change)
        except _Refusal as refusal:
            return self._page(session, status=refusal.status, notice=str(refusal))
        if IN_PLACE_HEADER in request.headers:
            return self._page(session, notice=done)
        raise web.HTTPSeeOther("/")

    async def session(self, request: web.Request) -> web.Response:
        session = await get_session(request)
        return self._json(session, visits=await _update(session, _count_visit))

    async def add(self, request: web.Request) -> web.Response:
        try:
            item = await _item_of(request)
            session = await get_session(request)
            await _update(session, partial(_add, item))
        except _Refusal as refusal:
            return web.json_response(refusal.body, status=refusal.status)
        return self._json(session)

    async def empty(self, request: web.Request) -> web.Response:
        session = await get_session(request)
        await _update(session, _empty)
        return self._json(session)

    def _json(self, session: Session, *, visits: int | None = None) -> web.Response:
        return web.json_response(self._answer(session, visits), headers={"Cache-Control": "no-store"})

    def _answer(self, session: Session, visits: int | None) -> dict[str, Any]:
        """What the visitor has, and which nodes keep it. Call it after the change is saved.

        `visits`: the number of this very visit; others beside it may have counted on meanwhile.
        """
        where = self._node.locate(bytes.fromhex(session.key)) if session.key else None
        backups = list(where.backups) if where else []
        if where and where.primary == self._node.name:
            role = "primary"
        else:
            role = "backup" if self._node.name in backups else "none"
        return {
            "node": self._node.name,
            "visits": session.get("visits", 0) if visits is None else visits,
            "cart": session.get("cart", []),
            "session": {"key": session.key and session.key[:8], "role": role, "backups": backups},
        }

    def _page(
        self,
        session: Session,
        *,
        visits: int | None = None,
        status: HTTPStatus = HTTPStatus.OK,
        notice: str = "",
    ) -> web.Response:
        answer = self._answer(session, visits)
        text = self._template.render(
            answer=answer,
            catalogue=goods.CATALOGUE.values(),
            colour=colour_of(self._node.name),
            lines=goods.lines(answer["cart"]),
            nodes=strip(self._node.cluster_view()),
            notice=notice,
            total=goods.total(answer["cart"]),
        )
        return web.Response(text=text, content_type="text/html", status=status, headers=PAGE_HEADERS)


async def _update(session: Session, change: Callable[[Session], T]) -> T:
    """Make `change` on the newest state and save it, again if another request wrote in between; its result.

    `change` reads and writes the session without awaiting, and must be fit to run more than once. When this
    returns, the change is kept: every backup has it.
    """
    for _ in range(UPDATE_ATTEMPTS_MAX):
        version = session.version
        result = change(session)
        try:
            await session.save(if_version=version)
        except Conflict:
            continue
        return result
    raise web.HTTPServiceUnavailable(
        text=f"other requests of this session were faster {UPDATE_ATTEMPTS_MAX} times; nothing was changed: try again\n",
        headers={"Retry-After": "1"},
    )


def _count_visit(session: Session) -> int:
    visits: int = session.get("visits", 0) + 1
    session["visits"] = visits
    return visits


def _add(item: str, session: Session) -> None:
    if item not in goods.CATALOGUE:
        names = list(goods.CATALOGUE)
        message = f"the shop has no {item[:40]!r}; it has {', '.join(names)}"
        raise _Refusal(HTTPStatus.BAD_REQUEST, "unknown_item", message, items=names)
    cart = session.get("cart", [])
    if len(cart) >= goods.CART_ITEMS_MAX:
        message = f"the cart is full: it holds {goods.CART_ITEMS_MAX} items; empty it first"
        raise _Refusal(HTTPStatus.CONFLICT, "cart_full", message)
    session["cart"] = [*cart, item]


def _empty(session: Session) -> None:
    session["cart"] = []


async def _item_of(request: web.Request) -> str:
    """The `item` of a JSON body. Only JSON: a form of another site could not send it without asking us first."""
    if request.content_type != "application/json":
        message = f"send the item as application/json, not {request.content_type}"
        raise _Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not_json", message)
    try:
        item = (await request.json())["item"]
    except (ValueError, KeyError, TypeError):
        item = None
    if not isinstance(item, str):
        raise _Refusal(
            HTTPStatus.BAD_REQUEST, "bad_body", 'send a JSON object with an item, such as {"item": "mug"}'
        )
    return item


def _asset(name: str) -> Callable[[web.Request], Awaitable[web.FileResponse]]:
    """A handler that serves a file of this package; browsers keep it and ask whether it changed."""
    path = Path(__file__).with_name(name)

    @without_session
    async def serve(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers={"Cache-Control": "no-cache"})

    return serve
