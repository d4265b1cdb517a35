"""Finds and reports mutable objects that two attributes of a session share.

With `granularity = "attribute"` attributes are encoded one by one, so after a takeover such an object is two objects: the
student whose school is also an attribute keeps the old school when the school changes. It is the application's to know.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Set
from itertools import combinations
from typing import Any

import structlog

from sessiond.contract.session_id import Key
from sessiond.values import SCALARS, plain_of

OBJECTS_MAX = 2000
"""Objects looked at in one search; what lies beyond is not reported."""

WARNINGS_KEPT_MAX = 1024
"""Warnings that are remembered, so that each is given once."""

log = structlog.get_logger()


class SharedObjects:
    """Warnings in the log, one a session and pair of attributes, and their count."""

    def __init__(self) -> None:
        self.count = 0
        self._warned: OrderedDict[tuple[Key, str, str], None] = OrderedDict()

    def warn(self, key: Key, pairs: list[tuple[str, str]]) -> None:
        """These pairs of attributes were committed with an object in common."""
        for first, second in pairs:
            warning = (key, first, second)
            if warning in self._warned:
                continue
            self._warned[warning] = None
            if len(self._warned) > WARNINGS_KEPT_MAX:
                self._warned.popitem(last=False)
            self.count += 1
            log.warning(
                "session.shared_object",
                key=key.hex(),
                attributes=[first, second],
                hint="after a takeover each attribute has its own copy of the object: store it in one of them, "
                'or set granularity to "dirty"',
            )


def shared_by(changed: Set[str], values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of attribute names that share a mutable object, if one of the pair is among the `changed` ones."""
    mutable = {name: value for name, value in values.items() if type(value) not in SCALARS}
    if len(mutable) < 2 or not any(name in mutable for name in changed):
        return []
    budget = iter(range(OBJECTS_MAX))
    found = {name: _mutable_objects(value, budget) for name, value in mutable.items()}
    owners: dict[int, list[str]] = {}
    for name, objects in found.items():
        for identity in objects:
            owners.setdefault(identity, []).append(name)
    pairs = {
        pair
        for names in owners.values()
        if len(names) > 1
        for pair in combinations(sorted(names), 2)
        if not changed.isdisjoint(pair)
    }
    return sorted(pairs)


def _mutable_objects(value: Any, budget: Iterator[int]) -> dict[int, Any]:
    """The mutable objects inside a value, itself included, by identity; held, so that no identity is used twice."""
    objects: dict[int, Any] = {}
    stack = [value]
    while stack and next(budget, None) is not None:
        item = stack.pop()
        cls = type(item)
        if cls not in (tuple, frozenset):
            if id(item) in objects:
                continue
            objects[id(item)] = item
        if cls is dict:
            stack.extend(part for part in item.values() if type(part) not in SCALARS)
        elif cls in (list, tuple, set, frozenset):
            stack.extend(part for part in item if type(part) not in SCALARS)
        else:
            stack.extend(_inside(item))
    return objects


def _inside(item: Any) -> tuple[Any, ...]:
    """What a value of a registered type refers to."""
    try:
        plain = plain_of(item)
    except Exception:  # noqa: BLE001 - a commit says so, and this is after it
        return ()
    return () if plain is None else (plain.value,)
