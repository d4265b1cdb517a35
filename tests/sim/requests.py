"""One request at one node: what the web side does with a session, step by step, each in a turn of its own.

Open, read everything, perhaps take a while, then commit (a reader waits for what it shows to be applied too),
release, answer. The caller hears exactly one `Answer`, also when the node dies, hangs, or cannot be reached.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sessiond.backend import Committed, Elsewhere
from sessiond.core.checkout import Checkout
from sessiond.errors import Conflict, SessionGone, Unavailable
from tests.sim.promises import COUNTER, TWIN, Violation

if TYPE_CHECKING:
    from tests.sim.process import Process
    from tests.sim.simulation import Simulation

CONNECT_TIMEOUT_S = 0.5
ANSWER_TIMEOUT_S = 12.0
"""Above request_wait_s and anything that the cluster waits for: the node must have answered by then."""

RETRANSMISSION_S = 0.05


class Deed(StrEnum):
    """What the application does with the session."""

    CREATE = "create"
    READ = "read"
    WRITE = "write"
    COUNT = "count"
    """Raise the counter by `if_version`."""

    END = "end"

    @property
    def is_get(self) -> bool:
        return self is Deed.READ


class Status(StrEnum):
    """How a request ended, as the caller sees it."""

    OK = "ok"
    ELSEWHERE = "elsewhere"
    GONE = "gone"
    CONFLICT = "conflict"
    UNAVAILABLE = "unavailable"
    LOST = "lost"
    """The connection ended, or nothing came in time: done or not, nobody knows."""

    UNREACHED = "unreached"
    """No connection: nothing was sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: Status
    node: str
    at: float = 0.0
    """When the node said so."""

    values: dict[str, int] = field(default_factory=dict)
    """What the request was shown, before its own changes."""

    version: int = 0
    protected: bool = True
    detail: str = ""

    def __str__(self) -> str:
        shown = " ".join(f"{name}={number}" for name, number in self.values.items() if TWIN not in name)
        version = f" v{self.version}{'' if self.protected else ' unprotected'}" if self.version else ""
        return f"{self.status} from {self.node}{version} {shown}{self.detail}"


@dataclass(frozen=True, slots=True)
class Request:
    key: bytes
    deed: Deed
    attribute: str
    number: int


