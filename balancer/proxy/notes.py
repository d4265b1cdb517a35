"""What is noted of each request beside serving it: its id and trace, which nodes are told, and its line in the access log.

Only where the settings ask for any of it; otherwise there are no notes at all, and nothing is paid for them. In the log
a path has neither parameters nor query, which may carry a session's token.
"""

import os
import random
import re
from itertools import count

import structlog

from balancer.core.headers import Forwarding
from balancer.core.naming import Trace, has_trace, new_trace, request_id_in, trace_in
from balancer.core.request import RequestHead
from balancer.settings import Settings

USER_AGENT_CHARS_MAX = 200
"""More of it is not logged."""

_USER_AGENT = re.compile(rb"\r\nuser-agent:[ \t]*([^\r]*)", re.IGNORECASE)
_FORWARDED_FOR = re.compile(rb"\r\nx-forwarded-for: ([^\r]*)", re.IGNORECASE)


class Note:
    """Of one request. `lines`: fields for the node; `answer_line`: one for the client, or empty.

    The exchange fills in the rest: `received`, bytes of the request's body; `sent`, bytes of the answer, its head
    included; `first_byte_s`, from the request's head to the answer's, None if there was no answer.
    """

    __slots__ = ("answer_line", "client", "first_byte_s", "lines", "received", "request_id", "sent", "trace")

    def __init__(
        self, client: Forwarding, request_id: str, lines: bytes, answer_line: bytes, trace: Trace | None
    ) -> None:
        self.client = client
        self.request_id = request_id
        self.lines = lines
        self.answer_line = answer_line
        self.trace = trace
        self.received = 0
        self.sent = 0
        self.first_byte_s: float | None = None


class Notes:
    """Ids are unique among all processes: some random letters for this one, then a number."""

    def __init__(self, settings: Settings) -> None:
        # Bound once: binding anew would cost each line as much as writing it.
        self._log = structlog.get_logger("balancer.access").bind() if settings.access_log else None
        self._in_answers = settings.request_id_in_answer
        self._begins_traces = settings.trace_context == "create"
        self._rng = random.Random()  # noqa: S311 - trace ids are no secrets
        self._process = os.urandom(5).hex()
        self._numbers = count(1)

    @staticmethod
    def of(settings: Settings) -> "Notes | None":
        """None if nobody wants any."""
        wanted = settings.access_log or settings.request_id or settings.trace_context == "create"
        return Notes(settings) if wanted else None

    def open(self, client: Forwarding, head: RequestHead) -> Note:
        """A request begins."""
        request_id = request_id_in(head.forwarded) if client.is_trusted else None
        lines = b""
        if request_id is None:
            request_id = f"{self._process}-{next(self._numbers)}"
            lines = f"X-Request-Id: {request_id}\r\n".encode()
        trace = trace_in(head.forwarded)
        if trace is None and self._begins_traces and not has_trace(head.forwarded):
            trace = new_trace(self._rng)
            lines += trace.line
        answer_line = f"X-Request-Id: {request_id}\r\n".encode() if self._in_answers else b""
        return Note(client, request_id, lines, answer_line, trace)

    def close(
        self,
        note: Note,
        head: RequestHead,
        *,
        status: int,
        node: str | None,
        attempts: int,
        retries: int,
        duration_s: float,
    ) -> None:
        """The request has ended. `status` 0: the client was gone before it got an answer."""
        if self._log is None:
            return
        first_byte = note.first_byte_s
        self._log.info(
            "request.served",
            client=note.client.peer.decode("ascii"),
            forwarded_for=_forwarded_for(head.forwarded) if note.client.is_trusted else None,
            method=head.method.decode("ascii"),
            path=head.target.partition(b"?")[0].partition(b";")[0].decode("ascii"),
            status=status,
            node=node,
            attempts=attempts,
            retries=retries,
            received_bytes=note.received,
            sent_bytes=note.sent,
            duration_ms=round(duration_s * 1000, 3),
            first_byte_ms=round(first_byte * 1000, 3) if first_byte is not None else None,
            request=note.request_id,
            trace=note.trace.trace_id if note.trace is not None else None,
            span=note.trace.span_id if note.trace is not None else None,
            user_agent=_user_agent(head.forwarded),
        )

    def refused(self, client: Forwarding, status: int, reason: str) -> None:
        """What came was no request that could be served."""
        if self._log is not None:
            self._log.info(
                "request.refused", client=client.peer.decode("ascii"), status=status, reason=reason
            )


def _user_agent(head: bytes) -> str | None:
    match = _USER_AGENT.search(head)
    return match[1].decode("latin-1").strip()[:USER_AGENT_CHARS_MAX] if match is not None else None


def _forwarded_for(head: bytes) -> str | None:
    """The list of clients as the node gets it."""
    match = _FORWARDED_FOR.search(head)
    return match[1].decode("latin-1") if match is not None else None
