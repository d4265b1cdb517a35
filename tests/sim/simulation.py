"""One seed's world: real cores on a simulated network, with balancers, users, faults, and those who watch."""

from collections.abc import Callable
from dataclasses import fields, replace
from math import isfinite
from random import Random
from typing import Any

from sessiond.core.forgetting import ROUND_INTERVAL_S
from sessiond.core.identity import Identity
from sessiond.core.machine import Machine
from sessiond.core.types import Life
from tests.sim.balancers import Balancer, Pinned
from tests.sim.book import LINES_KEPT, Book
from tests.sim.clients import Client, Operation
from tests.sim.faults import Faults
from tests.sim.linearizability import calls_of, is_linearizable
from tests.sim.network import Network
from tests.sim.plans import PLANS, Plan
from tests.sim.process import DRIFT_MAX, Clock, Process
from tests.sim.promises import COUNTER, Floor, Session, Violation
from tests.sim.requests import ANSWER_TIMEOUT_S, Answer, Deed, Request, Status, Visit
from tests.sim.settlement import Settlement
from tests.sim.store import SimulatedStore
from tests.sim.timeline import Story, Timeline, stream
from tests.sim.watch import Watch

EPOCH_S = 1_000_000.0
"""The wall clock's reading at the start of every run: incarnations derive from it."""

FORGOTTEN_WITHIN_S = 2 * ROUND_INTERVAL_S
"""Of a session that was lost with all who held it the directories know nothing after this: a round, and what it takes."""

LOOKED_AFTER_EVERY = 10
"""Of so many rounds of the plans one waits for that: it takes as long as the run itself."""

SERVED_WITHIN_S = 2.0
"""A healthy cluster answers a request within this."""


