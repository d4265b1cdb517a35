"""Which addresses to dial, and when: at once, then with growing pauses up to a second or so.

An address is dialed until somebody is reached there or nobody wants it any more. Names are resolved by the
driver at each attempt, since a restarted container has another address under the same name.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sessiond.core.effects import Dial

FIRST_BACKOFF_S = 0.05
BACKOFF_FACTOR = 2.0
LOST_ATTEMPT_S = 10.0
"""An attempt whose outcome was never reported is made again after this."""


@dataclass(slots=True)
class _Attempt:
    next_at: float
    dialed_at: float
    backoff_s: float = FIRST_BACKOFF_S


class Dialer:
    def __init__(self, emit: Callable[[Dial], None], backoff_max_s: float) -> None:
        self._emit = emit
        self._backoff_max_s = backoff_max_s
        self._attempts: dict[str, _Attempt] = {}

    def want(self, address: str, now: float) -> None:
        """Reach this address, starting now; no-op for one that is being dialed already."""
        if address and address not in self._attempts:
            self._attempts[address] = _Attempt(now + LOST_ATTEMPT_S, now)
            self._emit(Dial(address))

    def start_over(self, now: float) -> None:
        """The driver has dropped every dial under way and reports on none: dial all that is wanted anew."""
        for address in self._attempts:
            self._attempts[address] = _Attempt(now + LOST_ATTEMPT_S, now)
            self._emit(Dial(address))

    def reached(self, address: str) -> None:
        self._attempts.pop(address, None)

    def forget(self, address: str, unless: Collection[str] = ()) -> None:
        if address not in unless:
            self._attempts.pop(address, None)

    def failed(self, address: str, now: float) -> float | None:
        """Nobody was reached; when that attempt began, if anybody wants this address."""
        attempt = self._attempts.get(address)
        if attempt is None:
            return None
        attempt.next_at = now + attempt.backoff_s
        attempt.backoff_s = min(attempt.backoff_s * BACKOFF_FACTOR, self._backoff_max_s)
        return attempt.dialed_at

    def next_deadline(self) -> float | None:
        return min((attempt.next_at for attempt in self._attempts.values()), default=None)

    def tick(self, now: float) -> None:
        for address, attempt in self._attempts.items():
            if attempt.next_at <= now:
                attempt.next_at, attempt.dialed_at = now + LOST_ATTEMPT_S, now
                self._emit(Dial(address))
