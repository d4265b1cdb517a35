"""Many failure detectors on virtual time, with nothing around them: one heap of events, one seed.

Links are worse than those of a real cluster: any message may be lost (`loss`), and messages pass each other.
A node's loop takes turns; a *starved* one sleeps so long between two of them, then runs its timers first and
reads afterwards, as an event loop does. A stopped node does nothing and answers nothing.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random

from sessiond.core import codec
from sessiond.core import messages as m
from sessiond.core.detection import Answered, Pace, Refuted, Silent, Suspected
from sessiond.core.effects import Send
from sessiond.core.swim import Swim
from sessiond.core.types import Life

STATUS = m.Status(joined=True, draining=False, full=False, primaries=10, backups=10, unprotected=0)
DELAY_S = (0.0002, 0.002)
"""Least and most that a message takes."""


@dataclass(slots=True, eq=False)
class Bird:
    """One node: its detector, what it has found, what it has sent."""

    swim: Swim
    inbox: list[tuple[Life, m.Message]] = field(default_factory=list)
    turn_s: Callable[[], float] | None = None
    """How long a starved loop sleeps between turns; None: it wakes whenever something is to be done."""

    turn_at: float = 0.0
    stopped: bool = False
    armed_at: float | None = None
    suspected: Counter[Life] = field(default_factory=Counter)
    silent: dict[Life, float] = field(default_factory=dict)
    """When this node declared a life silent; gone again if that life is heard of."""

    silences_of: Counter[Life] = field(default_factory=Counter)
    answered: list[Answered] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)
    bytes: int = 0


class Flock:
    """`size` nodes that all know each other."""

    def __init__(
        self,
        size: int,
        *,
        seed: int = 1,
        loss: float = 0.0,
        pace: Pace | None = None,
        checked: bool = True,
        decoded: bool = True,
    ) -> None:
        """`checked`: invariants after every verb. `decoded`: every message goes through the codec both ways."""
        self.now = 1000.0
        self.loss = loss
        self.rng = Random(seed)
        self.cut: set[tuple[Life, Life]] = set()
        """Directed: what the first sends never reaches the second."""

        self._checked = checked
        self._decoded = decoded
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()
        self.lives = [Life(f"node{number}", 1_790_000_000_000 + number) for number in range(1, size + 1)]
        self.birds = {
            life: Bird(Swim(life, pace or Pace(), lambda: STATUS, Random(self.rng.random()), self.now))
            for life in self.lives
        }
        for life, bird in self.birds.items():
            for other in self.lives:
                if other != life:
                    bird.swim.add(other, self.now)
            self._settle(bird)

    def __getitem__(self, number: int) -> Bird:
        """node1 is 1."""
        return self.birds[self.lives[number - 1]]

    # --- faults -------------------------------------------------------------------------------------

    def stop(self, life: Life) -> None:
        self.birds[life].stopped = True

    def resume(self, life: Life) -> None:
        bird = self.birds[life]
        bird.stopped = False
        self._take_turn(bird)

    def starve(self, life: Life, turn_s: Callable[[], float]) -> None:
        bird = self.birds[life]
        bird.turn_s = turn_s
        self._sleep(bird)

    # --- time ---------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = end

    def run_until(self, condition: Callable[[], bool], at_most: float) -> float:
        """Run until the condition holds; how long that took."""
        start = self.now
        while not condition():
            assert self.now - start < at_most, f"not within {at_most} s"
            self.run(0.01)
        return self.now - start

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._serial), event))

    # --- loops --------------------------------------------------------------------------------------

    def _take_turn(self, bird: Bird) -> None:
        """Timers, then what has arrived: the order that is worse for a late loop."""
        if bird.swim.next_deadline() <= self.now:
            bird.swim.tick(self.now)
            self._settle(bird)
        arrived, bird.inbox = bird.inbox, []
        for sender, message in arrived:
            bird.swim.receive(sender, message, self.now)
            self._settle(bird)

    def _sleep(self, bird: Bird) -> None:
        def wake() -> None:
            if bird.turn_s is not None:
                if not bird.stopped:
                    self._take_turn(bird)
                self._sleep(bird)

        assert bird.turn_s is not None
        self._at(self.now + bird.turn_s(), wake)

    def _settle(self, bird: Bird) -> None:
        """Carry out what the last verb asks for."""
        if self._checked:
            bird.swim.check_invariants()
        for effect in bird.swim.take_effects():
            match effect:
                case Send(to, message):
                    self._send(bird, to, message)
                case Suspected(life, _):
                    bird.suspected[life] += 1
                case Refuted(life):
                    bird.silent.pop(life, None)
                case Silent(life, _, _):
                    bird.silent[life] = self.now
                    bird.silences_of[life] += 1
                case Answered():
                    bird.answered.append(effect)
        deadline = bird.swim.next_deadline()
        if bird.armed_at is None or deadline < bird.armed_at:
            bird.armed_at = deadline
            self._at(max(deadline, self.now), lambda: self._ring(bird, deadline))

    def _ring(self, bird: Bird, armed_at: float) -> None:
        if bird.armed_at != armed_at:
            return  # armed anew meanwhile
        bird.armed_at = None
        if bird.stopped or bird.turn_s is not None:
            return
        bird.swim.tick(self.now)
        self._settle(bird)

    def _send(self, bird: Bird, to: tuple[Life, ...], message: m.Message) -> None:
        frame = codec.encode(message)
        if self._decoded:
            message = codec.decode(frame)
        for life in to:
            bird.messages[type(message).__name__] += 1
            bird.bytes += len(frame)
            if (bird.swim.life, life) not in self.cut and self.rng.random() >= self.loss:
                self._at(
                    self.now + self.rng.uniform(*DELAY_S), lambda life=life: self._arrive(bird, life, message)
                )

    def _arrive(self, sender: Bird, life: Life, message: m.Message) -> None:
        bird = self.birds[life]
        if bird.stopped or bird.turn_s is not None:
            bird.inbox.append((sender.swim.life, message))
        else:
            bird.swim.receive(sender.swim.life, message, self.now)
            self._settle(bird)

    # --- what was found -----------------------------------------------------------------------------

    def others(self, life: Life) -> Iterator[Bird]:
        return (bird for other, bird in self.birds.items() if other != life and not bird.stopped)

    def know_silent(self, life: Life) -> int:
        """How many of the others hold this life for silent."""
        return sum(life in bird.silent for bird in self.others(life))

    def all_know(self, life: Life) -> bool:
        return all(life in bird.silent for bird in self.others(life))

    def suspicions(self, by: Life | None = None) -> int:
        """Suspicions raised, by one node or by all."""
        birds = self.birds.values() if by is None else [self.birds[by]]
        return sum(sum(bird.suspected.values()) for bird in birds)

    def silences(self) -> int:
        return sum(bird.silences_of.total() for bird in self.birds.values())
