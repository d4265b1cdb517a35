"""How one of several equal nodes is chosen. Each algorithm is a function from candidates to a node.

`candidates` is never empty. Those that keep a position or draw at random get what they need at construction,
so that a test decides the outcome.
"""

from collections.abc import Callable, Sequence
from random import Random

from balancer.core.pool import Node

Algorithm = Callable[[Sequence[Node]], Node]


def round_robin() -> Algorithm:
    """One after the other, as often as their weights say, evenly interleaved (nginx's smooth weighting).

    For requests without a session, which is where new sessions come from. Weight 0 gets none of them, unless
    all have it.
    """
    credit: dict[str, int] = {}

    def choose(candidates: Sequence[Node]) -> Node:
        weights = [node.weight for node in candidates]
        total = sum(weights)
        if total == 0:
            weights, total = [1] * len(candidates), len(candidates)
        best, best_credit = candidates[0], -total
        for node, weight in zip(candidates, weights, strict=True):
            if not weight:
                continue
            earned = credit[node.name] = credit.get(node.name, 0) + weight
            if earned > best_credit:
                best, best_credit = node, earned
        credit[best.name] = best_credit - total
        return best

    return choose


def random_node(rng: Random) -> Algorithm:
    """Any one. For failover: the users of a dead node spread over all others, with no state to agree on."""

    def choose(candidates: Sequence[Node]) -> Node:
        return candidates[int(rng.random() * len(candidates))]

    return choose
