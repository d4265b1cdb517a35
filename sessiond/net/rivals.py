"""Which of several connections between the same two lives becomes the link.

Two nodes may dial each other at once, one node may dial another twice (under two addresses), and a node may
dial again because its old connection broke while the other side still takes that one for good. The rules:

- The initiator *commits* to a dial, once it knows who answered, only if it has neither a link nor another
  commitment to that life. Its introduction tells the acceptor that it has committed.
- The acceptor decides, and its welcome is final: the initiator replaces whatever link it has.
- If both have committed to a dial of their own, the dial of the lower life wins: the lower one refuses the
  other's, and the higher one accepts.
- A link that was open before the new connection began is dead at the initiator, or it would not have
  committed: the new one replaces it. No clock and no probing is needed to find that out.

Invariant: when all that was said has arrived, both sides hold the same link or none; and no link that both
still want is replaced, unless by a dial that its initiator gave up after its introduction. Rejected: "the newer wins" (for crossing dials the two sides disagree
on which is newer) and "the dial of the lower name always wins" (a half-dead link would keep the peer out).
"""

from typing import Generic, Protocol, TypeVar

from sessiond.core.types import Life


class Rival(Protocol):
    """What is to be known of a link."""

    @property
    def is_open(self) -> bool: ...

    @property
    def initiated_by_us(self) -> bool: ...


LinkT = TypeVar("LinkT", bound=Rival)


class Rivals(Generic[LinkT]):
    """One side's links and commitments, at most one of each to a life."""

    def __init__(self) -> None:
        self._links: dict[Life, tuple[LinkT, int]] = {}
        self._commitments: dict[Life, object] = {}
        self._opened = 0

    def get(self, life: Life) -> LinkT | None:
        """The open link to `life`."""
        link, _ = self._links.get(life, (None, 0))
        return link if link is not None and link.is_open else None

    def links(self) -> list[LinkT]:
        """All open links."""
        return [link for link, _ in self._links.values() if link.is_open]

    def moment(self) -> int:
        """Now, counted in links opened; the acceptor asks when a connection begins."""
        return self._opened

    def may_commit(self, life: Life) -> bool:
        return self.get(life) is None and life not in self._commitments

    def commit(self, life: Life, dial: object) -> None:
        """The dial is going to introduce itself; until `withdraw` or `opened` it counts as a link to come."""
        if not self.may_commit(life):
            raise RuntimeError(f"there is a link to {life}, or one is being made")
        self._commitments[life] = dial

    def withdraw(self, life: Life, dial: object) -> None:
        """The dial has ended, either way. Nothing happens if it had not committed."""
        if self._commitments.get(life) is dial:
            del self._commitments[life]

    def may_accept(self, life: Life, *, began: int, peer_is_lower: bool) -> bool:
        """Whether to welcome a connection from `life` that began at the moment `began`."""
        if peer_is_lower:
            return True
        if life in self._commitments:
            return False
        link, opened = self._links.get(life, (None, 0))
        crossed = link is not None and link.is_open and link.initiated_by_us and opened > began
        return not crossed

    def open(self, life: Life, link: LinkT) -> LinkT | None:
        """Take the link; returns the one that it replaces, open or not, if that has not been forgotten yet."""
        replaced, _ = self._links.get(life, (None, 0))
        self._opened += 1
        self._links[life] = (link, self._opened)
        return replaced

    def forget(self, life: Life, link: LinkT) -> bool:
        """The link has ended. False if it had been replaced: then nobody misses it."""
        current, _ = self._links.get(life, (None, 0))
        if current is not link:
            return False
        del self._links[life]
        return True

    def check_invariants(self) -> None:
        """Raises AssertionError if a life is counted twice; for tests."""
        orders = [opened for _, opened in self._links.values()]
        assert len(set(orders)) == len(orders), "two links opened at one moment"
        assert all(opened <= self._opened for opened in orders), "a link of the future"
