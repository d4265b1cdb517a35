"""A mapping by key that never stands still, however many entries it has.

A dict of a million entries takes some 100 ms when it grows, and a list of its keys as long: every request waits
meanwhile. So a table that has become large is `PARTS` dicts, chosen by the first byte of the key (keys are hashes),
each small enough that growing it takes less than a millisecond; and it is gone through by a `Walk`, in steps.

Invariant: a small table is one dict, in the order in which its keys came; a large one goes through its parts in turn, each
in that order. Once large it stays so until it is emptied.
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, Generic, TypeVar

from sessiond.core.types import Key

V = TypeVar("V")

PARTS = 256

ONE_PART_MAX = 4096
"""Entries of a table that is one dict. To divide it takes half a millisecond."""


class Table(Generic[V]):
    __slots__ = ("_of_byte", "_parts")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Be empty. Walks that are under way go on through what was there."""
        self._parts: list[dict[Key, V]] = [{}]
        self._of_byte = self._parts * PARTS

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __contains__(self, key: Key) -> bool:
        return key in self._of_byte[key[0]]

    def __getitem__(self, key: Key) -> V:
        return self._of_byte[key[0]][key]

    def get(self, key: Key) -> V | None:
        return self._of_byte[key[0]].get(key)

    def __setitem__(self, key: Key, value: V) -> None:
        part = self._of_byte[key[0]]
        part[key] = value
        if len(part) > ONE_PART_MAX and len(self._parts) == 1:
            self._divide()

    def pop(self, key: Key, default: V | None = None) -> V | None:
        return self._of_byte[key[0]].pop(key, default)

    def __iter__(self) -> Iterator[Key]:
        """Each part's keys as they are when its turn comes, the first one's now; entries may come and go meanwhile."""
        # What has been gone through is let go, so that a table that nobody else has is not freed all at once.
        rest = deque(self._parts)
        first = list(rest.popleft())
        return chain.from_iterable(chain((first,), (list(rest.popleft()) for _ in range(len(rest)))))

    def values(self) -> Iterator[V]:
        """As with keys."""
        return chain.from_iterable(list(part.values()) for part in self._parts)

    def _divide(self) -> None:
        (whole,) = self._parts  # not emptied: a walk may not have come to it yet
        self._parts = self._of_byte = [{} for _ in range(PARTS)]
        for key, value in whole.items():
            self._of_byte[key[0]][key] = value

    def check_invariants(self) -> None:
        assert len(self._of_byte) == PARTS
        assert len(self._parts) in (1, PARTS)
        if len(self._parts) == 1:
            assert all(part is self._parts[0] for part in self._of_byte)
            assert len(self) <= ONE_PART_MAX
        else:
            for byte, part in enumerate(self._parts):
                assert part is self._of_byte[byte]
                assert all(key[0] == byte for key in part), "an entry lies in another part than its own"


class Walk:
    """Going through the keys of a table, some at a time.

    Every key that is there now comes once, unless it is removed before its turn; one that is added meanwhile may come.
    """

    def __init__(self, table: Table[Any]) -> None:
        self._keys = iter(table)
        self._expected = len(table)
        self.is_over = not self._expected

    @property
    def unseen(self) -> int:
        """About so many are left."""
        return 0 if self.is_over else max(1, self._expected)

    def take(self, most: int) -> list[Key]:
        """The next keys; fewer than `most` are the last ones."""
        taken = list(islice(self._keys, most))
        self._expected -= len(taken)
        self.is_over = len(taken) < most
        return taken
