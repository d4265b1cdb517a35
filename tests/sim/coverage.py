"""What a batch of seeds must have seen: a transition or a fault that never occurred was not tested.

The list grows by itself: every kind of message, every counter of the core, every fault of the plans.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from typing import get_args

from sessiond.core.messages import Message
from sessiond.core.stats import Stats
from tests.sim.plans import PLANS

TRANSITIONS = ("-->P", "-->B", "P->B", "P->Q", "P->-", "B->P", "B->Q", "B->-", "Q->P", "Q->B", "Q->-")
"""Of copies: P primary, B backup, Q quarantined, - none."""

EVENTS = ("peer.dead", "peer.left", "peer.suspected", "peer.heard", "node.rejoins", "session.fork_merged")
CHECKS = ("estimate.kept", "order.found")
"""Made when their time comes: one that is never made finds nothing."""

UNDECIDED_MAX = 0.05
"""Of the searches for an order; more of them given up are a check that is not made."""

OPERATIONS_MIN = 500
FAULTS_MIN = 5
"""What each seed has to have been through to say anything."""

WEATHER = ("reset", "half-open", "stall")
ANSWERS = (
    *(f"{deed}.ok" for deed in ("create", "read", "write", "count", "end")),
    *(f"write.{status}" for status in ("gone", "unavailable", "lost", "unreached")),
    "count.conflict",
    "stranger",
    "unprotected",
)

UNSEEN = {
    "Resigned": "needs a demoted owner and a backup that waits for it: tests/core/test_lookup",
    "stat.discarded": "needs an absence of one and a half idle time-outs: tests/core/test_absence",
    "stat.records_unreadable": "the simulated store keeps its records whole: tests/core/test_store_lookup",
    "stat.stores_refused": "needs a primary that was replaced to write before it hears of it: tests/core/test_storing",
    "stat.rested": "seeds have memory for all, and members that stay: tests/core/test_passivation",
    "Ping": "a second process takes a living node's name: tests/core/test_names",
    "Pong": "the same",
    "stat.entries_forgotten": "needs owner and backup lost together and a minute of calm: tests/core/test_forgetting",
    "Aliases": "simulated users do not rotate their tokens: tests/core/test_rotation",
    "stat.rotated": "the same",
    "stat.lookups_refused": "needs more look-ups than the rate allows: tests/core/test_lookup",
}
"""What seeds need not show, and why."""


def expected() -> Iterator[str]:
    for kind in get_args(Message):
        if kind.__name__ not in UNSEEN:
            yield kind.__name__
    for field in fields(Stats):
        if f"stat.{field.name}" not in UNSEEN:
            yield f"stat.{field.name}"
    for plan in PLANS.values():
        for fault in plan.faults:
            yield f"fault.{fault}"
    yield from (f"fault.{kind}" for kind in WEATHER)
    yield from (f"copy {transition}" for transition in TRANSITIONS)
    yield from (f"client.{answer}" for answer in ANSWERS)
    yield from EVENTS
    yield from CHECKS


def missing(counts: Counter[str]) -> list[str]:
    """What should have occurred at least once and did not."""
    return [what for what in dict.fromkeys(expected()) if not counts[what]]


def is_idle(counts: Counter[str]) -> bool:
    """Whether too little happened in a seed that ran to its end."""
    return counts["operations"] < OPERATIONS_MIN or counts["faults"] < FAULTS_MIN


def searches(counts: Counter[str]) -> int:
    """How many sessions' answers an order was searched for."""
    return counts["order.found"] + counts["order.undecided"]


def has_given_up(counts: Counter[str]) -> bool:
    """Whether so many searches for an order came to no end that they cannot be relied on."""
    return counts["order.undecided"] > UNDECIDED_MAX * searches(counts)
