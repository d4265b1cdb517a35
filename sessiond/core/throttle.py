"""A token bucket on the caller's clock: so much of something in a second, some of it at once."""

_ROUNDING = 1e-6
"""What adding up small fractions may lack of a whole token."""


class TokenBucket:
    """Fills at `rate` tokens a second up to `burst`; starts full."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = now

    def take(self, now: float, amount: float = 1.0, *, leave: float = 0.0) -> bool:
        """Take `amount`, if there is a token above `leave`. What is taken beyond that is owed."""
        self._fill(now)
        if self._tokens < 1.0 + leave - _ROUNDING:
            return False
        self._tokens -= amount
        return True

    def next_at(self, now: float, *, leave: float = 0.0) -> float:
        """When `take` will succeed, if nobody else takes meanwhile."""
        self._fill(now)
        return now + max(0.0, 1.0 + leave - self._tokens) / self._rate

    def _fill(self, now: float) -> None:
        if now > self._filled_at:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
            self._filled_at = now
