"""Users: each sends one request after another for one session, and remembers what the answers promised.

Writes carry rising numbers into an attribute of the client's own; increments go to the counter that all
clients of a session share; now and then a client ends the session, or tries an id that nobody gave out.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.sim.balancers import Route
from tests.sim.promises import COUNTER, TWIN, Floor, Session, Violation
from tests.sim.requests import Answer, Deed, Request, Status

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation


@dataclass(slots=True)
class Operation:
    """One request as its client sees it; `returned_at` stays None if nobody knows how it ended."""

    client: str
    request: Request
    invoked_at: float
    returned_at: float | None = None
    answer: Answer | None = None


class Client:
    def __init__(
        self, simulation: "Simulation", name: str, route: Route, session: Session, *, creates: bool
    ) -> None:
        self.name = name
        self.route = route
        self.session = session
        self._simulation = simulation
        self._creates = creates
        self._number = 0
        self._cookie = ""
        self._version = 0
        self._think()

    def _think(self) -> None:
        """Users come in bursts: clicks within milliseconds, then a pause."""
        rng, plan = self._simulation.workload, self._simulation.plan
        chance = rng.random()
        seconds = rng.uniform(0.0, 0.05) if chance < plan.haste else rng.expovariate(1.0 / plan.pause_s)
        self._simulation.timeline.after(seconds, self._act)

    def _act(self) -> None:
        simulation, session = self._simulation, self.session
        if session.ended or simulation.is_closing:
            simulation.client_done(self)
            return
        if not session.created and not self._creates:
            self._think()
            return
        simulation.operations += 1
        self._number += 1
        request = Request(session.key, self._deed(), self.name, self._number)
        if simulation.workload.random() < 0.01 and session.created:
            self._try_stranger()
            return
        operation = Operation(self.name, request, simulation.timeline.now)
        simulation.history.setdefault(session.key, []).append(operation)
        floor = session.floor()
        simulation.book.tell(
            simulation.timeline.now,
            self.name,
            f"{request.deed} {session} {request.number} by {self.route.host}, cookie {self._cookie}",
        )
        self.route.send(request, self._cookie, lambda answer: self._answered(operation, floor, answer))

    def _deed(self) -> Deed:
        if not self.session.created:
            return Deed.CREATE
        plan, chance = self._simulation.plan, self._simulation.workload.random()
        if chance < plan.ending:
            return Deed.END
        if chance < 0.25:
            return Deed.COUNT
        return Deed.WRITE if chance < 0.7 else Deed.READ

    def _try_stranger(self) -> None:
        """An id of the right form that no node ever gave out: nobody may serve it."""
        rng = self._simulation.workload
        request = Request(rng.randbytes(16), Deed.READ, self.name, 0)
        self._simulation.book.count("client.stranger")

        def answered(answer: Answer) -> None:
            if answer.status is Status.OK:
                raise Violation("a session that nobody made is served: an adopted id")
            self._think()

        self.route.send(request, self._cookie, answered)

    def _answered(self, operation: Operation, floor: Floor, answer: Answer) -> None:
        simulation, session, request = self._simulation, self.session, operation.request
        book, now = simulation.book, simulation.timeline.now
        book.count(f"client.{request.deed}.{answer.status}")
        book.tell(now, self.name, f"{request.deed} {session} {request.number}: {answer}")
        operation.answer = answer
        if answer.status is not Status.LOST:
            operation.returned_at = now
        if answer.node:
            self._cookie = answer.node
        match answer.status:
            case Status.OK if request.deed is Deed.END:
                session.counts["ended"] += not session.ended
                session.ended = True
            case Status.OK:
                self._succeeded(request, floor, answer)
            case _ if request.deed is Deed.CREATE:
                simulation.abandon(session)  # it may exist or not; whoever makes a session makes up a new id
            case Status.GONE:
                session.gone(answer.at)
        self._think()

    def _succeeded(self, request: Request, floor: Floor, answer: Answer) -> None:
        session = self.session
        session.created = True
        if request.deed is not Deed.CREATE:
            session.shown(answer.values, floor)
        if not answer.protected and self._simulation.plan.options.placement != "none":
            self._simulation.book.count("client.unprotected")
            return
        if session.strict and answer.version < self._version:
            raise Violation(f"{session}: version {answer.version} after {self._version} to one client")
        self._version = max(self._version, answer.version)
        session.protected = True
        if not session.saves_counter:  # else a value may be shown before it is saved
            session.raise_floor(answer.values)
        if request.deed in {Deed.CREATE, Deed.WRITE}:
            name, number = request.attribute, request.number
            session.acknowledged({name: number, name + TWIN: number})
        elif request.deed is Deed.COUNT:
            session.acknowledged({COUNTER: answer.values[COUNTER]})
