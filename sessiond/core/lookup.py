"""Finding a session, and making this node its primary when a request asks for it (protocol 4.7).

The order of knowledge: the own copy, the directory, then a round of WHO to every living member. "No such
session" is said only when every one of them has answered; the round starts anew when the membership
changes meanwhile. One look-up serves all requests that wait for the same key. Rounds of WHO take `turns`: a
request whose turn does not come before its deadline is refused, and nothing has happened.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sessiond.backend import Elsewhere
from sessiond.core import messages as m
from sessiond.core.copies import Copy, Role
from sessiond.core.effects import Resolve
from sessiond.core.options import (
    CLAIM_REPEAT_S,
    LOOKUP_ROUND_S,
    LOOKUPS_LIMITED_LOG_S,
    RECALL_AGAIN_S,
    RECALL_VALID_S,
)
from sessiond.core.recall import Outcome, Recall
from sessiond.core.stored import Stored, Trouble, Unreadable
from sessiond.core.turns import Turns
from sessiond.core.types import Key, Life, Location, Term
from sessiond.errors import Unavailable

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

OUTVOTED = "no majority of the cluster answers this node; nothing was changed: try another node"
LEAVING = "this node is leaving and takes no sessions over; nothing was changed: try another node"

DIRECTORY_TRIES = 2
"""Rounds in which the directory's word is believed before everybody is asked."""

CLAIM_TRIES = 3
"""Rounds in which a claim may stay without an answer before everybody is asked."""


class Request(NamedTuple):
    """An application's request that waits for a session."""

    operation: int
    may_refer: bool
    deadline: float


@dataclass(slots=True)
class Lookup:
    """What is known so far about one key that somebody waits for."""

    number: int
    round_ends: float
    tries: int = 0
    asked: frozenset[Life] = frozenset()
    answers: dict[Life, m.Held | None] | None = None
    """Answers to WHO of this round; None while nobody has been asked."""

    empty: set[Life] = field(default_factory=set)
    """Lives that said they hold no active copy."""

    claimed_at: float = float("-inf")
    claimed_from: Life | None = None
    offered_at: float = float("-inf")
    decides: set[Life] = field(default_factory=set)
    """Who said in this round that it is about to act, without having seen this node's copy."""

    unread: set[Life] = field(default_factory=set)
    """Who said in this round that it cannot read the store that it alone has."""

    found_none: bool = False
    """Whether the last round has found no copy at all, here neither."""

    recalled_among: frozenset[Life] | None = None
    """The members that had no active copy when the store was read."""

    recalled_at: float = float("-inf")
    recall_at: float = float("-inf")
    """The store is not read again before this."""


