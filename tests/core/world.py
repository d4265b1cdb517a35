"""A cluster of cores in one process: links in memory, time in literals, no I/O.

Every message goes through the codec, links are FIFO between a pair of lives, and every core's invariants
are checked after each verb. `World.run(seconds)` moves the virtual clock from deadline to deadline.
"""

from collections import deque
from dataclasses import replace
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
    StoreRead,
    StoreWrite,
)
from sessiond.core.identity import Identity, Refusal, RefusalCode
from sessiond.core.machine import Machine
from sessiond.core.options import Options
from sessiond.core.types import Life, Term
from tests.core.process import Handshake, Process
from tests.core.shelf import Shelf

KEY = b"0123456789abcdef"


class World:
    """Named processes, the links between their lives, and the clock."""

    def __init__(
        self,
        options: Options | None = None,
        seed: int = 1,
        zones: dict[str, str] | None = None,
        own: dict[str, Options] | None = None,
    ) -> None:
        """`own`: the options of processes that differ from the others'."""
        self.options = options or Options()
        self.zones = zones or {}
        self.own = own or {}
        self.rng = Random(seed)
        self.now = 1000.0
        self.processes: dict[str, Process] = {}
        self.links: dict[frozenset[Life], dict[Life, deque[bytes]]] = {}
        self.held: list[tuple[type, str | None, str | None]] = []
        self.cut: set[frozenset[str]] = set()
        """Pairs of addresses between which nothing passes."""

        self.shared_shelf = Shelf()
        self.shelves: dict[str, Shelf] = {}
        """Name → the store of a node that has its own; it survives the process."""

        self.holds_store = False
        """Whether what is asked of stores waits until `let_store_go`."""

        self._asked_of_store: deque[tuple[Process, StoreWrite | StoreRead]] = deque()
        self._late: list[tuple[Life, Life]] = []
        """Ends of links that a process has not read yet."""

        self._handshakes: dict[int, Handshake] = {}
        self._boots = 0
        self._admission_number = 0

    @classmethod
    def of(cls, nodes: int, options: Options | None = None) -> "World":
        """A cluster of node1, node2 and so on, in which everybody knows everybody."""
        world = cls(options)
        world.boot(*(f"node{number + 1}" for number in range(nodes)))
        world.run(1.0)
        return world

    @classmethod
    def with_session(cls, nodes: int = 3, options: Options | None = None) -> "World":
        """A cluster whose session has node1 as its primary, and `n` = 1."""
        world = cls.of(nodes, options)
        world.create("node1", n=b"1")
        world.run(0.1)
        return world

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
        options = self.own.get(label, self.options)
        identity = Identity(
            life,
            self._boots.to_bytes(16),
            "test",
            f"{label}:80",
            f"{label}:7101",
            f"{label}:91",
            self.zones.get(label, ""),
            options.quorum,
            options.location,
            options.role,
        )
        machine = Machine(
            identity, options, tuple(f"{s}:7101" for s in seeds), Random(self.rng.random()), self.now
        )
        self.processes[label] = Process(machine, f"{label}:7101")
        machine.start(self.now)
        if machine.storing is not None and not self.shelf(label).is_failing:
            machine.store_opened(self.now)

    def machine(self, name: str) -> Machine:
        return self.processes[name].machine

    def kill(self, *names: str) -> None:
        """SIGKILL, to all in the same instant: the processes are gone, then their peers read EOF."""
        for process in [self.processes.pop(name) for name in names]:
            self._close_links(process.machine.life, process.address)
        self.settle()

    def stop(self, name: str) -> None:
        """SIGSTOP: connections stay, nothing is answered."""
        self.processes[name].stopped = True

    def resume(self, name: str) -> None:
        """SIGCONT: requests that came meanwhile are read first, then what the links brought."""
        process = self.processes[name]
        process.stopped = False
        while process.inbox:
            process.inbox.popleft()()
        self._tell_late()

    def reset(self, one: str, other: str) -> None:
        """The connection between two processes breaks; both live on."""
        pair = frozenset({self.machine(one).life, self.machine(other).life})
        if self.links.pop(pair, None) is not None:
            for life in pair:
                (gone,) = pair - {life}
                self._tell_closed(life, gone, self.cut_between(one, other))
        self.settle()

    def _close_links(self, life: Life, address: str) -> None:
        for pair in [pair for pair in self.links if life in pair]:
            del self.links[pair]
            (peer,) = pair - {life}
            process = self._of_life(peer)
            is_cut = process is not None and frozenset({process.address, address}) in self.cut
            self._tell_closed(peer, life, is_cut)

    def _tell_closed(self, life: Life, gone: Life, is_cut: bool) -> None:
        """`life` reads the end of its link to `gone`; if it is stopped or cut off, it will once it can."""
        process = self._of_life(life)
        if process is None:
            return
        if process.stopped or is_cut:
            self._late.append((life, gone))
        else:
            process.machine.link_closed(gone, self.now)

    def _tell_late(self) -> None:
        late, self._late = self._late, []
        for life, gone in late:
            process, peer = self._of_life(life), self._of_life(gone)
            if process is not None and frozenset({life, gone}) not in self.links:
                is_cut = peer is not None and self._is_cut(process, peer)
                self._tell_closed(life, gone, is_cut)

    def _of_life(self, life: Life) -> Process | None:
        return next((p for p in self.processes.values() if p.machine.life == life), None)

    # --- the application ------------------------------------------------------------------------------

    def ask(self, name: str, verb: str, *args: object, **kwargs: object) -> int:
        """Begin an operation on a core: open, create, commit, invalidate. Its outcome comes into `outcomes`."""
        process = self.processes[name]
        process.operations += 1
        operation = process.operations

        def begin() -> None:
            getattr(process.machine, verb)(operation, *args, now=self.now, **kwargs)
            process.machine.check_invariants()

        if process.stopped:
            process.inbox.append(begin)
        else:
            begin()
            self.settle()
        return operation

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

    def primaries(self, key: bytes = KEY) -> list[str]:
        """Names of the nodes that act as primary of a session: one, or none for a while."""
        return [name for name, role in self.where(key).items() if role == "P"]

    def listed(self, key: bytes = KEY) -> list[str]:
        """Names of a session's backups, in the order of its primary's list."""
        (primary,) = self.primaries(key)
        return [life.name for life in self.machine(primary).copies[key].backups]

    def backup(self, key: bytes = KEY) -> str:
        """Name of the node that holds the one backup copy of a session."""
        (name,) = [name for name, role in self.where(key).items() if role == "B"]
        return name

    def term(self, name: str, key: bytes = KEY) -> Term:
        """The term of a node's copy."""
        return self.machine(name).copies[key].term

    def strangers(self, key: bytes = KEY) -> list[str]:
        """Names of the nodes that hold no copy of a session."""
        return sorted(set(self.processes) - set(self.where(key)))

    def members(self, name: str) -> set[str]:
        """Names of the nodes that a node is linked with, and its own."""
        return {name, *(life.name for life in self.machine(name).membership.linked())}

    def logged(self, name: str, event: str) -> list[dict[str, object]]:
        return [fields for logged, fields in self.processes[name].events if logged == event]

    # --- stores ---------------------------------------------------------------------------------------

    def shelf(self, name: str) -> Shelf:
        """The store of a node."""
        if self.options.store_kind == "shared":
            return self.shared_shelf
        return self.shelves.setdefault(name, Shelf())

    def let_store_go(self) -> None:
        """Stores answer what they were asked, in order, and go on without delay."""
        self.holds_store = False
        self.settle()

    def _answer_of_store(self) -> bool:
        answered = False
        while self._asked_of_store and not self.holds_store:
            process, asked = self._asked_of_store.popleft()
            if process not in self.processes.values() or process.stopped:
                continue
            answered = True
            machine, shelf = process.machine, self.shelf(process.machine.life.name)
            if isinstance(asked, StoreRead):
                machine.store_read(asked.key, shelf.read(asked.key, self.now), self.now)
            elif (refused := shelf.write(asked.records, self.now)) is None:
                machine.store_failed(asked.number, "the shelf fails", self.now)
            else:
                machine.stored(asked.number, refused, self.now)
            machine.check_invariants()
        return answered

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
            if not (self._act() | self._deliver() | self._answer_of_store()):
                return
        raise AssertionError("the cluster does not come to rest")

    def hold(self, *kinds: type, by: str | None = None, to: str | None = None) -> None:
        """Keep messages of these kinds, and what follows them on their link, from arriving.

        `by` and `to` name a sender and a receiver; every one if None.
        """
        self.held += [(kind, by, to) for kind in kinds]

    def _is_held(self, kind: type, sender: Life, receiver: Life) -> bool:
        return any(
            kind is held and by in (None, sender.name) and to in (None, receiver.name)
            for held, by, to in self.held
        )

    def part(self, *groups: str) -> None:
        """Cut the network between groups of nodes, each a string of names: packets vanish, no one is told."""
        labels = [group.split() for group in groups]
        for index, group in enumerate(labels):
            for other in labels[index + 1 :]:
                self.cut |= {frozenset({f"{a}:7101", f"{b}:7101"}) for a in group for b in other}

    def heal(self, *names: str) -> None:
        """The network is whole again, or only between these nodes; what TCP has kept meanwhile arrives."""
        mended = {f"{name}:7101" for name in names}
        self.cut = {pair for pair in self.cut if mended and not pair <= mended}
        self._tell_late()
        self.settle()

    def cut_between(self, one: str, other: str) -> bool:
        return self._is_cut(self.processes[one], self.processes[other])

    def _is_cut(self, one: Process, other: Process) -> bool:
        return frozenset({one.address, other.address}) in self.cut

    def let_go(self, *kinds: type) -> None:
        """What is held arrives: all of it, or messages of these kinds and what waits behind them."""
        self.held = [entry for entry in self.held if kinds and entry[0] not in kinds]
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
                frame = codec.encode(message, process.machine.life)
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
                        (other,) = pair - {old}
                        peer = self._of_life(other)
                        self._tell_closed(other, old, peer is not None and self._is_cut(process, peer))
            case StoreWrite() | StoreRead():
                self._asked_of_store.append((process, effect))
            case Admission(number, refusal):
                process.admissions[number] = refusal
                self._admission(number, refusal)
            case Resolve(operation, outcome):
                assert operation not in process.outcomes, "an operation is resolved once"
                process.outcomes[operation] = outcome
                process.answered_at[operation] = self.now
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
            self._tell_closed(life, process.machine.life, peer is not None and self._is_cut(process, peer))

    def _dial(self, process: Process, address: str) -> None:
        peer = next((p for p in self.processes.values() if p.address == address), None)
        machine = process.machine
        if peer is None:
            machine.dial_failed(address, "refused", "connection refused", None, self.now)
            return
        if self._is_cut(process, peer):
            machine.dial_failed(address, "timeout", "no answer", None, self.now)
            return
        if peer.stopped:
            machine.dial_failed(address, "handshake", "no answer", None, self.now)
            return
        if peer is process:
            machine.dial_failed(address, "refusal", "self", Refusal(RefusalCode.SELF), self.now)
            return
        if frozenset({machine.life, peer.machine.life}) in self.links:
            machine.dial_failed(address, "refusal", "linked", Refusal(RefusalCode.REDUNDANT), self.now)
            return
        self._ask_admission(Handshake(process, machine.life, peer, peer.machine.life, address))

    def _ask_admission(self, handshake: Handshake) -> None:
        """Ask the side whose turn it is; it may take its time, while it probes the holder of a name."""
        self._admission_number += 1
        self._handshakes[self._admission_number] = handshake
        asked, other = handshake.asked_and_other
        asked.machine.admit(self._admission_number, other.machine.identity, self.now)

    def _admission(self, number: int, refusal: Refusal | None) -> None:
        handshake = self._handshakes.pop(number, None)
        if handshake is None:
            return  # asked by a test itself
        dialer, answerer = handshake.dialer, handshake.answerer
        machine, peer, address = dialer.machine, answerer.machine, handshake.address
        alive = list(self.processes.values())
        if dialer not in alive or machine.life != handshake.dialer_life:
            return
        if answerer not in alive or answerer.stopped or peer.life != handshake.answerer_life:
            machine.dial_failed(address, "handshake", "it ended", None, self.now)
        elif refusal is not None and handshake.is_welcome_there:
            machine.dial_failed(address, "refusal", refusal.detail, None, self.now)
            peer.refused(refusal, self.now)
        elif refusal is not None:
            machine.dial_failed(address, "refusal", refusal.detail, refusal, self.now)
        elif not handshake.is_welcome_there:
            self._ask_admission(replace(handshake, is_welcome_there=True))
        elif frozenset({machine.life, peer.life}) in self.links:
            machine.dial_failed(address, "refusal", "linked", Refusal(RefusalCode.REDUNDANT), self.now)
        else:
            self.links[frozenset({machine.life, peer.life})] = {machine.life: deque(), peer.life: deque()}
            machine.link_opened(peer.identity, address, self.now)
            peer.link_opened(machine.identity, None, self.now)

    def _deliver(self) -> bool:
        delivered = False
        for pair, queues in list(self.links.items()):
            for life, queue in queues.items():
                process = self._of_life(life)
                if process is None or process.stopped:
                    continue
                (sender,) = pair - {life}
                origin = self._of_life(sender)
                if origin is not None and self._is_cut(process, origin):
                    continue
                while queue and self.links.get(pair) is queues:
                    message = codec.decode(queue[0], sender)
                    if self._is_held(type(message), sender, life):
                        break
                    queue.popleft()
                    delivered = True
                    process.machine.receive(sender, message, self.now)
                    process.machine.check_invariants()
        return delivered
