"""How fast to do what is not urgent, in a loop that users' requests share.

A pace is cut when a step comes late, which means that the loop has more to do than it can, and grows again slowly
towards its most: it settles where few steps are late. Invariant: what a late step missed is not made up for, as that
would be the very burst that a pace prevents; except for the least pace, which is kept however late steps come.
"""

GROWTH = 1.02
"""Per step that was in time."""

MADE_UP_FOR_S = 0.1
"""A step that came so late does at most what the least pace asks for in this time."""


class Pace:
    """Rates are per second. `cut`: what a step that is later than `late_s` leaves of the rate."""

    def __init__(self, *, most: float, least: float, step_s: float, late_s: float, cut: float) -> None:
        self.most = most
        self.least = min(least, most)
        self.rate = most
        self._step_s = step_s
        self._late_s = late_s
        self._cut = cut
        self._allowed = 0.0

    def begin(self, rate: float) -> None:
        """Something begins, and how much the loop can bear is not known yet."""
        self.rate = max(self.least, min(self.most, rate))
        self._allowed = 0.0

    def step(self, late_s: float) -> int:
        """A step, so late: how many may be done in it."""
        if late_s > self._late_s:
            self.rate = max(self.least, self.rate * self._cut)
        else:
            self.rate = min(self.most, self.rate * GROWTH)
        kept = self.least * min(self._step_s + late_s, MADE_UP_FOR_S)
        usual = self.rate * self._step_s
        self._allowed = min(self._allowed + max(usual, kept), max(1.0, 2 * usual, kept))
        return int(self._allowed)

    def did(self, count: int) -> None:
        """So many of what was allowed were done."""
        self._allowed -= count
