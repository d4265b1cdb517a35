"""A store on the simulated network: one shelf that every process sees, with delays, outages and time-outs.

What a driver does is here too: it gives up on the store after the time-out, though the store may carry out what it was
asked all the same, then or later; and it opens the store anew until that succeeds.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from sessiond.core.effects import StoreRead, StoreWrite
from sessiond.core.stored import Trouble, Unreadable
from tests.core.shelf import Shelf
from tests.sim.timeline import Timeline

if TYPE_CHECKING:
    from tests.sim.process import Process

DELAY_S = (0.0005, 0.005)
LATE_S = 0.06
LATE_CHANCE = 0.02
OPEN_AGAIN_S = 0.1


class SimulatedStore:
    def __init__(self, timeline: Timeline, rng: Random, timeout_s: float) -> None:
        self.shelf = Shelf()
        self._timeline = timeline
        self._rng = rng
        self._timeout_s = timeout_s
        self._fails_until = 0.0
        self._stalls_until = 0.0

    # --- faults ---------------------------------------------------------------------------------------

    def fail(self, seconds: float) -> None:
        """Refuse everything for a while."""
        self._fails_until = self._timeline.now + seconds

    def stall(self, seconds: float) -> None:
        """Carry nothing out for a while; what was asked meanwhile is done then."""
        self._stalls_until = self._timeline.now + seconds

    def _delay(self) -> float:
        delay = self._rng.uniform(*DELAY_S)
        if self._rng.random() < LATE_CHANCE:
            delay += self._rng.uniform(0.0, LATE_S)
        return max(delay, self._stalls_until - self._timeline.now + delay)

    # --- what processes ask ----------------------------------------------------------------------------

    def open(self, process: "Process") -> None:
        if process.is_gone:
            return
        if self._timeline.now < max(self._fails_until, self._stalls_until):
            self._timeline.after(OPEN_AGAIN_S, self.open, process)
        else:
            process.enter(self, process.machine.store_opened)

    def ask(self, process: "Process", asked: StoreWrite | StoreRead) -> None:
        call = _Call(process, asked, self)
        self._timeline.after(self._delay(), self._carry_out, call)
        self._timeline.after(self._timeout_s, call.time_out)

    def _carry_out(self, call: "_Call") -> None:
        now = self._timeline.now
        self.shelf.is_failing = now < self._fails_until
        asked = call.asked
        if isinstance(asked, StoreRead):
            outcome = self.shelf.read(asked.key, now)
            self._timeline.after(
                self._delay(), call.answer, call.process.machine.store_read, asked.key, outcome
            )
        elif (refused := self.shelf.write(asked.records, now)) is None:
            self._timeline.after(self._delay(), call.fail, "it refuses everything")
        else:
            self._timeline.after(
                self._delay(), call.answer, call.process.machine.stored, asked.number, refused
            )


class _Call:
    """Something asked of the store; answered once."""

    def __init__(self, process: "Process", asked: StoreWrite | StoreRead, source: object) -> None:
        self.process = process
        self.asked = asked
        self._source = source
        self._is_over = False

    def answer(self, verb: Callable[..., None], *args: Any) -> None:
        if self._is_over:
            return
        self._is_over = True

        def turn(now: float) -> None:
            verb(*args, now=now)

        self.process.enter(self._source, turn)

    def fail(self, reason: str) -> None:
        machine, asked = self.process.machine, self.asked
        if isinstance(asked, StoreRead):
            self.answer(machine.store_read, asked.key, Unreadable(Trouble.UNAVAILABLE, reason))
        else:
            self.answer(machine.store_failed, asked.number, reason)

    def time_out(self) -> None:
        self.fail("it did not answer in time")
