"""Judges a history: was anything lost that was acknowledged, did a read go back in time, did the dead rise?

An attribute holds a number that its writers only raise, so the order of its values is known without a search.
From the moment when somebody was told a number, under protection, whoever asks later must find that number or a
larger one. What falls short of it is a lost write if the number is gone for good, and else a stale read. If the last
look gets no answer, nobody knows: that is a fault too. An answer
that was not protected obliges nobody, and neither does a write that got no answer: it may appear or not.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from tests.torture.history import History, Kind, Operation


@dataclass(slots=True)
class Verdict:
    """What was found, each in words."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged writes that the last look did not find."""
    unseen: list[str] = field(default_factory=list)
    """Promises of which nobody knows whether they were kept: the last look got no answer."""
    stale: list[str] = field(default_factory=list)
    """Answers that showed less than an answer that came before they were asked for."""
    invented: list[str] = field(default_factory=list)
    """Answers that showed what nobody had written."""
    resurrected: list[str] = field(default_factory=list)
    """Answers that showed something of a session after its end was acknowledged."""
    vanished: list[str] = field(default_factory=list)
    """Answers that said that there is no such session, though nobody had ended it."""
    old_terms: list[str] = field(default_factory=list)
    """Acknowledgements in a term, asked for after a higher one had acknowledged something of the session."""
    answers: int = 0
    """Answers that showed or changed something of a session."""
    unprotected: int = 0
    """Those of them that promised nothing, since the session had no backup then."""
    forked: int = 0
    """Answers that would have been stale, in an old term or of a vanished session, had the cluster not been parted."""

    @property
    def faults(self) -> list[str]:
        return [
            *self.lost,
            *self.unseen,
            *self.stale,
            *self.invented,
            *self.resurrected,
            *self.vanished,
            *self.old_terms,
        ]

    @property
    def unprotected_share(self) -> float:
        """Of the answers about sessions; 0 without any."""
        return self.unprotected / self.answers if self.answers else 0.0

    def __str__(self) -> str:
        return (
            f"{len(self.lost)} acknowledged writes lost, {len(self.stale)} stale reads, "
            f"{len(self.resurrected)} resurrections, {len(self.old_terms)} acknowledgements in an old term, "
            f"{self.unprotected} of {self.answers} answers unprotected"
            + (f", {len(self.unseen)} last looks without an answer" if self.unseen else "")
            + (f", {len(self.vanished)} sessions not found" if self.vanished else "")
            + (f", {len(self.invented)} values that nobody wrote" if self.invented else "")
        )


def judge(history: History, parted: Sequence[tuple[float, float]] = ()) -> Verdict:
    """The last request for an attribute counts as the last look. `parted`: when the sides may not know each other."""
    verdict = Verdict()
    ends: dict[str, float] = {}
    asked_to_end: dict[str, float] = {}
    for operation in history.operations:
        if operation.kind is not Kind.LOG_OUT and operation.is_answered and operation.epoch:
            verdict.answers += 1
            verdict.unprotected += not operation.protected
        if operation.kind is Kind.LOG_OUT:
            asked_to_end.setdefault(operation.session, operation.began_at)
            if operation.is_answered:
                ends.setdefault(operation.session, operation.ended_at)
    court = _Court(verdict, parted)
    for (session, _), operations in history.of_attributes().items():
        living = operations
        if (end := ends.get(session)) is not None:
            living = [operation for operation in operations if operation.began_at <= end]
            verdict.resurrected.extend(
                str(operation) for operation in operations if operation.began_at > end and operation.found
            )
        _judge_values(living, court, is_over=end is not None)
        if session not in asked_to_end and not operations[-1].is_answered:
            promise = _Promises(operations).before(math.inf)
            if promise is not None and _shown(promise):
                verdict.unseen.append(f"{operations[-1]}, after {promise}")
    for operation in history.operations:
        if operation.vanished and operation.ended_at < asked_to_end.get(operation.vanished, math.inf):
            court.accuse(verdict.vanished, operation, "")
    _judge_terms(history.operations, court)
    return verdict


@dataclass(frozen=True, slots=True)
class _Court:
    verdict: Verdict
    parted: Sequence[tuple[float, float]]

    def accuse(self, faults: list[str], operation: Operation, why: str) -> None:
        """Write it down, unless it happened while that was no fault."""
        if any(operation.ended_at > begin and operation.began_at < end for begin, end in self.parted):
            self.verdict.forked += 1
        else:
            faults.append(f"{operation}{why}")


def _judge_values(operations: Sequence[Operation], court: _Court, *, is_over: bool) -> None:
    verdict = court.verdict
    promises = _Promises(operations)
    sent_at = [each.began_at for each in operations]
    largest_sent = [0, *accumulate((each.number for each in operations), max)]
    last = max(
        (each for each in operations if each.is_answered), key=lambda each: each.began_at, default=None
    )
    for operation in operations:
        if operation.found is None or operation.vanished == operation.session:
            continue  # what has vanished is judged as that
        promise = promises.before(operation.began_at)
        if promise is not None and operation.found < _shown(promise):
            late = any(each.number == operation.found and not each.is_answered for each in operations)
            why = f", after {promise}" + ("; the number is that of an unanswered write" if late else "")
            if operation is last and not is_over:
                verdict.lost.append(f"{operation}{why}")
            else:
                court.accuse(verdict.stale, operation, why)
        if operation.found > largest_sent[bisect_left(sent_at, operation.ended_at)]:
            verdict.invented.append(str(operation))


class _Promises:
    """The largest number that was promised by a time. Asked with rising times."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._given = sorted(
            (each for each in operations if each.is_answered and each.protected),
            key=lambda each: each.ended_at,
            reverse=True,
        )
        self._best: Operation | None = None

    def before(self, time: float) -> Operation | None:
        while self._given and self._given[-1].ended_at < time:
            given = self._given.pop()
            if self._best is None or _shown(given) > _shown(self._best):
                self._best = given
        return self._best


def _shown(operation: Operation) -> int:
    """What somebody knows from an answer: the number that is there now."""
    return operation.number if operation.kind is Kind.WRITE else operation.found or 0


def _judge_terms(operations: Iterable[Operation], court: _Court) -> None:
    by_session: dict[str, list[Operation]] = {}
    for operation in operations:
        if operation.is_answered and operation.epoch:
            by_session.setdefault(operation.session, []).append(operation)
    for answered in by_session.values():
        ended = sorted(answered, key=lambda each: each.ended_at, reverse=True)
        highest: Operation | None = None
        for operation in sorted(answered, key=lambda each: each.began_at):
            while ended and ended[-1].ended_at < operation.began_at:
                candidate = ended.pop()
                if highest is None or candidate.epoch > highest.epoch:
                    highest = candidate
            if highest is not None and operation.epoch < highest.epoch:
                court.accuse(court.verdict.old_terms, operation, f", after {highest}")
