"""What the application asks of its sessions: open, create, commit, invalidate.

Each operation has a number and is resolved exactly once, now or later, by a `Resolve` effect. A commit that
meets the end of a handoff waits for it and then follows the session to its new primary (`forwarding`).
"""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from sessiond.backend import Committed, Elsewhere
from sessiond.core.checkout import Checkout
from sessiond.core.copies import Copy, Pending, Role
from sessiond.core.effects import Resolve
from sessiond.core.inaction import JOINING, LEAVING, LEFT, STATE_ROLE, no_majority, unavailable
from sessiond.core.limits import refusal_of
from sessiond.core.lookup import Request
from sessiond.core.types import Key
from sessiond.errors import Conflict, SessionError, Unavailable

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Operations:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._deferred: dict[Key, list[tuple[int, Callable[[], None]]]] = {}
        """Operations that wait for a move to end: their numbers, and how each goes on."""

        self._done: dict[Key, None] = {}
        """Sessions to be handed over whose last request in flight is done."""

        self._serves_nobody = machine.options.role == "state"

    @property
    def is_idle(self) -> bool:
        """Whether no commit waits for a move to end."""
        return not self._deferred

    def tick(self) -> None:
        """Hand over what no request holds any more; let go on what waited for a move that another node made, or nobody."""
        done, self._done = self._done, {}
        for key in done:
            copy = self._machine.copies.get(key)
            if copy is not None and copy.role is Role.PRIMARY:
                self._machine.takeover.continue_handoff(copy)
        for key in list(self._deferred):
            copy = self._machine.copies.get(key)
            if copy is None or not self._is_moving(copy):
                self.release_deferred(key)

    def try_open(self, key: Key) -> Checkout | None:
        """The session, if this node is its primary and nothing stands in the way."""
        machine = self._machine
        if self._serves_nobody:
            return None
        copy = machine.copies.get(machine.aliases.resolve(key))
        return self.check_out(copy) if copy is not None and self.admits(copy) else None

    def open(self, operation: int, key: Key, *, may_refer: bool) -> None:
        """Get hold of a session; resolved with a `Checkout`, `Elsewhere`, None (no such session) or an error."""
        machine = self._machine
        if not machine.may_act:
            machine.emit(Resolve(operation, self._outvoted()))
            return
        key = machine.aliases.resolve(key)
        copy = machine.copies.get(key)
        if self._serves_nobody:
            machine.emit(Resolve(operation, self._refer_away(key, STATE_ROLE, may_refer=may_refer)))
        elif copy is not None and self.admits(copy):
            machine.emit(Resolve(operation, self.check_out(copy)))
        elif machine.draining and (copy is None or copy.role is not Role.PRIMARY):
            machine.emit(Resolve(operation, self._refer_away(key, LEAVING, may_refer=may_refer)))
        else:
            deadline = machine.now + machine.options.request_wait_s
            machine.lookup.request(key, Request(operation, may_refer, deadline))
            machine.due(machine.now)

    def _refer_away(self, key: Key, why: str, *, may_refer: bool) -> Elsewhere | Unavailable:
        """A node that takes nothing over names the session's primary if that serves users, or anybody who stays."""
        machine = self._machine
        copy, location = machine.copies.get(key), machine.directory.get(key)
        terms = [known.term for known in (copy, location) if known is not None]
        owner = max(terms).owner if terms else machine.life
        membership = machine.membership
        stays = membership.is_linked(owner) and not membership.is_draining(owner)
        name = owner.name if stays and membership.role_of(owner.name) == "app" else machine.drain.heir()
        if may_refer and name is not None:
            return Elsewhere(name)
        return unavailable(why)

    def admits(self, copy: Copy) -> bool:
        """Whether a request may have this copy now; ends it if its time is over."""
        machine = self._machine
        if copy.role is not Role.PRIMARY or copy.tombstone or not machine.lease.is_held():
            return False
        leads = copy.leads
        if leads.handoff is not None and machine.now >= leads.handoff.freeze_at:
            return False
        if not leads.in_flight and machine.now >= machine.expiry.deadline(copy):
            machine.expiry.end(copy)
            return False
        return True

    def check_out(self, copy: Copy) -> Checkout:
        machine = self._machine
        machine.touches.note(copy)
        return Checkout(machine, copy)

    def request_done(self, key: Key) -> None:
        """The last request in flight is done with a session that is to be handed over.

        At the next `tick`: requests end at any time, also just when this node has stood still and does not know it yet.
        """
        self._done[key] = None
        self._machine.due(self._machine.now)

    def is_frozen(self, copy: Copy) -> bool:
        """Whether a primary takes no writes any more, because it is about to hand the session over."""
        machine = self._machine
        handoff = copy.leads.handoff
        if handoff is None or machine.now < handoff.freeze_at:
            return False
        return copy.leads.in_flight == 0 or machine.now >= handoff.deadline

    def is_settled(self, key: Key) -> bool:
        """Whether all that this node shows of a session has been applied by the whole list."""
        machine = self._machine
        copy = machine.copies.get(key)
        return (
            copy is not None
            and copy.role is Role.PRIMARY
            and machine.lease.is_held()
            and not copy.tombstone
            and self._is_held_elsewhere(copy)
            and not self.is_frozen(copy)
            and all(follower.acked >= copy.version for follower in copy.leads.followers.values())
        )

    def is_protected(self, copy: Copy) -> bool:
        """Whether a primary's session, of which nothing is under way, outlives this node."""
        storing = self._machine.storing
        return bool(copy.backups) or (storing is not None and storing.has(copy))

    def _is_held_elsewhere(self, copy: Copy) -> bool:
        """Whether a primary's session is wherever else it is to be: at backups, and in the store if answers wait for it."""
        storing = self._machine.storing
        if storing is None:
            return bool(copy.backups or not self._machine.candidates.least)
        return storing.has(copy) or (bool(copy.backups) and not storing.waits)

    def create(
        self,
        operation: int,
        key: Key,
        changes: Mapping[str, bytes | None],
        after: int = 0,
        *,
        flush: bool = False,
    ) -> None:
        """Make a session with its first write, version `after` + 1; resolved with `Committed` or an error."""
        machine = self._machine
        if not machine.may_act or machine.left:
            # While the node drains it finishes what it has begun: new visitors are refused before they get here.
            machine.emit(Resolve(operation, self._outvoted()))
            return
        if self._serves_nobody:
            machine.emit(Resolve(operation, unavailable(STATE_ROLE)))
            return
        refusal = self.limits_refusal(None, changes)
        if refusal is not None:
            machine.emit(Resolve(operation, refusal))
            return
        copy = machine.replication.create(key, after)
        self._write(operation, copy, changes, flush=flush)
        if not copy.backups:
            machine.lists.announce(copy)  # with a list, adding to it has announced it

    def commit(
        self,
        operation: int,
        key: Key,
        changes: Mapping[str, bytes | None],
        if_version: int | None,
        *,
        flush: bool = False,
    ) -> None:
        """Write; resolved with `Committed` or an error. No changes: wait for what is shown to be applied.

        `flush`: send it now and wait, whatever the settings.
        """
        machine = self._machine
        key = machine.aliases.resolve(key)
        copy = machine.copies.get(key)
        if copy is not None and self._is_moving(copy):
            self._defer(key, operation, lambda: self.commit(operation, key, changes, if_version, flush=flush))
            return
        if copy is None or copy.role is not Role.PRIMARY:
            machine.forwarding.forward(operation, key, changes, if_version, invalidate=False)
            return
        if not machine.lease.is_held():
            machine.emit(Resolve(operation, self._outvoted()))
            return
        if copy.tombstone:
            # "Gone" is said when every backup has the end of it: a successor may never have heard of it.
            machine.replication.answer_when_applied(copy, Pending(operation, 0))
            return
        if if_version is not None and if_version != copy.version:
            machine.emit(Resolve(operation, Conflict(if_version, copy.version)))
            return
        refusal = self.limits_refusal(copy, changes)
        if refusal is not None:
            machine.emit(Resolve(operation, refusal))
            return
        self._write(operation, copy, changes, flush=flush)

    def _write(self, operation: int, copy: Copy, changes: Mapping[str, bytes | None], *, flush: bool) -> None:
        machine = self._machine
        options = machine.options
        if flush or (options.ack == "sync" and not options.flush_s):
            machine.replication.write(copy, changes, Pending(operation, 0))
        else:
            if not (options.flush_s and copy.backups):
                machine.replication.write(copy, changes, Pending(None, 0))
            elif changes:
                machine.flushing.write(copy, changes)
            machine.emit(Resolve(operation, Committed(copy.version, self.is_protected(copy))))
        machine.due(machine.now + machine.options.ack_timeout_s)

    def invalidate(self, operation: int, key: Key) -> None:
        """End a session for good; resolved with None or an error."""
        machine = self._machine
        key = machine.aliases.resolve(key)
        copy = machine.copies.get(key)
        if copy is not None and self._is_moving(copy):
            self._defer(key, operation, lambda: self.invalidate(operation, key))
            return
        if copy is None or copy.role is not Role.PRIMARY:
            machine.forwarding.forward(operation, key, {}, None, invalidate=True)
        elif not machine.lease.is_held():
            machine.emit(Resolve(operation, self._outvoted()))
        elif copy.tombstone:
            machine.replication.answer_when_applied(copy, Pending(operation, 0, tombstone=True))
        else:
            self.end(copy, Pending(operation, 0), None)
        machine.due(machine.now + machine.options.ack_timeout_s)

    def rotate(self, operation: int, key: Key, successor: Key, if_version: int) -> None:
        """End a session that goes on as `successor`, a session with the content of `if_version`.

        Resolved with None or an error: `Conflict` if somebody wrote since, whose write would be lost.
        """
        machine = self._machine
        key = machine.aliases.resolve(key)
        copy = machine.copies.get(key)
        if copy is not None and self._is_moving(copy):
            self._defer(key, operation, lambda: self.rotate(operation, key, successor, if_version))
            return
        if copy is None or copy.role is not Role.PRIMARY:
            machine.forwarding.forward(operation, key, {}, if_version, invalidate=True, successor=successor)
        elif not machine.lease.is_held():
            machine.emit(Resolve(operation, self._outvoted()))
        elif copy.tombstone:
            machine.replication.answer_when_applied(copy, Pending(operation, 0))
        elif if_version != copy.version:
            machine.emit(Resolve(operation, Conflict(if_version, copy.version)))
        else:
            self.end(copy, Pending(operation, 0), successor)
        machine.due(machine.now + machine.options.ack_timeout_s)

    def end(self, copy: Copy, pending: Pending, successor: Key | None) -> None:
        """Begin the end of a session here, which may go on under another key."""
        machine = self._machine
        if successor is None:
            machine.stats.invalidated += 1
            machine.replication.begin_tombstone(copy, pending)
        else:
            machine.stats.rotated += 1
            machine.replication.begin_tombstone(copy, pending, machine.aliases.new(successor))

    def _outvoted(self) -> Unavailable:
        """Why this node may not act."""
        machine = self._machine
        if not machine.membership.joined:
            return unavailable(JOINING)
        return unavailable(LEFT if machine.left else no_majority(machine))

    def _is_moving(self, copy: Copy) -> bool:
        """Whether a handoff, or a rotation, is at its end, when nobody can take a write."""
        leads = copy.leadership
        if copy.alias is not None and copy.role is Role.PRIMARY:
            return True
        if leads is None:
            return False
        return leads.grant is not None or (leads.handoff is not None and self.is_frozen(copy))

    def _defer(self, key: Key, operation: int, again: Callable[[], None]) -> None:
        """A commit that meets a handoff at its end waits for it, and then follows the session."""
        self._deferred.setdefault(key, []).append((operation, again))

    def give_up_waiting(self) -> None:
        """A majority has been out of reach for a while, and no move ends without one."""
        deferred, self._deferred = self._deferred, {}
        for operation, _ in chain.from_iterable(deferred.values()):
            self._machine.emit(Resolve(operation, self._outvoted()))

    def release_deferred(self, key: Key) -> None:
        """The move is over: commits that waited for it go on."""
        for _, again in self._deferred.pop(key, ()):
            again()

    def limits_refusal(self, copy: Copy | None, changes: Mapping[str, bytes | None]) -> SessionError | None:
        """Why these changes may not be written, or None."""
        return refusal_of(changes, copy, self._machine.copies.bytes, self._machine.options)
