"""Who does not answer: SWIM's failure detector with Lifeguard, knowing nothing of sessions, links or votes.

Once in a probe period a node sends PING to one member, in a random round-robin. No sign of life in time: k
others are asked to ping on its behalf. None by the end of the period: the member is *suspected*, and rumours
on the PINGs and PONGs of the next periods tell everybody, the accused too, which refutes by saying that it
lives with a higher refutation number. A suspicion that runs out becomes `Silent`: evidence, not a death; what
follows from it is decided by the caller. Das, Gupta, Motivala: "SWIM", 2002; Dadgar et al.: "Lifeguard", 2018.

Invariants. A life is `Silent` only if for `silence_timeout_s` of this node's own *waking* time there was no
sign of it, direct or through a peer; if its suspicion was not refuted; and if this node itself has asked it
since without an answer: nobody is silent by hearsay. A node sends a bounded number of messages per period and
looks at no more than the suspected members, whatever the size of the cluster.

Verbs: `receive` and `heard`, `tick`, `next_deadline`, `take_effects`; `add` and `remove` say who is a member.
After each verb `next_deadline` may have come nearer. A `tick` much later than it makes this node doubt itself
(`waking`, `awareness`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from sessiond.core import messages as m
from sessiond.core.awareness import Awareness
from sessiond.core.detection import Answered, Effect, Pace, Refuted, Silent, Suspected
from sessiond.core.effects import Send
from sessiond.core.errands import Errand, Errands
from sessiond.core.gossip import QUEUE_MAX, Gossip
from sessiond.core.rota import Rota
from sessiond.core.suspicion import Suspicion
from sessiond.core.types import Life
from sessiond.core.waking import WakingClock

RELAYS = 3
"""Members asked to ping on behalf of one that got no answer: with 5 % loss the chance that all fail is 1 in 150."""

VERIFIERS = 10
"""About so many members probe an accused next, whatever the size: confirmations come soon, and not from thousands."""

ASKED_KEPT_S = 5.0
"""A PONG later than this is a sign of life, but no longer tells when its PING was sent."""


@dataclass(slots=True)
class _Member:
    heard_at: float
    number: int = 0
    """Its highest refutation number known here."""

    suspicion: Suspicion | None = None
    accusation: m.Rumour | None = None
    """What the member itself is told until it refutes that; may outlive the suspicion."""


@dataclass(slots=True)
class _Probe:
    """The probe of this period; over once its member was heard of."""

    life: Life
    number: int
    since: float
    relay_at: float
    relays: int = 0
    answers_of_relays: int = 0


class Swim:
    def __init__(
        self, life: Life, pace: Pace, status: Callable[[], m.Status], rng: Random, now: float
    ) -> None:
        """`status`: what this node says of itself on every PING and PONG."""
        self.life = life
        self.awareness = Awareness(pace.awareness_max)
        """Every sign that this node is unwell: what it holds against others waits so much longer."""

        self.lateness = Awareness(pace.awareness_max)
        """Only its own late timers, which are not the network's fault: it probes so much more slowly. A node that is
        merely cut off would else look for the others ever more slowly, and they could go on long before it."""

        self._pace = pace
        self._status = status
        self._clock = WakingClock()
        self._rota = Rota(rng)
        self._rng = rng
        self._gossip = Gossip()
        self._members: dict[Life, _Member] = {}
        self._suspected: dict[Life, Suspicion] = {}
        self._refutation = 0
        self._number = 0
        self._asked: dict[int, tuple[Life, float]] = {}
        self._errands = Errands()
        self._probe: _Probe | None = None
        # Nodes that start together spread out.
        self._period_ends_at = now + rng.random() * pace.probe_interval_s
        self._effects: list[Effect] = []
        self._now = now

    # --- who is a member ----------------------------------------------------------------------------

    def add(self, life: Life, now: float) -> None:
        """Watch this life from now on; its silence counts from here."""
        if life not in self._members and life != self.life:
            self._members[life] = _Member(self._clock.reading(now))
            self._rota.add(life)

    def remove(self, life: Life) -> None:
        """Its life is over, or nobody cares any more; what comes from it is ignored."""
        if self._members.pop(life, None) is not None:
            self._rota.remove(life)
            self._suspected.pop(life, None)
            self._gossip.forget(life)
            if self._probe is not None and self._probe.life == life:
                self._probe = None

    def begin_life(self, life: Life, now: float) -> None:
        """This node goes on under another life, with new links: everybody's silence counts from here."""
        self._wake(now)
        self._gossip.forget(self.life)
        self.life = life
        self._refutation = 0
        self._probe = None
        self._asked.clear()
        self._errands = Errands()
        for other, member in self._members.items():
            self._sign_of_life(other, member, now)

    def is_suspected(self, life: Life) -> bool:
        return life in self._suspected

    def silent(self) -> list[Life]:
        """Those that were declared silent, and are still members."""
        return [life for life, suspicion in self._suspected.items() if suspicion.has_fired]

    def overslept_since(self, at: float, now: float) -> bool:
        """Whether this node has slept since then for longer than a healthy one: what it missed is its own fault."""
        self._wake(now)
        return self._clock.overslept_at >= at

    # --- verbs --------------------------------------------------------------------------------------

    def heard(self, life: Life, now: float) -> bool:
        """Anything at all came from this life. Whether that is news, for which effects are to be taken."""
        self._wake(now)
        member = self._members.get(life)
        if member is not None:
            self._sign_of_life(life, member, now)
        return bool(self._effects)

    def receive(self, life: Life, message: m.Ping | m.Pong | m.PingRequest | m.Relayed, now: float) -> None:
        """A message of the detector's own came from this life. Of a stranger nothing is believed or answered."""
        if life not in self._members:
            return
        self.heard(life, now)
        match message:
            case m.Ping():
                self._believe(message.rumours, now)
                self._send(life, m.Pong(message.number, self._status(), self._rumours_for(life)))
            case m.Pong():
                self._believe(message.rumours, now)
                self._on_pong(life, message.number)
            case m.PingRequest():
                self._on_request(life, message, now)
            case m.Relayed():
                self._on_relayed(message, now)

    def ping(self, life: Life, now: float) -> None:
        """Ask a member out of turn, for the caller's own reasons; its PONG is `Answered`."""
        if life in self._members:
            self._ping(life, now)

    def tick(self, now: float) -> None:
        """Do what time asks for. Early calls do no harm; late ones are noticed."""
        self._wake(now)
        if self._clock.may_judge(now):
            self._end_errands(now)
            self._end_suspicions(now)
            self._step_probe(now)

    def next_deadline(self) -> float:
        """When `tick` wants to be called; a call much later than what was said last is a late one.

        At least once in a usual period, however long this one is: a node that doubts itself notices its naps too.
        """
        readings = [min(self._period_ends_at, self._clock.reading(self._now) + self._pace.probe_interval_s)]
        if self._probe is not None and self._wants_relays(self._probe):
            readings.append(self._probe.relay_at)
        if (errand := self._errands.oldest) is not None:
            readings.append(errand.until)
        readings += [self._due_at(life, suspicion) for life, suspicion in self._suspected.items()]
        at = self._clock.wake_at(min(readings))
        self._clock.expect(max(at, self._now))
        return at

    def take_effects(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    # --- own probes ---------------------------------------------------------------------------------

    def _step_probe(self, now: float) -> None:
        probe = self._probe
        if probe is not None and self._wants_relays(probe) and self._clock.has_come(probe.relay_at, now):
            self._ask_relays(probe)
        if not self._clock.has_come(self._period_ends_at, now):
            return
        if probe is not None:
            self._judge(probe, now)
        self._begin_period(now)

    def _begin_period(self, now: float) -> None:
        at, doubt = self._clock.reading(now), self.lateness.multiplier
        self._period_ends_at = at + self._pace.probe_interval_s * doubt
        life = self._rota.next()
        self._probe = None
        if life is not None:
            self._probe = _Probe(life, self._ping(life, now), at, at + self._pace.probe_timeout_s * doubt)

    def _ask_relays(self, probe: _Probe) -> None:
        probe.relay_at = math.inf
        candidates = self._rota.sample(2 * RELAYS + 1)  # enough to leave out the few that are suspected
        for relay in [r for r in candidates if r != probe.life and r not in self._suspected][:RELAYS]:
            probe.relays += 1
            self._send(relay, m.PingRequest(probe.number, probe.life))

    def _wants_relays(self, probe: _Probe) -> bool:
        return probe.relay_at < math.inf and not self._is_answered(probe)

    def _is_answered(self, probe: _Probe) -> bool:
        return self._members[probe.life].heard_at >= probe.since

    def _judge(self, probe: _Probe, now: float) -> None:
        """The period is over: the member was heard of, or is suspected."""
        if self._is_answered(probe):
            self.awareness.improve()
            self.lateness.improve()
            return
        # A relay answers in time whatever became of its ping; if it does not, the fault may be here.
        self.awareness.worsen(probe.relays - probe.answers_of_relays)
        life, member = probe.life, self._members[probe.life]
        if member.suspicion is None:
            self._suspect(m.Rumour(life, member.number, (self.life,)), now)
        else:
            self._confirm(life, member.suspicion, (self.life,))
        self._suspected[life].is_tried = True

    def _ping(self, life: Life, now: float) -> int:
        self._number += 1
        while self._asked:
            oldest = next(iter(self._asked))
            if now - self._asked[oldest][1] <= ASKED_KEPT_S:
                break
            del self._asked[oldest]
        self._asked[self._number] = (life, now)
        self._send(life, m.Ping(self._number, self._status(), self._rumours_for(life)))
        return self._number

    def _on_pong(self, life: Life, number: int) -> None:
        asked, asked_at = self._asked.get(number, (None, 0.0))
        if asked != life:
            return
        del self._asked[number]
        self._effects.append(Answered(life, asked_at))
        errand = self._errands.done(number)
        if errand is not None:
            self._send(errand.asker, m.Relayed(errand.number, life, answered=True))

    # --- probes on behalf of others -------------------------------------------------------------------

    def _on_request(self, asker: Life, request: m.PingRequest, now: float) -> None:
        if request.life in self._members and not self._errands.is_full:
            until = self._clock.reading(now) + self._pace.probe_timeout_s
            self._errands.begin(
                self._ping(request.life, now), Errand(asker, request.number, request.life, until)
            )
        else:
            self._send(asker, m.Relayed(request.number, request.life, answered=False))

    def _end_errands(self, now: float) -> None:
        while (errand := self._errands.oldest) is not None and self._clock.has_come(errand.until, now):
            self._errands.drop_oldest()
            self._send(errand.asker, m.Relayed(errand.number, errand.life, answered=False))

    def _on_relayed(self, message: m.Relayed, now: float) -> None:
        member, probe = self._members.get(message.life), self._probe
        if member is not None and message.answered:
            self._sign_of_life(message.life, member, now)
        elif probe is not None and probe.number == message.number:
            probe.answers_of_relays += 1

    # --- suspicions -----------------------------------------------------------------------------------

    def _suspect(self, accusation: m.Rumour, now: float) -> None:
        life = accusation.life
        member = self._members[life]
        was_suspected = member.suspicion is not None
        member.number = accusation.number
        member.accusation = accusation
        suspicion = Suspicion(
            accusation.number,
            self._clock.reading(now),
            others=len(self._members),
            interval_s=self._pace.probe_interval_s,
        )
        member.suspicion = self._suspected[life] = suspicion
        self._confirm(life, suspicion, accusation.accusers)
        if self.life in accusation.accusers or self._rng.random() * len(self._members) < VERIFIERS:
            self._rota.put_first(life)
        if not was_suspected:
            self._effects.append(Suspected(life, accusation.accusers))

    def _confirm(self, life: Life, suspicion: Suspicion, accusers: tuple[Life, ...]) -> None:
        if suspicion.confirm(accusers):
            self._gossip.add(m.Rumour(life, suspicion.number, suspicion.accusers))

    def _sign_of_life(self, life: Life, member: _Member, now: float) -> None:
        member.heard_at = self._clock.reading(now)
        if member.suspicion is not None:
            member.suspicion = None
            del self._suspected[life]
            self._rota.take_back(life)
            self._effects.append(Refuted(life))

    def _end_suspicions(self, now: float) -> None:
        for life, suspicion in list(self._suspected.items()):
            if not self._clock.has_come(self._due_at(life, suspicion), now):
                continue
            if suspicion.is_tried or suspicion.last_call_at is not None:
                suspicion.has_fired = True
                silent_s = self._silence_s(self._members[life], now)
                self._effects.append(Silent(life, silent_s, suspicion.accusers))
            else:
                suspicion.last_call_at = self._clock.reading(now)
                self._ping(life, now)

    def _due_at(self, life: Life, suspicion: Suspicion) -> float:
        """When something is to be done about a suspicion, by the waking clock."""
        if suspicion.has_fired:
            return math.inf
        if suspicion.last_call_at is not None:
            return suspicion.last_call_at + self._pace.probe_timeout_s * self.lateness.multiplier
        witnesses = len(self._members) - len(self._suspected)
        return max(
            suspicion.since + suspicion.patience_s(self.awareness.multiplier, witnesses),
            self._members[life].heard_at + self._pace.silence_timeout_s,
        )

    def _silence_s(self, member: _Member, now: float) -> float:
        """For how long nothing was heard of a member, by the waking clock."""
        return self._clock.reading(now) - member.heard_at

    # --- rumours --------------------------------------------------------------------------------------

    def _rumours_for(self, life: Life) -> tuple[m.Rumour, ...]:
        """What to tell this member: first of all that it is accused itself (Lifeguard's buddy system).

        A suspected one is told nothing else: each rumour is sent a few times only, and it may hear none.
        """
        accusation = self._members[life].accusation
        own = () if accusation is None else (accusation,)
        return own if life in self._suspected else (*own, *self._gossip.take(len(self._members)))

    def _believe(self, rumours: tuple[m.Rumour, ...], now: float) -> None:
        for rumour in rumours:
            member = self._members.get(rumour.life)
            if rumour.life == self.life:
                self._refute(rumour)
            elif member is None or rumour.number < member.number:
                continue
            elif rumour.accusers:
                self._accused(rumour, member, now)
            elif rumour.number > member.number:
                member.number = rumour.number
                member.accusation = None
                self._gossip.add(rumour)
                self._sign_of_life(rumour.life, member, now)

    def _accused(self, accusation: m.Rumour, member: _Member, now: float) -> None:
        suspicion = member.suspicion
        if suspicion is not None and accusation.number == suspicion.number:
            self._confirm(accusation.life, suspicion, accusation.accusers)
        elif suspicion is not None or self._silence_s(member, now) >= self._pace.probe_interval_s:
            self._suspect(accusation, now)
        # Else it was heard of just now, which is better evidence than hearsay: the rumour ends here.

    def _refute(self, accusation: m.Rumour) -> None:
        """Somebody cannot reach this node, which may well be this node's fault."""
        if not accusation.accusers:
            return
        if accusation.number >= self._refutation:
            self._refutation = accusation.number + 1
            self.awareness.worsen()
        self._gossip.add(m.Rumour(self.life, self._refutation, ()))

    # --- the rest -------------------------------------------------------------------------------------

    def _send(self, to: Life, message: m.Message) -> None:
        self._effects.append(Send((to,), message))

    def _wake(self, now: float) -> None:
        self._now = now
        if self._pace.awareness_max and self._clock.wake(now):
            self.awareness.worsen()
            self.lateness.worsen()

    def check_invariants(self) -> None:
        """What must hold after every verb; for tests."""
        self._rota.check_invariants()
        assert len(self._gossip) <= QUEUE_MAX
        assert len(self._rota) == len(self._members)
        assert self.life not in self._members, "a node does not watch itself"
        self._errands.check_invariants()
        assert self._suspected == {life: x.suspicion for life, x in self._members.items() if x.suspicion}
        for life, suspicion in self._suspected.items():
            assert suspicion.number == self._members[life].number, "a refuted suspicion goes on"
            assert suspicion.accusers, "a suspicion without an accuser"
            assert not suspicion.has_fired or suspicion.is_tried or suspicion.last_call_at is not None
        assert self._probe is None or self._probe.life in self._members
