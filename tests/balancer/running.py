"""A whole balancer in front of scripted nodes: what they answer, settings for them, a look at a page."""

import asyncio
import json
from typing import Any

import aiohttp

from balancer.settings import Settings
from tests.balancer.proxy.stage import Connection, Script, ScriptedNode


async def serve(connection: Connection) -> None:
    while request := await connection.request():
        name = connection.node_name.encode()
        if request.line.split(b" ")[1] == b"/_sessiond/health":
            body = json.dumps(
                {"node": connection.node_name, "state": "alive", "primaries": 4, "backups": 1, "load": 0.0}
            ).encode()
        else:
            body = name
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def serve_after(event: asyncio.Event) -> Script:
    """Whoever asks anything, for health too, hears nothing before the event."""

    async def script(connection: Connection) -> None:
        await event.wait()
        await serve(connection)

    return script


def settings_for(nodes: list[ScriptedNode], **more: Any) -> Settings:
    fields = {
        "listen": "127.0.0.1:0",
        "admin": "127.0.0.1:0",
        "node": tuple(f"{node.name}={node.address}" for node in nodes),
        "health_interval_s": 0.05,
        "health_timeout_s": 10.0,
        "connect_timeout_s": 10.0,
        "drain_timeout_s": 5.0,
    }
    return Settings(**{**fields, **more})


async def text(web: aiohttp.ClientSession, url: str, **options: Any) -> str:
    async with web.get(url, **options) as answer:
        assert answer.status == 200
        return await answer.text()
