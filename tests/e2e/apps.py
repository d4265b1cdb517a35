"""Applications that the end-to-end tests host on nodes."""

import asyncio

from aiohttp import web

from sessiond.adapters.aiohttp import NODE, get_session, without_session


def create_app() -> web.Application:
    """One number a session; what cannot be stored; requests that wait to be let go; bodies, an echo, and an event stream."""
    app = web.Application()
    app[_DOOR] = Door()
    app.add_routes(
        [
            web.get("/number", read),
            web.post("/number/{number}", write),
            web.post("/save/{number}", write_and_save),
            web.post("/unstorable", store_unstorable),
            web.post("/bytes/{count}", store_bytes),
            web.post("/log-in/{number}", log_in),
            web.post("/log-out", log_out),
            web.post("/wait/{number}", wait_and_write),
            web.get("/waiting", count_waiting),
            web.post("/let-go", let_go),
            web.post("/body", take_body),
            web.get("/echo", echo),
            web.get("/events", tell_events),
        ]
    )
    return app


class Door:
    """Where requests wait until another one lets them go."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.waiting = 0


_DOOR = web.AppKey("door", Door)


async def read(request: web.Request) -> web.Response:
    session = await get_session(request)
    return _answer(request, session.get("number", 0))


async def write(request: web.Request) -> web.Response:
    """Answers with the number that was there before, so that whoever wrote it can see that it was kept."""
    session = await get_session(request)
    before = session.get("number", 0)
    session["number"] = int(request.match_info["number"])
    return _answer(request, before)


async def write_and_save(request: web.Request) -> web.Response:
    """As `write`, and waits for the backups whatever the node's settings are."""
    session = await get_session(request)
    before = session.get("number", 0)
    session["number"] = int(request.match_info["number"])
    await session.save()
    return _answer(request, before)


async def store_unstorable(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["number"] = -1
    session["door"] = request.app[_DOOR]
    return _answer(request, -1)


async def store_bytes(request: web.Request) -> web.Response:
    """Several attributes of a size that each is allowed."""
    session = await get_session(request)
    left = int(request.match_info["count"])
    for index in range(100):
        size = min(left, 200_000)
        session[f"bytes{index}"] = b"x" * size
        left -= size
        if not left:
            break
    session["number"] = -1
    return _answer(request, -1)


async def log_in(request: web.Request) -> web.Response:
    """The visitor's rights change, and so does the token."""
    session = await get_session(request)
    session["number"] = number = int(request.match_info["number"])
    await session.rotate()
    return _answer(request, number)


async def log_out(request: web.Request) -> web.Response:
    session = await get_session(request)
    await session.invalidate()
    return _answer(request, 0)


async def wait_and_write(request: web.Request) -> web.Response:
    """A slow request: it writes only when it is let go."""
    session = await get_session(request)
    door = request.app[_DOOR]
    door.waiting += 1
    await door.opened.wait()
    session["number"] = number = int(request.match_info["number"])
    return _answer(request, number)


@without_session
async def count_waiting(request: web.Request) -> web.Response:
    return _answer(request, request.app[_DOOR].waiting)


@without_session
async def let_go(request: web.Request) -> web.Response:
    request.app[_DOOR].opened.set()
    return _answer(request, 0)


async def take_body(request: web.Request) -> web.Response:
    """Reads all of it before it answers, with the count of bytes."""
    return _answer(request, len(await request.read()))


async def echo(request: web.Request) -> web.WebSocketResponse:
    """A WebSocket: says which number the session has, then everything that it is told."""
    session = await get_session(request)
    line = web.WebSocketResponse()
    await line.prepare(request)
    await line.send_str(f"{request.app[NODE].name} {session.get('number', 0)}")
    async for message in line:
        await line.send_str(message.data)
    return line


async def tell_events(request: web.Request) -> web.StreamResponse:
    """One event at once, another when the door is opened; the stream ends with it."""
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await stream.prepare(request)
    await stream.write(b"data: first\n\n")
    await request.app[_DOOR].opened.wait()
    await stream.write(b"data: second\n\n")
    return stream


def _answer(request: web.Request, number: int) -> web.Response:
    return web.json_response({"node": request.app[NODE].name, "number": number})
