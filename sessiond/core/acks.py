"""Cumulative acks over one link: which numbered frames were applied, in a few bytes a loop turn.

PUT and PATCH are numbered by counting, on both sides, from the start of the link instance. The receiver
says "applied up to n" at the end of each turn, and names each frame it refused *before* that, in the same
stream; so an ack never passes a refusal. A new link instance starts a new ledger: what was under way on
the old one is unknown and is sent again.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from sessiond.core.types import Key, Term


class Applied(NamedTuple):
    """What an ack says about one session: the receiver holds `version` in `term`, as of list change `seq`."""

    key: Key
    term: Term
    seq: int
    version: int


class AckLedger:
    """Both directions of one link instance."""

    __slots__ = ("_acked", "_received", "_sent", "_under_way")

    def __init__(self) -> None:
        self._sent = 0
        self._under_way: deque[tuple[int, Applied]] = deque()
        self._received = 0
        self._acked = 0

    # The sender's side.

    def sent(self, applied: Applied) -> None:
        """A numbered frame leaves; once applied it means `applied`."""
        self._sent += 1
        self._under_way.append((self._sent, applied))

    def acked(self, frame: int) -> Iterator[Applied]:
        """The peer has applied everything up to `frame`. Consume the iterator: it settles as it goes."""
        while self._under_way and self._under_way[0][0] <= frame:
            yield self._under_way.popleft()[1]

    def refused(self, frame: int) -> None:
        """The peer did not apply this frame."""
        for index, (number, _) in enumerate(self._under_way):
            if number == frame:
                del self._under_way[index]
                return

    @property
    def under_way(self) -> int:
        """Frames sent and neither acked nor refused."""
        return len(self._under_way)

    # The receiver's side.

    def received(self) -> int:
        """A numbered frame came; its number."""
        self._received += 1
        return self._received

    def owed(self) -> int | None:
        """The number to ack at the end of the turn, once; None if nothing came since."""
        if self._acked == self._received:
            return None
        self._acked = self._received
        return self._received
