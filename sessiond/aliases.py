"""Finds mutable objects that two attributes of a session share.

Attributes are encoded one by one, so after a takeover such an object is two objects: the student whose
school is also an attribute keeps the old school when the school changes. It is the application's to know.
"""

from collections.abc import Iterator, Mapping, Set
from itertools import combinations
from typing import Any

from sessiond.values import SCALARS

OBJECTS_MAX = 2000
"""Objects looked at in one search; what lies beyond is not reported."""


def shared_by(changed: Set[str], values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of attribute names that share a mutable object, if one of the pair is among the `changed` ones."""
    mutable = {name: value for name, value in values.items() if type(value) not in SCALARS}
    if len(mutable) < 2 or not any(name in mutable for name in changed):
        return []
    budget = iter(range(OBJECTS_MAX))
    owners: dict[int, list[str]] = {}
    for name, value in mutable.items():
        for found in set(_mutable_objects(value, budget)):
            owners.setdefault(found, []).append(name)
    pairs = {
        pair
        for names in owners.values()
        for pair in combinations(sorted(names), 2)
        if not changed.isdisjoint(pair)
    }
    return sorted(pairs)


def _mutable_objects(value: Any, budget: Iterator[int]) -> Iterator[int]:
    """Identities of the mutable objects inside a value, itself included."""
    stack = [value]
    while stack and next(budget, None) is not None:
        item = stack.pop()
        cls = type(item)
        if cls not in (tuple, frozenset):
            yield id(item)
        if cls is dict:
            stack.extend(part for part in item.values() if type(part) not in SCALARS)
        elif cls in (list, tuple):
            stack.extend(part for part in item if type(part) not in SCALARS)
