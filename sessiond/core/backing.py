"""Writes, the backup's side (protocol 2.2 and 2.6): apply exactly what fits, refuse the rest with a reason.

Invariant: a copy here changes only in its own term, on exactly the stamp that a write builds on; and news that
nobody else may have are never dropped silently: they are offered to the primary.
"""

from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.copies import Copy, Role
from sessiond.core.types import Life, Location, Stamp

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Backing:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine

    def on_put(self, _life: Life, put: m.Put) -> m.Message | None:
        """Become, or stay, a backup with this content. Returns why not, or None for applied."""
        machine = self._machine
        key, term, seq, backups, data = put
        location = machine.directory.get(key)
        if location is not None and location.gone:
            return m.Locations(((key, location),))
        if (
            location is not None
            and (location.term, location.seq) > (term, seq)
            and machine.life not in location.backups
        ):
            return m.Locations(((key, location),))
        copy = machine.copies.get(key)
        if copy is not None:
            if term < copy.term or (copy.role is Role.PRIMARY and term == copy.term):
                return m.Fenced(key, copy.location)
            if term == copy.term and copy.role is Role.BACKUP and data.version < copy.version:
                return None
            ends_grant = copy.is_granting and term == copy.term and seq > 0
            superseded = copy.role is not Role.BACKUP or (copy.is_granting and term > copy.term)
            if ends_grant:
                machine.takeover.grant_ended(copy, Location(term, seq, backups))
            if superseded or copy.last > data.last:
                # Never lose a superseded copy's news silently: the primary merges it.
                news = copy.news_over(data.attributes)
                machine.quarantine(copy)
                if news and not data.tombstone:  # the end of a session leaves nothing to merge
                    if seq > 0:
                        machine.locating.merge(key, Location(term, seq, backups))
                    return m.Offer(key, copy.term, copy.data(machine.now))
        if copy is not None and copy.role is Role.BACKUP and copy.term == term and copy.seq > seq:
            seq, backups = copy.seq, copy.backups  # it was delayed, and the list is a newer one by now
        fresh = Copy(key, Role.BACKUP, term, machine.now)
        fresh.seq, fresh.backups = seq, backups
        fresh.load(data, machine.now)
        if copy is not None and copy.leadership is not None:
            machine.replication.abandon(copy)
        if copy is not None and (copy.role is Role.QUARANTINED or term > copy.term):
            machine.takeover.tell_superseded(copy, Location(term, seq, backups))
        machine.reprotection.orphans.pop(key)
        machine.copies.put(fresh)
        if machine.asks_for_locations and (seq == 0 or (copy is None and term.epoch > 1)):
            machine.confirming.soon(key)
        machine.stats.applied += 1
        if seq > 0:
            machine.locating.merge(key, Location(term, seq, backups))
        return None

    def on_patch(self, _life: Life, patch: m.Patch) -> m.Message | None:
        """Apply a write. Returns why not, or None for applied."""
        machine = self._machine
        key, term = patch.key, patch.term
        copy = machine.copies.get(key)
        if (
            copy is not None
            and copy.role is Role.BACKUP
            and copy.term == term
            and copy.last == (patch.base_term or term, patch.base_version)
            and copy.leadership is None
        ):
            bytes_before = copy.bytes
            copy.apply(patch.changes, Stamp(term, patch.version), patch.write_id)
            machine.copies.reweigh(bytes_before, copy)
            copy.accessed_at = machine.now
            machine.stats.applied += 1
            return None
        location = machine.directory.get(key)
        if location is not None and location.gone:
            return m.Locations(((key, location),))
        if copy is not None and (term < copy.term or (copy.role is Role.PRIMARY and term == copy.term)):
            return m.Fenced(key, copy.location)
        machine.stats.gaps += 1
        return m.Gap(key, term)

    def on_release(self, life: Life, release: m.Release) -> None:
        machine = self._machine
        key, term = release.key, release.term
        copy = machine.copies.get(key)
        if copy is not None:
            granted_but_idle = copy.is_granting and copy.term == term and release.seq == 0
            if copy.term > term or copy.role is Role.PRIMARY or granted_but_idle:
                machine.send((life,), m.Fenced(key, copy.location))
                return
            if copy.role is not Role.QUARANTINED or copy.term == term:
                machine.locating.parting(key, term)
                machine.drop_copy(key)  # else it is none of this list, and may hold news of an older term
        machine.send((life,), m.Released(key, term, release.seq))

    def on_touch(self, touch: m.Touch) -> None:
        machine = self._machine
        for key, idle_s in touch.idle_s:
            copy = machine.copies.get(key)
            if copy is not None:
                copy.accessed_at = max(copy.accessed_at, machine.now - idle_s)
