"""The failure detector at work: `swim` finds who is silent, this says what that means for the membership.

Whoever is a member and not accused is watched. A suspicion shows in the cluster view and keeps new copies away; a
silence is evidence for a vote. PING and PONG carry each node's status, so nothing else has to be sent to learn it.
"""

from typing import TYPE_CHECKING

from sessiond.core import messages as m
from sessiond.core.detection import Answered, Pace, Refuted, Silent, Suspected
from sessiond.core.effects import Send
from sessiond.core.swim import Swim
from sessiond.core.types import Life

if TYPE_CHECKING:
    from sessiond.core.machine import Machine


class Probing:
    def __init__(self, machine: "Machine") -> None:
        self._machine = machine
        options = machine.options
        pace = Pace(
            probe_interval_s=options.probe_interval_s,
            probe_timeout_s=options.probe_timeout_s,
            silence_timeout_s=options.silence_timeout_s,
            awareness_max=options.awareness_max,
        )
        self._swim = Swim(machine.life, pace, machine.status, machine.rng, machine.now)

    def watch(self, life: Life) -> None:
        self._swim.add(life, self._machine.now)

    def forget(self, life: Life) -> None:
        """This life is over, or accused: a voter answers it no more."""
        self._swim.remove(life)

    def begin_life(self) -> None:
        self._swim.begin_life(self._machine.life, self._machine.now)
        self._act()

    def ask(self, lives: tuple[Life, ...]) -> None:
        """PING these out of turn: they hear this node's status now, and it hears theirs."""
        for life in lives:
            self._swim.ping(life, self._machine.now)
        self._act()

    def heard(self, life: Life) -> None:
        if self._swim.heard(life, self._machine.now):
            self._act()

    def on_probe(self, life: Life, message: m.Ping | m.Pong) -> None:
        self._machine.membership.status_told(life, message.status, self._machine.now)
        self.on_message(life, message)

    def on_message(self, life: Life, message: m.Ping | m.Pong | m.PingRequest | m.Relayed) -> None:
        self._swim.receive(life, message, self._machine.now)
        self._act()
        self._machine.due(self._swim.next_deadline())

    def overslept_since(self, at: float) -> bool:
        """Whether this node was late itself since then, so that what it missed says nothing about others."""
        return self._swim.overslept_since(at, self._machine.now)

    def lease_gained(self) -> None:
        """Votes count again: those that this node could not cast meanwhile."""
        for life in self._swim.silent():
            self._machine.membership.accuse(
                life, "silent, also before this node held the lease", certain=False
            )

    def tick(self, now: float) -> None:
        self._swim.tick(now)
        self._act()

    def next_deadline(self) -> float:
        return self._swim.next_deadline()

    def _act(self) -> None:
        machine = self._machine
        for effect in self._swim.take_effects():
            match effect:
                case Send():
                    machine.emit(effect)
                case Suspected(life, _):
                    machine.membership.suspect(life, suspected=True)
                case Refuted(life):
                    machine.membership.suspect(life, suspected=False)
                case Silent(life, silent_s, _):
                    machine.membership.accuse(life, f"silent for {silent_s:.1f} s", certain=False)
                case Answered(life, _):
                    machine.admission.pong(life)

    def check_invariants(self) -> None:
        self._swim.check_invariants()