class Simulation:
    def __init__(self, seed: int, plan: Plan, *, is_told: bool = False, lines: int = LINES_KEPT) -> None:
        self.seed = seed
        self.plan = plan
        self.timeline = Timeline()
        self.book = Book(is_told=is_told, lines=lines)
        self.workload = stream(seed, "workload")
        self.faults_rng = stream(seed, "faults")
        self._cores = stream(seed, "cores")
        self.network = Network(self.timeline, stream(seed, "network"), self.book)
        self.store: SimulatedStore | None = None
        if plan.options.store_kind:
            self.store = SimulatedStore(self.timeline, stream(seed, "store"), plan.options.store_timeout_s)
        self.names = [f"n{i + 1}" for i in range(plan.nodes)]
        self.app_names = self.names[: plan.nodes - plan.state_nodes]
        """Those that serve users."""

        self.sessions: dict[bytes, Session] = {}
        self.history: dict[bytes, list[Operation]] = {}
        self.operations = 0
        self.is_over = False
        """No more faults."""

        self.is_closing = False
        """No more requests."""

        self.stats: dict[str, int] = {}
        self._ended_machines: list[Machine] = []
        self._clients: list[Client] = []
        self._numbers = 0
        self._boots = 0
        self.watch = Watch(self)
        self.settlement = Settlement(self)
        self.balancers = {host: Balancer(self, host, self.app_names) for host in ("b1", "b2")}
        self.faults = Faults(self)

    # --- processes ------------------------------------------------------------------------------------

    def boot(self, name: str) -> None:
        """Start a process, empty, that joins whoever is there."""
        rng = self._cores
        self._boots += 1
        incarnation = int((EPOCH_S + self.timeline.now) * 1000)
        options = self.plan.options if name in self.app_names else replace(self.plan.options, role="state")
        identity = Identity(
            Life(name, incarnation),
            self._boots.to_bytes(16),
            "sim",
            f"{name}:80",
            name,
            f"{name}:91",
            "",
            role=options.role,
        )
        clock = Clock(rng.uniform(0.0, 10_000.0), rng.uniform(1.0 - DRIFT_MAX, 1.0 + DRIFT_MAX))
        now = clock.read(self.timeline.now)
        machine = Machine(identity, options, tuple(self.names), Random(rng.getrandbits(64)), now)
        process = Process(
            name,
            self.network,
            machine,
            clock,
            after_turn=self.watch.after_turn,
            name_of=self.name_of,
            on_log=self.watch.logged,
            store=self.store,
        )
        process.start()

    def crash(self, name: str) -> None:
        process = self.network.hosts[name]
        self._ended_machines.append(process.machine)
        process.crash()

    def jump(self, process: Process, seconds: float) -> None:
        """A clock jumps: what it measures may end so much earlier."""
        process.jump(seconds)
        for session in self.sessions.values():
            session.leeway_s += seconds

    # --- users ----------------------------------------------------------------------------------------

    def name_of(self, key: bytes) -> str:
        session = self.sessions.get(key)
        return session.name if session is not None else key[:3].hex()

    def new_session(self) -> None:
        """A session and its users; the first of them makes it."""
        session = self.add_session()
        routes: list[Any] = list(self.balancers.values())
        while len(routes) < self.plan.clients:
            routes.append(Pinned(self, self.workload.choice(self.app_names)))
        for index, route in enumerate(routes[: self.plan.clients]):
            client = Client(self, f"{session.name}c{index}", route, session, creates=index == 0)
            self._clients.append(client)

    def add_session(self) -> Session:
        self._numbers += 1
        key = self.workload.randbytes(16)
        timeout_s = self.plan.options.idle_timeout_s
        session = Session(f"s{self._numbers}", key, timeout_s, self.plan.strict, used_at=self.timeline.now)
        session.saves_counter = self.plan.options.flush_s > 0
        self.sessions[key] = session
        return session

    def abandon(self, session: Session) -> None:
        """Nobody knows whether a session was made; its users go on with another one."""
        ghost = Session(
            f"{session.name}?", session.key, session.idle_timeout_s, strict=False, used_at=self.timeline.now
        )
        ghost.end_asked = True
        self.sessions[ghost.key] = ghost
        session.key = self.workload.randbytes(16)
        self.sessions[session.key] = session

    def client_done(self, client: Client) -> None:
        self._clients.remove(client)
        if not self.is_closing and all(other.session is not client.session for other in self._clients):
            self.new_session()

    # --- the course of a run --------------------------------------------------------------------------

    def run(self) -> None:
        """The whole story. Raises Violation."""
        timeline = self.timeline
        for name in self.names:
            timeline.after(self._cores.uniform(0.0, 0.1), self.boot, name)
        timeline.run_until(1.0)
        for _ in range(self.plan.sessions):
            self.new_session()
        timeline.tell(self.faults.story())
        if isfinite(self.plan.weather_s):
            timeline.tell(self.faults.weather())
        self._run_while(lambda: not self.is_over, self.plan.lasts_s * 4)
        self.finish()

    def finish(self) -> None:
        """Heal, let everybody finish, and look whether the cluster has kept what it promised."""
        self._heal()
        self.is_closing = True
        self._run_while(lambda: bool(self._clients), ANSWER_TIMEOUT_S * 4)
        self.settle()
        done: list[bool] = []
        self.timeline.tell(self._final_reads(done))
        self._run_while(lambda: not done, 1000.0)
        self.settle(at_rest=True)
        if self.seed // len(PLANS) % LOOKED_AFTER_EVERY == 0:
            self._wait_until_none(self.settlement.left_over, FORGOTTEN_WITHIN_S)
        if self.plan.linearizable:
            self._check_order()
        self._add_up()

    def _run_while(self, condition: Any, longest_s: float) -> None:
        end = self.timeline.now + longest_s
        while condition():
            if self.timeline.now > end:
                raise Violation(f"the run does not come to its end: {len(self._clients)} clients wait")
            self.timeline.run_until(self.timeline.now + 0.1)

    def _heal(self) -> None:
        self.network.heal()
        self.boot_missing()

    def boot_missing(self) -> None:
        for name in self.names:
            if name not in self.network.hosts:
                self.boot(name)

    def settle(self, *, at_rest: bool = False) -> None:
        """Let time pass until the cluster has settled."""
        self._wait_until_none(lambda: self.settlement.missing(at_rest=at_rest), self.plan.settles_s)

    def _wait_until_none(self, missing: Callable[[], str | None], longest_s: float) -> None:
        end = self.timeline.now + longest_s
        while (why := missing()) is not None:
            if self.timeline.now > end:
                raise Violation(f"does not converge when healed: {why}")
            self.timeline.run_until(self.timeline.now + 0.1)

    def _final_reads(self, done: list[bool]) -> Story:
        """Every session is served at every node, with all that was promised."""
        for session in [session for session in self.sessions.values() if session.created]:
            for node in self.app_names:
                answers: list[Answer] = []
                floor, began = session.floor(), self.timeline.now
                request = Request(session.key, Deed.READ, "last", 0)
                Visit(self, node, node, request, answers.append, may_refer=False)
                while not answers:
                    if self.timeline.now - began > SERVED_WITHIN_S:
                        raise Violation(
                            f"{node} does not answer a request for {session} in a healthy cluster"
                        )
                    yield 0.005
                self.check_final(session, answers[0], floor)
        done.append(True)

    def check_final(self, session: Session, answer: Answer, floor: Floor) -> None:
        if answer.status is Status.GONE:
            session.gone(answer.at)
            if not self.settlement.may_be_gone(session, answer.at):
                raise Violation(
                    f"{session} is said to be gone in a healthy cluster; nobody ended it: {answer}"
                )
            session.ended = True  # whatever the plan: everybody has heard the same by now
        elif answer.status is not Status.OK:
            raise Violation(f"{session} is not served in a healthy cluster: {answer}")
        elif session.ended:
            raise Violation(f"{session} is served though it was said to be gone")
        else:
            session.shown(answer.values, floor)
            self._check_values(session, answer, floor.values)

    def _check_values(self, session: Session, answer: Answer, floor: dict[str, int]) -> None:
        """Also where not every answer is right meanwhile, what waited for the backups is there when all is healed."""
        if self.plan.options.ack == "sync":
            for name, number in floor.items():
                is_promised = name == COUNTER if session.saves_counter else name != COUNTER
                if is_promised and answer.values.get(name, 0) < number:
                    raise Violation(
                        f"{session}: {name}={answer.values.get(name, 0)} after all; {number} was acked"
                    )

    def _check_order(self) -> None:
        for key, operations in self.history.items():
            verdict = is_linearizable(calls_of(operations))
            if verdict is False:
                raise Violation(f"the answers about {self.name_of(key)} have no order")
            self.book.count("order.found" if verdict else "order.undecided")

    def _add_up(self) -> None:
        machines = [*self._ended_machines, *(process.machine for process in self.network.hosts.values())]
        for machine in machines:
            for field in fields(machine.stats):
                self.book.counts[f"stat.{field.name}"] += getattr(machine.stats, field.name)
        for session in self.sessions.values():
            for how, times in session.counts.items():
                self.book.counts[f"session.{how}"] += times
        self.book.counts["operations"] = self.operations
        self.book.counts["events"] = self.timeline.events
        self.book.counts["faults"] = self.faults.number
