"""Planted bugs in sections 2 and 5 of the protocol: writes, their answers, and how sessions end."""

from sessiond.core.backing import Backing
from sessiond.core.expiry import Expiry
from sessiond.core.forwarding import Forwarding
from sessiond.core.links import Links
from sessiond.core.operations import Operations
from sessiond.core.replication import Replication
from sessiond.core.takeover import Takeover
from tests.sim.mutants.patching import Edit, Mutant

WRITE_BUGS = (
    Mutant(
        name="a stale counter is written",
        rule="if_version",
        method=Operations.commit,
        right="if_version is not None and if_version != copy.version",
        wrong="False",
        plan="any",
        found_by="two increments|was acked before",
    ),
    Mutant(
        name="ack before applying",
        rule="2.2; Tomcat",
        method=Backing.on_patch,
        right="copy.apply(patch.changes,",
        wrong="copy.apply({},",
        plan="any",
        found_by="acked .* and holds|was acked before",
    ),
    Mutant(
        name="half of a write is applied",
        rule="2.2",
        method=Backing.on_patch,
        right="copy.apply(patch.changes,",
        wrong="copy.apply(dict([*patch.changes.items()][:1]),",
        plan="any",
        found_by="half a write|acked .* and holds",
    ),
    Mutant(
        name="a difference applied to an unknown copy",
        rule="2.2; Tomcat",
        method=Backing.on_patch,
        right="and copy.last == (patch.base_term or term, patch.base_version)",
        wrong="",
        beside=(
            Edit(
                method=Links.resend,
                right="machine.replication.send_copy(copy, life)",
                wrong="pass",
            ),
        ),
        plan="storm",
        found_by="acked .* and holds|was acked before|half a write|went from",
    ),
    Mutant(
        name="no term on messages",
        rule="2.2; Tomcat",
        method=Backing.on_put,
        right="if term < copy.term or (",
        wrong="if (",
        beside=(Edit(method=Backing.on_patch, right="and copy.term == term", wrong=""),),
        plan="cuts",
        found_by="went from term|was acked before|acked .* and holds|written twice",
    ),
    Mutant(
        name="answer before the backups have it",
        rule="2.3",
        method=Replication.progress,
        right="if follower.acked < version:",
        wrong="if False:",
        plan="storm",
        found_by="answered before|was acked before|two increments",
    ),
    Mutant(
        name="a read shows what the backups lack",
        rule="2.3 (ablated)",
        method=Operations.is_settled,
        right="all(follower.acked >= copy.version for follower in copy.leads.followers.values())",
        wrong="True",
        plan="amid",
        found_by="was acked before",
    ),
    Mutant(
        name="the unprotected is called protected",
        rule="2.3",
        method=Replication.progress,
        right="protected=self._is_protected(copy, version)",
        wrong="protected=True",
        plan="partitions",
        found_by="without a backup|was acked before|said to be gone",
    ),
    Mutant(
        name="what could not be sent counts as sent",
        rule="2.3; DeltaManager",
        method=Replication.send_patch,
        right="to.append(life)  # without a link it gets the whole session when the link is back",
        wrong="""to.append(life)
            else:
                follower.acked = copy.version""",
        plan="storm",
        found_by="acked .* and holds|was acked before|answered before",
    ),
    Mutant(
        name="a member leaves the list without its word",
        rule="2.4 (ablated)",
        method=Replication.progress,
        right="for life, follower in followers.items():",
        wrong="for life, follower in [(x, f) for x, f in followers.items() if not f.slow]:",
        plan="storm",
        found_by="answered before|was acked before",
    ),
    Mutant(
        name="a newcomer to the list does not count yet",
        rule="2.4",
        method=Replication.progress,
        right="if follower.acked < version:",
        wrong="if -1 < follower.acked < version:",
        scenario="made_when_its_copy_is",
        found_by="acked",
    ),
    Mutant(
        name="acks of a former membership of the list count",
        rule="2.5; lives",
        method=Replication.on_applied,
        right="follower is None or applied.seq < follower.added_seq",
        wrong="follower is None",
        plan="stints",
        found_by="acked .* and has no copy",
    ),
    Mutant(
        name="a late copy is taken though the list is newer",
        rule="2.6",
        method=Backing.on_put,
        right="and machine.life not in location.backups\n",
        wrong="and False\n",
        scenario="late_fencing_copy_leaves_no_orphan",
        found_by="B backup v1",
    ),
    Mutant(
        name="a forwarded write does not look at the version",
        rule="2.7 (paper)",
        method=Forwarding._apply,
        right="forward.if_version is not None and forward.if_version != copy.version",
        wrong="False",
        plan="late",
        found_by="two increments|was acked before",
    ),
    Mutant(
        name="a forwarded write that was refused is called written",
        rule="2.7 (paper)",
        method=Forwarding.on_forward,
        right='"refused", 0',
        wrong='"ok", 0',
        scenario="a_late_write_follows_the_session_once",
        found_by="acked",
    ),
    Mutant(
        name="a forwarded write is answered before the backups have it",
        rule="2.7 (paper)",
        method=Forwarding._apply,
        right="machine.replication.write(copy, forward.changes, pending, forward.write_id)",
        wrong="""machine.replication.write(copy, forward.changes, Pending(None, 0), forward.write_id)
    machine.send((life,), m.ForwardResult(forward.write_id, "ok", copy.version, True, ""))""",
        scenario="a_late_write_follows_the_session_once",
        found_by="acked",
    ),
    Mutant(
        name="a session in use expires",
        rule="5",
        method=Expiry.deadline,
        right="copy.accessed_at + options.idle_timeout_s",
        wrong="copy.created_at + options.idle_timeout_s",
        plan="endings",
        found_by="said to be gone; nobody ended it",
    ),
    Mutant(
        name="a successor counts from the last use that it heard of",
        rule="5",
        method=Takeover.grant,
        right="copy.accessed_at = machine.now",
        wrong="pass",
        plan="last-use",
        found_by="said to be gone; nobody ended it",
    ),
    Mutant(
        name="the end is said before the backups hold it",
        rule="5 (ablated)",
        method=Replication.begin_tombstone,
        right="self.send_all(copy, base)",
        wrong="""if pending.operation is not None:
        self._machine.emit(Resolve(pending.operation, None))
        pending.operation = None
    self.send_all(copy, base)""",
        plan="amid-ends",
        found_by="served though|has ended, but|said to be gone",
    ),
    Mutant(
        name="a successor forgets an end that was begun",
        rule="5 (ablated)",
        method=Takeover._become_primary,
        right="if copy.tombstone:",
        wrong="if False:",
        plan="amid-ends",
        found_by="not settled|converge|does not answer|never",
    ),
    Mutant(
        name="a backup says what end it holds",
        rule="5 (ablated)",
        method=Backing.on_put,
        right="machine.stats.applied += 1",
        wrong="""machine.stats.applied += 1
    if data.tombstone:
        machine.locating.merge(key, Location(term, seq, (), gone=True))""",
        scenario="an_end_under_way_is_not_told",
        found_by="read A s`: 'gone'",
    ),
)
