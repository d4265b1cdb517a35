"""Virtual time: one heap of events, and the random streams that everything is drawn from.

Invariant: what happens depends on the seed alone. Events of one moment happen in the order in which they were
planned, and each concern has a random stream of its own, so that one more request does not change the weather.
"""

import hashlib
from collections.abc import Callable, Generator
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeAlias

Story: TypeAlias = Generator[float, None, None]
"""Something that goes on for a while: yields the seconds until it wants to go on."""


def stream(seed: int, concern: str) -> Random:
    """A random stream for one concern of one seed; the same under every PYTHONHASHSEED."""
    digest = hashlib.blake2b(f"{seed}/{concern}".encode(), digest_size=8).digest()
    return Random(int.from_bytes(digest))


class Timeline:
    """The clock that everybody's clocks derive from, and what is planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0

    def at(self, when: float, act: Callable[..., None], *args: Any) -> None:
        """Plan something; a time that is over means now, after what is planned for now already."""
        self._planned += 1
        heappush(self._heap, (max(self.now, when), self._planned, act, args))

    def after(self, seconds: float, act: Callable[..., None], *args: Any) -> None:
        self._planned += 1
        heappush(self._heap, (self.now + seconds, self._planned, act, args))

    def tell(self, story: Story) -> None:
        """Let a story go on until it ends."""
        seconds = next(story, None)
        if seconds is not None:
            self.after(seconds, self.tell, story)

    def run_until(self, end: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.now, _, act, args = heappop(heap)
            self.events += 1
            act(*args)
        self.now = end
