"""Sessions for aiohttp applications: `setup(app, node)` once, `await get_session(request)` in handlers.

Invariant: no byte of a response leaves before the session's changes, and what the request has read, are
committed: applied by every backup in sync mode. A plain or file response is committed in the middleware, so
that a failure becomes an answer; a response that the handler prepares itself (a stream, a WebSocket) when its
head is about to be written. After that the node may give the session away; `save()` opens it again.

A cookie that does not verify, or whose session is gone, is no session: the visitor gets a fresh one.

An exception of the handler takes back what the request changed; a raised `HTTPException` is an answer, and
commits. `SessionError`s that the handler lets through are answered as `refusals` says.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from sessiond.adapters.cookies import SessionCookie
from sessiond.adapters.refusals import Refusal, no_new_sessions, refusal_of
from sessiond.backend import Checkout, Elsewhere
from sessiond.contract.names import OWNER_HEADER, REPLAY_HEADER
from sessiond.errors import SessionError
from sessiond.ports import SessionNode
from sessiond.session import HELD, OVER, Session, Sessions

__all__ = ["NODE", "Adapter", "Session", "get_session", "installed_in", "setup", "without_session"]

F = TypeVar("F", bound=Callable[..., Any])

log = structlog.get_logger()


class Adapter:
    """What `setup` puts into an application: its sessions, and a count of the requests that use them."""

    def __init__(self, node: SessionNode) -> None:
        self.sessions = Sessions(
            node, node.keyring, node.settings.granularity, node.settings.attribute_bytes_max
        )
        self.cookie = SessionCookie(node.settings, node.keyring)
        self.in_flight = 0
        """Requests whose response has not begun; those of `without_session` handlers are not counted."""
        self._idle: asyncio.Event | None = None
        """Set when no response is outstanding; made by the first that waits."""

    def began(self) -> None:
        """The response of a request has begun."""
        self.in_flight -= 1
        if self._idle is not None and self.in_flight == 0:
            self._idle.set()
            self._idle = None

    async def wait_idle(self) -> None:
        """Return when no response is outstanding."""
        while self.in_flight:
            if self._idle is None:
                self._idle = asyncio.Event()
            await self._idle.wait()


NODE: web.AppKey[SessionNode] = web.AppKey("sessiond.node", SessionNode)
"""``app[NODE]`` is the node that gives the application its sessions."""

_ADAPTER = web.AppKey("sessiond.adapter", Adapter)
_SESSION = web.RequestKey("sessiond.session", Session)
_WITHOUT_SESSION = "__sessiond_without_session__"


def setup(app: web.Application, node: SessionNode) -> Adapter:
    """Give `app` and its sub-applications sessions that live on `node`. Once, on the outermost application.

    What it returns is for whoever serves the application; others need not keep it.
    """
    if installed_in(app) is not None:
        raise RuntimeError("this application has its sessions already; call setup once")
    adapter = app[_ADAPTER] = Adapter(node)
    app[NODE] = node
    # Outermost, so that the application's own middlewares may use the session.
    app.middlewares.insert(0, _middleware(adapter, node))
    app.on_response_prepare.append(_before_head(adapter, node))
    app.on_startup.append(_refuse_marked_methods)
    return adapter


def installed_in(app: web.Application) -> Adapter | None:
    """What `setup` has put into the application, if it was called."""
    return app.get(_ADAPTER)


async def get_session(request: web.Request) -> Session:
    """The visitor's session; a new and empty one, which is not stored anywhere yet, if there is none."""
    try:
        return request[_SESSION]
    except KeyError:
        raise RuntimeError(
            "this request has no session: call sessiond.adapters.aiohttp.setup(app, node) where the application is "
            "made, and do not mark the handler with without_session"
        ) from None


def without_session(handler: F) -> F:
    """Mark a handler that never asks for the session: streams of public events, files, probes.

    Its requests open no session, wait for nobody, and are answered while the node joins or drains. Of a `web.View`
    mark the class: it is the handler of all its methods, and an application in which one of them is marked does not
    start, `TypeError`.
    """
    setattr(handler, _WITHOUT_SESSION, True)
    return handler


async def _refuse_marked_methods(app: web.Application) -> None:
    # Here, since the decorator cannot tell a view's method from one that is a handler by itself.
    for route in app.router.routes():
        view = route.handler
        if not isinstance(view, type) or hasattr(view, _WITHOUT_SESSION):
            continue
        for name in map(str.lower, hdrs.METH_ALL):
            if hasattr(getattr(view, name, None), _WITHOUT_SESSION):
                raise TypeError(
                    f"without_session on {view.__qualname__}.{name} has no effect, since the view is one handler: mark the "
                    "class, or make the method a handler of its own"
                )