class LookupDesk:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._requests: dict[Key, list[Request]] = {}
        self._lookups: OrderedDict[Key, Lookup] = OrderedDict()
        """Those whose round ends first come first."""

        self._numbers = 0
        self._turns = Turns(machine.options.lookup_rate_max, machine.now)
        self._limited_logged_at = float("-inf")

    def __contains__(self, key: Key) -> bool:
        """Whether somebody looks for this session."""
        return key in self._lookups

    @property
    def is_idle(self) -> bool:
        return not self._lookups and not self._requests

    def wanted_keys(self) -> list[Key]:
        return list(self._lookups)

    def known_empty(self, key: Key) -> set[Life]:
        lookup = self._lookups.get(key)
        return lookup.empty if lookup is not None else set()

    # --- requests -------------------------------------------------------------------------------------

    def request(self, key: Key, request: Request) -> None:
        """A request needs this session here (or, if it may be referred, anywhere)."""
        self._requests.setdefault(key, []).append(request)
        self.resolve(key)

    def serve(self, copy: Copy) -> bool:
        """This node is primary: let the waiting requests in. False if the session is on its way out."""
        machine = self._machine
        if not machine.operations.admits(copy):
            return False
        for request in self._requests.pop(copy.key, ()):
            machine.emit(Resolve(request.operation, machine.operations.check_out(copy)))
        self._close(copy.key)
        return True

    def _close(self, key: Key) -> None:
        """Nobody looks for this session any more."""
        if self._lookups.pop(key, None) is not None:
            self._turns.leave(key)
            self._machine.locating.forget_if_unneeded(key)

    def _answer(self, key: Key, outcome: object) -> None:
        for request in self._requests.pop(key, ()):
            self._machine.emit(Resolve(request.operation, outcome))

    # --- time -----------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        if not self._lookups:
            return None
        round_ends = next(iter(self._lookups.values())).round_ends
        turn_at = self._turns.next_deadline(self._machine.now)
        return round_ends if turn_at is None else min(round_ends, turn_at)

    def tick(self, now: float) -> None:
        while self._lookups:
            key, lookup = next(iter(self._lookups.items()))
            if now < lookup.round_ends:
                break
            lookup.round_ends = now + LOOKUP_ROUND_S
            self._lookups.move_to_end(key)
            self._expire_requests(key, now)
            if key in self._turns and (key in self._requests or key in self._machine.copies):
                continue  # nothing but its turn, or news of it, can help
            storing = self._machine.storing
            if storing is not None and storing.recall.is_reading(key):
                continue
            lookup.answers = None
            lookup.tries += 1
            self.resolve(key)
        while (turn := self._turns.next(now)) is not None:
            if turn in self._lookups:
                self._ask_now(turn, self._lookups[turn])

    def _expire_requests(self, key: Key, now: float) -> None:
        waiting = self._requests.get(key, [])
        late = [request for request in waiting if request.deadline <= now]
        if not late:
            return
        self._requests[key] = [request for request in waiting if request.deadline > now]
        if not self._requests[key]:
            del self._requests[key]
        reason = self._why_unanswered()
        if key in self._turns:
            self._machine.stats.lookups_refused += len(late)
            reason = (
                "too many sessions are looked for at once (lookup_rate_max); nothing was changed: try again"
            )
        for request in late:
            self._machine.emit(Resolve(request.operation, Unavailable(reason)))

    def _why_unanswered(self) -> str:
        missing = self._machine.membership.unaccounted()
        if missing:
            return f"{', '.join(missing)} may hold the session and cannot be asked; nothing was changed: try again"
        return "the session's other nodes did not answer in time; nothing was changed: try again"

    def give_up_waiting(self) -> None:
        """A majority has been out of reach for a while: requests had better hear of it."""
        for key in list(self._requests):
            self._answer(key, Unavailable(OUTVOTED))

    # --- looking --------------------------------------------------------------------------------------

    def resolve_all(self) -> None:
        """The membership changed: what could not be answered may be now."""
        for key in self.wanted_keys():
            self.resolve(key)

    def resolve(self, key: Key) -> None:
        """Do the next step for a key that a request, or the cluster's own upkeep, waits for."""
        machine = self._machine
        requests = self._requests.get(key)
        copy = machine.copies.get(key)
        if requests is None and copy is None:
            self._close(key)
            return
        if not machine.membership.joined:
            return
        if machine.directory.is_gone(key):
            self._close(key)
            successor = machine.aliases.resolve(key)
            if successor == key:
                self._answer(key, None)
            else:
                for request in self._requests.pop(key, ()):
                    self.request(successor, request)
            return
        if copy is not None and copy.role is Role.PRIMARY:
            if not self.serve(copy) and requests:
                self._look(key)
            return
        ownerless = (
            copy is not None and copy.role is Role.BACKUP and machine.takeover.has_ended(key, copy.term)
        )
        if not requests and not ownerless and not (copy is not None and copy.role is Role.QUARANTINED):
            self._close(key)
            return
        lookup = self._look(key)
        if lookup.answers is not None:
            self._evaluate(key, lookup)
        elif copy is None or not copy.is_granting:
            self._approach(key, copy, lookup, bool(requests), ownerless=ownerless)

    def _look(self, key: Key) -> Lookup:
        lookup = self._lookups.get(key)
        if lookup is None:
            self._numbers += 1
            round_ends = self._machine.now + LOOKUP_ROUND_S
            lookup = self._lookups[key] = Lookup(self._numbers, round_ends)
            self._machine.due(round_ends)
        return lookup

    def _approach(
        self, key: Key, copy: Copy | None, lookup: Lookup, wanted: bool, *, ownerless: bool
    ) -> None:
        """Ask the one node that should know; without such a node, ask everybody."""
        machine = self._machine
        is_dead = machine.membership.is_dead
        target: Life | None = None
        location = machine.directory.get(key)
        if copy is not None and copy.role is Role.BACKUP:
            if not ownerless:
                target = copy.term.owner
            else:
                arbiter = machine.takeover.arbiter(copy)
                if arbiter == machine.life and not machine.lease.is_held():
                    return
                if arbiter == machine.life:
                    machine.takeover.grant(copy, self._heir(), None)
                    return
                target = arbiter
        elif copy is None and location is not None and lookup.tries < DIRECTORY_TRIES:
            owner = location.term.owner
            if owner != machine.life and not is_dead(owner):
                target = owner
            elif owner != machine.life:
                holders = (life for life in location.backups if not is_dead(life) and life != machine.life)
                target = next((life for life in holders if life not in lookup.empty), None)
        elif location is not None and lookup.tries < DIRECTORY_TRIES:
            owner = location.term.owner
            has_put_it_away = machine.storing is not None and owner in lookup.empty
            if (
                machine.membership.is_linked(owner) and not has_put_it_away
            ):  # a copy in doubt: if that is the primary, it takes its news
                self._found_primary(key, copy, lookup, owner)
                return
        if (
            target is not None
            and target != machine.life
            and lookup.tries < CLAIM_TRIES
            and (wanted or ownerless)
        ):
            self._claim(key, lookup, target)
            return
        self._ask_everybody(key, lookup)

    def _heir(self) -> Life:
        """Who takes over what this node arbitrates: itself, unless it is about to leave."""
        machine = self._machine
        heirs = machine.membership.heirs() if machine.draining else []
        return machine.rng.choice(heirs) if heirs else machine.life

    def _claim(self, key: Key, lookup: Lookup, target: Life) -> None:
        machine = self._machine
        copy = machine.copies.get(key)
        alive = machine.membership.is_linked(target)
        if alive and (copy is None or copy.role is Role.BACKUP):
            location = machine.directory.get(key)
            owner = (
                copy.term.owner if copy is not None else location.term.owner if location is not None else None
            )
            if owner == target and (machine.draining or not machine.membership.is_draining(target)):
                self._refer_requests(key, target)
        if machine.draining:  # what waited for a session that has been handed over takes nothing back
            self._answer(key, Unavailable(LEAVING))
        if key not in self._requests and not self._upkeep_wants(copy):
            self._close(key)
            return
        self._send_claim(key, lookup, target)

    def _upkeep_wants(self, copy: Copy | None) -> bool:
        """Whether the lookup goes on though no request waits: the session has lost its primary."""
        if copy is None or copy.role is Role.PRIMARY:
            return False
        return copy.role is Role.QUARANTINED or self._machine.takeover.has_ended(copy.key, copy.term)

    def _refer_requests(self, key: Key, owner: Life) -> None:
        """The primary lives: requests that can still be sent elsewhere go there (against ping-pong).

        Not to a node that serves no users: from there the session is fetched.
        """
        if self._machine.membership.role_of(owner.name) == "state":
            return
        stays: list[Request] = []
        for request in self._requests.pop(key, ()):
            if request.may_refer:
                self._machine.emit(Resolve(request.operation, Elsewhere(owner.name)))
            else:
                stays.append(request)
        if stays:
            self._requests[key] = stays

    # --- asking everybody -----------------------------------------------------------------------------

    def _ask_everybody(self, key: Key, lookup: Lookup) -> None:
        """Begin a round of WHO, now or when it is this key's turn."""
        machine = self._machine
        wanted = key in self._requests
        if self._turns.take(key, machine.now, wanted=wanted):
            self._ask_now(key, lookup)
            return
        lookup.answers = None
        turn_at = self._turns.next_deadline(machine.now)
        if turn_at is not None:
            machine.due(turn_at)
        if wanted and machine.now - self._limited_logged_at >= LOOKUPS_LIMITED_LOG_S:
            self._limited_logged_at = machine.now
            rate_max = machine.options.lookup_rate_max
            machine.log("warning", "lookup.rate_limited", waiting=len(self._turns), rate_max=rate_max)

    def _ask_now(self, key: Key, lookup: Lookup) -> None:
        machine = self._machine
        machine.stats.lookups += 1
        alive = tuple(machine.membership.alive())
        lookup.asked = frozenset(alive)
        lookup.answers = {}
        lookup.decides.clear()
        lookup.unread.clear()
        machine.send(alive, m.Who(key, lookup.number))
        self._evaluate(key, lookup)

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
        lookup = self._lookups.get(key)
        if self._machine.storing is None or lookup is None or lookup.answers is None:
            return False
        return life in lookup.answers and lookup.answers[life] is None

    def on_here(self, life: Life, here: m.Here) -> None:
        machine = self._machine
        key, held = here.key, here.held
        if here.location is not None:
            machine.locating.merge(key, here.location)
        if held is not None and held.role != Role.QUARANTINED and held.seq > 0:
            machine.locating.merge(key, Location(held.term, held.seq, held.backups))
        if machine.storing is not None and machine.directory.is_gone(key):
            self.resolve(key)  # somebody's store knows of its end; what another one has of it is older
            return
        lookup = self._lookups.get(key)
        if lookup is not None and lookup.number == here.round and lookup.answers is not None:
            lookup.answers[life] = held
            if here.decides:
                lookup.decides.add(life)
            if here.unread:
                lookup.unread.add(life)
            self._evaluate(key, lookup)

    def referred(self, life: Life, refer: m.Refer) -> None:
        lookup = self._lookups.get(refer.key)
        if lookup is None:
            copy = self._machine.copies.get(refer.key)
            if refer.empty and copy is not None and copy.role is Role.BACKUP and not copy.is_granting:
                # Its owner never had the term, nor has the arbiter, to whom this node passed the owner's claim on.
                self._machine.quarantine(copy)
            return
        if refer.empty:
            lookup.empty.add(life)
            if self._machine.copies.get(refer.key) is None:
                lookup.tries = max(lookup.tries, DIRECTORY_TRIES)
        self.resolve(refer.key)

    def _evaluate(self, key: Key, lookup: Lookup) -> None:
        """Act on the answers of a round as soon as they suffice."""
        machine = self._machine
        answers = lookup.answers
        assert answers is not None, "a round is under way"
        if frozenset(machine.membership.alive()) != lookup.asked:
            self._ask_everybody(key, lookup)
            return
        held = {life: said for life, said in answers.items() if said is not None}
        copy = machine.copies.get(key)
        primary = max(_having(held, Role.PRIMARY), default=None)
        if primary is not None and (copy is None or copy.role is Role.QUARANTINED):
            lookup.answers = None
            self._found_primary(key, copy, lookup, primary[-1])
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
                    self._approach(key, copy, lookup, key in self._requests, ownerless=True)
            return
        backup = max(_having(held, Role.BACKUP), default=None)
        if backup is not None:
            lookup.answers = None
            self._found_backup(key, copy, lookup, held, backup)
            return
        self._found_nobody_active(key, copy, lookup, held)

    def _found_primary(self, key: Key, copy: Copy | None, lookup: Lookup, primary: Life) -> None:
        machine = self._machine
        if copy is not None and machine.now - lookup.offered_at > CLAIM_REPEAT_S:
            lookup.offered_at = machine.now
            machine.send((primary,), m.Offer(key, copy.term, copy.data(machine.now)))
        if copy is None:
            lookup.tries = 0
            if machine.membership.is_linked(primary):
                self._refer_requests(key, primary)
        if key in self._requests:
            self._send_claim(key, lookup, primary)
        elif copy is None:
            self._close(key)

    def _found_backup(
        self,
        key: Key,
        copy: Copy | None,
        lookup: Lookup,
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
        if key in self._requests and not machine.draining:
            active = {life for _, _, life in _having(held, Role.BACKUP)}
            arbiter = next((life for life in held[holder].backups if life in active), holder)
            self._send_claim(key, lookup, arbiter)

    def _found_nobody_active(
        self, key: Key, copy: Copy | None, lookup: Lookup, held: dict[Life, m.Held]
    ) -> None:
        """Only quarantined copies are left, or none at all."""
        machine = self._machine
        lookup.answers = None
        if not machine.lease.is_held() or machine.membership.unaccounted():
            return  # somebody who cannot be asked may hold it: the requests wait, and hear that at their deadline
        if machine.storing is not None:
            lookup.found_none = copy is None and not held
            if not self._has_recalled(key, lookup, machine.storing.recall):
                return
        best = max(((said.last, said.term, life) for life, said in held.items()), default=None)
        if copy is not None:
            if best is None or best < (copy.last, copy.term, machine.life):
                if lookup.decides:
                    return  # they do not know of this copy: the next round shows what they have decided
                location = machine.directory.get(key)
                epochs = [copy.term.epoch, *(said.term.epoch for said in held.values())]
                epochs += [location.term.epoch] if location is not None else []
                machine.takeover.reactivate(copy, max(epochs))
            elif key in self._requests:
                self._send_claim(key, lookup, best[-1])
        elif best is not None:
            self._send_claim(key, lookup, best[-1])
        else:
            self._found_nothing(key)

    def _found_nothing(self, key: Key) -> None:
        """There is no such session."""
        self._close(key)
        self._machine.directory.forget(key)
        self._answer(key, None)

    # --- what the store has -----------------------------------------------------------------------------

    def _has_recalled(self, key: Key, lookup: Lookup, recall: Recall) -> bool:
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
        lookup = self._lookups.get(key)
        if lookup is None:
            return
        copy = machine.copies.get(key)
        if key not in self._requests and copy is None:
            self._close(key)
        elif isinstance(outcome, Unreadable) and outcome.trouble is not Trouble.DAMAGED:
            lookup.recall_at = machine.now + RECALL_AGAIN_S
            why = "cannot be read" if outcome.trouble is Trouble.UNAVAILABLE else "is of a newer release"
            self._cannot_tell(key, f"what the store has of the session {why}: {outcome.detail}")
        elif copy is not None and copy.role is not Role.QUARANTINED:
            self.resolve(key)
        elif isinstance(outcome, Stored) and outcome.data is None:
            machine.locating.merge(key, Location(outcome.term, 0, (), gone=True))
            self.resolve(key)
        else:
            lookup.recalled_among, lookup.recalled_at = lookup.asked, machine.now
            everybody = frozenset(machine.membership.alive()) == lookup.asked
            may_conclude = everybody and machine.lease.is_held() and not machine.membership.unaccounted()
            if isinstance(outcome, Stored):
                recall.take_in(outcome)
            elif lookup.found_none and may_conclude and copy is None:
                self._found_nothing(key)
                return
            self._ask_everybody(key, lookup)

    def _cannot_tell(self, key: Key, why: str) -> None:
        """Nobody acts for the session, and it may be stored where nobody can look: that is not "gone"."""
        self._answer(key, Unavailable(f"{why}; nothing was changed: try again"))
        if key not in self._machine.copies:
            self._close(key)

    def _send_claim(self, key: Key, lookup: Lookup, target: Life) -> None:
        machine = self._machine
        now = machine.now
        if machine.draining or (lookup.claimed_from == target and now - lookup.claimed_at <= CLAIM_REPEAT_S):
            return
        lookup.claimed_at, lookup.claimed_from = now, target
        machine.send((target,), machine.takeover.claim(key, lookup.number))


def _having(held: dict[Life, m.Held], role: Role) -> Iterator[tuple[Term, int, Life]]:
    """(term, seq, life) of the answers with this role."""
    return ((said.term, said.seq, life) for life, said in held.items() if said.role == role)
