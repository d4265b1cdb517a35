"""Who may have a link: one living process for each name, in a life that has not ended.

Two processes may claim one name: a restarted node whose old life is not known to be over, or a mistake. The
holder is asked whether it lives; it answers, and the newcomer is refused for good; it does not, and it is
buried. Of two that meet directly, the one that has not joined yet is the newcomer.

Nor does a node get in whose settings differ where the whole cluster must have the same ones.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sessiond.core.effects import Admission, JoinRefusedForGood
from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.core.options import PROBE_WAIT_S
from sessiond.core.types import Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine
    from sessiond.core.members import Member


COMMON_SETTINGS = ("quorum", "location")
"""What each node says of its settings and all nodes must agree on; named as the options of the command line."""


@dataclass(slots=True)
class _Pending:
    """A newcomer waits while the holder of its name is probed."""

    identity: Identity
    deadline: float
    numbers: list[int] = field(default_factory=list)


class AdmissionDesk:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        self._pending: dict[str, _Pending] = {}

    def next_deadline(self) -> float | None:
        return min((waiting.deadline for waiting in self._pending.values()), default=None)

    def tick(self, now: float) -> None:
        membership = self._machine.membership
        for name, waiting in list(self._pending.items()):
            if now >= waiting.deadline:
                why = "another process took its name and it did not answer"
                waiting.deadline = (
                    now + PROBE_WAIT_S
                )  # under `majority` it is over only when others say so too
                membership.accuse(membership.life_of(name), why, certain=False)

    def life_ended(self, name: str) -> bool:
        """The holder of a name is dead: a newcomer that waited for that comes in. Whether there was one."""
        waiting = self._pending.pop(name, None)
        if waiting is not None:
            self._answer(waiting, self._verdict(waiting.identity))
        return waiting is not None

    def admit(self, number: int, identity: Identity, now: float) -> None:
        """Somebody has proven to belong to the cluster and says who it is; answered by an `Admission`."""
        life = identity.life
        differing = self._settings_that_differ(identity)
        if differing is not None:
            self._machine.log(
                "warning",
                "join.settings_differ",
                peer=life.name,
                address=identity.cluster,
                detail=differing.detail,
            )
            if not self._machine.membership.joined:
                self._machine.emit(JoinRefusedForGood(differing, identity.cluster))
            self._machine.emit(Admission(number, differing))
            return
        holder = self._machine.membership.members.get(life.name)
        if self._is_another_process(holder, identity) and holder is not None:
            # Two processes with one name: the one that is here already is asked whether it lives.
            waiting = self._pending.get(life.name)
            if waiting is None:
                waiting = self._pending[life.name] = _Pending(identity, now + PROBE_WAIT_S)
                self._machine.probing.ask((holder.life,))
            if waiting.identity.boot_id == identity.boot_id:
                waiting.numbers.append(number)
            else:
                self._machine.emit(Admission(number, self._duplicate(life.name)))
            return
        self._machine.emit(Admission(number, self._verdict(identity)))

    def pong(self, life: Life) -> None:
        """The probed holder of a name lives."""
        waiting = self._pending.pop(life.name, None)
        if waiting is not None:
            self._machine.log(
                "warning", "join.duplicate_name", peer=life.name, address=waiting.identity.cluster
            )
            self._answer(waiting, self._duplicate(life.name))

    def _is_another_process(self, holder: "Member | None", identity: Identity) -> bool:
        """Whether the name is held by a life that may well go on, and is not the one that knocks."""
        if holder is None or not holder.is_alive or holder.identity is None:
            return False
        if holder.identity.boot_id == identity.boot_id:
            return False
        # Its link is gone and a newer process answers at its very address: the old one cannot be there too.
        return holder.linked or holder.address != identity.cluster

    def _verdict(self, identity: Identity) -> Refusal | None:
        life = identity.life
        if life.name == self._machine.life.name:
            return self._meet_namesake(identity)
        floor = self._machine.membership.dead_through(life.name)
        member = self._machine.membership.members.get(life.name)
        if member is not None and (member.life != life or member.accused):
            floor = max(floor, member.life.incarnation)
        if life.incarnation <= floor:
            seen = len(self._machine.membership.alive()) + 1
            return Refusal(RefusalCode.DEAD, f"{life} has been declared dead", floor, seen)
        return None

    def _meet_namesake(self, identity: Identity) -> Refusal:
        """Another process has this node's name. Of the two, the one that has not joined yet is the newcomer."""
        refusal = self._duplicate(identity.life.name)
        if not self._machine.membership.joined:
            self._machine.emit(JoinRefusedForGood(refusal, identity.cluster))
        return refusal

    def _settings_that_differ(self, identity: Identity) -> Refusal | None:
        mine = self._machine.identity
        for name in COMMON_SETTINGS:
            here, there = getattr(mine, name), getattr(identity, name)
            if here != there:
                return Refusal(
                    RefusalCode.SETTINGS,
                    f"{mine.life.name} runs with --{name} {here}, {identity.life.name} with --{name} {there}: "
                    f"start all nodes of a cluster with the same --{name}",
                )
        return None

    @staticmethod
    def _duplicate(name: str) -> Refusal:
        return Refusal(
            RefusalCode.DUPLICATE_NAME,
            f"a living node is named {name} already: give this one another --name, or stop the other first",
        )

    def _answer(self, waiting: _Pending, refusal: Refusal | None) -> None:
        for number in waiting.numbers:
            self._machine.emit(Admission(number, refusal))
