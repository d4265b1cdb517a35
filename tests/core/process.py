"""What `World` keeps of one process, and of a handshake between two."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from sessiond.core.identity import Refusal
from sessiond.core.machine import Machine
from sessiond.core.types import Life


@dataclass
class Process:
    """One core with what the driver would keep for it."""

    machine: Machine
    address: str
    outcomes: dict[int, object] = field(default_factory=dict)
    answered_at: dict[int, float] = field(default_factory=dict)
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    refused_for_good: Refusal | None = None
    operations: int = 0
    stopped: bool = False
    admissions: dict[int, object] = field(default_factory=dict)
    sent: list[object] = field(default_factory=list)
    inbox: deque[Callable[[], None]] = field(default_factory=deque)
    """Requests of the application that came while it was stopped."""


@dataclass(frozen=True)
class Handshake:
    """A dial that has reached somebody: the answerer says first whether it wants the link, then the dialer."""

    dialer: Process
    dialer_life: Life
    answerer: Process
    answerer_life: Life
    address: str
    is_welcome_there: bool = False

    @property
    def asked_and_other(self) -> tuple[Process, Process]:
        return (self.dialer, self.answerer) if self.is_welcome_there else (self.answerer, self.dialer)