def _middleware(adapter: Adapter, node: SessionNode) -> Middleware:
    sessions, cookie = adapter.sessions, adapter.cookie

    # One function, since every call costs in every request.
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        # aiohttp copies a handler's attributes to what it wraps it in.
        if hasattr(handler, _WITHOUT_SESSION):
            return await handler(request)
        cookies = request.headers.getall(hdrs.COOKIE, ())
        presented = cookie.find(cookies) if cookies else None
        checkout: Checkout | None = None
        if presented is not None and (checkout := node.try_open(presented.key)) is None:
            try:
                found = await node.open(presented.key, may_refer=_may_be_referred(request))
            except SessionError as error:
                return _response(_refusal(error, presented.key.hex()))
            if isinstance(found, Elsewhere):
                return _referral(found.owner)
            if request.transport is None:
                # Whoever asked has gone away meanwhile, and may have gone on elsewhere: what he asked for long ago
                # must not be done now, over what he did since.
                if found is not None:
                    found.release()
                return web.Response()
            checkout = found
        if presented is not None and checkout is not None:
            session = sessions.attach(presented.key, presented.token, presented.route, checkout)
        elif node.accepts_new_sessions():
            session = sessions.new()
        else:
            heir = node.heir() if _may_be_referred(request) else None
            if heir is not None:
                return _referral(heir)
            return _response(no_new_sessions(node.name, node.why_closed()))
        request[_SESSION] = session
        adapter.in_flight += 1
        try:
            try:
                response = await handler(request)
            except web.HTTPException:
                if session.stage is HELD and not session.is_untouched:
                    await session.settle()
                raise
            if session.stage is HELD and not session.is_untouched:
                await session.settle()
        except web.HTTPException:
            raise
        except SessionError as error:
            if session.stage is OVER:
                return (
                    web.Response()
                )  # refused in `before_head`, and the connection closed: aiohttp drops this one
            session.undo()
            return _response(_refusal(error, session.key))
        except BaseException:
            session.undo()
            raise
        else:
            return response
        finally:
            if session.stage is HELD:
                adapter.began()
            if lost := session.close():
                log.warning(
                    "session.changes_lost",
                    attributes=lost,
                    hint="they were made after the response had begun: await session.save() there",
                )

    return middleware


def _may_be_referred(request: web.Request) -> bool:
    """Whether our balancer can still send this request to another node."""
    return request.headers.get(REPLAY_HEADER) == "1"


def _referral(name: str) -> web.Response:
    return web.Response(status=421, headers={OWNER_HEADER: name})


def _before_head(
    adapter: Adapter, node: SessionNode
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    cookie, name = adapter.cookie, node.name

    async def before_head(request: web.Request, response: web.StreamResponse) -> None:
        try:
            session = request[_SESSION]
        except KeyError:
            pass  # no session, on purpose or since it was refused
        else:
            if session.stage is HELD:
                # The handler prepares its response itself.
                try:
                    if not session.is_untouched:
                        await session.settle()
                except SessionError as error:
                    session.undo()
                    _write_instead(request, _refusal(error, session.key))
                    session.close()
                    adapter.began()
                    raise
                session.release()
                adapter.began()
            if session.route != name and not session.is_superseded:
                header = cookie.answer(session.token, ended=session.ended)
                if header is not None:
                    response.headers.add(hdrs.SET_COOKIE, header)
        if not node.accepts_new_sessions() and response.status != 101:
            # aiohttp has chosen the Connection header already.
            response.force_close()
            response.headers[hdrs.CONNECTION] = "close"

    return before_head


def _write_instead(request: web.Request, refusal: Refusal) -> None:
    """Answer in place of a response that is being prepared, and close.

    Written by hand, since the request's writer is set up for that response's framing and compression already.
    """
    if request.transport is not None:
        request.transport.write(refusal.to_bytes(with_body=request.method != hdrs.METH_HEAD))
    request.protocol.force_close()


def _response(refusal: Refusal) -> web.Response:
    return web.Response(status=refusal.status, body=refusal.text.encode(), headers=refusal.headers())


def _refusal(error: SessionError, key: str | None) -> Refusal:
    refusal = refusal_of(error)
    emit = log.error if refusal.is_fault else log.warning
    emit(
        "session.refused", status=int(refusal.status), error=type(error).__name__, key=key, reason=str(error)
    )
    return refusal
