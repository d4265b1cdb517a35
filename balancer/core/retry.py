"""Whether a failed attempt is repeated, and where.

An answer to the client is the only proof that a request took effect; its absence proves nothing. So:

- nothing of the request was sent: any method is repeated;
- something was sent, and not one byte of an answer came: only what may be applied twice (idempotent methods,
  RFC 9110, 9.2.2), and only if its whole body so far is still here;
- the answer began: never.

All of it under a budget, so that a sick cluster is not made sicker: in the long run retries are at most a share of
the requests, and the reserve allows for the burst when a node dies with many requests in flight.
"""

from dataclasses import dataclass
from enum import Enum, auto

IDEMPOTENT = frozenset(
    {b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"PROPFIND", b"SEARCH", b"QUERY"}
)

ATTEMPTS_MAX = 4
"""Nodes that one request is tried at. A client had better hear of a failure than wait for a tour of the cluster."""


REFERRALS_MAX = 3
"""Owners that one request follows. The session may move on while the request is on its way to where it was, most
of all while a node drains; after this many the next node is to serve it, wherever the session is."""


class Phase(Enum):
    """How far an attempt came."""

    UNSENT = auto()
    SENT = auto()
    ANSWERING = auto()


class Remedy(Enum):
    SAME_NODE = auto()
    OTHER_NODE = auto()
    NONE = auto()


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt. `on_reused`: over a connection that had served before. `attempts`: made so far."""

    phase: Phase
    method: bytes
    replayable: bool
    on_reused: bool
    attempts: int


def remedy(failure: Failure) -> Remedy:
    """What the rules allow; the budget has the last word."""
    if failure.attempts >= ATTEMPTS_MAX or failure.phase is Phase.ANSWERING or not failure.replayable:
        return Remedy.NONE
    if failure.phase is not Phase.UNSENT and failure.method not in IDEMPOTENT:
        return Remedy.NONE
    # A connection that served before may have been closed for its idleness as we wrote: that says nothing
    # about the node. A fresh connection to it will tell, and a dead node refuses that in no time.
    return Remedy.SAME_NODE if failure.on_reused else Remedy.OTHER_NODE


def may_leave_unavailable(method: bytes, replayable: bool, attempts: int) -> bool:
    """Whether a 503 with Retry-After and Connection: close may be answered by another node instead.

    A node that is joining, draining or outvoted answers like that. An application might do so too, after it did
    something, so only what may be applied twice is repeated.
    """
    return replayable and method in IDEMPOTENT and attempts < ATTEMPTS_MAX


class Budget:
    """Retries are paid from deposits that requests make. `share`: of a retry per request; `reserve`: most saved.

    `balance`: retries that could be paid now. `refusals`: those that could not be paid, since start.
    """

    __slots__ = ("_reserve", "_share", "balance", "refusals")

    def __init__(self, share: float, reserve: int) -> None:
        self._share = share
        self._reserve = float(reserve)
        self.balance = float(reserve)
        self.refusals = 0

    def configure(self, share: float, reserve: int) -> None:
        """Allow so many from now on. What was spent stays spent; what a larger reserve has more is there at once, for
        without a share nothing would ever bring it in."""
        self.balance = min(float(reserve), self.balance + max(0.0, reserve - self._reserve))
        self._share, self._reserve = share, float(reserve)

    def deposit(self) -> None:
        """A request came in."""
        if self.balance < self._reserve:
            self.balance = min(self._reserve, self.balance + self._share)

    def withdraw(self) -> bool:
        """Pay for one retry, if possible."""
        if self.balance < 1.0:
            self.refusals += 1
            return False
        self.balance -= 1.0
        return True
