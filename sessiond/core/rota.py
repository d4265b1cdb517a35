"""Whom to probe next: everybody once in a random order, then in another one, and the accused before their turn.

SWIM's randomised round robin: a member is probed after at most twice as many periods as there are members,
where plain random choice would have no bound. One turn costs the same whatever the size.
"""

from random import Random

from sessiond.core.types import Life


class Rota:
    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._order: list[Life] = []
        self._at = 0
        self._before_turn: dict[Life, None] = {}

    def __len__(self) -> int:
        return len(self._order)

    def add(self, life: Life) -> None:
        """In a random place: nodes that learn of it together must not probe it together."""
        index = self._rng.randint(0, len(self._order))
        self._order.insert(index, life)
        if index < self._at:
            self._at += 1

    def remove(self, life: Life) -> None:
        index = self._order.index(life)
        del self._order[index]
        if index < self._at:
            self._at -= 1
        self._before_turn.pop(life, None)

    def put_first(self, life: Life) -> None:
        """Probe this member before its turn, once; it keeps its turn."""
        self._before_turn[life] = None

    def take_back(self, life: Life) -> None:
        self._before_turn.pop(life, None)

    def next(self) -> Life | None:
        """The member whose turn it is; None if there is nobody."""
        if self._before_turn:
            life = next(iter(self._before_turn))
            del self._before_turn[life]
            return life
        if self._at >= len(self._order):
            self._rng.shuffle(self._order)
            self._at = 0
        if not self._order:
            return None
        self._at += 1
        return self._order[self._at - 1]

    def sample(self, count: int) -> list[Life]:
        """Some members at random, each at most once."""
        return self._rng.sample(self._order, min(count, len(self._order)))

    def check_invariants(self) -> None:
        assert len(set(self._order)) == len(self._order), "a member has two turns"
        assert self._before_turn.keys() <= set(self._order)
        assert 0 <= self._at <= len(self._order)
