"""Pings under way on behalf of other members, each ended by the PONG or by its time.

The asker is told either way: an answer "not heard" shows that the relay is well, so that the asker need not
doubt itself. All errands have the same time, so they end in the order in which they began.
"""

from typing import NamedTuple

from sessiond.core.types import Life

ERRANDS_MAX = 128
"""More than this at once are not taken on: some forty members would have to be in trouble together."""


class Errand(NamedTuple):
    """`asker` wants to know under its `number` whether `life` answers; `until` is a reading of the waking clock."""

    asker: Life
    number: int
    life: Life
    until: float


class Errands:
    def __init__(self) -> None:
        self._under_way: dict[int, Errand] = {}

    @property
    def is_full(self) -> bool:
        return len(self._under_way) >= ERRANDS_MAX

    @property
    def oldest(self) -> Errand | None:
        return next(iter(self._under_way.values()), None)

    def begin(self, number: int, errand: Errand) -> None:
        """A PING with this number has been sent for it."""
        self._under_way[number] = errand

    def done(self, number: int) -> Errand | None:
        """The PING with this number was answered: whose errand it was, if it still goes on."""
        return self._under_way.pop(number, None)

    def drop_oldest(self) -> None:
        del self._under_way[next(iter(self._under_way))]

    def check_invariants(self) -> None:
        assert len(self._under_way) <= ERRANDS_MAX
        untils = [errand.until for errand in self._under_way.values()]
        assert untils == sorted(untils), "errands end in the order in which they began"
