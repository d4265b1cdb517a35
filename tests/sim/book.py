"""What happened: how often, in what exact order, and, if somebody wants to read it, in words."""

import hashlib
from collections import Counter, deque

LINES_KEPT = 400
"""A transcript shows the last of what happened: the cause is near the end."""


class Book:
    """The counts of a run, the digest of all that happened in it, and its transcript."""

    def __init__(self, *, is_told: bool = False, lines: int = LINES_KEPT) -> None:
        self.counts: Counter[str] = Counter()
        self.is_told = is_told
        """Whether lines are kept; telling costs more than running."""

        self.lines: deque[str] = deque(maxlen=lines)
        self._digest = hashlib.blake2b(digest_size=16)
        self.mark = self._digest.update

    @property
    def trace(self) -> str:
        """The same for two runs in which the same happened at the same times."""
        return self._digest.hexdigest()

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def tell(self, now: float, who: str, what: object) -> None:
        if self.is_told:
            self.lines.append(f"{now:10.4f} {who:4} {what}")
