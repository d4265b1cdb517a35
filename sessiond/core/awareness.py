"""How far a node can trust its own impressions: the local health multiplier of Lifeguard.

A node that is slow itself sees everybody else as silent. Signs of that (a timer that fired late, an expected
answer of a relay that did not come, a suspicion of this very node) raise a score, each probe that is answered
lowers it, and every time the node waits for somebody is multiplied by it: who is unwell judges slowly, and
leaves it to the others meanwhile. Dadgar, Phillips, Currey: "Lifeguard: local health awareness for more
accurate failure detection", 2018.

The score stays between 0 and `worst`. What counts as a sign is decided by `swim`.
"""


class Awareness:
    __slots__ = ("_score", "_worst")

    def __init__(self, worst: int) -> None:
        """`worst`: the highest score; 0 switches the doubt off."""
        self._score = 0
        self._worst = worst

    @property
    def multiplier(self) -> int:
        """How many times longer than usual to wait; 1 for a healthy node."""
        return 1 + self._score

    def worsen(self, by: int = 1) -> None:
        self._score = min(self._score + by, self._worst)

    def improve(self) -> None:
        self._score = max(self._score - 1, 0)
