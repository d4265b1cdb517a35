"""One process: a core, driven as `node` drives it, with a clock, a pulse and a kernel of its own.

Every event is one turn: verbs with the clock's reading, then all effects in their order, what was sent leaving
together; one timer. While the process stands still, or is still busy with the last turn, its input queues: each
source in its order, the sources in any order.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from sessiond.core import codec
from sessiond.core.effects import (
    Admission,
    Dial,
    DropLink,
    Effect,
    JoinRefusedForGood,
    Log,
    MembersChanged,
    NewLife,
    Resolve,
    Send,
    StoreRead,
    StoreWrite,
)
from sessiond.core.identity import Identity, Refusal
from sessiond.core.machine import Machine
from sessiond.net.rivals import Rivals
from tests.sim import handshakes
from tests.sim.network import END_OF_STREAM, WELCOME, End, Item, Network
from tests.sim.promises import Violation
from tests.sim.store import SimulatedStore
from tests.sim.words import UNTOLD, words

if TYPE_CHECKING:
    from tests.sim.requests import Visit

DRIFT_MAX = 0.01
TIMER = "timer"
LATE_S = 0.00001
"""A timer is never early."""

SPINS_MAX = 100
"""So many ticks in a row may leave work for at once: long queues are worked off in parts."""

Turn: TypeAlias = Callable[..., None]
"""Something that a process does; called with its clock's reading."""


class Clock:
    """A process's monotonic clock: it drifts, and may jump forward."""

    def __init__(self, offset_s: float, rate: float) -> None:
        self._offset_s = offset_s
        self.rate = rate

    def read(self, moment: float) -> float:
        return self._offset_s + self.rate * moment

    def moment_of(self, reading: float) -> float:
        """The moment at which it shows this."""
        return (reading - self._offset_s) / self.rate

    def jump(self, seconds: float) -> None:
        self._offset_s += seconds


