"""What goes wrong, and when: one failure at a time, each in a window of its own, and weather all the time.

A failure's window ends when the cluster has settled: only then does the protocol promise that the next one
costs nothing. Weather (links that break, stall or are half-open for less than the silence time-out) is no
failure in this sense and comes at any time.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, TypeAlias

from tests.sim.promises import Violation
from tests.sim.timeline import Story

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

Failing: TypeAlias = Generator[float, None, bool]
"""The story of a failure; returns whether anything failed, as there may be nothing that could."""

SETTLES_WITHIN_S = 20.0
"""Longest window of a failure; far above what detection, rejoining and protecting anew take together."""

BACK_AFTER_S = 8.0
"""Under `majority` nodes that are gone come back after this, if that is what is waited for."""

LOOK_INTERVAL_S = 0.05
DRAINED_WITHIN_S = 20.0
PAUSES = (0.2, 0.8, 1.6)
"""Lengths of pauses and partitions in silence time-outs: unnoticed, suspected, taken for dead."""

ABSENCES = (0.4, 0.7, 1.2, 2.0)
"""Lengths of absences in lifetimes of tombstones; half of one is where a node must doubt what it comes back with."""

AMID_S = 0.03
"""Longer than nearly all acks take: what is waited for has not arrived, and may never."""

AMID_LOOKS_MAX = 2000
"""So many milliseconds a fault waits for the moment that it wants."""

JUMP_MAX_S = 5.0
SLOW_TURN_MAX_S = 0.006
OUTAGE_MAX_S = 3.0
HALF_OPEN_MAX_S = 5.0


class Faults:
    def __init__(self, simulation: "Simulation") -> None:
        self._simulation = simulation
        self._network = simulation.network
        self._rng = simulation.faults_rng
        self.number = 0
        """How many failures there were."""

        self._kinds: dict[str, Callable[[], Failing]] = {
            "crash": self._crash,
            "restart": self._restart,
            "crash amid": self._crash_amid,
            "drain": self._drain,
            "pause": self._pause,
            "absence": self._absence,
            "slow": self._slow,
            "jump": self._jump,
            "reset": self._reset,
            "part": self._part,
            "part one way": self._part_one_way,
            "crash all": self._crash_all,
            "outage": self._outage,
        }

    def story(self) -> Story:
        """One failure after another until it is time to heal, and there has been enough to say something."""
        simulation, plan = self._simulation, self._simulation.plan
        yield 1.5
        while (
            simulation.timeline.now < plan.lasts_s
            or self.number < plan.faults_min
            or simulation.operations < plan.operations_min
        ):
            yield self._rng.uniform(0.0, 2.0)
            kind = self._rng.choice(plan.faults)
            has_failed = yield from self._kinds[kind]()
            if has_failed:
                self.number += 1
                self._count(kind)
            yield from self.window(f"after {kind}")
        simulation.is_over = True

    def window(self, after: str) -> Story:
        """Wait until the cluster has settled."""
        timeline = self._simulation.timeline
        began = timeline.now
        while (why := self._simulation.settlement.missing()) is not None:
            if timeline.now - began > SETTLES_WITHIN_S:
                raise Violation(f"not settled {SETTLES_WITHIN_S:.0f} s {after}: {why}")
            yield LOOK_INTERVAL_S
            if self._waits_for_the_missing and timeline.now - began > BACK_AFTER_S:
                self._simulation.boot_missing()
        self._tell(f"settled {timeline.now - began:.3f} s {after}")

    def _count(self, kind: str) -> None:
        self._simulation.book.count(f"fault.{kind}")

    def _tell(self, what: str) -> None:
        self._simulation.book.tell(self._simulation.timeline.now, "****", what)

    def _victim(self) -> str:
        return self._rng.choice(sorted(self._network.hosts))

    @property
    def _waits_for_the_missing(self) -> bool:
        """Under `majority` only who is missing may know better than a copy that is in doubt."""
        is_whole = len(self._network.hosts) == self._simulation.plan.nodes
        return self._simulation.plan.options.quorum == "majority" and not is_whole

    @property
    def _may_spare_one(self) -> bool:
        plan = self._simulation.plan
        return plan.nodes - len(self._network.hosts) < plan.down_max

    # --- of one node ----------------------------------------------------------------------------------

    def _crash(self) -> Failing:
        """A node dies; the next of this kind may bring it back, which is no failure."""
        simulation = self._simulation
        down = [name for name in simulation.names if name not in self._network.hosts]
        if down and (self._rng.random() < 0.6 or not self._may_spare_one):
            name = self._rng.choice(down)
            self._tell(f"boot {name}")
            simulation.boot(name)
            return False
        victim = self._victim()
        if victim not in simulation.app_names:
            return (yield from self._restarts(victim))
        self._tell(f"crash {victim}")
        simulation.crash(victim)
        yield 0.0
        return True

    def _restart(self) -> Failing:
        """A node dies and is back, empty, before or after the others have noticed."""
        return (yield from self._restarts(self._victim()))

    def _crash_amid(self) -> Failing:
        """A primary dies while answers have waited for its backups for a while."""
        for _ in range(AMID_LOOKS_MAX):
            busy = [host.name for host in self._network.hosts.values() if host.waits_for_s > AMID_S]
            if busy:
                break
            yield 0.001
        return (yield from self._restarts(self._rng.choice(busy) if busy else self._victim()))

    def _restarts(self, victim: str) -> Failing:
        self._tell(f"crash {victim}, restart soon")
        self._simulation.crash(victim)
        yield self._rng.choice((0.002, 0.05, 0.5))
        self._tell(f"boot {victim}")
        self._simulation.boot(victim)
        return True

    def _drain(self) -> Failing:
        if not self._may_spare_one:
            return False
        victim = self._victim()
        process = self._network.hosts[victim]
        self._tell(f"drain {victim}")
        process.enter(self, process.machine_drains)
        timeline = self._simulation.timeline
        began = timeline.now
        while not (process.machine.draining and process.machine.drained):
            if timeline.now - began > DRAINED_WITHIN_S:
                raise Violation(f"{victim} is not drained after {DRAINED_WITHIN_S:.0f} s")
            yield LOOK_INTERVAL_S
        self._tell(f"drained {victim}")
        process.enter(self, process.machine_leaves)
        yield 0.0
        process.exit()
        if self._rng.random() < 0.7 or victim not in self._simulation.app_names:
            yield self._rng.uniform(0.0, 1.0)
            self._simulation.boot(victim)
        return True

    def _pause(self) -> Failing:
        return (yield from self._stands_still(PAUSES, self._simulation.plan.options.silence_timeout_s))

    def _absence(self) -> Failing:
        """A node stands still for about as long as the others remember what ended meanwhile, or for longer."""
        return (yield from self._stands_still(ABSENCES, self._simulation.plan.options.tombstone_ttl_s))

    def _stands_still(self, lengths: tuple[float, ...], unit_s: float) -> Failing:
        victim = self._network.hosts[self._victim()]
        seconds = self._rng.choice(lengths) * unit_s
        self._tell(f"pause {victim.name} for {seconds:.2f} s")
        victim.pause()
        yield seconds
        self._tell(f"resume {victim.name}")
        victim.resume()
        return True

    def _slow(self) -> Failing:
        victim = self._network.hosts[self._victim()]
        victim.turn_s = self._rng.uniform(0.001, SLOW_TURN_MAX_S)
        self._tell(f"slow {victim.name}: {victim.turn_s:.4f} s a turn")
        yield self._rng.uniform(0.5, 3.0)
        victim.turn_s = 0.0
        return True

    def _jump(self) -> Failing:
        victim = self._network.hosts[self._victim()]
        seconds = self._rng.uniform(0.05, JUMP_MAX_S)
        self._tell(f"the clock of {victim.name} jumps {seconds:.2f} s")
        self._simulation.jump(victim, seconds)
        yield 0.0
        return True

    # --- of everything --------------------------------------------------------------------------------

    def _crash_all(self) -> Failing:
        """Every process dies at once: what was promised is in the store."""
        simulation = self._simulation
        self._tell("crash all")
        for name in sorted(self._network.hosts):
            simulation.crash(name)
        names = list(simulation.names)
        self._rng.shuffle(names)
        for name in names:
            yield self._rng.choice((0.0, 0.01, 0.3))
            self._tell(f"boot {name}")
            simulation.boot(name)
        return True

    def _outage(self) -> Failing:
        """The store refuses everything for a while, or stands still."""
        store = self._simulation.store
        assert store is not None, "a plan with this fault has a store"
        seconds = self._rng.uniform(0.05, OUTAGE_MAX_S)
        if self._rng.random() < 0.5:
            self._tell(f"the store fails for {seconds:.2f} s")
            store.fail(seconds)
        else:
            self._tell(f"the store stands still for {seconds:.2f} s")
            store.stall(seconds)
        yield seconds
        return True

    # --- of the network -------------------------------------------------------------------------------

    def _reset(self) -> Failing:
        links = self._network.links()
        if links:
            self._network.reset(self._rng.choice(links))
        yield 0.0
        return bool(links)

    def _part(self) -> Failing:
        return (yield from self._cut(both_ways=True))

    def _part_one_way(self) -> Failing:
        return (yield from self._cut(both_ways=False))

    def _cut(self, *, both_ways: bool) -> Failing:
        """Nodes and balancers fall into two groups that do not reach each other, or one does not the other."""
        hosts = [*self._simulation.names, *self._simulation.balancers]
        self._rng.shuffle(hosts)
        at = self._rng.randint(1, len(hosts) - 1)
        seconds = self._rng.choice((0.5, 2.0, 5.0)) * self._simulation.plan.options.silence_timeout_s
        arrow = "|" if both_ways else "->"
        self._tell(f"cut {' '.join(hosts[:at])} {arrow} {' '.join(hosts[at:])} for {seconds:.2f} s")
        self._network.part(hosts[:at], hosts[at:], both_ways=both_ways)
        yield seconds
        self._tell("heal")
        self._network.heal()
        return True

    def weather(self) -> Story:
        """Links break, half or whole, and stall."""
        simulation, rng, network = self._simulation, self._rng, self._network
        plan = simulation.plan
        longest_s = plan.options.silence_timeout_s / 3
        while not simulation.is_over:
            yield rng.expovariate(1.0 / plan.weather_s)
            links = network.links()
            if not links:
                continue
            end = rng.choice(links)
            assert end.other is not None, "a link has two ends"
            kind = rng.choice(("reset", "half-open", "stall", "stall"))
            self._count(kind)
            pair = f"{end.owner.name} {end.other.owner.name}"
            self._tell(f"{kind} {pair}")
            if kind == "reset":
                network.reset(end)
            elif kind == "half-open":
                network.half_open(end, simulation.timeline.now + rng.uniform(0.1, HALF_OPEN_MAX_S))
            else:
                network.stall(end.owner.name, end.other.owner.name, rng.uniform(0.0, longest_s))
