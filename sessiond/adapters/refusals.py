"""What a visitor is answered when the session could not be opened or committed, whatever the framework.

The text is the error's own, which names attributes and nodes, never values or tokens. An error that is the application's
to mend says what it met inside a value: that is for the log alone.
"""

import math
from http import HTTPStatus
from typing import NamedTuple

from sessiond.errors import ChangesUndone, Conflict, MemoryFull, SessionError, SessionGone, Unavailable

RETRY_AFTER_S = 1
"""When the visitor may try again after a refusal that passes by itself and names no time of its own."""

FAULT_TEXT = (
    "the application has used the session in a way that fails; nothing was written: the node's log says why\n"
)
"""All that a visitor hears of a fault: the error's text may show keys of a dict, or what a registered type says."""


class Refusal(NamedTuple):
    """An answer in plain text; `is_fault`: the application has to change, so the log line is an error."""

    status: HTTPStatus
    text: str
    retry_after_s: int | None = None
    is_fault: bool = False

    def headers(self) -> dict[str, str]:
        headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        return headers

    def to_bytes(self, *, with_body: bool) -> bytes:
        """The whole HTTP/1.1 answer, after which the connection is closed. An answer to HEAD has no body."""
        body = self.text.encode()
        headers = {**self.headers(), "Content-Length": str(len(body)), "Connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        answer = f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n{head}\r\n".encode()
        return answer + body if with_body else answer


def refusal_of(error: SessionError) -> Refusal:
    """The answer for an error that ended a request: its changes are not saved (or, after Unavailable, perhaps)."""
    text = f"{error}\n"
    match error:
        case Unavailable():
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, text, max(1, math.ceil(error.retry_after_s)))
        case ChangesUndone() | MemoryFull():
            return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, text, RETRY_AFTER_S)
        case Conflict() | SessionGone():
            return Refusal(HTTPStatus.CONFLICT, text)
        case _:
            return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, FAULT_TEXT, is_fault=True)


def no_new_sessions(name: str, why: str) -> Refusal:
    """The answer to a visitor without a session. `why`: as `sessiond.ports.SessionNode.why_closed` says it."""
    return Refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{name} {why}; no session was begun: try another node\n",
        RETRY_AFTER_S,
    )
