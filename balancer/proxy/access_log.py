"""The optional log of requests: one line each, with an id that the node gets too (X-Request-Id).

A path is logged without its parameters and query, which may carry a session's token.
"""

import os
import time
from itertools import count
from typing import NamedTuple

import structlog

from balancer.core.pool import Node
from balancer.core.request import RequestHead

log = structlog.get_logger("balancer.access")


class Line(NamedTuple):
    """What is known of a request when it begins."""

    request_id: str
    header: bytes
    began: float


class AccessLog:
    """Ids are unique among all balancers: some random letters for this process, then a number."""

    def __init__(self) -> None:
        self._process = os.urandom(5).hex()
        self._numbers = count(1)

    def open(self) -> Line:
        request_id = f"{self._process}-{next(self._numbers)}"
        return Line(request_id, f"X-Request-Id: {request_id}\r\n".encode(), time.perf_counter())

    def write(self, line: Line, head: RequestHead, node: Node | None, status: int) -> None:
        """`status` 0: the client was gone before it got an answer."""
        log.info(
            "request.served",
            request=line.request_id,
            method=head.method.decode("ascii"),
            path=head.target.partition(b"?")[0].partition(b";")[0].decode("ascii"),
            node=node.name if node is not None else None,
            status=status,
            duration_ms=round((time.perf_counter() - line.began) * 1000, 3),
        )
