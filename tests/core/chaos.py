"""Random interleavings of messages, requests and faults over `World`, from one seed.

Messages are delivered one at a time, from a random link; links stall and break at random moments; clients
check every answer against what was promised (`clients`). One node at a time crashes, restarts, leaves or
stands still, the next one when the sessions are protected again: what the protocol promises under `any`.
"""

from dataclasses import dataclass, field
from typing import NoReturn

from sessiond.core import codec
from sessiond.core.copies import Role
from sessiond.core.options import Options
from sessiond.core.types import Life, Stamp
from tests.core.clients import Client, Expected, Violation
from tests.core.world import World

SETTLED_WITHIN_S = 60.0
ANSWERED_WITHIN_S = 20.0
"""No operation may wait longer, whatever happens: far above request_wait_s and silence_timeout_s."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is made of. Times are short, so that timers meet messages often."""

    nodes: int = 4
    sessions: int = 3
    faults: int = 4
    kinds: tuple[str, ...] = ("kill", "kill", "restart", "reset", "drain")
    unrest: float = 0.0
    """Chance that a step breaks a link, or stalls one direction of it for less than the silence timeout."""

    up_min: int = 2
    """Nodes that stay up whatever happens."""

    ends_sessions: bool = False
    strict: bool = True
    """Whether every answer must be right; if not, only what the cluster comes to in the end."""

    options: Options = field(
        default_factory=lambda: Options(tenure_min_s=0.01, request_wait_s=3.0, reprotect_delay_s=0.3)
    )


class ChaosWorld(World):
    """Delivers nothing by itself: `step` does, one message at a time."""

    quiet = False

    def __init__(self, options: Options, seed: int) -> None:
        super().__init__(options, seed)
        self.stalled: dict[tuple[frozenset[Life], Life], float] = {}
        """Directions of links, and until when nothing passes them."""

    def settle(self) -> None:
        if self.quiet:
            super().settle()
        else:
            self._act()

    def step(self) -> None:
        """Deliver one message, or let a little time pass."""
        self._act()
        waiting = [
            (pair, life)
            for pair, queues in self.links.items()
            for life, queue in queues.items()
            if queue and self._may_arrive(pair, life)
        ]
        if waiting and self.rng.random() < 0.9:
            pair, life = self.rng.choice(sorted(waiting, key=lambda entry: (sorted(entry[0]), entry[1])))
            process = self._of_life(life)
            assert process is not None
            (sender,) = pair - {life}
            process.machine.receive(sender, codec.decode(self.links[pair][life].popleft()), self.now)
            process.machine.check_invariants()
        else:
            self.now += self.rng.choice((0.0005, 0.002, 0.01))
            for process in list(self.processes.values()):
                if not process.stopped and process.machine.next_deadline() <= self.now:
                    process.machine.tick(self.now)
                    process.machine.check_invariants()
        self._act()

    def _may_arrive(self, pair: frozenset[Life], life: Life) -> bool:
        process = self._of_life(life)
        if process is None or process.stopped or self.stalled.get((pair, life), 0.0) > self.now:
            return False
        (sender,) = pair - {life}
        origin = self._of_life(sender)
        return origin is None or not self._is_cut(process, origin)

    def disturb(self) -> None:
        """Break a link, or stall one direction of it, for less than the silence that is taken for death."""
        links = sorted(self.links, key=sorted)
        if not links:
            return
        pair = self.rng.choice(links)
        names = sorted(life.name for life in pair)
        if self.rng.random() < 0.3:
            self.reset(*names)
            return
        life = self.rng.choice(sorted(pair))
        silence_s = self.options.silence_timeout_s
        if self.stalled.get((pair, life), 0.0) < self.now - silence_s:
            self.stalled[pair, life] = self.now + self.rng.random() * silence_s / 2


