"""Death votes: who says that which life is over, and since when (protocol 1.1 to 1.3).

A vote names a life, so it can never hit the same node in a later one. Under `any` one vote counts at once. Under
`majority` it takes votes of a quorum, each old enough for every lease to have run out that the voter could have
granted the accused before: whoever is counted dead cannot be serving any more. Votes are kept by the voter's
*name*: they survive its own rejoin.

Invariant: of each name only votes about its newest accused life are kept, so the table is as small as the cluster.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from sessiond.core.types import Life


class CastVote(NamedTuple):
    """One vote, with the time at which it was cast at the latest, by this node's clock."""

    life: Life
    voter: str
    at: float
    certain: bool


@dataclass(slots=True)
class _Ballot:
    life: Life
    cast_at: dict[str, float] = field(default_factory=dict)
    certain: bool = False


class Ballots:
    def __init__(self, ripe_after_s: float) -> None:
        self._ripe_after_s = ripe_after_s
        self._ballots: dict[str, _Ballot] = {}

    def cast(self, vote: CastVote) -> bool:
        """Take a vote, one's own or another member's; whether it says anything new."""
        ballot = self._ballots.get(vote.life.name)
        if ballot is None or ballot.life.incarnation < vote.life.incarnation:
            ballot = self._ballots[vote.life.name] = _Ballot(vote.life)
        elif ballot.life != vote.life:
            return False
        is_news = vote.voter not in ballot.cast_at or (vote.certain and not ballot.certain)
        ballot.cast_at[vote.voter] = min(vote.at, ballot.cast_at.get(vote.voter, vote.at))
        ballot.certain |= vote.certain
        return is_news

    def has_cast(self, life: Life, voter: str) -> bool:
        ballot = self._ballots.get(life.name)
        return ballot is not None and ballot.life == life and voter in ballot.cast_at

    def is_certain(self, life: Life) -> bool:
        """Whether somebody knows more than silence: the process is gone, and its memory with it."""
        ballot = self._ballots.get(life.name)
        return ballot is not None and ballot.life == life and ballot.certain

    def certain_names(self) -> Iterator[str]:
        """Nodes whose newest life is known to be gone, its memory with it; this node need not have met them."""
        return (name for name, ballot in self._ballots.items() if ballot.certain)

    def counts(self, life: Life, quorum: int, now: float) -> bool:
        """Whether this life is over: enough votes, each of them ripe."""
        ripe_at = self._ripe_at(life.name, quorum)
        return ripe_at is not None and self._ballots[life.name].life == life and now >= ripe_at

    def next_ripe(self, quorum: int, after: float) -> float | None:
        """When the next life will be counted dead, if no vote is added."""
        times = (self._ripe_at(name, quorum) for name in self._ballots)
        return min((ripe_at for ripe_at in times if ripe_at is not None and ripe_at > after), default=None)

    def _ripe_at(self, name: str, quorum: int) -> float | None:
        ballot = self._ballots.get(name)
        if ballot is None or len(ballot.cast_at) < quorum:
            return None
        return sorted(ballot.cast_at.values())[quorum - 1] + self._ripe_after_s

    def lives(self) -> list[Life]:
        """The accused."""
        return [ballot.life for ballot in self._ballots.values()]

    def all(self) -> Iterator[CastVote]:
        for ballot in self._ballots.values():
            for voter, at in ballot.cast_at.items():
                yield CastVote(ballot.life, voter, at, ballot.certain)

    def forget(self) -> None:
        """Take every accusation back, as the one that yields does under `any` (protocol 1.5)."""
        self._ballots.clear()
