"""When a cluster has settled: every member sees the others as they are, every session is where it belongs.

Exactly the copies that the scheme asks for, in step, and no orphans; the same directory everywhere, and in it nothing
that nobody holds; nothing waits. What is missing is said in words, for the transcript of a run that never settles.
"""

from typing import TYPE_CHECKING

from sessiond.core.copies import Copy, Role
from tests.sim.process import Process
from tests.sim.promises import Session

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

LATE_MAX_S = 1.0
"""Longest time by which a tombstone outlives its own: far more than a timer is late."""


class Settlement:
    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation

    def missing(self, *, at_rest: bool = False) -> str | None:
        """What is not as it should be, or None. `at_rest`: with no requests, so that nothing waits either."""
        processes = self._simulation.network.hosts
        for process in processes.values():
            why = (
                self._membership(process)
                or self._storing(process)
                or (self._waiting(process) if at_rest else None)
            )
            if why is not None:
                return f"{process.name} {why}"
        for key, session in self._simulation.sessions.items():
            why = self._session(key, session, list(processes.values()))
            if why is not None:
                return why
        return None

    def left_over(self) -> str | None:
        """What a directory remembers of sessions that are no more, and should have forgotten by now."""
        processes = self._simulation.network.hosts.values()
        held = {copy.key for process in processes for copy in process.machine.copies.values()}
        store = self._simulation.store
        if store is not None:
            held |= {key for key, kept in store.shelf.records.items() if kept.record.data is not None}
        for process in processes:
            directory = process.machine.directory
            for key, location in directory.items():
                if not location.gone and key not in held:
                    return f"{process.name} knows where {self._simulation.name_of(key)} is: {location}; nobody holds it"
            tombstone_ends_at = directory.next_deadline()
            now = process.clock.read(self._simulation.timeline.now)
            if tombstone_ends_at is not None and tombstone_ends_at < now - LATE_MAX_S:
                return f"{process.name} keeps a tombstone whose time is over"
        return None

    def _membership(self, process: Process) -> str | None:
        membership = process.machine.membership
        if not membership.joined:
            return "has not joined"
        hosts = self._simulation.network.hosts.values()
        others = {other.machine.life for other in hosts if other is not process}
        if set(membership.alive()) != others:
            return f"takes {sorted(membership.alive())} for alive"
        if set(membership.linked()) != others:
            return f"is linked with {sorted(membership.linked())}"
        return None

    def _storing(self, process: Process) -> str | None:
        storing = process.machine.storing
        if storing is None or not (storing.backlog or storing.is_down):
            return None
        return f"has a store that is {storing.state} and lacks {storing.backlog}"

    def _session(self, key: bytes, session: Session, processes: list[Process]) -> str | None:
        held = [(p.name, c) for p in processes if (c := p.machine.copies.get(key)) is not None]
        if session.ended or (not held and (session.end_asked or not self._was_promised(session))):
            return f"{session} has ended, but {held[0][0]} holds it" if held else None
        if not held and self._may_have_expired(session):
            return None
        if not held and self._simulation.store is not None:
            kept = self._simulation.store.shelf.records.get(key)
            is_stored = kept is not None and kept.record.data is not None
            return None if is_stored else f"{session} is nowhere, not in the store either"
        primaries = [(name, copy) for name, copy in held if copy.role is Role.PRIMARY]
        if len(primaries) != 1:
            return f"{session} has {len(primaries)} primaries"
        owner, primary = primaries[0]
        wanted = self._wanted(owner, primary, processes)
        if len(primary.backups) != wanted or len(held) != wanted + 1:
            return f"{session} lists {primary.backups} and is held by {[name for name, _ in held]}"
        if self._simulation.plan.state_nodes and any(
            life.name in self._simulation.app_names for life in primary.backups
        ):
            return f"{session} has a copy on a node that serves users: {primary.backups}"
        if any(copy.term != primary.term or copy.role is Role.QUARANTINED for _, copy in held):
            return f"the copies of {session} differ"
        if any(follower.acked < primary.version - 3 for follower in primary.leads.followers.values()):
            return f"{session} has a backup that lags"
        everybody = self._simulation.plan.options.location == "broadcast"
        known = [
            (p.name, p.machine.directory.get(key)) for p in processes if everybody or key in p.machine.copies
        ]
        if any(location != primary.location for _, location in known):
            return f"directories differ about {session}: {known}"
        session.stood = True
        return None

    def may_be_gone(self, session: Session, now: float) -> bool:
        """Whether an answer may say that there is no such session, once the cluster has settled."""
        hosts = self._simulation.network.hosts.values()
        is_held = any(session.key in process.machine.copies for process in hosts)
        return session.may_be_over(now) or (not is_held and not self._was_promised(session))

    def _was_promised(self, session: Session) -> bool:
        """Whether it has to be somewhere; that it is nowhere is excused if its only answers promised nothing."""
        is_kept = session.stood or self._simulation.plan.options.ack == "sync"
        return session.created and session.protected and is_kept

    def _wanted(self, owner: str, primary: Copy, processes: list[Process]) -> int:
        """How many backups a session has when all is well, by the scheme of its primary."""
        options = self._simulation.plan.options
        others = [process for process in processes if process.name != owner]
        match options.placement:
            case "none":
                return 0
            case "all":
                # Who was slow a moment ago waits outside until its time is over.
                is_slow = self._simulation.network.hosts[owner].machine.candidates.is_slow
                lives = [process.machine.life for process in others]
                return sum(life in primary.backups or not is_slow(life) for life in lives)
            case "central":
                holders = [each for each in others if each.name not in self._simulation.app_names]
                return min(options.copies, len(holders))
            case _:
                return min(options.copies, len(others))

    def _may_have_expired(self, session: Session) -> bool:
        idle_s = self._simulation.timeline.now - session.used_at
        return idle_s > session.idle_timeout_s * 0.98 - session.leeway_s

    def _waiting(self, process: Process) -> str | None:
        """What is left in a queue though nobody asks for anything any more."""
        machine = process.machine
        left = {
            "operations": process.operations_waiting,
            "answers": len(machine.replication.waiting),
            "writes kept back": len(machine.flushing),
            "repairs": len(machine.lists.repairing),
            "grants": len(machine.takeover.granting),
            "lookups": 0 if machine.lookup.is_idle else 1,
            "sessions to mend": machine.reprotection.backlog,
            "sessions to move": machine.rebalancing.backlog,
            "unacked frames": sum(ledger.under_way for ledger in machine.links.ledgers.values()),
            "unprotected": machine.unprotected,
            "sessions to store": machine.storing.backlog if machine.storing is not None else 0,
        }
        waiting = {what: number for what, number in left.items() if number}
        return f"is not at rest: {waiting}" if waiting else None
