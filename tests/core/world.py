"""A cluster of cores in one process: links in memory, time in literals, no I/O.

Every message goes through the codec, links are FIFO between a pair of lives, and every core's invariants
are checked after each verb. `World.run(seconds)` moves the virtual clock from deadline to deadline.
"""

from collections import deque
from dataclasses import dataclass, field
from random import Random

from sessiond.core import codec
from sessiond.core.checkout import Checkout
from sessiond.core.effects import (
    Admission,
    Dial,
    DropLink,
    JoinRefusedForGood,
    Log,
    MembersChanged,
    NewLife,
    Resolve,
    Send,
)
from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.core.machine import Machine
from sessiond.core.options import Options
from sessiond.core.types import Life

KEY = b"0123456789abcdef"


@dataclass
class Process:
    """One core with what the driver would keep for it."""

    machine: Machine
    address: str
    outcomes: dict[int, object] = field(default_factory=dict)
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    refused_for_good: Refusal | None = None
    operations: int = 0
    stopped: bool = False
    admissions: dict[int, object] = field(default_factory=dict)
    sent: list[object] = field(default_factory=list)


class World:
    """Named processes, the links between their lives, and the clock."""

    def __init__(self, options: Options | None = None, seed: int = 1) -> None:
        self.options = options or Options()
        self.rng = Random(seed)
        self.now = 1000.0
        self.processes: dict[str, Process] = {}
        self.links: dict[frozenset[Life], dict[Life, deque[bytes]]] = {}
        self.held: set[type] = set()
        self.cut: set[frozenset[str]] = set()
        self._boots = 0
        self._admission_number = 0

    # --- processes ------------------------------------------------------------------------------------

    def boot(self, *names: str, seeds: tuple[str, ...] | None = None, incarnation: int | None = None) -> None:
        """Start a process for each name; by default everybody is everybody's seed."""
        all_names = sorted({*self.processes, *names})
        for name in names:
            self._start(name, name, all_names if seeds is None else list(seeds), incarnation)
        self.settle()

    def boot_as(self, label: str, name: str, seeds: tuple[str, ...]) -> None:
        """Start a process under a label of the test's own, calling itself `name`."""
        self._start(label, name, list(seeds), None)
        self.settle()

    def _start(self, label: str, name: str, seeds: list[str], incarnation: int | None) -> None:
        self._boots += 1
        life = Life(name, incarnation or int(self.now * 1000) + self._boots)
        identity = Identity(
            life, self._boots.to_bytes(16), "test", f"{label}:80", f"{label}:7101", f"{label}:91", ""
        )
        machine = Machine(
            identity, self.options, tuple(f"{s}:7101" for s in seeds), Random(self.rng.random()), self.now
        )
        self.processes[label] = Process(machine, f"{label}:7101")
        machine.start(self.now)

    def machine(self, name: str) -> Machine:
        return self.processes[name].machine

    def kill(self, name: str) -> None:
        """SIGKILL: the process is gone, its peers read EOF."""
        life = self.processes.pop(name).machine.life
        self._close_links(life)
        self.settle()

    def stop(self, name: str) -> None:
        """SIGSTOP: connections stay, nothing is answered."""
        self.processes[name].stopped = True

    def resume(self, name: str) -> None:
        self.processes[name].stopped = False

    def reset(self, one: str, other: str) -> None:
        """The connection between two processes breaks; both live on."""
        pair = frozenset({self.machine(one).life, self.machine(other).life})
        if self.links.pop(pair, None) is not None:
            for life in pair:
                gone = next(iter(pair - {life}))
                self.processes[life.name].machine.link_closed(gone, self.now)
        self.settle()

    def _close_links(self, life: Life) -> None:
        for pair in [pair for pair in self.links if life in pair]:
            del self.links[pair]
            (peer,) = pair - {life}
            process = self._of_life(peer)
            if process is not None:
                process.machine.link_closed(life, self.now)

    def _of_life(self, life: Life) -> Process | None:
        return next((p for p in self.processes.values() if p.machine.life == life), None)

    # --- the application ------------------------------------------------------------------------------

    def ask(self, name: str, verb: str, *args: object, **kwargs: object) -> int:
        """Begin an operation on a core: open, create, commit, invalidate. Its outcome comes into `outcomes`."""
        process = self.processes[name]
        process.operations += 1
        getattr(process.machine, verb)(process.operations, *args, now=self.now, **kwargs)
        self.settle()
        return process.operations

    def outcome(self, name: str, operation: int) -> object:
        """The outcome of an operation; 'pending' while it waits."""
        return self.processes[name].outcomes.get(operation, "pending")

    def create(self, name: str, key: bytes = KEY, **values: bytes) -> object:
        return self.outcome(name, self.ask(name, "create", key, values or {"n": b"1"}))

    def open(self, name: str, key: bytes = KEY, *, may_refer: bool = False) -> object:
        return self.outcome(name, self.ask(name, "open", key, may_refer=may_refer))

    def commit(
        self, name: str, key: bytes = KEY, if_version: int | None = None, **values: bytes | None
    ) -> object:
        return self.outcome(name, self.ask(name, "commit", key, values, if_version))

    def read(self, name: str, attribute: str = "n", key: bytes = KEY) -> bytes | None:
        """Open, read, release: what a user of this node sees."""
        checkout = self.open(name, key)
        assert isinstance(checkout, Checkout), checkout
        value = checkout.read(attribute)
        checkout.release()
        self.settle()
        return value

    def where(self, key: bytes = KEY) -> dict[str, str]:
        """Name → role of every copy of a session."""
        return {
            name: copy.role.value
            for name, process in sorted(self.processes.items())
            if (copy := process.machine.copies.get(key)) is not None
        }

    def logged(self, name: str, event: str) -> list[dict[str, object]]:
        return [fields for logged, fields in self.processes[name].events if logged == event]

    # --- time and network -----------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let this much time pass, deadline by deadline."""
        end = self.now + seconds
        self.settle()
        while True:
            deadlines = [p.machine.next_deadline() for p in self.processes.values() if not p.stopped]
            due = max(self.now + 0.001, min(deadlines, default=end))
            if due > end:
                break
            self.now = due
            for process in list(self.processes.values()):
                if not process.stopped and process.machine.next_deadline() <= self.now:
                    process.machine.tick(self.now)
                    process.machine.check_invariants()
            self.settle()
        self.now = end

    def settle(self) -> None:
        """Carry out effects and deliver messages until nothing is left to do at this moment."""
        for _ in range(100_000):
            if not (self._act() | self._deliver()):
                return
        raise AssertionError("the cluster does not come to rest")

    def hold(self, *kinds: type) -> None:
        """Keep messages of these kinds, and what follows them on their link, from arriving."""
        self.held.update(kinds)

    def let_go(self) -> None:
        self.held.clear()
        self.settle()

    def _act(self) -> bool:
        acted = False
        for process in list(self.processes.values()):
            if process.stopped:
                continue
            for effect in process.machine.take_effects():
                acted = True
                self._carry_out(process, effect)
        return acted

    def _carry_out(self, process: Process, effect: object) -> None:
        match effect:
            case Send(to, message):
                process.sent.append(message)
                frame = codec.encode(message)
                for life in to:
                    queues = self.links.get(frozenset({process.machine.life, life}))
                    if queues is not None:
                        queues[life].append(frame)
            case Dial(address):
                self._dial(process, address)
            case DropLink(life, _):
                self._drop(process, life)
            case NewLife(_):
                for pair in list(self.links):
                    old = next((life for life in pair if life.name == process.machine.life.name), None)
                    if old is not None and self._of_life(old) is None:
                        del self.links[pair]
                        peer = self._of_life(next(iter(pair - {old})))
                        if peer is not None:
                            peer.machine.link_closed(old, self.now)
            case Admission(number, refusal):
                process.admissions[number] = refusal
            case Resolve(operation, outcome):
                assert operation not in process.outcomes, "an operation is resolved once"
                process.outcomes[operation] = outcome
            case Log(_, event, fields):
                process.events.append((event, fields))
            case JoinRefusedForGood(refusal, _):
                process.refused_for_good = refusal
            case MembersChanged():
                pass
            case _:
                raise AssertionError(f"unknown effect {effect}")

    def _drop(self, process: Process, life: Life) -> None:
        if self.links.pop(frozenset({process.machine.life, life}), None) is not None:
            peer = self._of_life(life)
            if peer is not None:
                peer.machine.link_closed(process.machine.life, self.now)

    def _dial(self, process: Process, address: str) -> None:
        peer = next((p for p in self.processes.values() if p.address == address), None)
        machine = process.machine
        if peer is None:
            machine.dial_failed(address, "refused", "connection refused", None, self.now)
            return
        if peer.stopped or frozenset({process.address, peer.address}) in self.cut:
            machine.dial_failed(address, "handshake", "no answer", None, self.now)
            return
        if peer is process:
            machine.dial_failed(address, "refusal", "self", Refusal(RefusalCode.SELF), self.now)
            return
        if frozenset({machine.life, peer.machine.life}) in self.links:
            machine.dial_failed(address, "refusal", "linked", Refusal(RefusalCode.REDUNDANT), self.now)
            return
        theirs = self._admitted(peer, machine.identity)
        if theirs == "waiting":
            machine.dial_failed(address, "handshake", "no answer yet", None, self.now)
            return
        if isinstance(theirs, Refusal):
            machine.dial_failed(address, "refusal", theirs.detail, theirs, self.now)
            return
        ours = self._admitted(process, peer.machine.identity)
        if isinstance(ours, Refusal):
            machine.dial_failed(address, "refusal", ours.detail, None, self.now)
            peer.machine.refused(ours, self.now)
            return
        if ours == "waiting" or frozenset({machine.life, peer.machine.life}) in self.links:
            machine.dial_failed(address, "handshake", "no answer yet", None, self.now)
            return
        self.links[frozenset({machine.life, peer.machine.life})] = {
            machine.life: deque(),
            peer.machine.life: deque(),
        }
        machine.link_opened(peer.machine.identity, address, self.now)
        peer.machine.link_opened(machine.identity, None, self.now)

    def _admitted(self, process: Process, identity: Identity) -> object:
        """None, a Refusal, or 'waiting' for a probe that takes longer than this dial does."""
        self._admission_number += 1
        number = self._admission_number
        process.machine.admit(number, identity, self.now)
        for effect in process.machine.take_effects():
            self._carry_out(process, effect)
        if number not in process.admissions:
            self._deliver()
            self._deliver()
            for effect in process.machine.take_effects():
                self._carry_out(process, effect)
        return process.admissions.get(number, "waiting")

    def _deliver(self) -> bool:
        delivered = False
        for pair, queues in list(self.links.items()):
            for life, queue in queues.items():
                process = self._of_life(life)
                if process is None or process.stopped:
                    continue
                (sender,) = pair - {life}
                while queue and self.links.get(pair) is queues:
                    message = codec.decode(queue[0])
                    if type(message) in self.held:
                        break
                    queue.popleft()
                    delivered = True
                    process.machine.receive(sender, message, self.now)
                    process.machine.check_invariants()
        return delivered
