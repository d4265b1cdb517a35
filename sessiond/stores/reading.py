"""What every store does with what it has read: count what is damaged, and hand out nothing that has expired."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVarTuple

from sessiond.errors import DamagedRecord
from sessiond.stores.interface import Record

Raw = TypeVarTuple("Raw")


class Reading:
    """The part of a `Store` that turns values into records. `unseal` raises DamagedRecord."""

    def __init__(self) -> None:
        self.damaged = 0

    def _live(self, unseal: Callable[[*Raw], Record], *raw: *Raw) -> Record | None:
        """The record of a value; None if it has expired. Raises DamagedRecord."""
        try:
            record = unseal(*raw)
        except DamagedRecord:
            self.damaged += 1
            raise
        return record if record.expires_at > time.time() else None

    def _all_live(self, unseal: Callable[[*Raw], Record], values: Iterable[tuple[*Raw]]) -> Iterator[Record]:
        """The records of a page that have not expired, without those that are damaged."""
        for raw in values:
            try:
                record = self._live(unseal, *raw)
            except DamagedRecord:
                continue  # it is counted, and a page has others
            if record is not None:
                yield record
