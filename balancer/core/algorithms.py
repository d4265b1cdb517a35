"""How one of several nodes is chosen. Each algorithm is a function from candidates to a node.

`candidates` is never empty. What a node is to get of the choices is its `share`: its weight, less while it warms up.
A share of 0 gets none, unless all have it. Those that draw at random are given the source at construction, so that a
test decides the outcome.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Literal

from balancer.core.pool import Node

Algorithm = Callable[[Sequence[Node]], Node]

AlgorithmName = Literal["round-robin", "random", "weighted", "least-connections", "power-of-two", "load"]

LOAD_FLOOR = 0.1
"""Added to every reported load: a node that is idle is not infinitely better than one that is nearly so, and all the
new sessions between two reports do not go to one node."""

SAME_CREDIT = 1e-9
"""Round robin's credits that differ by less are equal: they are sums of fractions, and no share is as small."""


def round_robin() -> Algorithm:
    """One after the other, as often as their shares say, evenly interleaved (nginx's smooth weighting).

    Credit is counted in choices, not in weights, so it means the same when weights or candidates change: what a node
    is still owed from before is a choice or so, and never a crowd.
    """

    def choose(candidates: Sequence[Node]) -> Node:
        shares, total = _shares(candidates)
        best, best_credit = candidates[0], -float("inf")
        for node, share in zip(candidates, shares, strict=True):
            if not share:
                continue
            node.credit += share / total
            if node.credit > best_credit + SAME_CREDIT:
                best, best_credit = node, node.credit
        best.credit -= 1.0
        return best

    return choose


def random_node(rng: Random) -> Algorithm:
    """Any one, big or small."""

    def choose(candidates: Sequence[Node]) -> Node:
        shares = [node.warmth if node.weight else 0.0 for node in candidates]
        return _draw(rng, candidates, shares)

    return choose


def weighted(rng: Random) -> Algorithm:
    """Any one, drawn as often as their shares say.

    For failover too: the users of a dead node spread over all others, with no state that balancers would share.
    """

    def choose(candidates: Sequence[Node]) -> Node:
        return _draw(rng, candidates, _shares(candidates)[0])

    return choose


def least_connections(rng: Random) -> Algorithm:
    """The one with the fewest requests for its share; among equals any."""

    def choose(candidates: Sequence[Node]) -> Node:
        shares, _ = _shares(candidates)
        crowds = [_crowd(node, share) for node, share in zip(candidates, shares, strict=True)]
        least = min(crowds)
        return _draw(rng, candidates, [1.0 if crowd == least else 0.0 for crowd in crowds])

    return choose


def power_of_two(rng: Random) -> Algorithm:
    """The less busy of two drawn ones (Mitzenmacher 2001): nearly as even as the least busy of all, and several
    balancers which see each other's requests not at all do not run to the same node."""

    def choose(candidates: Sequence[Node]) -> Node:
        shares, _ = _shares(candidates)
        first = _draw(rng, candidates, shares)
        others = [0.0 if node is first else share for node, share in zip(candidates, shares, strict=True)]
        if not any(others):
            return first
        second = _draw(rng, candidates, others)
        share_of = dict(zip(candidates, shares, strict=True))
        return min(first, second, key=lambda node: _crowd(node, share_of[node]))

    return choose


def least_load(rng: Random) -> Algorithm:
    """Any one, drawn the more often the larger its share and the smaller the load that it reported.

    A node that reports none counts as the others do on average. Drawn, because a report is as old as a health
    interval: who went to the least loaded of all would overrun it until the next one.
    """

    def choose(candidates: Sequence[Node]) -> Node:
        known = [node.load.figure for node in candidates if node.load is not None]
        usual = sum(known) / len(known) if known else 0.0
        loads = [node.load.figure if node.load is not None else usual for node in candidates]
        shares, _ = _shares(candidates)
        return _draw(
            rng, candidates, [share / (LOAD_FLOOR + load) for share, load in zip(shares, loads, strict=True)]
        )

    return choose


def algorithm(name: AlgorithmName, rng: Random) -> Algorithm:
    """The algorithm of that name, as settings call it."""
    match name:
        case "round-robin":
            return round_robin()
        case "random":
            return random_node(rng)
        case "weighted":
            return weighted(rng)
        case "least-connections":
            return least_connections(rng)
        case "power-of-two":
            return power_of_two(rng)
        case "load":
            return least_load(rng)


def _shares(candidates: Sequence[Node]) -> tuple[list[float], float]:
    """The shares of the candidates, and their sum; all alike if nobody has one."""
    shares = [node.weight * node.warmth for node in candidates]
    total = sum(shares)
    if total:
        return shares, total
    return [1.0] * len(candidates), float(len(candidates))


def _draw(rng: Random, candidates: Sequence[Node], shares: Sequence[float]) -> Node:
    total = sum(shares)
    if not total:
        return candidates[int(rng.random() * len(candidates))]
    point = rng.random() * total
    last = candidates[0]
    for node, share in zip(candidates, shares, strict=True):
        if share:
            last = node
            point -= share
            if point < 0:
                break
    return last


def _crowd(node: Node, share: float) -> float:
    """How full it would be with one request more, for its size."""
    return (node.active + 1) / share if share else float("inf")
