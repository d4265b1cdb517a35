"""Whether the answers of one session can be put into one order: each as if it had happened at one moment.

The search of Wing and Gong ("Testing and verifying concurrent objects", 1993) with Lowe's memory of what was
tried: take any operation that began before the first end among those left, see whether its answer fits the state,
and go on. An operation of which nobody knows how it ended may take effect at any later time, or never.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tests.sim.clients import Operation
from tests.sim.promises import COUNTER, TWIN
from tests.sim.requests import Deed, Status

STEPS_MAX = 200_000
"""A search that takes longer has found no answer; counted, so that it cannot hide."""

Values = tuple[tuple[str, int], ...]


class State(NamedTuple):
    """What the session is at a moment: its attributes, sorted by name, or gone."""

    values: Values = ()
    gone: bool = False

    def having(self, name: str, number: int) -> "State":
        return State(tuple(sorted({**dict(self.values), name: number}.items())), self.gone)


@dataclass(frozen=True, slots=True)
class Call:
    """One operation. `shown`: what it saw, None if it said nothing; `end` infinite: nobody knows how it ended."""

    begin: float
    end: float
    deed: Deed
    name: str = ""
    number: int = 0
    shown: Values | None = None
    found_gone: bool = False

    @property
    def is_known(self) -> bool:
        return self.end != float("inf")

    def applied(self, state: State) -> State | None:
        """The state after this, or None if its answer does not fit."""
        if self.found_gone:
            return state if state.gone else None
        if state.gone:
            return None if self.is_known and self.deed is not Deed.END else state
        if self.shown is not None and self.shown != state.values:
            return None
        match self.deed:
            case Deed.CREATE | Deed.WRITE:
                return state.having(self.name, self.number)
            case Deed.COUNT:
                return state.having(COUNTER, dict(state.values).get(COUNTER, 0) + 1)
            case Deed.END:
                return state._replace(gone=True)
        return state


def calls_of(operations: Iterable[Operation]) -> list[Call]:
    """What operations say about the session's state; those that say nothing are left out."""
    calls = []
    for operation in operations:
        request, answer, begin = operation.request, operation.answer, operation.invoked_at
        deed, unknown = request.deed, float("inf")
        status = answer.status if answer is not None else Status.LOST
        end = operation.returned_at if operation.returned_at is not None else unknown
        if answer is not None and status is Status.OK and answer.protected:
            shown = _shown(answer.values, deed) if deed in {Deed.READ, Deed.COUNT} else None
            calls.append(Call(begin, end, deed, request.attribute, request.number, shown))
        elif status is Status.GONE:
            calls.append(Call(begin, end, Deed.READ, found_gone=True))
        elif status in {Status.OK, Status.LOST, Status.UNAVAILABLE} and deed is not Deed.READ:
            calls.append(Call(begin, unknown, deed, request.attribute, request.number))
    return calls


def _shown(values: dict[str, int], deed: Deed) -> Values:
    before = {name: number for name, number in values.items() if not name.endswith(TWIN)}
    if deed is Deed.COUNT:
        before[COUNTER] -= 1
        if not before[COUNTER]:
            del before[COUNTER]
    return tuple(sorted(before.items()))


def is_linearizable(calls: list[Call]) -> bool | None:
    """Whether there is such an order; None if the search was given up."""
    calls = sorted(_needed(calls), key=lambda call: (call.begin, call.end))
    known = sum(1 << index for index, call in enumerate(calls) if call.is_known)
    tried: set[tuple[int, State]] = set()
    stack = [(0, State())]
    for _ in range(STEPS_MAX):
        if not stack:
            return False
        done, state = stack.pop()
        if done & known == known:
            return True
        stack += _next(calls, done, state, tried)
    return None


def _needed(calls: list[Call]) -> list[Call]:
    """Without the unknown ones that nobody has seen the effect of: that they never happened fits as well."""
    seen = {entry for call in calls for entry in call.shown or ()}
    may_have_ended = any(call.found_gone for call in calls)

    def is_needed(call: Call) -> bool:
        if call.is_known or call.deed is Deed.COUNT:
            return True
        return may_have_ended if call.deed is Deed.END else (call.name, call.number) in seen

    return [call for call in calls if is_needed(call)]


def _next(
    calls: list[Call], done: int, state: State, tried: set[tuple[int, State]]
) -> list[tuple[int, State]]:
    """Where one more operation leads; the most promising last: those that ended first."""
    left = [(index, call) for index, call in enumerate(calls) if not done >> index & 1]
    first_end = min(call.end for _, call in left)
    first_lost_count = min(
        (index for index, call in left if call.deed is Deed.COUNT and not call.is_known), default=None
    )  # they are all alike: taken in turn
    steps = []
    for index, call in sorted(left, key=lambda entry: -entry[1].end):
        if call.begin > first_end:
            continue
        if call.deed is Deed.COUNT and not call.is_known and index != first_lost_count:
            continue
        after = call.applied(state)
        if after is None or (after == state and not call.is_known):
            continue
        step = (done | 1 << index, after)
        if step not in tried:
            tried.add(step)
            steps.append(step)
    return steps
