"""Where the copies of a session go: one pure function that nodes and balancer share.

A *scheme* is an order of the nodes that may hold a copy, and how many of them do (docs/schemes.md). Two orders do for all:

- Rendezvous hashing (highest random weight; Thaler and Ravishankar 1998): every candidate gets a score from the key
  and its own name, the highest scores win. Per session, so the sessions of a dead node spread over all the others,
  and a join or a death moves only what it must. With `all` it decides who is asked first, not who holds a copy.
- The ring, for `pair`: the names in their order, from the primary's own on and around. It looks at no key, so that
  all sessions of a node are backed up together.

Nodes of role ``state`` hold copies for `central` and for nobody else, and `central` gives copies to nobody else.
"""

import hashlib
from collections.abc import Iterable
from typing import Literal, NamedTuple

Scheme = Literal["backup", "pair", "all", "central", "none"]
NodeRole = Literal["app", "state"]


class Candidate(NamedTuple):
    """A node that may hold a copy: alive, not draining, not the primary. `zone` may be empty."""

    name: str
    zone: str = ""
    role: NodeRole = "app"


def may_hold(role: NodeRole, scheme: Scheme) -> bool:
    """Whether nodes of this role are given copies at all."""
    return scheme != "none" and (role == "state") == (scheme == "central")


def score(key: bytes, name: str) -> int:
    """The weight of a node for a key: 64 bits, the same on every machine and in every version."""
    return int.from_bytes(hashlib.blake2b(name.encode(), key=key, digest_size=8).digest(), "big")


def ranking(
    key: bytes, primary: Candidate, candidates: Iterable[Candidate], scheme: Scheme = "backup"
) -> list[str]:
    """All that may hold a copy beside `primary`, best first: other zones before the primary's own."""

    def by_weight(candidate: Candidate) -> tuple[bool, int, str]:
        return (is_near(candidate), -score(key, candidate.name), candidate.name)

    def by_ring(candidate: Candidate) -> tuple[bool, bool, str]:
        return (is_near(candidate), candidate.name < primary.name, candidate.name)

    def is_near(candidate: Candidate) -> bool:
        return bool(candidate.zone) and candidate.zone == primary.zone

    holders = [each for each in candidates if each.name != primary.name and may_hold(each.role, scheme)]
    ordered = sorted(holders, key=by_ring) if scheme == "pair" else sorted(holders, key=by_weight)
    return [candidate.name for candidate in ordered]


def placement(
    key: bytes, primary: Candidate, candidates: Iterable[Candidate], copies: int, scheme: Scheme = "backup"
) -> tuple[str, ...]:
    """The names of the nodes that back up a session whose primary is `primary`, best first.

    `copies` of them, or all (`all`), or none (`none`); fewer if there are no more.
    """
    ranked = ranking(key, primary, candidates, scheme)
    return tuple(ranked if scheme == "all" else ranked[:copies])
