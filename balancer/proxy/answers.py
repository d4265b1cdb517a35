"""The answers that the balancer gives by itself: short texts for people, with the status said twice."""

from email.utils import formatdate
from http import HTTPStatus

RETRY_AFTER_S = 1
"""What a client is told to wait when no node is up: a node's return takes about that long."""


def answer(status: int, detail: str, *, close: bool, without_body: bool = False, name: bytes = b"") -> bytes:
    """A whole response. `detail` says what to do or what was wrong; it must not quote the request."""
    phrase = HTTPStatus(status).phrase
    body = f"{status} {phrase}: {detail}\n".encode()
    lines = [
        f"HTTP/1.1 {status} {phrase}",
        f"Date: {formatdate(usegmt=True)}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
    ]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        lines.append(f"Retry-After: {RETRY_AFTER_S}")
    if close:
        lines.append("Connection: close")
    head = b"%b\r\n%b\r\n" % ("\r\n".join(lines).encode(), name)
    return head if without_body else head + body
