"""A suspicion: for how long the accused may still refute it, and who else accuses.

Lifeguard's suspicion: with one accuser the time is long, since it may be the accuser that is unwell; each
*independent* accusation shortens it, by less each time, down to a minimum once as many as wanted have come.
Where nobody is left who could confirm, the minimum holds at once.

A suspicion belongs to one refutation number of the accused: a refuted one is thrown away, so it cannot fire.
"""

import math

from sessiond.core.types import Life

CONFIRMATIONS_WANTED = 3
"""Accusers beside the first one after which nothing is gained by waiting for more."""

PERIODS_MIN = 3
"""Probe periods in which a refutation reaches everybody in a cluster of ten; grows with log10 of the size."""

UNCONFIRMED_FACTOR = 4
"""How many times longer a suspicion that nobody confirms takes: a node that accuses alone is often itself unwell."""


class Suspicion:
    __slots__ = ("_min_s", "_wanted", "accusers", "has_fired", "is_tried", "last_call_at", "number", "since")

    def __init__(self, number: int, now: float, *, others: int, interval_s: float) -> None:
        """`others`: members of the cluster beside this node; `interval_s`: its probe period."""
        self.number = number
        self.since = now
        self.accusers: tuple[Life, ...] = ()
        self._wanted = min(CONFIRMATIONS_WANTED, max(0, others - 1))  # neither the accused nor the first one
        self._min_s = PERIODS_MIN * interval_s * max(1.0, math.log10(others + 1))
        self.is_tried = False
        """Whether this node itself has failed to reach the accused since."""

        self.last_call_at: float | None = None
        """When the accused was asked a last time, by a node that had only heard of the suspicion."""

        self.has_fired = False

    def confirm(self, accusers: tuple[Life, ...]) -> bool:
        """Accusations, new or not; whether there are more now than before. No more are kept than are wanted."""
        before = len(self.accusers)
        news = tuple(accuser for accuser in accusers if accuser not in self.accusers)
        self.accusers = (self.accusers + news)[: self._wanted + 1]
        return len(self.accusers) > before

    def patience_s(self, doubt: int, witnesses: int) -> float:
        """How long after `since` the accused has, as things stand; a node that doubts itself waits longer.

        `witnesses`: members that are not suspected themselves, and so could confirm. Once none is left who has not,
        there is nothing more to wait for: a node that is cut off, alone or with few others, doubts itself all the
        time, and has to find out soon that the rest is silent. And doubt is never longer than accusing alone.
        """
        longest = self._min_s * UNCONFIRMED_FACTOR
        wanted = min(self._wanted, witnesses)
        if len(self.accusers) > wanted:
            return self._min_s
        share = math.log(len(self.accusers)) / math.log(wanted + 1)
        return min((longest - (longest - self._min_s) * share) * doubt, longest)
