"""What is under way on each link: numbered frames, the acks that this node owes and those that it waits for.

Invariant: what an older link carried counts for nothing once there is a new one; it goes again as a whole copy.
Who is linked with whom is `membership`'s business, the connections are the driver's.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sessiond.core import messages as m
from sessiond.core.acks import AckLedger, Applied
from sessiond.core.types import Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Links:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self.ledgers: dict[Life, AckLedger] = {}
        self._owing: dict[Life, None] = {}

    def opened(self, life: Life) -> None:
        """A new link, with nothing under way."""
        self.ledgers[life] = AckLedger()

    def resend(self, life: Life) -> None:
        """What was under way on an older link to this life is unknown: it goes again."""
        machine = self._machine
        for key in [*machine.replication.waiting, *machine.lists.repairing, *machine.takeover.granting]:
            copy = machine.copies.get(key)
            leads = copy.leadership if copy is not None else None
            follower = leads.followers.get(life) if leads is not None else None
            if copy is not None and follower is not None and follower.acked < copy.sent.version:
                machine.replication.send_copy(copy, life)

    def closed(self, life: Life) -> None:
        self.ledgers.pop(life, None)

    def forget(self) -> None:
        """This node's life is over, and all its links with it."""
        self.ledgers.clear()
        self._owing.clear()

    # --- what this node sends -------------------------------------------------------------------------

    def sends(self, life: Life, applied: Applied) -> bool:
        """A numbered frame is to leave; once acked it means `applied`. False: without a link it cannot."""
        ledger = self.ledgers.get(life)
        if ledger is None:
            return False
        ledger.sent(applied)
        return True

    def on_ack(self, life: Life, ack: m.Ack) -> None:
        ledger = self.ledgers.get(life)
        if ledger is not None:
            for applied in ledger.acked(ack.frame):
                self._machine.replication.on_applied(life, applied)

    def on_nack(self, life: Life, nack: m.Nack) -> None:
        ledger = self.ledgers.get(life)
        if ledger is not None:
            ledger.refused(nack.frame)

    def under_way_max(self) -> int:
        """Frames that the slowest peer has still to answer."""
        return max((ledger.under_way for ledger in self.ledgers.values()), default=0)

    # --- what it receives -----------------------------------------------------------------------------

    def numbered(self, life: Life, message: Any, handle: Callable[[Life, Any], m.Message | None]) -> None:
        """A PUT or PATCH: applied, or refused with a reason that stands before any later ack."""
        ledger = self.ledgers.get(life)
        if ledger is None:
            return
        frame = ledger.received()
        refusal = handle(life, message)
        if refusal is not None:
            self._machine.send((life,), m.Nack(frame))
            self._machine.send((life,), refusal)
        self._owing[life] = None

    def pay(self) -> None:
        """Ack what was applied since the last time, one frame a peer."""
        for life in self._owing:
            ledger = self.ledgers.get(life)
            owed = ledger.owed() if ledger is not None else None
            if owed is not None:
                self._machine.send((life,), m.Ack(owed))
        self._owing.clear()
