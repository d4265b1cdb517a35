"""Sets of HTTP statuses as people write them: ``200-399``, ``204``, several of either."""

from collections.abc import Iterable

STATUSES = range(100, 600)


def parse(texts: Iterable[str]) -> frozenset[int]:
    """Raises ValueError with a text for whoever wrote it."""
    found: set[int] = set()
    for text in texts:
        first, dash, last = text.partition("-")
        ends = [
            int(end) for end in ((first, last) if dash else (first, first)) if end.isascii() and end.isdigit()
        ]
        if len(ends) != 2 or ends[0] > ends[1] or any(end not in STATUSES for end in ends):
            raise ValueError(f"{text!r} is neither a status, like 200, nor a range of them, like 200-399")
        found.update(range(ends[0], ends[1] + 1))
    return frozenset(found)
