"""Random interleavings of messages, requests and faults over `World`, from one seed.

Messages are delivered one at a time, from a random link; clients write their own attribute of a shared
session and read all of them. What a client was told is checked at once: no attribute may ever be seen
older than its last acknowledged value. One fault at a time, the next one when the sessions are protected
again: what the protocol promises under `any`.
"""

from dataclasses import dataclass
from typing import NoReturn

from sessiond.backend import Committed, Elsewhere
from sessiond.core import codec
from sessiond.core.checkout import Checkout
from sessiond.core.copies import Copy, Role
from sessiond.core.options import Options
from sessiond.errors import Unavailable
from tests.core.world import Process, World


class Violation(AssertionError):
    """The promise that was broken, with the seed to replay."""


class ChaosWorld(World):
    """Delivers nothing by itself: `step` does, one message at a time."""

    quiet = False

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
            if queue and (process := self._of_life(life)) is not None and not process.stopped
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

    def _admitted(self, process, identity):
        was, self.quiet = self.quiet, True  # a handshake is not interleaved with itself
        try:
            return super()._admitted(process, identity)
        finally:
            self.quiet = was


@dataclass
class Client:
    """Writes rising numbers into its own attribute of one session, wherever it is sent."""

    key: bytes
    attribute: str
    node: str
    process: Process | None = None
    number: int = 0
    acked: int = 0
    operation: int | None = None
    phase: str = "idle"
    checkout: Checkout | None = None
    floor: dict[str, int] | None = None
    retries: int = 0


