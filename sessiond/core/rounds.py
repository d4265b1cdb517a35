"""Asking every living member for a session, and what their answers mean (protocol 4.7).

A round of WHO belongs to a look-up (`lookup`), which turns to it when nobody is known who should have the session. It
ends when the answers suffice: a primary is found as soon as it says so; that nobody acts for the session is known only
when everybody has answered, and that there is none only when the store, if there is one, has been read as well. A round
starts anew when the membership changes meanwhile, or the session moves: it may have gone from somebody who had not
answered yet to somebody who had. Whoever had it last tells (`locating.parting`). Rounds take `turns`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.copies import Copy, Role
from sessiond.core.options import LOOKUPS_LIMITED_LOG_S, RECALL_AGAIN_S, RECALL_VALID_S
from sessiond.core.recall import Outcome, Recall
from sessiond.core.stored import Stored, Trouble, Unreadable
from sessiond.core.turns import Turns
from sessiond.core.types import Key, Life, Location, Term
from sessiond.errors import Unavailable

if TYPE_CHECKING:
    from sessiond.core.lookup import Lookup, LookupDesk
    from sessiond.core.machine import Machine


class Rounds:
    def __init__(self, machine: "Machine", desk: "LookupDesk") -> None:
        self._machine = machine
        self._desk = desk
        self._turns = Turns(machine.options.lookup_rate_max, machine.now)
        self._limited_logged_at = float("-inf")

    def is_queued(self, key: Key) -> bool:
        """Whether this key's round waits for its turn."""
        return key in self._turns

    def leave(self, key: Key) -> None:
        """Nobody looks for this key any more."""
        self._turns.leave(key)

    def next_deadline(self) -> float | None:
        return self._turns.next_deadline(self._machine.now)

    def tick(self, now: float) -> None:
        while (key := self._turns.next(now)) is not None:
            lookup = self._desk.get(key)
            if lookup is not None:
                self._ask(key, lookup)

    # --- asking ---------------------------------------------------------------------------------------

    def begin(self, key: Key, lookup: "Lookup") -> None:
        """Ask everybody, now or when it is this key's turn."""
        machine = self._machine
        wanted = self._desk.is_wanted(key)
        if self._turns.take(key, machine.now, wanted=wanted):
            self._ask(key, lookup)
            return
        lookup.answers = None
        turn_at = self._turns.next_deadline(machine.now)
        if turn_at is not None:
            machine.due(turn_at)
        if wanted and machine.now - self._limited_logged_at >= LOOKUPS_LIMITED_LOG_S:
            self._limited_logged_at = machine.now
            rate_max = machine.options.lookup_rate_max
            machine.log("warning", "lookup.rate_limited", waiting=len(self._turns), rate_max=rate_max)

    def _ask(self, key: Key, lookup: "Lookup") -> None:
        machine = self._machine
        machine.stats.lookups += 1
        alive = tuple(machine.membership.alive())
        lookup.asked = frozenset(alive)
        lookup.answers = {}
        lookup.decides.clear()
        lookup.unread.clear()
        machine.send(alive, m.Who(key, lookup.number))
        self.evaluate(key, lookup)

    # --- answering ------------------------------------------------------------------------------------

    def on_who(self, life: Life, who: m.Who) -> None:
        machine = self._machine
        copy = machine.copies.get(who.key)
        is_active = copy is not None and copy.role is not Role.QUARANTINED
        if (
            machine.storing is None
            or is_active
            or machine.directory.is_gone(who.key)
            or not machine.storing.recall.delays(life, who)
        ):
            self.say_here(life, who.key, who.round, copy)

    def say_here(
        self, life: Life, key: Key, round_number: int, copy: Copy | None, *, unread: bool = False
    ) -> None:
        """Answer WHO with what is in memory."""
        machine = self._machine
        held = None
        decides = False
        if copy is not None:
            held = m.Held(copy.role.value, copy.term, copy.seq, copy.backups, copy.last)
            decides = copy.role is Role.QUARANTINED and self._has_counted_out(key, life)
        here = m.Here(key, round_number, held, machine.directory.get(key), decides, unread)
        machine.send((life,), here)

    def _has_counted_out(self, key: Key, life: Life) -> bool:
        """Whether this node has asked `life` and heard that it has nothing, in a round that is not over.

        A copy that `life` has read from the store since is no part of that round, which may end with this node as
        primary all the same. (Links keep order: had its answer been under way, it would be here.)
        """
        lookup = self._desk.get(key)
        if self._machine.storing is None or lookup is None or lookup.answers is None:
            return False
        return life in lookup.answers and lookup.answers[life] is None

    # --- answers --------------------------------------------------------------------------------------

    def on_here(self, life: Life, here: m.Here) -> None:
        machine = self._machine
        key, held = here.key, here.held
        if here.location is not None:
            machine.locating.merge(key, here.location)
        if held is not None and held.role != Role.QUARANTINED and held.seq > 0:
            machine.locating.merge(key, Location(held.term, held.seq, held.backups))
        if machine.storing is not None and machine.directory.is_gone(key):
            self._desk.resolve(key)  # somebody's store knows of its end; what another one has of it is older
            return
        lookup = self._desk.get(key)
        if lookup is not None and lookup.number == here.round and lookup.answers is not None:
            lookup.answers[life] = held
            if here.decides:
                lookup.decides.add(life)
            if here.unread:
                lookup.unread.add(life)
            self.evaluate(key, lookup)

    def evaluate(self, key: Key, lookup: "Lookup") -> None:
        """Act on the answers of a round as soon as they suffice."""
        machine = self._machine
        answers = lookup.answers
        assert answers is not None, "a round is under way"
        if frozenset(machine.membership.alive()) != lookup.asked:
            self.begin(key, lookup)
            return
        held = {life: said for life, said in answers.items() if said is not None}
        copy = machine.copies.get(key)
        primary = max(_having(held, Role.PRIMARY), default=None)
        if primary is not None and (copy is None or copy.role is Role.QUARANTINED):
            lookup.answers = None
            self._desk.found_primary(key, copy, lookup, primary[-1])
            return
        if not lookup.asked <= answers.keys():
            return
        if copy is not None and copy.role is Role.BACKUP:
            lookup.answers = None
            lookup.empty |= {
                life for life in answers if life not in held or held[life].role == Role.QUARANTINED
            }
            if lookup.tries:
                lookup.tries = 0  # the owner, or the arbiter, may be another one by now: ask it again
                if machine.takeover.has_ended(key, copy.term):
                    self._desk.approach(key, copy, lookup, ownerless=True)
            return
        backup = max(_having(held, Role.BACKUP), default=None)
        if backup is not None:
            lookup.answers = None
            self._found_backup(key, copy, lookup, held, backup)
            return
        self._found_nobody_active(key, copy, lookup, held)

    def _found_backup(
        self,
        key: Key,
        copy: Copy | None,
        lookup: "Lookup",
        held: dict[Life, m.Held],
        backup: tuple[Term, int, Life],
    ) -> None:
        """Active backups answered: their first one is the arbiter."""
        machine = self._machine
        holder = backup[-1]
        term = held[holder].term
        if copy is not None and term.owner == machine.life:
            # This node, before it was quarantined, owned that term: the backup must not wait for it.
            if copy.term == term:
                machine.takeover.resign(holder, key, term)
            else:
                machine.send((holder,), machine.takeover.claim(key, lookup.number))
        if self._desk.is_wanted(key) and not machine.draining:
            active = {life for _, _, life in _having(held, Role.BACKUP)}
            arbiter = next((life for life in held[holder].backups if life in active), holder)
            self._desk.claim(key, lookup, arbiter)

    def _found_nobody_active(
        self, key: Key, copy: Copy | None, lookup: "Lookup", held: dict[Life, m.Held]
    ) -> None:
        """Only quarantined copies are left, or none at all."""
        machine = self._machine
        lookup.answers = None
        if not machine.lease.is_held() or machine.membership.unaccounted():
            return  # somebody who cannot be asked may hold it: the requests wait, and hear that at their deadline
        location = machine.directory.get(key)
        if location is not None and location != lookup.known:
            self._desk.start_over(key, lookup, location)
            return
        if machine.storing is not None:
            lookup.found_none = copy is None and not held
            if not self._has_recalled(key, lookup, machine.storing.recall):
                return
        best = max(((said.last, said.term, life) for life, said in held.items()), default=None)
        if copy is not None:
            if best is None or best < (copy.last, copy.term, machine.life):
                if lookup.decides:
                    return  # they do not know of this copy: the next round shows what they have decided
                if machine.absence.is_too_old(copy):
                    self._discard(copy)
                    return
                epochs = [copy.term.epoch, *(said.term.epoch for said in held.values())]
                epochs += [location.term.epoch] if location is not None else []
                machine.takeover.reactivate(copy, max(epochs))
            elif self._desk.is_wanted(key):
                self._desk.claim(key, lookup, best[-1])
        elif best is not None:
            self._desk.claim(key, lookup, best[-1])
        else:
            self._found_nothing(key)

    def _discard(self, copy: Copy) -> None:
        """What has ended does not come back, nor what may have, so long ago that nobody remembers."""
        machine = self._machine
        machine.stats.discarded += 1
        machine.log("warning", "session.discarded", key=copy.key.hex(), version=copy.version)
        machine.drop_copy(copy.key)
        machine.directory.forget(copy.key)
        self._desk.resolve(copy.key)

    def _found_nothing(self, key: Key) -> None:
        """There is no such session."""
        self._desk.close(key)
        self._machine.directory.forget(key)
        self._desk.answer(key, None)

    # --- what the store has ---------------------------------------------------------------------------

    def _has_recalled(self, key: Key, lookup: "Lookup", recall: Recall) -> bool:
        """Whether it is known what is stored of a session that nobody acts for; if not, it is read."""
        machine = self._machine
        if lookup.unread:
            names = ", ".join(sorted(life.name for life in lookup.unread))
            self._cannot_tell(key, f"the session may lie in the store of {names}, which cannot be read")
            return False
        is_fresh = machine.now - lookup.recalled_at <= RECALL_VALID_S
        if lookup.recalled_among == lookup.asked and is_fresh:
            return True
        if machine.now >= lookup.recall_at:
            recall.look_up(key)
        return False

    def recalled(self, key: Key, outcome: Outcome, recall: Recall) -> None:
        """The store was read for a look-up: what it had is a copy in doubt, and everybody is asked what they have."""
        machine = self._machine
        lookup = self._desk.get(key)
        if lookup is None:
            return
        copy = machine.copies.get(key)
        if not self._desk.is_wanted(key) and copy is None:
            self._desk.close(key)
        elif isinstance(outcome, Unreadable) and outcome.trouble is not Trouble.DAMAGED:
            lookup.recall_at = machine.now + RECALL_AGAIN_S
            why = "cannot be read" if outcome.trouble is Trouble.UNAVAILABLE else "is of a newer release"
            self._cannot_tell(key, f"what the store has of the session {why}: {outcome.detail}")
        elif copy is not None and copy.role is not Role.QUARANTINED:
            self._desk.resolve(key)
        elif isinstance(outcome, Stored) and outcome.data is None:
            machine.locating.merge(key, Location(outcome.term, 0, (), gone=True))
            self._desk.resolve(key)
        else:
            lookup.recalled_among, lookup.recalled_at = lookup.asked, machine.now
            everybody = frozenset(machine.membership.alive()) == lookup.asked
            may_conclude = everybody and machine.lease.is_held() and not machine.membership.unaccounted()
            if isinstance(outcome, Stored):
                recall.take_in(outcome)
            elif lookup.found_none and may_conclude and copy is None:
                self._found_nothing(key)
                return
            self.begin(key, lookup)

    def _cannot_tell(self, key: Key, why: str) -> None:
        """Nobody acts for the session, and it may be stored where nobody can look: that is not "gone"."""
        self._desk.answer(key, Unavailable(f"{why}; nothing was changed: try again"))
        if key not in self._machine.copies:
            self._desk.close(key)


def _having(held: dict[Life, m.Held], role: Role) -> Iterator[tuple[Term, int, Life]]:
    """(term, seq, life) of the answers with this role."""
    return ((said.term, said.seq, life) for life, said in held.items() if said.role == role)
