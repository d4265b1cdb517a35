"""Somebody with a browser: keeps the cookie and the connection, and takes nothing but a good answer."""

import http.client
import json
from http import HTTPStatus
from http.cookies import SimpleCookie
from typing import Any, Self

REQUEST_TIMEOUT_S = 10.0


class Visitor:
    """One session at the balancer. Raises OSError or http.client.HTTPException when it is not answered."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_S)
        self._cookies = SimpleCookie()

    @property
    def session_id(self) -> str:
        return self._cookies["SESSIONID"].value

    def visit(self) -> dict[str, Any]:
        """Look at the session, which counts a visit."""
        return self._ask("GET", "/api/session")

    def add(self, item: str) -> dict[str, Any]:
        """Put an item of the shop into the cart."""
        return self._ask("POST", "/api/cart", {"item": item})

    def page(self) -> str:
        """The shop as people see it, which counts a visit."""
        return self._send("GET", "/").decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _ask(self, method: str, path: str, content: object = None) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._send(method, path, content))
        return answer

    def _send(self, method: str, path: str, content: object = None) -> bytes:
        headers = {"Cookie": "; ".join(f"{name}={morsel.value}" for name, morsel in self._cookies.items())}
        body = None
        if content is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(content)
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        text = response.read()
        assert response.status == HTTPStatus.OK, f"{method} {path}: {response.status} {text[:500]!r}"
        for header in response.headers.get_all("Set-Cookie", []):
            self._cookies.load(header)
        return text
