"""Planted bugs in section 1 of the protocol: votes, leases, lives, standstills."""

from sessiond.core.ballots import Ballots
from sessiond.core.lease import Lease
from sessiond.core.lookup import LookupDesk
from sessiond.core.machine import Machine
from sessiond.core.membership import Membership
from sessiond.core.operations import Operations
from sessiond.core.replication import Replication
from sessiond.core.rounds import Rounds
from sessiond.core.takeover import Takeover
from tests.sim.mutants.patching import Edit, Mutant

MEMBERSHIP_BUGS = (
    Mutant(
        name="acting without the lease",
        rule="1.3 (ablated)",
        method=Lease.is_held,
        right="return not self._by_majority or self._machine.now < self._held_until",
        wrong="return True",
        plan="majority",
        found_by="was acked before|no order|two increments|version|after all|served though|said to be gone",
    ),
    Mutant(
        name="votes count at once under a majority",
        rule="1.3 (ablated)",
        method=Ballots._ripe_at,
        right="+ self._ripe_after_s",
        wrong="",
        scenario="a_vote_counts_when_leases_have_run_out",
        found_by="as early`: 'a=1'",
    ),
    Mutant(
        name="a process without memory gives leases",
        rule="1.3 (ablated)",
        method=Lease.on_ask,
        right="if self._machine.membership.joined:",
        wrong="if True:",
        scenario="a_process_without_memory_does_not_vote",
        found_by="waits",
    ),
    Mutant(
        name="a handshake counts as a lease",
        rule="1.3 (ablated)",
        method=Membership.link_opened,
        right="self._machine.probing.heard(identity.life)",
        wrong="""self._machine.probing.heard(identity.life)
    self._machine.lease._answered[identity.life] = (now, 0)
    self._machine.lease._settle()""",
        scenario="a_handshake_is_no_lease",
        found_by="read n1 s`: 'a=1'",
    ),
    Mutant(
        name="voting without the lease",
        rule="1.3 (paper)",
        method=Membership.accuse,
        right="if self.refuses(life) or not machine.lease.is_held():",
        wrong="if self.refuses(life):",
        scenario="a_minority_buries_nobody",
        found_by="epoch 2",
    ),
    Mutant(
        name="serving without the lease",
        rule="1.3 (ablated)",
        method=Operations.admits,
        right="or not machine.lease.is_held()",
        wrong="",
        beside=(
            Edit(
                method=Operations.open,
                right="if not machine.may_act:",
                wrong="if not machine.membership.joined or machine.stall.is_active:",
            ),
        ),
        scenario="minority_says_not_now",
        found_by="read n1 s`: 'a=1'",
    ),
    Mutant(
        name="releasing an answer without the lease",
        rule="1.3 (ablated)",
        method=Replication.progress,
        right="if not machine.lease.is_held():",
        wrong="if False:",
        scenario="no_answer_without_the_lease",
        found_by="acked",
    ),
    Mutant(
        name="granting without the lease",
        rule="1.3 (ablated)",
        method=Takeover.on_claim,
        right="elif not machine.lease.is_held():",
        wrong="elif False:",
        scenario="no_grant_without_the_lease",
        found_by="n1 backup v1 epoch 2",
    ),
    Mutant(
        name="activating without the lease",
        rule="1.3 (ablated)",
        method=Takeover.continue_grant,
        right="if waits or not machine.lease.is_held():",
        wrong="if waits:",
        scenario="nobody_becomes_primary_without_the_lease",
        found_by="A primary",
    ),
    Mutant(
        name="answering gone without the lease",
        rule="1.3 (ablated)",
        method=Rounds._found_nobody_active,
        right="if not machine.lease.is_held() or machine.membership.unaccounted():",
        wrong="if False:",
        scenario="minority_says_not_now",
        found_by="'gone'",
    ),
    Mutant(
        name="votes are forgotten when the voter rejoins",
        rule="1.3",
        method=Machine.rejoin,
        right="self.lease.forget()",
        wrong="self.lease.forget()\n    self.membership._take_back()",
        scenario="a_voter_remembers_in_its_next_life",
        found_by="read n1 s`: 'a=1'",
    ),
    Mutant(
        name="copies of a former life act on",
        rule="1.4 (ablated)",
        method=Machine.rejoin,
        right="self.quarantine(copy)",
        wrong="pass",
        plan="any",
        found_by="another life|another's term|was acked before|primaries",
    ),
    Mutant(
        name="queued input comes before the quarantine",
        rule="1.4 (ablated)",
        method=Machine.rejoin,
        right="life = Life(old.name, floor + 1)",
        wrong="life = Life(old.name, floor + 1)\n    self.stall.life_began()",
        scenario="stood_still_and_asks_first",
        found_by="outcome late`: 'gone'",
    ),
    Mutant(
        name="of two that accuse each other nobody yields",
        rule="1.5",
        method=Membership._told_dead,
        right="if (len(self.alive()) + 1, accused[0].life.name) > (refusal.members, machine.life.name):",
        wrong="if True:",
        scenario="both_sides_of_a_partition_meet",
        found_by="'a=1 right=1'",
    ),
    Mutant(
        name="who yields keeps its votes",
        rule="1.5 (ablated)",
        method=Membership._told_dead,
        right="self._take_back()",
        wrong="pass",
        beside=(
            Edit(
                method=Machine.refused,
                right='self.membership.refused("", refusal, now)',
                wrong="pass",
            ),
        ),
        scenario="who_yields_takes_its_votes_back",
        found_by="members n1`: 'n1'",
    ),
    Mutant(
        name="acting at once after a standstill",
        rule="1.6 (ablated)",
        method=Machine._enter,
        right="gap_s > self.options.lease_s",
        wrong="False",
        plan="endings",
        found_by="said to be gone; nobody ended it|was acked before|served though",
    ),
    Mutant(
        name="the standstill guard misses a verb",
        rule="1.6 (ablated)",
        method=Machine.open,
        right="if self._enter(now):",
        wrong="if True:",
        scenario="stood_still_and_asks_first",
        found_by="outcome late`: 'a=1'",
    ),
    Mutant(
        name="a node answers before its first snapshot",
        rule="1.7",
        method=LookupDesk.resolve,
        right="if not machine.membership.joined:",
        wrong="if False:",
        beside=(
            Edit(
                method=Operations.open,
                right="if not machine.may_act:",
                wrong="if not machine.lease.is_held():",
            ),
        ),
        plan="pairs",
        found_by="said to be gone; nobody ended it",
    ),
)
