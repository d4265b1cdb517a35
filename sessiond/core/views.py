"""What a node shows of its cluster and of one session, from its own knowledge."""

import math
from typing import TYPE_CHECKING

from sessiond.backend import Whereabouts
from sessiond.contract.cluster_view import ClusterView, MemberView
from sessiond.contract.drain_view import DrainView
from sessiond.core.copies import Role
from sessiond.core.types import Key

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


def cluster_view(machine: "Machine") -> ClusterView:
    """The cluster as this node sees it."""
    identity, counts = machine.identity, machine.copies.counts
    left_s = machine.reprotection.seconds_left
    own = MemberView(
        name=identity.life.name,
        incarnation=identity.life.incarnation,
        state=machine.state,
        http=identity.http,
        cluster=identity.cluster,
        api=identity.api,
        zone=identity.zone,
        primaries=counts[Role.PRIMARY],
        backups=counts[Role.BACKUP],
        unprotected=machine.unprotected,
        reprotect_seconds=round(left_s, 3) if math.isfinite(left_s) else None,
        role=identity.role,
        store=str(machine.storing.state) if machine.storing is not None else None,
        unstored=machine.storing.backlog if machine.storing is not None else None,
    )
    rows = sorted([own, *machine.membership.views()], key=lambda row: row.name)
    return ClusterView(identity.cluster_name, identity.life.name, machine.options.quorum, tuple(rows))


def drain_view(machine: "Machine") -> DrainView:
    """What is left on this node; `requests` is for whoever serves them to say."""
    counts, drain = machine.copies.counts, machine.drain
    return DrainView(
        node=machine.life.name,
        state=machine.state,
        primaries=counts[Role.PRIMARY],
        backups=counts[Role.BACKUP],
        quarantined=counts[Role.QUARANTINED],
        requests=0,
        safe_to_stop=drain.is_safe_to_stop,
        hindrance=drain.hindrance,
    )


def locate(machine: "Machine", key: Key) -> Whereabouts | None:
    """Where a session lives: from the own copy if there is one, else from the directory."""
    copy, location = machine.copies.get(key), machine.directory.get(key)
    if location is not None and location.gone:
        return None
    if (
        copy is not None
        and copy.role is not Role.QUARANTINED
        and (location is None or copy.term >= location.term)
    ):
        location = copy.location
    if location is None:
        return None
    version = copy.version if copy is not None and copy.role is not Role.QUARANTINED else None
    names = tuple(life.name for life in location.backups)
    return Whereabouts(location.term.owner.name, names, location.term.epoch, version)