class Run:
    """One seed's story."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.seed = seed
        self.plan = plan or Plan()
        self.world = ChaosWorld(self.plan.options, seed)
        self.rng = self.world.rng
        self.names = [f"node{i + 1}" for i in range(self.plan.nodes)]
        self.clients: list[Client] = []
        self.creators: list[Client] = []
        self.expected: list[Expected] = []
        self.sessions = 0
        self.faults = 0
        self.counts: dict[str, int] = {}
        self.written: dict[tuple[bytes, str, Stamp], bytes | None] = {}

    def fail(self, why: object) -> NoReturn:
        raise Violation(f"seed {self.seed} at {self.world.now:.4f}: {why}{self.describe()}")

    def run(self) -> dict[str, int]:
        """The whole story; what happened how often. Raises Violation."""
        world = self.world
        world.quiet = True
        world.boot(*self.names)
        world.run(1.0)
        world.quiet = False
        for _ in range(self.plan.sessions):
            self.new_session()
        self.steps(300)
        if any(expected.counts.get("failed") for expected in self.expected):
            self.fail("a request failed in a healthy cluster")
        for _ in range(self.plan.faults):
            self.steps(self.rng.randint(50, 400))
            self.fault()
            self.steps(self.rng.randint(0, 300))
            self.until_protected()
        self.finish()
        for expected in self.expected:
            for what, number in expected.counts.items():
                self.counts[what] = self.counts.get(what, 0) + number
        self.counts["faults"] = self.faults
        return self.counts

    def new_session(self) -> None:
        """Begin to make a session at a random node; it counts, and gets its clients, once that is acknowledged."""
        world = self.world
        self.sessions += 1
        expected = Expected(
            self.sessions.to_bytes(2) * 8,
            self.plan.options.idle_timeout_s,
            world.now,
            strict=self.plan.strict,
        )
        creator = Client(expected, "born", node=self.rng.choice(sorted(world.processes)))
        creator.create(world)
        self.creators.append(creator)

    def created(self, creator: Client) -> None:
        self.hear(creator)
        if not creator.is_idle:
            return
        self.creators.remove(creator)
        expected = creator.expected
        if expected.counts.get("acked"):
            self.expected.append(expected)
            self.clients += [Client(expected, f"c{i}", self.plan.ends_sessions) for i in range(2)]
        else:
            self.new_session()

    def steps(self, number: int) -> None:
        for _ in range(number):
            if self.clients and self.rng.random() < 0.3:
                client = self.rng.choice(self.clients)
                self.hear(client)
                client.drive(self.world)
            if self.plan.unrest and self.rng.random() < self.plan.unrest:
                self.world.disturb()
            self.world.step()
            for client in list(self.clients):
                self.hear(client)
            for creator in list(self.creators):
                self.created(creator)
            if self.rng.random() < 0.05:
                self.check_stamps()

    def check_stamps(self) -> None:
        """One stamp, one write: nobody acts twice in a term, and nobody but its owner."""
        for process in self.world.processes.values():
            for copy in process.machine.copies.values():
                for name, (value, stamp) in copy.attributes.items():
                    written = self.written.setdefault((copy.key, name, stamp), value)
                    if written != value:
                        self.fail(f"{name} of {copy.key[:2].hex()} was written twice with {stamp}")

    def hear(self, client: Client) -> None:
        try:
            client.hear(self.world)
        except Violation as violation:
            self.fail(f"{violation}, by {client.node}")
        if client.operation is not None and self.world.now - client.asked_at > ANSWERED_WITHIN_S:
            self.fail(f"{client.node} never answers {client.verb} of {client.expected}")
        if client.is_idle and client.expected.ended and client in self.clients:
            self.clients.remove(client)
            if not any(other.expected is client.expected for other in self.clients):
                self.new_session()

    # --- faults ---------------------------------------------------------------------------------------

    def fault(self) -> None:
        world = self.world
        self.faults += 1
        kind = self.rng.choice(self.plan.kinds)
        up = sorted(world.processes)
        down = [name for name in self.names if name not in world.processes]
        if kind == "reset" and len(up) > 1:
            world.reset(*self.rng.sample(up, 2))
        elif kind == "drain" and len(up) > 2:
            self.drain(self.rng.choice(up))
        elif kind == "pause":
            self.pause(self.rng.choice(up))
        elif kind == "part" and len(up) > 1:
            names = self.rng.sample(up, len(up))
            cut = self.rng.randint(1, len(names) - 1)
            self.part(names[:cut], names[cut:])
        elif kind == "cut" and len(up) > 1:
            one, other = self.rng.sample(up, 2)
            self.part([one], [other])
        elif kind == "drain and kill" and len(up) > 3:
            leaving, victim = self.rng.sample(up, 2)
            self.drain(leaving, self.rng.choice([leaving, victim]))
        elif kind == "drain until safe" and len(up) > 3:
            self.drain_until_safe(*self.rng.sample(up, 2))
        elif kind == "drain in vain":
            self.drain_in_vain(self.rng.choice(up))
        elif down and (kind == "restart" or len(up) <= self.plan.up_min):
            world.boot(self.rng.choice(down), seeds=tuple(self.names))
        elif len(up) > self.plan.up_min:
            victim = self.rng.choice(up)
            world.kill(victim)
            if kind == "restart":
                self.steps(self.rng.randint(0, 30))
                world.boot(victim, seeds=tuple(self.names))

    def drain(self, name: str, victim: str | None = None) -> None:
        """A node leaves; meanwhile `victim`, which may be the same one, crashes."""
        world = self.world
        world.machine(name).begin_drain(world.now)
        if victim is not None:
            self.steps(self.rng.randint(0, 200))
            world.kill(victim)
            if victim == name:
                return
        end = world.now + SETTLED_WITHIN_S
        while not world.machine(name).drained:
            if world.now > end:
                self.fail(f"the drain of {name} does not end")
            self.steps(1)
        world.machine(name).leave(world.now)
        self.steps(5)
        world.kill(name)

    def drain_until_safe(self, name: str, victim: str) -> None:
        """A node is drained by command and crashes once it is safe to stop; another one crashes right with it."""
        world = self.world
        world.machine(name).begin_drain(world.now)
        end = world.now + SETTLED_WITHIN_S
        while not world.machine(name).drain_view().safe_to_stop:
            if world.now > end:
                self.fail(f"{name} does not become safe to stop: {world.machine(name).drain_view()}")
            self.steps(1)
        world.kill(name)
        world.kill(victim)

    def drain_in_vain(self, name: str) -> None:
        """A drain is aborted, somewhere in its midst or after its end."""
        world = self.world
        world.machine(name).begin_drain(world.now)
        self.steps(self.rng.randint(0, 200))
        if not world.machine(name).abort_drain(world.now):
            self.fail(f"the drain of {name} cannot be aborted")

    def pause(self, name: str) -> None:
        self.world.stop(name)
        self.pass_time(self.rng.choice((0.2, 0.8, 1.5)) * self.plan.options.silence_timeout_s)
        self.world.resume(name)

    def part(self, some: list[str], others: list[str]) -> None:
        self.world.part(" ".join(some), " ".join(others))
        self.pass_time(self.rng.choice((0.2, 0.8, 2.5)) * self.plan.options.silence_timeout_s)
        self.world.heal()

    def pass_time(self, seconds: float) -> None:
        end = self.world.now + seconds
        while self.world.now < end:
            self.steps(1)

    # --- ends -----------------------------------------------------------------------------------------

    def until_protected(self) -> None:
        """The next fault comes when the last one's window is closed."""
        end = self.world.now + SETTLED_WITHIN_S
        while (why := self.unsettled()) is not None:
            if self.world.now > end:
                self.fail(f"not settled {SETTLED_WITHIN_S} s after the fault: {why}")
            self.steps(5)

    def unsettled(self) -> str | None:
        machines = {name: process.machine for name, process in self.world.processes.items()}
        for name, machine in machines.items():
            if not machine.membership.joined:
                return f"{name} has not joined"
            others = {other.life for other in machines.values() if other is not machine}
            if set(machine.membership.alive()) != others or set(machine.membership.linked()) != others:
                return f"{name} does not see the others as they are"
        for expected in self.expected:
            why = self.unprotected(expected)
            if why is not None:
                return why
        return None

    def unprotected(self, expected: Expected) -> str | None:
        processes = self.world.processes
        held = [c for p in processes.values() if (c := p.machine.copies.get(expected.key)) is not None]
        if expected.ended or (expected.end_asked and not held):
            return f"{expected} has ended, but copies of it are left" if held else None
        wanted = min(self.plan.options.copies, len(processes) - 1)
        primaries = [copy for copy in held if copy.role is Role.PRIMARY]
        if len(primaries) != 1:
            return f"{expected} has {len(primaries)} primaries"
        primary = primaries[0]
        if len(held) != wanted + 1 or len(primary.backups) != wanted:
            return f"{expected} has {len(held) - 1} backups, listed {len(primary.backups)}, wanted {wanted}"
        if primary.leads.pending or primary.leads.handoff:
            return f"{expected} has answers waiting"
        if any(copy.last != primary.last or copy.term != primary.term for copy in held):
            return f"copies of {expected} differ"
        known = {
            process.machine.directory.get(expected.key)
            for process in processes.values()
            if self.plan.options.location == "broadcast" or expected.key in process.machine.copies
        }
        if known != {primary.location}:
            return f"directories differ about {expected}: {known}"
        return None

    def finish(self) -> None:
        """Clients finish what they began; then every session is served everywhere, with all it was promised."""
        end = self.world.now + 2 * ANSWERED_WITHIN_S
        while busy := [client for client in self.clients if not client.is_idle]:
            for client in busy:
                self.hear(client)
                if client.verb == "held":
                    client.drive(self.world)
            self.world.step()
            if self.world.now > end:
                self.fail("a client is never answered")
        self.world.stalled.clear()
        self.world.quiet = True
        self.world.run(1.0)
        for expected in self.expected:
            for node in sorted(self.world.processes):
                self.read(expected, node)

    def read(self, expected: Expected, node: str) -> None:
        """A last request; it is answered at once, for the cluster is healthy."""
        client = Client(expected, "last", node=node)
        failed = expected.counts.get("failed", 0)
        client.began = expected.floor()
        client._begin(self.world, "open", may_refer=False)
        self.world.run(1.0)
        self.hear(client)
        if client.verb == "held":
            client._commit(self.world, None)
            self.world.run(1.0)
            self.hear(client)
        if expected.counts.get("failed", 0) > failed or not client.is_idle:
            self.fail(f"{node} does not serve {expected} in a healthy cluster")

    def describe(self) -> str:
        rows = []
        for expected in self.expected:
            for name, process in self.world.processes.items():
                copy = process.machine.copies.get(expected.key)
                location = process.machine.directory.get(expected.key)
                if copy is not None or (location is not None and not location.gone):
                    rows.append(f"\n  {expected} {name} knows {location}")
                if copy is not None:
                    rows.append(
                        f"\n  {expected} {name} {copy.role.value} {copy.term} seq {copy.seq} list"
                        f" {[str(life) for life in copy.backups]} v{copy.version} {copy.leadership}"
                    )
        return "".join(rows)
