"""A clock that stands still while its node does: silence that nobody listened to is not silence.

A process that gets no CPU wakes late, with the answers of its peers waiting unread. Timers run first, so by
the ordinary clock every peer would look silent. This clock counts only time in which the node could listen:
what passed beyond the moment at which it had asked to be woken is left out, and after a late awakening nothing
is judged for one short turn, in which what has arrived is read.

Readings never go back. A reading is a duration on this clock, never a time of day; it stays inside `swim`.
"""

import math

LATE_S = 0.05
"""A timer later than this is a sign of starvation: a healthy loop is late by a few milliseconds."""

LISTEN_S = 0.01
"""After a late awakening links are read for so long before anything is judged: a turn of the event loop."""


class WakingClock:
    __slots__ = ("_is_listening", "_late_at", "_listens_until", "_lost_s", "overslept_at")

    def __init__(self) -> None:
        self._lost_s = 0.0
        self._late_at = math.inf
        self._listens_until = -math.inf
        self._is_listening = False
        self.overslept_at = -math.inf
        """When the node woke late for the last time, by the ordinary clock."""

    def reading(self, now: float) -> float:
        return now - self._lost_s

    def has_come(self, reading: float, now: float) -> bool:
        return reading + self._lost_s <= now  # the sum that `wake_at` gives: rounding must not part them

    def wake_at(self, reading: float) -> float:
        """When to be woken for what is due at `reading`."""
        return max(reading + self._lost_s, self._listens_until)

    def expect(self, at: float) -> None:
        """The node asks to be woken at this time."""
        self._late_at = at + LATE_S

    def wake(self, now: float) -> bool:
        """The node does something: whether it is late, in which case the clock is put back."""
        if now <= self._late_at:
            return False
        self._lost_s += now - self._late_at
        self.overslept_at = now
        if not self._is_listening:
            self._is_listening = True
            self._listens_until = now + LISTEN_S
        self.expect(max(now, self._listens_until))
        return True

    def may_judge(self, now: float) -> bool:
        """Whether what had arrived has been read. Late twice in a row, the node goes on all the same."""
        if now < self._listens_until:
            return False
        self._is_listening = False
        return True