class Run:
    def __init__(
        self,
        seed: int,
        nodes: int = 4,
        sessions: int = 3,
        copies: int = 1,
        faults: int = 4,
        pauses: bool = False,
    ):
        self.seed = seed
        options = Options(copies=copies, tenure_min_s=0.01, request_wait_s=3.0, reprotect_delay_s=0.3)
        self.world = ChaosWorld(options, seed)
        self.rng = self.world.rng
        self.names = [f"node{i + 1}" for i in range(nodes)]
        self.faults = faults
        self.pauses = pauses
        self.keys = [bytes([i]) * 16 for i in range(sessions)]
        self.acked: dict[bytes, dict[str, int]] = {key: {} for key in self.keys}
        self.clients = [Client(key, f"c{i}", "") for key in self.keys for i in range(2)]
        self.counts = {"acked": 0, "opened": 0, "referred": 0, "failed": 0, "faults": 0}

    def fail(self, why: str) -> NoReturn:
        raise Violation(f"seed {self.seed} at {self.world.now:.3f}: {why}")

    def run(self) -> dict[str, int]:
        world = self.world
        world.quiet = True
        world.boot(*self.names)
        world.run(1.0)
        for key in self.keys:
            if not isinstance(world.create(self.rng.choice(self.names), key, born=b"1"), Committed):
                self.fail("a session cannot be created in a healthy cluster")
        world.run(0.5)
        world.quiet = False
        for _ in range(self.faults):
            self.steps(self.rng.randint(50, 400))
            self.fault()
            self.steps(self.rng.randint(0, 300))
            self.until_protected()
        self.finish()
        return self.counts

    def steps(self, number: int) -> None:
        for _ in range(number):
            if self.rng.random() < 0.3:
                self.drive(self.rng.choice(self.clients))
            self.world.step()

    # --- clients --------------------------------------------------------------------------------------

    def drive(self, client: Client) -> None:
        """The client's next move, if it is its turn."""
        world = self.world
        if client.operation is not None:
            process = world.processes.get(client.node)
            if process is None or process is not client.process:
                self.connection_lost(client)
                return
            outcome = process.outcomes.get(client.operation, "pending")
            if outcome != "pending":
                client.operation = None
                self.answered(client, outcome)
            return
        if client.phase == "idle":
            client.floor = dict(self.acked[client.key])
            if client.node not in world.processes or self.rng.random() < 0.2:
                client.node = self.rng.choice(sorted(world.processes))
            client.phase = "open"
            self.begin(client, "open", client.key, may_refer=self.rng.random() < 0.3)
        elif client.phase == "held":
            if world.processes.get(client.node) is not client.process:
                self.connection_lost(client)
                return
            client.phase = "commit"
            client.number += 1
            changes = {client.attribute: b"%d" % client.number} if self.rng.random() < 0.8 else {}
            if not changes:
                client.number -= 1
            self.begin(client, "commit", client.key, changes, None)

    def begin(self, client: Client, verb: str, *args: object, **kwargs: object) -> None:
        client.process = self.world.processes[client.node]
        client.operation = self.world.ask(client.node, verb, *args, **kwargs)

    def connection_lost(self, client: Client) -> None:
        client.operation, client.phase, client.checkout = None, "idle", None
        client.node = ""

    def answered(self, client: Client, outcome: object) -> None:
        match outcome:
            case Checkout():
                self.counts["opened"] += 1
                client.checkout, client.phase = outcome, "held"
                self.seen = {name: int(outcome.read(name) or b"0") for name in outcome.names()}
                client.seen = self.seen  # type: ignore[attr-defined]
            case Elsewhere(owner):
                self.counts["referred"] += 1
                client.phase = "idle"
                client.node = owner
            case Committed():
                self.counts["acked"] += 1
                for name, floor in (client.floor or {}).items():
                    shown = client.seen.get(name, 0)  # type: ignore[attr-defined]
                    if shown < floor:
                        self.fail(
                            f"{client.key[0]} {name} shown as {shown} by {client.node}, {floor} was acked before"
                        )
                acked = self.acked[client.key]
                acked[client.attribute] = max(acked.get(client.attribute, 0), client.number)
                self.release(client)
            case Unavailable():
                self.counts["failed"] += 1
                self.release(client)
            case None:
                self.fail(f"acknowledged session {client.key[0]} answered as gone by {client.node}")
            case _:
                self.fail(f"unexpected outcome {outcome!r}")

    def release(self, client: Client) -> None:
        if client.checkout is not None:
            client.checkout.release()
        client.checkout, client.phase = None, "idle"

    # --- faults ---------------------------------------------------------------------------------------

    def fault(self) -> None:
        world = self.world
        self.counts["faults"] += 1
        kind = self.rng.choice(["kill", "kill", "restart", "reset", "drain"] + ["pause"] * self.pauses)
        up = sorted(world.processes)
        down = [name for name in self.names if name not in world.processes]
        if kind == "reset" and len(up) > 1:
            one, other = self.rng.sample(up, 2)
            world.reset(one, other)
        elif kind == "drain" and len(up) > 2:
            self.drain(self.rng.choice(up))
        elif kind == "pause":
            self.pause(self.rng.choice(up))
        elif down and (kind == "restart" or len(up) <= 2):
            world.boot(self.rng.choice(down), seeds=tuple(self.names))
        elif len(up) > 2:
            victim = self.rng.choice(up)
            world.kill(victim)
            if kind == "restart":
                self.steps(self.rng.randint(0, 30))
                world.boot(victim, seeds=tuple(self.names))

    def drain(self, name: str) -> None:
        world = self.world
        world.machine(name).begin_drain(world.now)
        for _ in range(20_000):
            if world.machine(name).drained:
                break
            self.steps(1)
        else:
            self.fail(f"the drain of {name} does not end: {self.describe()}")
        world.machine(name).leave(world.now)
        self.steps(5)
        world.kill(name)

    def pause(self, name: str) -> None:
        self.world.stop(name)
        end = self.world.now + self.rng.choice((0.3, 1.5, 3.0))
        while self.world.now < end:
            self.steps(1)
        self.world.resume(name)

    def until_protected(self) -> None:
        """The next fault comes when the last one's window is closed."""
        end = self.world.now + 60
        while (why := self.unsettled()) is not None:
            if self.world.now > end:
                self.fail(f"not settled 60 s after the fault: {why}: {self.describe()}")
            self.steps(5)

    def unsettled(self) -> str | None:
        world = self.world
        wanted = min(world.options.copies, len(world.processes) - 1)
        for name, process in world.processes.items():
            if not process.machine.membership.joined:
                return f"{name} has not joined"
            others = {p.machine.life for n, p in world.processes.items() if n != name}
            if (
                set(process.machine.membership.alive()) != others
                or set(process.machine.membership.linked()) != others
            ):
                return f"{name} does not see the others as they are"
        for key in self.keys:
            copies = [
                (name, copy) for name, p in world.processes.items() if (copy := p.machine.copies.get(key))
            ]
            primaries = [copy for _, copy in copies if copy.role is Role.PRIMARY]
            if len(primaries) != 1:
                return f"session {key[0]} has {len(primaries)} primaries"
            primary = primaries[0]
            if len(copies) != wanted + 1 or len(primary.backups) != wanted:
                return f"session {key[0]} has {len(copies) - 1} backups, listed {len(primary.backups)}, wanted {wanted}"
            if primary.leads.pending or primary.leads.handoff:
                return f"session {key[0]} has answers waiting"
            if any(copy.last != primary.last or copy.term != primary.term for _, copy in copies):
                return f"copies of session {key[0]} differ"
        return None

    def describe(self) -> str:
        rows = []
        for key in self.keys:
            for name, process in self.world.processes.items():
                copy = process.machine.copies.get(key)
                if copy is not None:
                    leads = copy.leadership
                    rows.append(
                        f"\n  {key[0]} {name} {copy.role.value} {copy.term} seq {copy.seq} list"
                        f" {[str(life) for life in copy.backups]} v{copy.version} {leads}"
                    )
        return "".join(rows)

    def finish(self) -> None:
        """Clients finish what they began; then every acknowledged write is in the primary's copy."""
        for _ in range(20_000):
            if all(client.operation is None and client.phase == "idle" for client in self.clients):
                break
            for client in self.clients:
                if client.phase != "idle" or client.operation is not None:
                    self.drive(client)
            self.world.step()
        else:
            self.fail("a client is never answered")
        for key, acked in self.acked.items():
            primary = self.primary_of(key)
            for name, value in acked.items():
                if int(primary.read(name) or b"0") < value:
                    self.fail(
                        f"acknowledged write lost: {key[0]} {name} {value}, there is {primary.read(name)!r}"
                    )

    def primary_of(self, key: bytes) -> Copy:
        """The one primary; a handoff that is under way gets its time."""
        for _ in range(20_000):
            copies = (process.machine.copies.get(key) for process in self.world.processes.values())
            primaries = [copy for copy in copies if copy is not None and copy.role is Role.PRIMARY]
            if len(primaries) == 1:
                return primaries[0]
            self.world.step()
        self.fail(f"session {key[0]} has {len(primaries)} primaries: {self.describe()}")
