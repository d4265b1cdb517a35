"""Where the copies of a session go: one pure function that nodes and balancer share.

Rendezvous hashing (highest random weight; Thaler and Ravishankar 1998): every candidate gets a score from
the key and its own name, the highest scores win. Per session, so the sessions of a dead node spread over
all the others, and a join or a death moves only what it must.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple


class Candidate(NamedTuple):
    """A node that may hold a copy: alive, not draining, not the primary. `zone` may be empty."""

    name: str
    zone: str = ""


def score(key: bytes, name: str) -> int:
    """The weight of a node for a key: 64 bits, the same on every machine and in every version."""
    return int.from_bytes(hashlib.blake2b(name.encode(), key=key, digest_size=8).digest(), "big")


def ranking(key: bytes, primary_zone: str, candidates: Iterable[Candidate]) -> list[str]:
    """All candidates for a key's backup, best first: other zones before the primary's own."""

    def rank(candidate: Candidate) -> tuple[bool, int, str]:
        same_zone = bool(candidate.zone) and candidate.zone == primary_zone
        return (same_zone, -score(key, candidate.name), candidate.name)

    return [candidate.name for candidate in sorted(candidates, key=rank)]


def placement(
    key: bytes, primary: Candidate, candidates: Iterable[Candidate], copies: int
) -> tuple[str, ...]:
    """The names of the `copies` best backups of a session whose primary is `primary`."""
    others = (candidate for candidate in candidates if candidate.name != primary.name)
    return tuple(ranking(key, primary.zone, others)[:copies])
