"""What a member's end leaves on this node, found in slices, hottest first.

A node may hold a hundred thousand copies; to look at all of them in one turn, and to sort what was found, would keep
every request waiting. So a sweep looks at `SLICE_COPIES` a turn, and sorts as it goes: into classes of idle time,
each twice as long as the one before. Order within a class does not matter to anybody.

Invariant: every copy that was here when the sweep began is looked at once, as it is when its turn comes. A copy that
came later needs no sweep, though it may get one: whoever made it knew already. What is done with the finds is
`reprotection`'s business; they move from there to its `Backlog` without being touched one by one.
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
        self._classes: list[deque[Key]] = [deque() for _ in range(CLASSES)]
        self.count = 0

    def add(self, copy: Copy, now: float) -> None:
        idle_class = int(max(0.0, now - copy.accessed_at)).bit_length()
        self._classes[min(idle_class, CLASSES - 1)].append(copy.key)
        self.count += 1

    def hottest_first(self) -> list[deque[Key]]:
        """What was found, for whoever asks to keep."""
        return [keys for keys in self._classes if keys]

    def coldest_first(self) -> Iterator[Key]:
        for keys in reversed(self._classes):
            yield from keys


class Backlog:
    """A queue of sessions, to which any number of finds is added in no time."""

    def __init__(self) -> None:
        self._runs: deque[deque[Key]] = deque()
        """None of them is empty."""

        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, key: Key) -> None:
        if not self._runs:
            self._runs.append(deque())
        self._runs[-1].append(key)
        self._length += 1

    def extend(self, finds: Finds) -> None:
        """At the end, the hottest first."""
        self._runs.extend(finds.hottest_first())
        self._length += finds.count

    def popleft(self) -> Key:
        run = self._runs[0]
        key = run.popleft()
        if not run:
            self._runs.popleft()
        self._length -= 1
        return key


class Sweep:
    """One going through of all copies. `look(copy)` names where a find belongs, or is None."""

    def __init__(self, copies: CopyStore, look: Callable[[Copy], Finds | None]) -> None:
        self._copies = copies
        self._walk = copies.walk()
        self._look = look

    @property
    def unseen(self) -> int:
        return self._walk.unseen

    def go_on(self, now: float) -> bool:
        """Look at one slice; True if that was the last one."""
        for key in self._walk.take(SLICE_COPIES):
            copy = self._copies.get(key)
            finds = self._look(copy) if copy is not None else None
            if copy is not None and finds is not None:
                finds.add(copy, now)
        return self._walk.is_over
