"""Invariants of the copies, checked after every turn of every process.

Nobody is primary twice in a term; a copy's term never falls, nor its version within a term; one stamp, one
write; an answer is released only when the backups hold what it says.
"""

from math import isfinite
from typing import TYPE_CHECKING, Any

from sessiond.backend import Committed
from sessiond.core.copies import Copy, Role
from sessiond.core.types import Stamp, Term
from tests.sim.promises import Violation

if TYPE_CHECKING:
    from tests.sim.process import Process
    from tests.sim.simulation import Simulation

TURNS_PER_CHECK = 16
"""A core's own invariants are checked whenever a copy changed, and so often besides: it takes as long as the turn."""

Seen = tuple[Role, Term, Stamp]


class Watch:
    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self._turns = 0
        self._seen: dict[Process, dict[bytes, Seen]] = {}
        self._given_up: set[tuple[bytes, Term]] = set()
        self._written: dict[tuple[bytes, str, Stamp], bytes | None] = {}
        self.takeovers: dict[bytes, list[float]] = {}
        """Session → when a copy of it became primary that had not been."""

        self.expiries: dict[bytes, float] = {}
        """Session → when a primary found that its time was over."""

    def after_turn(self, process: "Process") -> None:
        machine = process.machine
        self._turns += 1
        if self._turns % TURNS_PER_CHECK == 0:
            self._check_core(process)
        seen = self._seen.setdefault(process, {})
        copies = machine.copies
        for copy in copies.values():
            before = seen.get(copy.key)
            if (
                before is None
                or before[0] is not copy.role
                or before[2] != copy.last
                or before[1] != copy.term
            ):
                self._changed(process, copy, before)
                seen[copy.key] = (copy.role, copy.term, copy.last)
        if len(seen) != len(copies):
            for key in [key for key in seen if key not in copies]:
                role, term, _ = seen.pop(key)
                self._simulation.book.count(f"copy {role}->-")
                if role is Role.PRIMARY:
                    self._given_up.add((key, term))

    def _check_core(self, process: "Process") -> None:
        """What a core says of itself is promised as well; an assertion in the midst of a turn is a crash."""
        try:
            process.machine.check_invariants()
        except AssertionError as error:
            raise Violation(str(error)) from error

    def _changed(self, process: "Process", copy: Copy, before: Seen | None) -> None:
        self._check_core(process)
        key = copy.key
        name = self._simulation.name_of(key)
        if before is None:
            self._simulation.book.count(f"copy -->{copy.role}")
        else:
            role, term, last = before
            if role is not copy.role:
                self._simulation.book.count(f"copy {role}->{copy.role}")
            if copy.term < term:
                raise Violation(f"the copy of {name} at {process.name} went from term {term} to {copy.term}")
            if copy.term == term and copy.last < last:
                raise Violation(f"the copy of {name} at {process.name} went from {last} to {copy.last}")
            if role is Role.PRIMARY and (copy.role is not Role.PRIMARY or copy.term != term):
                self._given_up.add((key, term))
        if copy.role is Role.PRIMARY:
            if before is None or before[0] is not Role.PRIMARY:
                self.takeovers.setdefault(key, []).append(self._simulation.timeline.now)
            if (key, copy.term) in self._given_up:
                raise Violation(f"{process.name} acts again for {name} in {copy.term}, which it gave up")
            if copy.term.owner != process.machine.life:
                raise Violation(f"{process.name} acts for {name} in {copy.term}, another's term")
        for attribute, (value, stamp) in copy.attributes.items():
            if stamp == copy.last:
                written = self._written.setdefault((key, attribute, stamp), value)
                if written != value:
                    raise Violation(f"{attribute} of {name} was written twice with {stamp}")

    def logged(self, event: str, fields: dict[str, Any]) -> None:
        if event == "session.expired":
            self.expiries[bytes.fromhex(fields["key"])] = self._simulation.timeline.now
        elif event == "reprotection.ended" and fields["estimate_s"] is not None:
            self._check_estimate(fields)

    def _check_estimate(self, fields: dict[str, Any]) -> None:
        """Protecting anew ends within its estimate, as long as nothing else breaks meanwhile."""
        is_kept = fields["seconds"] <= fields["estimate_s"]
        self._simulation.book.count("estimate.kept" if is_kept else "estimate.missed")
        if not is_kept and not isfinite(self._simulation.plan.weather_s):
            raise Violation(f"protecting anew took {fields['seconds']} s, not {fields['estimate_s']} s")

    def resolved(
        self, process: "Process", key: bytes, verb: str, outcome: object, *, flushed: bool = False
    ) -> None:
        """An operation of the application is answered: is what it says on every backup of the list?

        `flushed`: it asked for that, whatever the settings.
        """
        options = self._simulation.plan.options
        has_waited = flushed or (options.ack == "sync" and not options.flush_s)
        if not isinstance(outcome, Committed) or not has_waited:
            return
        copy = process.machine.copies.get(key)
        if copy is None or copy.role is not Role.PRIMARY:
            return  # answered by another primary (forwarded), or moved in this very turn
        storing = process.machine.storing
        if (
            storing is not None
            and storing.waits
            and not storing.has(copy)
            and copy.leads.stored < outcome.version
        ):
            raise Violation(f"{verb} of {self._simulation.name_of(key)} answered before the store has it")
        is_stored = self._is_stored(copy, outcome.version)
        if storing is not None and copy.leads.stored >= outcome.version and not is_stored:
            raise Violation(f"{verb} of {self._simulation.name_of(key)} counts as stored, and is not")
        if outcome.protected and not copy.backups and not is_stored:
            raise Violation(
                f"{verb} of {self._simulation.name_of(key)} counts as protected, without a backup"
            )
        self._check_newcomers(process, copy, verb, is_promised=outcome.protected and not is_stored)
        for life, follower in copy.leads.followers.items():
            if -1 < follower.acked < outcome.version:
                raise Violation(f"{verb} of {self._simulation.name_of(key)} answered before {life} has it")
            holder = self._simulation.network.hosts.get(life.name)
            if follower.acked < outcome.version or holder is None or holder.machine.life != life:
                continue
            if follower.released_at is not None:
                continue  # asked to leave, and perhaps gone: others have it
            if self._simulation.plan.options.quorum == "any" and holder.machine.membership.refuses(
                process.machine.life
            ):
                continue  # it applied that, and went on without this primary while its ack was held up
            self._check_holder(copy, outcome.version, holder, in_step=follower.acked >= copy.version)

    def _check_newcomers(self, process: "Process", copy: Copy, verb: str, *, is_promised: bool) -> None:
        """Who is in the list counts at once, also before it has applied anything.

        Unless it was added in this very moment: an answer is looked at when its turn is over, and in that the member
        may have come after the answer was let go. Of a session that was made in this turn nobody else can have let it
        go. Nor does a member count that doubts its copy: what it had acked may have let the answer go before it said so.
        """
        now, name = process.machine.now, self._simulation.name_of(copy.key)
        followers = copy.leads.followers
        added_now = 0
        for life, follower in followers.items():
            if follower.acked > -1 or follower.released_at is not None:
                continue
            if follower.waiting_since == now:
                added_now += 1
                continue
            holder = self._simulation.network.hosts.get(life.name)
            if holder is None or holder.machine.life != life:
                continue  # nobody can tell any more
            held = holder.machine.copies.get(copy.key)
            if held is None or held.role is not Role.QUARANTINED:
                raise Violation(f"{verb} of {name} answered before {life}, which is new to the list, has it")
        is_new = verb == "create" and copy.key not in self._seen.get(process, {})
        if is_new and is_promised and followers and added_now == len(followers):
            raise Violation(f"{verb} of {name} answered before any backup has it")

    def _is_stored(self, copy: Copy, version: int) -> bool:
        """Whether the store has this version of a session, or a later one of anybody."""
        store = self._simulation.store
        kept = store.shelf.records.get(copy.key) if store is not None else None
        return kept is not None and kept.stamp >= (copy.term, version)

    def _check_holder(self, copy: Copy, version: int, holder: "Process", *, in_step: bool) -> None:
        """Whether a backup that counts as having applied a version has.

        What was merged came later than its stamp says: it counts once the backup is in step.
        """
        held = holder.machine.copies.get(copy.key)
        if held is None:
            location = holder.machine.directory.get(copy.key)
            is_forked = (
                location is not None and location.term > copy.term and not self._simulation.plan.strict
            )
            if not holder.machine.directory.is_gone(copy.key) and not is_forked:
                raise Violation(f"{holder.name} acked {self._simulation.name_of(copy.key)} and has no copy")
            return
        for name, (_, stamp) in copy.attributes.items():
            theirs = held.attributes.get(name)
            is_acked = in_step or (stamp.term == copy.term and stamp.version <= version)
            if is_acked and (theirs is None or theirs.stamp < stamp):
                raise Violation(
                    f"{holder.name} acked {name} of {self._simulation.name_of(copy.key)} at {stamp}"
                    f" and holds {theirs.stamp if theirs else None}"
                )
