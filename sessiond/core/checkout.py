"""A session in the hands of a request."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sessiond.core.copies import Copy
from sessiond.core.types import Key

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Checkout:
    """Holds the session on this node until released; reads see it as last committed here."""

    __slots__ = ("_copy", "_leads", "_machine", "_released", "key")

    def __init__(self, machine: "Machine", copy: Copy) -> None:
        self._machine = machine
        self._copy = copy
        self._leads = copy.leads
        self._leads.in_flight += 1
        self._released = False
        self.key: Key = copy.key

    @property
    def version(self) -> int:
        return self._current.version

    def names(self) -> Iterator[str]:
        return self._current.names()

    def read(self, name: str) -> bytes | None:
        return self._current.read(name)

    @property
    def _current(self) -> Copy:
        # A copy that was replaced (handed away and back) is read where it is now, and a rotated one under its new key.
        return self._machine.copies.get(self._machine.aliases.resolve(self.key)) or self._copy

    def release(self) -> None:
        if self._released:
            return
        self._released = True
        self._leads.in_flight -= 1
        self._machine.touches.note(self._current)  # the time-out runs from the end of a long request
        if self._leads.handoff is not None and self._leads.in_flight == 0:
            self._machine.operations.request_done(self.key)
