"""A browser reduced to what these tests need: one keep-alive connection, one session cookie, one request at a time.

Light enough for a thousand of them to be the load. Nothing is repeated: a request that gets no whole answer
raises `NotAnswered`, and whether it took effect is not known.
"""

import asyncio
import json
import re
import socket
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import httptools

from sessiond.contract.names import COOKIE_NAME
from tests.e2e.processes import HOST

REQUEST_TIMEOUT_S = 30.0
"""After this the connection is closed. Longer than any wait inside the programs under test."""

_SET_COOKIE = re.compile(rf"{COOKIE_NAME}=([^;]*)")


class NotAnswered(Exception):
    """The connection was refused, or ended before the answer did."""


class Answer(NamedTuple):
    """`headers`: names in lower case; of a repeated one the last."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def session_id(self) -> str | None:
        """What this answer sets the session cookie to; empty if it clears it, None if it leaves it alone."""
        found = _SET_COOKIE.match(self.headers.get("set-cookie", ""))
        return found.group(1) if found else None

    def good(self) -> Any:
        """The JSON of an answer that must be a 200."""
        assert self.status == 200, f"{self.status} {self.body[:500]!r}"
        return self.json()


class Cookie:
    """The session cookie of one user; several browsers may share it, as the tabs of one do."""

    def __init__(self, session_id: str = "") -> None:
        self.session_id = session_id
        self.tokens = [self.token] if session_id else []
        """Every token there ever was, in order: more than one is a second session."""

    @property
    def token(self) -> str:
        return self.session_id.partition(".")[0]

    @property
    def node(self) -> str:
        """The suffix: where a proxy sends this user."""
        return self.session_id.partition(".")[2]

    def copy(self) -> "Cookie":
        """The same cookie in another browser: what one is told, the other does not know."""
        return Cookie(self.session_id)

    def set(self, session_id: str) -> None:
        self.session_id = session_id
        if not self.tokens or self.tokens[-1] != self.token:
            self.tokens.append(self.token)


class Browser:
    """Sends requests to one port of loopback, or of another host, through sockets that `make_socket` makes."""

    def __init__(
        self,
        port: int,
        cookie: Cookie | None = None,
        host: str = HOST,
        make_socket: Callable[[], socket.socket] = socket.socket,
    ) -> None:
        self._port = port
        self._host = host
        self._make_socket = make_socket
        self.cookie = cookie if cookie is not None else Cookie()
        self._connection: _Connection | None = None

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, **headers)

    async def post(self, path: str, content: object = None) -> Answer:
        return await self.ask("POST", path, content)

    async def ask(self, method: str, path: str, content: object = None, **headers: str) -> Answer:
        """Names of headers are written with _ for -. Raises NotAnswered."""
        connection = self._connection
        if connection is None or not connection.is_open:
            connection = await self._connect()
        head = [f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n"]
        if self.cookie.session_id:
            head.append(f"Cookie: {COOKIE_NAME}={self.cookie.session_id}\r\n")
        head.extend(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        body = b""
        if content is not None:
            body = json.dumps(content).encode()
            head.append("Content-Type: application/json\r\n")
        if content is not None or method == "POST":
            head.append(f"Content-Length: {len(body)}\r\n")
        answer = await connection.exchange("".join(head).encode() + b"\r\n" + body)
        if answer.session_id is not None:
            self.cookie.set(answer.session_id)
        return answer

    async def close(self) -> None:
        """Returns when the connection is gone."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            await connection.gone.wait()

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        own = self._make_socket()
        own.setblocking(False)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await loop.sock_connect(own, (self._host, self._port))
                _, self._connection = await loop.create_connection(_Connection, sock=own)
        except OSError as error:
            own.close()
            raise NotAnswered(f"cannot connect to port {self._port}: {error}") from error
        except asyncio.CancelledError:
            own.close()
            raise
        return self._connection


class _Connection(asyncio.Protocol):
    """Reads one answer at a time; httptools calls the `on_` methods."""

    def __init__(self) -> None:
        self.is_open = False
        self.gone = asyncio.Event()
        self._answered: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = b""

    async def exchange(self, request: bytes) -> Answer:
        assert self._answered is None, "a browser sends one request at a time"
        loop = asyncio.get_running_loop()
        self._answered = loop.create_future()
        self._transport.write(request)
        timer = loop.call_later(REQUEST_TIMEOUT_S, self.close)
        try:
            return await self._answered
        finally:
            timer.cancel()
            self._answered = None

    def close(self) -> None:
        self.is_open = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"the answer is malformed: {error}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self.gone.set()
        self._fail(f"the connection ended before the answer: {exc or 'closed'}")

    def _fail(self, reason: str) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(NotAnswered(reason))

    def on_message_begin(self) -> None:
        self._headers = {}
        self._body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.close()
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(Answer(self._parser.get_status_code(), self._headers, self._body))
