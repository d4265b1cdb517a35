"""When sessions were last used: what a primary tells its backups, for the time-out of whoever succeeds it.

At every interval it tells of those used since, in batches that leave one after the other: of a hundred thousand
sessions in use nobody waits for all at once.
"""

from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.copies import Copy, Role
from sessiond.core.options import TOUCH_CHUNK
from sessiond.core.table import Table, Walk
from sessiond.core.types import Key, Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

STEP_S = 0.01
"""Time between two batches."""


class Touches:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._next_at = machine.now + machine.options.touch_interval_s
        self._touched: Table[None] = Table()
        self._telling: Walk | None = None
        """Through what was touched before the present interval."""

    def note(self, copy: Copy) -> None:
        """The session is used: its time-out starts anew, and its backups will hear of it."""
        copy.accessed_at = self._machine.now
        self._touched[copy.key] = None

    def next_deadline(self) -> float:
        return self._next_at

    def tick(self, now: float) -> None:
        if now < self._next_at:
            return
        if self._telling is None:
            self._begin()
        is_more = self._tell()
        self._next_at = now + (STEP_S if is_more else self._machine.options.touch_interval_s)

    def flush(self) -> None:
        """Tell of everything now: nobody here will do it later."""
        while self._telling is not None:
            self._tell()
        self._begin()
        is_more = True
        while is_more:
            is_more = self._tell()

    def _begin(self) -> None:
        self._telling, self._touched = Walk(self._touched), Table()

    def _tell(self) -> bool:
        """Tell the backups of the next batch; False if it was the last one."""
        machine = self._machine
        assert self._telling is not None, "begun before"
        batches: dict[Life, list[tuple[Key, float]]] = {}
        for key in self._telling.take(TOUCH_CHUNK):
            copy = machine.copies.get(key)
            if copy is not None and copy.role is Role.PRIMARY:
                if machine.storing is not None:
                    machine.storing.used(copy)
                for life in copy.backups:
                    batches.setdefault(life, []).append((key, machine.now - copy.accessed_at))
        if self._telling.is_over:
            self._telling = None
        for life, batch in batches.items():
            machine.send((life,), m.Touch(tuple(batch)))
        return self._telling is not None
