"""Finding a session, and making this node its primary when a request asks for it (protocol 4.7).

The order of knowledge: the own copy, the directory, then a round of WHO to every living member (`rounds`). One
look-up serves all requests that wait for the same key. A request that gets no answer before its deadline is
refused, and nothing has happened.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sessiond.backend import Elsewhere
from sessiond.core import messages as m
from sessiond.core.copies import Copy, Role
from sessiond.core.effects import Resolve
from sessiond.core.inaction import LEAVING, no_majority, unavailable
from sessiond.core.options import CLAIM_REPEAT_S, LOOKUP_ROUND_S
from sessiond.core.rounds import Rounds
from sessiond.core.types import Key, Life, Location
from sessiond.errors import Unavailable

if TYPE_CHECKING:
    from sessiond.core.machine import Machine

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
    known: Location | None
    """What the directory said before anybody was asked under this number."""

    tries: int = 0
    asked: frozenset[Life] = frozenset()
    answers: dict[Life, m.Held | None] | None = None
    """Answers to WHO of this round, late ones to an earlier round included; None while nobody has been asked."""

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
        self.rounds = Rounds(machine, self)

    def __contains__(self, key: Key) -> bool:
        """Whether somebody looks for this session."""
        return key in self._lookups

    @property
    def is_idle(self) -> bool:
        return not self._lookups and not self._requests

    def get(self, key: Key) -> Lookup | None:
        return self._lookups.get(key)

    def is_wanted(self, key: Key) -> bool:
        """Whether a request waits for this session, and not only the cluster's own upkeep."""
        return key in self._requests

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
        self.close(copy.key)
        return True

    def close(self, key: Key) -> None:
        """Nobody looks for this session any more."""
        if self._lookups.pop(key, None) is not None:
            self.rounds.leave(key)
            self._machine.locating.forget_if_unneeded(key)

    def answer(self, key: Key, outcome: object) -> None:
        """All requests for this key end alike."""
        for request in self._requests.pop(key, ()):
            self._machine.emit(Resolve(request.operation, outcome))

    # --- time -----------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        if not self._lookups:
            return None
        round_ends = next(iter(self._lookups.values())).round_ends
        turn_at = self.rounds.next_deadline()
        return round_ends if turn_at is None else min(round_ends, turn_at)

    def tick(self, now: float) -> None:
        while self._lookups:
            key, lookup = next(iter(self._lookups.items()))
            if now < lookup.round_ends:
                break
            lookup.round_ends = now + LOOKUP_ROUND_S
            self._lookups.move_to_end(key)
            self._expire_requests(key, now)
            if self.rounds.is_queued(key) and (key in self._requests or key in self._machine.copies):
                continue  # nothing but its turn, or news of it, can help
            storing = self._machine.storing
            if storing is not None and storing.recall.is_reading(key):
                continue
            lookup.answers = None
            lookup.tries += 1
            self.resolve(key)
        self.rounds.tick(now)

    def _expire_requests(self, key: Key, now: float) -> None:
        waiting = self._requests.get(key, [])
        late = [request for request in waiting if request.deadline <= now]
        if not late:
            return
        self._requests[key] = [request for request in waiting if request.deadline > now]
        if not self._requests[key]:
            del self._requests[key]
        reason = self._why_unanswered()
        if self.rounds.is_queued(key):
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
            self.answer(key, unavailable(no_majority(self._machine)))

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
            self.close(key)
            return
        if not machine.membership.joined:
            return
        if machine.directory.is_gone(key):
            self.close(key)
            successor = machine.aliases.resolve(key)
            if successor == key:
                self.answer(key, None)
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
            self.close(key)
            return
        lookup = self._look(key)
        if lookup.answers is not None:
            self.rounds.evaluate(key, lookup)
        elif copy is None or not copy.is_granting:
            self.approach(key, copy, lookup, ownerless=ownerless)

    def _look(self, key: Key) -> Lookup:
        lookup = self._lookups.get(key)
        if lookup is None:
            self._numbers += 1
            round_ends = self._machine.now + LOOKUP_ROUND_S
            known = self._machine.directory.get(key)
            lookup = self._lookups[key] = Lookup(self._numbers, round_ends, known)
            self._machine.due(round_ends)
        return lookup

    def start_over(self, key: Key, lookup: Lookup, known: Location) -> None:
        """The session has moved while everybody was asked: what was answered before does not count any more."""
        self._numbers += 1
        lookup.number, lookup.known = self._numbers, known
        lookup.tries, lookup.answers = 0, None
        self.resolve(key)

    def approach(self, key: Key, copy: Copy | None, lookup: Lookup, *, ownerless: bool) -> None:
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
                self.found_primary(key, copy, lookup, owner)
                return
        if (
            target is not None
            and target != machine.life
            and lookup.tries < CLAIM_TRIES
            and (key in self._requests or ownerless)
        ):
            self._apply_to(key, lookup, target)
            return
        self.rounds.begin(key, lookup)

    def found_primary(self, key: Key, copy: Copy | None, lookup: Lookup, primary: Life) -> None:
        """Somebody acts for the session: a copy in doubt leaves its news there, requests go there or fetch it."""
        machine = self._machine
        if copy is not None and machine.now - lookup.offered_at > CLAIM_REPEAT_S:
            lookup.offered_at = machine.now
            machine.send((primary,), m.Offer(key, copy.term, copy.data(machine.now)))
        if copy is None:
            lookup.tries = 0
            if machine.membership.is_linked(primary):
                self.refer(key, primary)
        if key in self._requests:
            self.claim(key, lookup, primary)
        elif copy is None:
            self.close(key)

    def _heir(self) -> Life:
        """Who takes over what this node arbitrates: itself, unless it is about to leave."""
        machine = self._machine
        heirs = machine.membership.heirs() if machine.draining else []
        return machine.rng.choice(heirs) if heirs else machine.life

    def _apply_to(self, key: Key, lookup: Lookup, target: Life) -> None:
        """Refer to the owner what may be referred, and claim the session for whatever stays."""
        machine = self._machine
        copy = machine.copies.get(key)
        alive = machine.membership.is_linked(target)
        if alive and (copy is None or copy.role is Role.BACKUP):
            location = machine.directory.get(key)
            owner = (
                copy.term.owner if copy is not None else location.term.owner if location is not None else None
            )
            if owner == target and (machine.draining or not machine.membership.is_draining(target)):
                self.refer(key, target)
        if machine.draining:  # what waited for a session that has been handed over takes nothing back
            self.answer(key, unavailable(LEAVING))
        if key not in self._requests and not self._upkeep_wants(copy):
            self.close(key)
            return
        self.claim(key, lookup, target)

    def _upkeep_wants(self, copy: Copy | None) -> bool:
        """Whether the lookup goes on though no request waits: the session has lost its primary."""
        if copy is None or copy.role is Role.PRIMARY:
            return False
        return copy.role is Role.QUARANTINED or self._machine.takeover.has_ended(copy.key, copy.term)

    def refer(self, key: Key, owner: Life) -> None:
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

    def claim(self, key: Key, lookup: Lookup, target: Life) -> None:
        """Ask a node for its part as primary, or as arbiter; not again and again."""
        machine = self._machine
        now = machine.now
        if machine.draining or (lookup.claimed_from == target and now - lookup.claimed_at <= CLAIM_REPEAT_S):
            return
        lookup.claimed_at, lookup.claimed_from = now, target
        machine.send((target,), machine.takeover.claim(key, lookup.number))

    def referred(self, life: Life, refer: m.Refer) -> None:
        """Who was asked for the session says that somebody else has it, or that nobody does as far as it knows."""
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