class Process:
    """`after_turn` is called when a turn is over and all its effects are carried out; `name_of` names sessions."""

    def __init__(
        self,
        name: str,
        network: Network,
        machine: Machine,
        clock: Clock,
        *,
        after_turn: Callable[["Process"], None],
        name_of: Callable[[bytes], str],
        on_log: Callable[[str, dict[str, Any]], None],
        store: SimulatedStore | None = None,
    ) -> None:
        self.name = name
        self.address = name
        self.network = network
        self.book = network.book
        self.timeline = network.timeline
        self.machine = machine
        self.clock = clock
        self.rivals: Rivals[End] = Rivals()
        self.dials: dict[str, handshakes.Dial] = {}
        self.visits: dict[Visit, None] = {}
        """Requests of clients that are being dealt with here."""

        self.is_gone = False
        self.is_paused = False
        self.turn_s = 0.0
        """How long each turn takes; a slow node's is not 0."""

        self.refused_for_good: Refusal | None = None
        self._after_turn = after_turn
        self._name_of = name_of
        self._on_log = on_log
        self._store = store
        self._is_busy = False
        self._inbox: dict[object, deque[tuple[Turn, tuple[Any, ...]]]] = {}
        self._outgoing: list[End] = []
        self._numbers = 0
        self._waiting: dict[int, Callable[[object], None]] = {}
        self._admissions: dict[int, Callable[..., None]] = {}
        self._timer_at: float | None = None
        self._timer_number = 0
        self._spins = 0

    def start(self) -> None:
        self.network.hosts[self.address] = self
        self.enter(TIMER, self.machine.start)
        if self._store is not None:
            self._store.open(self)

    # --- turns ----------------------------------------------------------------------------------------

    def enter(self, source: object, turn: Turn, *args: Any) -> None:
        """Something comes in from a source; it has its turn now, or when the process gets to it."""
        if self.is_gone:
            return
        if self.is_paused or self._is_busy:
            self._inbox.setdefault(source, deque()).append((turn, args))
        else:
            self._take(turn, args)
            if self._inbox:  # what it did came back to it
                self._go_on()

    def _take(self, turn: Turn, args: tuple[Any, ...]) -> None:
        self._is_busy = True
        moment = self.timeline.now
        self.book.mark(f"{moment:.9f} {self.name} {turn.__name__};".encode())
        turn(self.clock.read(moment), *args)
        self._act()
        self._after_turn(self)
        if self.turn_s > 0.0:
            self.timeline.after(self.turn_s, self._go_on)
        else:
            self._is_busy = False

    def _go_on(self) -> None:
        """Take what has queued, until there is nothing or a turn takes its time."""
        self._is_busy = False
        while self._inbox and not self.is_paused and not self._is_busy and not self.is_gone:
            source = self.network.rng.choice(list(self._inbox))
            queue = self._inbox[source]
            turn, args = queue.popleft()
            if not queue:
                del self._inbox[source]
            self._take(turn, args)

    def pause(self) -> None:
        """SIGSTOP: connections stay, the kernel goes on accepting and queueing."""
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        if not self._is_busy:
            self._go_on()

    def crash(self) -> None:
        """SIGKILL: memory is lost, peers read the end of their links, clients lose their connections."""
        for end in self.rivals.links():
            self.network.close(end)
        self._end()

    def exit(self) -> None:
        """The process has said its last word and ends in order: what it sent leaves first."""
        for end in self.rivals.links():
            self.network.close(end, in_order=True)
        self._end()

    def _end(self) -> None:
        self.is_gone = True
        del self.network.hosts[self.address]
        self._inbox.clear()
        for dial in self.dials.values():
            dial.abort()
        for visit in self.visits:
            visit.node_died()

    def jump(self, seconds: float) -> None:
        """The clock jumps forward, and the timer with it."""
        self.clock.jump(seconds)
        if self._timer_at is not None:
            self._arm(self._timer_at)

    # --- the application ------------------------------------------------------------------------------

    def ask(self, done: Callable[[object], None], verb: str, *args: Any, **kwargs: Any) -> None:
        """Within a turn: begin an operation of the core; `done` gets its outcome."""
        self._numbers += 1
        self._waiting[self._numbers] = done
        now = self.clock.read(self.timeline.now)
        getattr(self.machine, verb)(self._numbers, *args, now=now, **kwargs)

    @property
    def waits_for_s(self) -> float:
        """For how long an answer here has waited for backups."""
        waiting = self.machine.replication.waiting.values()
        return self.clock.read(self.timeline.now) - min(waiting) if waiting else 0.0

    @property
    def operations_waiting(self) -> int:
        return len(self._waiting)

    def machine_drains(self, now: float) -> None:
        self.machine.begin_drain(now)

    def machine_leaves(self, now: float) -> None:
        self.machine.leave(now)

    # --- links ----------------------------------------------------------------------------------------

    def read(self, end: End, items: list[Item]) -> None:
        """The socket of a link has something to read."""
        self.enter(end, self._read, end, items)

    def _read(self, now: float, end: End, items: list[Item]) -> None:
        machine, life = self.machine, end.peer.life
        for item in items:
            if not end.is_open:
                return
            if isinstance(item, bytes):
                message = codec.decode(item, life)
                self.book.mark(item)
                if self.book.is_told and not isinstance(message, UNTOLD):
                    self._tell(f"< {self._told(life)} {self._told(message)}")
                machine.receive(life, message, now)
            elif item is WELCOME:
                if end.dial is not None and end.dial.is_welcome():
                    self.opened(end, now)
                else:
                    self.network.close(end)
            elif item is END_OF_STREAM:
                self.network.close(end)
                self._lost(now, end)

    def opened(self, end: End, now: float) -> None:
        replaced = self.rivals.open(end.peer.life, end)
        if replaced is not None:
            self.network.close(replaced)
        self.book.count("link.opened")
        self._tell(f"has a link to {end.peer.life.name}")
        self.machine.link_opened(end.peer, end.dial.address if end.dial is not None else None, now)

    def _close(self, end: End) -> None:
        """This side ends a link: its core hears of that in a later turn."""
        if end.is_open:
            self.network.close(end)
            self.timeline.after(0.0, self.enter, end, self._lost, end)

    def _lost(self, now: float, end: End) -> None:
        if self.rivals.forget(end.peer.life, end):
            self.book.count("link.closed")
            self._tell(f"has lost the link to {end.peer.life.name}")
            self.machine.link_closed(end.peer.life, now)

    def ask_admission(self, identity: Identity, now: float, decided: Callable[..., None]) -> None:
        """Within a turn: whether the core wants a link; `decided` has a turn of its own."""
        self._numbers += 1
        self._admissions[self._numbers] = decided
        self.machine.admit(self._numbers, identity, now)

    def _tell(self, what: str) -> None:
        self.book.tell(self.timeline.now, self.name, what)

    def _told(self, value: Any) -> str:
        return words(value, self._name_of) if self.book.is_told else ""

    # --- effects --------------------------------------------------------------------------------------

    def _act(self) -> None:
        counts = self.book.counts
        for effect in self.machine.take_effects():
            if type(effect) is Send:
                message = effect.message
                counts[type(message).__name__] += 1
                frame = codec.encode(message, self.machine.life)
                for life in effect.to:
                    end = self.rivals.get(life)
                    if end is not None:
                        if not end.outbox:
                            self._outgoing.append(end)
                        end.outbox.append(frame)
            else:
                self._carry_out(effect)
        if self._outgoing:
            for end in self._outgoing:
                if end.outbox:  # else it was closed meanwhile
                    self.network.send(end, list(end.outbox))
                    end.outbox.clear()
            self._outgoing.clear()
        deadline = self.machine.next_deadline()
        if self._timer_at is None or deadline < self._timer_at:
            self._arm(deadline)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Resolve(operation, outcome):
                self._waiting.pop(operation)(outcome)
            case Log(_, event, fields):
                self.book.count(event)
                self._tell(f"{event} {self._told(fields)}")
                self._on_log(event, fields)
            case StoreWrite() | StoreRead():
                assert self._store is not None, "nothing is asked of a store that there is not"
                self._store.ask(self, effect)
            case Dial(address):
                if address not in self.dials:
                    self.dials[address] = handshakes.Dial(self, address)
            case DropLink(life, _):
                end = self.rivals.get(life)
                if end is not None:
                    self._close(end)
            case NewLife(_):
                for dial in self.dials.values():
                    dial.abort()
                self.dials.clear()
                for end in self.rivals.links():
                    self._close(end)
            case Admission(number, refusal):
                decided = self._admissions.pop(number)
                self.timeline.after(0.0, self.enter, decided, decided, refusal)
            case JoinRefusedForGood(refusal, _):
                self.refused_for_good = refusal
            case MembersChanged():
                pass
            case _:
                raise AssertionError(f"unknown effect {effect}")

    def _arm(self, deadline: float) -> None:
        self._timer_at = deadline
        self._timer_number += 1
        self.timeline.at(self.clock.moment_of(deadline) + LATE_S, self._timer_due, self._timer_number)

    def _timer_due(self, number: int) -> None:
        if number == self._timer_number and self._timer_at is not None:
            self._timer_at = None
            self.enter(TIMER, self._tick)

    def _tick(self, now: float) -> None:
        self.machine.tick(now)
        self._spins = self._spins + 1 if self.machine.next_deadline() <= now else 0
        if self._spins > SPINS_MAX:
            raise Violation(f"{self.name} spins: its deadline does not move on")
