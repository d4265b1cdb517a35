"""Planted bugs in sections 3 and 4 of the protocol: lists, terms, grants, look-ups, copies in doubt."""

from sessiond.core.absence import Absence
from sessiond.core.backing import Backing
from sessiond.core.locating import Locating
from sessiond.core.lookup import LookupDesk
from sessiond.core.replication import Replication
from sessiond.core.rounds import Rounds
from sessiond.core.takeover import Takeover
from tests.sim.mutants.patching import Edit, Mutant

TAKEOVER_BUGS = (
    Mutant(
        name="a list names nodes, not lives",
        rule="lives (ablated)",
        method=Takeover.has_ended,
        right="self._machine.membership.is_dead(term.owner)",
        wrong="""(
        term.owner.name not in {life.name for life in self._machine.membership.alive()}
        and self._machine.membership.is_dead(term.owner)
    )""",
        plan="amid",
        found_by="not settled|converge|does not answer|not come to its end|is not served|said to be gone",
    ),
    Mutant(
        name="a backup does not adopt a newer list",
        rule="3.2 (ablated)",
        method=Locating._list_changed,
        right="copy.backups, copy.seq = location.backups, location.seq",
        wrong="copy.seq = location.seq",
        plan="pairs",
        found_by="not settled|went from|written twice|was acked before|said to be gone|two increments",
    ),
    Mutant(
        name="an owner does not claim a term that it never had",
        rule="3.5",
        method=Replication.on_confirm,
        right="machine.send((life,), machine.takeover.claim(key, 0))  # a grant that never arrived",
        wrong="pass",
        scenario="a_grant_that_nobody_waits_for_is_fetched",
        found_by="'B backup v1 epoch 2', not 'X primary",
    ),
    Mutant(
        name="every holder takes itself for the first",
        rule="4.1",
        method=Takeover.arbiter,
        right="if life == machine.life or not (machine.membership.is_dead(life) or life in empty):",
        wrong="if life == machine.life:",
        beside=(Edit(method=Backing.on_put, right="if news and not data.tombstone:", wrong="if False:"),),
        scenario="the_first_of_the_list_grants",
        found_by="as other`: 'a=2'",
    ),
    Mutant(
        name="offers are refused while freezing",
        rule="4.2 (ablated)",
        method=Takeover.on_offer,
        right="if copy.role is not Role.PRIMARY or copy.tombstone or not machine.lease.is_held():",
        wrong="if copy.role is not Role.PRIMARY or copy.tombstone or copy.leads.handoff is not None:",
        scenario="an_offer_is_taken_while_freezing",
        found_by="'waits'",
    ),
    Mutant(
        name="the new epoch is the own copy's and one more",
        rule="4.3 (ablated)",
        method=Takeover.grant,
        right="""floor.epoch if floor is not None else 0,
        location.term.epoch if location is not None else 0""",
        wrong="0",
        beside=(
            Edit(
                method=Takeover.continue_grant,
                right="if location is not None and location.term > copy.term and self.has_ended(copy.key, location.term):",
                wrong="if False:",
            ),
            Edit(method=Takeover.on_offer, right="if offer.term >= copy.term:", wrong="if False:"),
            Edit(
                method=Rounds._found_nobody_active,
                right="machine.takeover.reactivate(copy, max(epochs))",
                wrong="machine.takeover.reactivate(copy, copy.term.epoch)",
            ),
        ),
        plan="parts",
        found_by="not settled|converge",
    ),
    Mutant(
        name="a grant does not fence the other holders",
        rule="4.4 (ablated)",
        method=Takeover._begin_fencing,
        right="Follower(added_seq=0, waiting_since=machine.now)",
        wrong="Follower(added_seq=0, acked=copy.version, waiting_since=machine.now)",
        plan="pairs",
        found_by="does not answer|not settled|went from|written twice|was acked before|two increments|acked .* and holds",
    ),
    Mutant(
        name="offers are refused while fencing",
        rule="4.4",
        method=Takeover.on_offer,
        right="if life in copy.leads.followers:\n",
        wrong="if False:\n",
        scenario="an_offer_answers_for_an_ack_while_fencing",
        found_by="'waits'",
    ),
    Mutant(
        name="a grant is repeated while the granter is fencing",
        rule="4.6",
        method=Takeover.on_claim,
        right="pass  # one winner: whoever asks again later is referred to it",
        wrong="""if asker == copy.term.owner:
            machine.send((asker,), m.Grant(key, copy.term, copy.backups, copy.data(machine.now)))""",
        scenario="grant_is_not_repeated_while_fencing",
        found_by="outcome asked`: 'a=1'",
    ),
    Mutant(
        name="gone is said when one member says so",
        rule="4.7 (ablated)",
        method=Rounds.evaluate,
        right="if not lookup.asked <= answers.keys():",
        wrong="if not answers:",
        plan="storm",
        found_by="said to be gone; nobody ended it|said to be gone",
    ),
    Mutant(
        name="a look-up that never asks the living primary",
        rule="4.7; Tomcat",
        method=Rounds.evaluate,
        right="primary = max(_having(held, Role.PRIMARY), default=None)",
        wrong="primary = None",
        plan="pairs",
        found_by="primaries|not settled|does not answer|is not served|differ|said to be gone|written twice",
    ),
    Mutant(
        name="gone is said though a member cannot be asked",
        rule="4.7 (ablated)",
        method=Rounds._found_nobody_active,
        right="or machine.membership.unaccounted()",
        wrong="",
        plan="majority",
        found_by="said to be gone|no order",
    ),
    Mutant(
        name="a round of WHO goes on when the session moves",
        rule="4.7",
        method=Rounds._found_nobody_active,
        right="location is not None and location != lookup.known",
        wrong="False",
        scenario="a_session_moves_to_who_has_answered",
        found_by="'gone'",
    ),
    Mutant(
        name="a round of WHO goes on when the membership changes",
        rule="4.7",
        method=Rounds.evaluate,
        right="frozenset(machine.membership.alive()) != lookup.asked",
        wrong="False",
        scenario="a_look_up_asks_who_came_meanwhile",
        found_by="'gone'",
    ),
    Mutant(
        name="ends are forgotten while a member is away",
        rule="5",
        method=Absence.tick,
        right="self._remembered_s if is_needed else 0.0",
        wrong="0.0",
        plan="absences",
        found_by="has ended, but",
    ),
    Mutant(
        name="a copy in doubt leaves without its news",
        rule="4.8",
        method=LookupDesk.found_primary,
        right="machine.send((primary,), m.Offer(key, copy.term, copy.data(machine.now)))",
        wrong="machine.drop_copy(key)",
        plan="forks",
        found_by="after all",
    ),
    Mutant(
        name="the news of a superseded copy are dropped",
        rule="4.9",
        method=Backing.on_put,
        right="if news and not data.tombstone:",
        wrong="if False:",
        scenario="superseded_copy_leaves_its_news",
        found_by="a=1 right=1",
    ),
    Mutant(
        name="an offer is taken and not merged",
        rule="4.9",
        method=Takeover.on_offer,
        right="replication.merge(copy, offer.data, life)",
        wrong="machine.send((life,), m.OfferOk(key))",
        plan="forks",
        found_by="after all",
    ),
)
