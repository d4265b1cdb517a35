"""When sessions were last used: what a primary tells its backups, in batches, for the time-out of whoever succeeds it."""

from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.copies import Copy, Role
from sessiond.core.options import TOUCH_CHUNK
from sessiond.core.types import Key, Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Touches:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._touched: dict[Key, None] = {}

    def note(self, copy: Copy) -> None:
        """The session is used: its time-out starts anew, and its backups will hear of it."""
        copy.accessed_at = self._machine.now
        self._touched[copy.key] = None

    def flush(self) -> None:
        """Tell the backups, in batches, which sessions were used since the last time."""
        machine = self._machine
        batches: dict[Life, list[tuple[Key, float]]] = {}
        for key in self._touched:
            copy = machine.copies.get(key)
            if copy is not None and copy.role is Role.PRIMARY:
                if machine.storing is not None:
                    machine.storing.used(copy)
                for life in copy.backups:
                    batches.setdefault(life, []).append((key, machine.now - copy.accessed_at))
        self._touched.clear()
        for life, batch in batches.items():
            for start in range(0, len(batch), TOUCH_CHUNK):
                machine.send((life,), m.Touch(tuple(batch[start : start + TOUCH_CHUNK])))
