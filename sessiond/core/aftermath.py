"""What a member's end leaves on this node, found in slices, hottest first.

A node may hold a hundred thousand copies; to look at all of them in one turn, and to sort what was found, would keep
every request waiting. So a sweep looks at `SLICE_COPIES` a turn, and sorts as it goes: into classes of idle time,
each twice as long as the one before. Order within a class does not matter to anybody.

Invariant: every copy that was here when the sweep began is looked at once, as it is when its turn comes. A copy that
came later needs no sweep: whoever made it knew already. What is done with the finds is `reprotection`'s business.
"""

from collections import deque
from collections.abc import Callable, Iterator

from sessiond.core.copies import Copy, CopyStore
from sessiond.core.types import Key

SLICE_COPIES = 2000
"""Copies looked at in one turn: a millisecond or two."""

CLASSES = 18
"""Of idle time: below 1 s, 2 s, 4 s, …; the last one begins at 18 hours, longer than sessions live."""


class Finds:
    """Sessions by how long they have been idle."""

    def __init__(self) -> None:
        self._classes: list[list[Key]] = [[] for _ in range(CLASSES)]
        self.count = 0

    def add(self, copy: Copy, now: float) -> None:
        idle_class = int(max(0.0, now - copy.accessed_at)).bit_length()
        self._classes[min(idle_class, CLASSES - 1)].append(copy.key)
        self.count += 1

    def hottest_first(self) -> Iterator[Key]:
        for keys in self._classes:
            yield from keys

    def coldest_first(self) -> Iterator[Key]:
        for keys in reversed(self._classes):
            yield from keys


class Sweep:
    """One going through of all copies. `look(copy)` names where a find belongs, or is None."""

    def __init__(self, copies: CopyStore, look: Callable[[Copy], Finds | None]) -> None:
        self._copies = copies
        self._unseen = deque(copies.keys())
        self._look = look

    @property
    def unseen(self) -> int:
        return len(self._unseen)

    def go_on(self, now: float) -> bool:
        """Look at one slice; True if that was the last one."""
        for _ in range(min(SLICE_COPIES, len(self._unseen))):
            copy = self._copies.get(self._unseen.popleft())
            finds = self._look(copy) if copy is not None else None
            if copy is not None and finds is not None:
                finds.add(copy, now)
        return not self._unseen
