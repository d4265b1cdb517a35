"""What clients did and what they were told: the record that `checker` judges.

Times are of one clock, that of the process that all clients live in: an operation that began after another one
ended came after it.
"""

from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    WRITE = "write"
    READ = "read"
    LOG_OUT = "log out"


@dataclass(slots=True)
class Operation:
    """One request of a session. An answered one has `node`, and what the node said."""

    session: str
    attribute: str
    kind: Kind
    began_at: float
    number: int = 0
    """What a write was to store."""
    via: str = ""
    """Through which door: a balancer, or a node itself."""
    ended_at: float = 0.0
    found: int | None = None
    """The number that was there: what a read shows, what a write replaced. None: not answered."""
    node: str = ""
    epoch: int = 0
    protected: bool = False
    """Whether the session had a backup then; an unprotected answer carries no promise."""
    vanished: str = ""
    """The session that the user came with and that the node said does not exist; empty: it knew it."""
    status: int = 0
    """Of the answer; 0 if there was none."""
    error: str = ""

    @property
    def is_answered(self) -> bool:
        return self.found is not None

    def __str__(self) -> str:
        what = f"{self.kind.value} {self.attribute}" + (f"={self.number}" if self.number else "")
        said = (
            f"{self.node} found {self.found} in term {self.epoch}{'' if self.protected else ', unprotected'}"
            + (f", and no session {self.vanished}" if self.vanished else "")
            if self.is_answered
            else f"{self.status or ''} {self.error}".strip()
        )
        return (
            f"session {self.session} via {self.via}: {what} [{self.began_at:.3f}, {self.ended_at:.3f}] {said}"
        )


@dataclass(slots=True)
class History:
    """All operations, in the order in which they ended."""

    operations: list[Operation] = field(default_factory=list)

    def of_attributes(self) -> dict[tuple[str, str], list[Operation]]:
        """Reads and writes by the attribute they are about, in the order in which they began."""
        groups: dict[tuple[str, str], list[Operation]] = {}
        for operation in sorted(self.operations, key=lambda operation: operation.began_at):
            if operation.kind is not Kind.LOG_OUT:
                groups.setdefault((operation.session, operation.attribute), []).append(operation)
        return groups

    def count(self, kind: Kind, *, answered: bool) -> int:
        return sum(each.kind is kind and each.is_answered is answered for each in self.operations)

    def rate(self, kind: Kind, begin: float, end: float) -> float:
        """Answers a second between these times; 0 if no time passed."""
        answers = sum(
            each.kind is kind and each.is_answered and begin <= each.ended_at <= end
            for each in self.operations
        )
        return answers / (end - begin) if end > begin else 0.0
