"""Reading sessions back from the store, for those who need to know what lies there.

Four ask. A look-up, when every member has answered and nobody acts for the session: before it says "gone", and
before a copy in doubt becomes primary again, as what is stored may be newer. A member that asks WHO, or claims, a
session of a node whose store is its own: nobody else can look there. And a primary whose write the store refused,
because somebody had written with a higher stamp.

Invariant: what is read never acts by itself. It becomes a copy in doubt (Q), or is folded into the one that is there,
attribute by attribute; then the rules for such copies apply: it validates itself by WHO, and of several the best one
becomes primary, in a term above all that are known. So memory and store are one more pair of copies to compare.

A store that is down is not asked: whoever needs it hears at once that nothing is known.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from sessiond.core import messages as m
from sessiond.core.copies import Copy, Role
from sessiond.core.effects import StoreRead
from sessiond.core.stored import PROBE_KEY, Stored, Trouble, Unreadable, rank_of
from sessiond.core.types import Key, Life, Location

if TYPE_CHECKING:
    from sessiond.core.machine import Machine
    from sessiond.core.storing import Storing

READS_MAX = 200
"""Reads under way; more of them wait for their turn."""

Outcome: TypeAlias = Stored | Unreadable | None
"""Of a read. None: the store has nothing of this session."""


class _Read:
    """Who waits for what the store has of one session."""

    __slots__ = ("for_lookup", "is_claimed", "is_superseded", "whos")

    def __init__(self) -> None:
        self.for_lookup = False
        self.is_claimed = False
        self.is_superseded = False
        self.whos: list[tuple[Life, int]] = []


class Recall:
    def __init__(self, machine: "Machine", storing: "Storing") -> None:
        self._machine = machine
        self._storing = storing
        self._reads: dict[Key, _Read] = {}
        self._queue: OrderedDict[Key, None] = OrderedDict()
        """Of those, the ones whose read has not begun."""

    @property
    def is_idle(self) -> bool:
        return not self._reads

    def is_reading(self, key: Key) -> bool:
        return key in self._reads

    # --- who asks -------------------------------------------------------------------------------------

    def look_up(self, key: Key) -> None:
        """A look-up wants to know; it hears by `Rounds.recalled`."""
        if self._is_down:
            self._machine.lookup.rounds.recalled(key, self._unavailable(), self)
        else:
            self._read(key).for_lookup = True

    def delays(self, life: Life, who: m.Who) -> bool:
        """A member asks for a session that nobody acts for here: whether it hears later, once the store has been read.

        Round 0 is of those who clear up their directory (`forgetting`): what rests in a store is no reason to keep an
        entry.
        """
        key = who.key
        reading = self._reads.get(key)
        if reading is None and (self._storing.is_shared or not who.round):
            return False
        if reading is None and self._is_down:
            self._machine.lookup.rounds.say_here(life, who.key, who.round, None, unread=True)
            return True
        self._read(key).whos.append((life, who.round))
        return True

    def claimed(self, key: Key) -> None:
        """A member wants a session that it believes here, where there is no copy: perhaps in this node's own store."""
        if not (self._storing.is_shared or self._is_down):
            self._read(key).is_claimed = True

    def superseded(self, copy: Copy) -> None:
        """The store has a higher stamp than this primary: somebody else acts, or has acted, for the session."""
        if self._is_down:
            self._storing.note(copy)
        else:
            self._read(copy.key).is_superseded = True

    @property
    def _is_down(self) -> bool:
        return self._storing.is_down

    def _unavailable(self) -> Unreadable:
        return Unreadable(Trouble.UNAVAILABLE, self._storing.reason)

    # --- reading --------------------------------------------------------------------------------------

    def _read(self, key: Key) -> _Read:
        reading = self._reads.get(key)
        if reading is None:
            reading = self._reads[key] = _Read()
            if len(self._reads) - len(self._queue) <= READS_MAX:
                self._machine.emit(StoreRead(key))
            else:
                self._queue[key] = None
        return reading

    def on_read(self, key: Key, outcome: Outcome) -> None:
        """A read has ended."""
        machine = self._machine
        is_down = isinstance(outcome, Unreadable) and outcome.trouble is Trouble.UNAVAILABLE
        if isinstance(outcome, Unreadable) and is_down:
            self._storing.fails(outcome.detail)
        else:
            self._storing.answers()
        if key == PROBE_KEY:
            return
        reading = self._reads.pop(key, None)
        if reading is None:
            return
        if isinstance(outcome, Unreadable) and not is_down:
            machine.stats.records_unreadable += 1
            machine.log("error", f"store.record_{outcome.trouble}", key=key.hex(), detail=outcome.detail)
        if is_down:
            self._give_up_queue()
        elif self._queue:
            following, _ = self._queue.popitem(last=False)
            machine.emit(StoreRead(following))
        self._tell(key, reading, outcome)

    def _give_up_queue(self) -> None:
        """The store is down: whoever has not been asked about yet need not be."""
        queue, self._queue = self._queue, OrderedDict()
        for key in queue:
            self._tell(key, self._reads.pop(key), self._unavailable())

    def _tell(self, key: Key, reading: _Read, outcome: Outcome) -> None:
        machine = self._machine
        if reading.is_superseded:
            self._settle(key, outcome)
        for life, round_number in reading.whos:
            self._say_here(life, key, round_number, outcome)
        if reading.is_claimed and isinstance(outcome, Stored) and key not in machine.copies:
            if outcome.data is None:
                self._learn_end(outcome)
            else:
                self.take_in(outcome)
                machine.reprotection.look_after(key)
                machine.lookup.resolve(key)
        if reading.for_lookup:
            machine.lookup.rounds.recalled(key, outcome, self)

    def _say_here(self, life: Life, key: Key, round_number: int, outcome: Outcome) -> None:
        """Answer WHO with the better of what is in memory by now and what is stored."""
        machine = self._machine
        copy = machine.copies.get(key)
        if self._storing.is_shared or (copy is not None and copy.role is not Role.QUARANTINED):
            machine.lookup.rounds.say_here(life, key, round_number, copy)
        elif isinstance(outcome, Stored) and outcome.data is None:
            machine.send((life,), m.Here(key, round_number, None, _end(outcome)))
        elif isinstance(outcome, Stored) and outcome.data is not None:
            last = outcome.data.last
            if copy is not None and rank_of(copy.term, copy.last) >= rank_of(outcome.term, last):
                machine.lookup.rounds.say_here(life, key, round_number, copy)
            else:
                held = m.Held(Role.QUARANTINED.value, outcome.term, 0, (), last)
                machine.send((life,), m.Here(key, round_number, held, machine.directory.get(key)))
        else:
            is_unread = isinstance(outcome, Unreadable) and outcome.trouble is not Trouble.DAMAGED
            machine.lookup.rounds.say_here(life, key, round_number, copy, unread=is_unread)

    # --- what it means --------------------------------------------------------------------------------

    def take_in(self, stored: Stored) -> None:
        """Have a copy in doubt of what is stored, folded into one that is here already."""
        machine = self._machine
        assert stored.data is not None, "an end is not taken in"
        copy = machine.copies.get(stored.key)
        if copy is None:
            copy = Copy(stored.key, Role.QUARANTINED, stored.term, machine.now)
            copy.load(stored.data, machine.now)
            machine.copies.put(copy)
            machine.stats.loaded += 1
            return
        assert copy.role is Role.QUARANTINED, "nothing is folded into a copy that acts"
        bytes_before = copy.bytes
        copy.fold_in(stored.data, stored.term, machine.now)
        machine.copies.reweigh(bytes_before, copy)

    def _learn_end(self, stored: Stored) -> None:
        self._machine.locating.merge(stored.key, _end(stored))

    def _settle(self, key: Key, outcome: Outcome) -> None:
        """What a primary whose write was refused finds in the store."""
        machine = self._machine
        copy = machine.copies.get(key)
        if copy is None or copy.role is not Role.PRIMARY:
            return
        if isinstance(outcome, Unreadable) and outcome.trouble is not Trouble.UNAVAILABLE:
            machine.quarantine(copy)  # somebody who can read it may act in a higher term
            machine.lookup.resolve(key)
        elif not isinstance(outcome, Stored) or (outcome.term, outcome.version) <= (copy.term, copy.version):
            self._storing.note(copy)  # what was there is not there any more, or nothing is known: again
        elif outcome.data is None:
            self._learn_end(outcome)
        else:
            machine.stats.fenced += 1
            machine.log(
                "warning",
                "session.fenced",
                key=key.hex(),
                term=str(copy.term),
                by=f"{outcome.term} in the store",
            )
            machine.quarantine(copy)
            self.take_in(outcome)
            machine.lookup.resolve(key)


def _end(stored: Stored) -> Location:
    return Location(stored.term, 0, (), gone=True)
