"""What was said of a session, and whether later answers agree.

An acknowledged value is never lost or shown older; no two increments of the counter get one number; what one
write wrote together is shown together; a session is gone only if somebody ended it or its idle time-out ran,
and then for ever; to one client a session's version never falls. A request may rely on what was answered
before it began. An answer marked unprotected promises nothing; but with placement `none`, where all are, it promises
the same as long as no node dies.
"""

from collections import Counter
from dataclasses import dataclass, field

COUNTER = "n"
TWIN = "+"
"""Each write of a client's attribute also writes, under the name with this at its end, the same number."""

EARLY_S = 0.1
"""Deliveries take this long at most, so touches are known so late."""


class Violation(AssertionError):
    """The promise that was broken."""


@dataclass(frozen=True, slots=True)
class Floor:
    """What a request that begins now may rely on."""

    values: dict[str, int]
    ended: bool


@dataclass
class Session:
    """One session, and everything that was promised of it. `strict`: whether every answer must be right."""

    name: str
    key: bytes
    idle_timeout_s: float
    strict: bool = True
    saves_counter: bool = False
    """Not strict, but for the counter: every write of it waited until the backups had it."""

    acked: dict[str, int] = field(default_factory=dict)
    counted: set[int] = field(default_factory=set)
    end_asked: bool = False
    ended: bool = False
    created: bool = False
    protected: bool = False
    """Some answer was not marked unprotected: that there is such a session is a promise."""

    stood: bool = False
    """It was seen with all its copies: also where answers do not wait for a backup, one loss does not end it any more."""

    used_at: float = 0.0
    leeway_s: float = 0.0
    """What clocks may have jumped: so much earlier may the session have expired."""

    counts: Counter[str] = field(default_factory=Counter)

    def floor(self) -> Floor:
        return Floor(dict(self.acked), self.ended)

    def shown(self, values: dict[str, int], floor: Floor) -> None:
        """A request that began with this floor was answered with these values."""
        for name, number in values.items():
            if name != COUNTER and not name.endswith(TWIN) and values.get(name + TWIN) != number:
                raise Violation(
                    f"{self} shows half a write: {name}={number}, {name + TWIN}={values.get(name + TWIN)}"
                )
        if self.strict and floor.ended:
            raise Violation(f"{self} is served though it was said to be gone")
        for name, number in floor.values.items():
            if self._is_promised(name) and values.get(name, 0) < number:
                raise Violation(f"{self} shows {name}={values.get(name, 0)}; {number} was acked before")

    def _is_promised(self, name: str) -> bool:
        return self.strict or (self.saves_counter and name == COUNTER)

    def acknowledged(self, changes: dict[str, int]) -> None:
        number = changes.get(COUNTER)
        if number is not None and self._is_promised(COUNTER):
            if number in self.counted:
                raise Violation(f"{self}: two increments to {number} were acked")
            self.counted.add(number)
        self.raise_floor(changes)

    def raise_floor(self, values: dict[str, int]) -> None:
        for name, number in values.items():
            if number > self.acked.get(name, 0):
                self.acked[name] = number

    def used(self, now: float) -> None:
        self.used_at = max(self.used_at, now)

    def gone(self, now: float) -> None:
        """Somebody was told at this moment that there is no such session."""
        if not self.strict or not self.protected:
            return
        if not self.may_be_over(now):
            raise Violation(
                f"{self} is said to be gone; nobody ended it, it was used {now - self.used_at:.3f} s ago"
            )
        self.counts["ended" if self.end_asked else "expired"] += not self.ended
        self.ended = True

    def may_be_over(self, now: float) -> bool:
        """Whether somebody ended it, or asked for that, or its time may have run out."""
        least_s = self.idle_timeout_s * 0.98 - self.leeway_s - EARLY_S
        return self.ended or self.end_asked or now - self.used_at >= least_s

    def __str__(self) -> str:
        return self.name