class Visit:
    """A request at a node. `host`: where the caller is, for partitions."""

    def __init__(
        self,
        simulation: "Simulation",
        host: str,
        node: str,
        request: Request,
        answer: Callable[[Answer], None],
        *,
        may_refer: bool,
    ) -> None:
        self.request = request
        self._simulation = simulation
        self._network = simulation.network
        self._timeline = simulation.timeline
        self._host = host
        self._node = node
        self._may_refer = may_refer
        self._answer: Callable[[Answer], None] | None = answer
        self._process: Process | None = None
        self._checkout: Checkout | None = None
        self._values: dict[str, int] = {}
        self._version = 0
        self._changes: dict[str, int] = {}
        self._timeline.after(self._network.delay(), self._connect)

    def __str__(self) -> str:
        request = self.request
        return (
            f"{request.deed} {request.attribute}={request.number} of {self._simulation.name_of(request.key)}"
        )

    # --- the way there ----------------------------------------------------------------------------------

    def _connect(self) -> None:
        process = self._network.hosts.get(self._node)
        if self._network.is_cut_off(self._host, self._node):
            self._timeline.after(CONNECT_TIMEOUT_S, self._conclude, Answer(Status.UNREACHED, self._node))
        elif process is None:
            self._conclude(Answer(Status.UNREACHED, self._node))
        else:
            self._process = process
            process.visits[self] = None
            self._timeline.after(ANSWER_TIMEOUT_S, self._conclude, Answer(Status.LOST, self._node))
            process.enter(self, self._begin)

    def node_died(self) -> None:
        self._timeline.after(self._network.delay(), self._conclude, Answer(Status.LOST, self._node))

    # --- at the node ------------------------------------------------------------------------------------

    def _begin(self, _now: float) -> None:
        request = self.request
        if request.deed is Deed.CREATE:
            self._changes = {request.attribute: request.number, request.attribute + TWIN: request.number}
            self._ask(self._done, "create", request.key, self._encoded())
        else:
            self._ask(self._opened, "open", request.key, may_refer=self._may_refer)

    def _ask(self, then: Callable[[float, object], None], verb: str, *args: Any, **kwargs: Any) -> None:
        process = self._process
        assert process is not None, "it has been reached"

        def done(outcome: object) -> None:
            flushed = kwargs.get("flush", False)
            self._simulation.watch.resolved(process, self.request.key, verb, outcome, flushed=flushed)
            self._timeline.after(0.0, process.enter, self, then, outcome)

        process.ask(done, verb, *args, **kwargs)

    def _opened(self, _now: float, outcome: object) -> None:
        if not isinstance(outcome, Checkout):
            self._done(_now, outcome)
            return
        self._checkout = outcome
        self._values = {name: int(outcome.read(name) or b"0") for name in outcome.names()}
        self._version = outcome.version
        session = self._simulation.sessions.get(self.request.key)
        if session is None:
            raise Violation("a session that nobody made is served: an adopted id")
        session.used(self._timeline.now)
        rng = self._simulation.workload
        chance = rng.random()
        takes_s = 0.0 if chance < 0.6 else rng.uniform(0.0, 0.03) if chance < 0.98 else rng.uniform(0.0, 1.0)
        assert self._process is not None, "it has been reached"
        self._timeline.after(takes_s, self._process.enter, self, self._commit)

    def _commit(self, _now: float) -> None:
        request, checkout, process = self.request, self._checkout, self._process
        assert process is not None, "it has been reached"
        assert checkout is not None, "it was opened"
        if request.deed is Deed.END:
            self._simulation.sessions[request.key].end_asked = True
            self._ask(self._done, "invalidate", request.key)
            return
        if_version = None
        if request.deed is Deed.WRITE:
            self._changes = {request.attribute: request.number, request.attribute + TWIN: request.number}
        elif request.deed is Deed.COUNT:
            self._changes = {COUNTER: self._values.get(COUNTER, 0) + 1}
            if_version = self._version
        elif process.machine.is_settled(request.key, _now):
            copy = process.machine.copies[request.key]
            self._done(_now, Committed(copy.version, protected=bool(copy.backups)))
            return
        # Where writes are kept back, the counter is what the application cannot do without: it saves it.
        saves = request.deed is Deed.COUNT and self._simulation.plan.options.flush_s > 0
        self._ask(self._done, "commit", request.key, self._encoded(), if_version, flush=saves)

    def _encoded(self) -> dict[str, bytes | None]:
        return {name: b"%d" % number for name, number in self._changes.items()}

    def _done(self, _now: float, outcome: object) -> None:
        if self._checkout is not None:
            self._checkout.release()
            if isinstance(outcome, Committed):
                self._simulation.sessions[self.request.key].used(self._timeline.now)
        answer = self._answer_for(outcome)
        self._timeline.after(self._network.delay(), self._arrive, answer)

    def _answer_for(self, outcome: object) -> Answer:
        node, now = self._node, self._timeline.now
        match outcome:
            case Committed(version, protected):
                shown = {**self._values, **(self._changes if self.request.deed is Deed.COUNT else {})}
                return Answer(Status.OK, node, now, shown, version, protected)
            case Elsewhere(owner):
                return Answer(Status.ELSEWHERE, owner, now)
            case Conflict():
                return Answer(Status.CONFLICT, node, now)
            case Unavailable():
                return Answer(Status.UNAVAILABLE, node, now, detail=str(outcome))
            case None if self.request.deed is Deed.END and self._checkout is not None:
                return Answer(Status.OK, node, now)
            case SessionGone() | None:
                return Answer(Status.GONE, node, now)
        raise Violation(f"{self} was answered with {outcome!r}")

    # --- the way back -----------------------------------------------------------------------------------

    def _arrive(self, answer: Answer) -> None:
        if self._answer is not None and self._network.is_cut(self._node, self._host):
            self._timeline.after(RETRANSMISSION_S, self._arrive, answer)
        else:
            self._conclude(answer)

    def _conclude(self, answer: Answer) -> None:
        if self._process is not None and answer.status is not Status.LOST:
            self._process.visits.pop(self, None)
        if self._answer is not None:
            tell, self._answer = self._answer, None
            tell(answer)
