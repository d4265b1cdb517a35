"""What stands between clients and nodes: a sticky balancer with its own view of who is up, or nothing.

The rules of the real one: a request of which nothing was sent may go elsewhere, and so may a GET whose
connection was lost; a 421 is followed once. Health checks find nodes up and down, with delay.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from tests.sim.requests import Answer, Request, Status, Visit
from tests.sim.timeline import Story

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

CHECK_INTERVAL_S = 0.5
FALL = 2
"""So many failed checks take a node out."""

ATTEMPTS_MAX = 3


class Route(Protocol):
    """How a client's requests get to a node."""

    @property
    def host(self) -> str: ...

    def send(self, request: Request, cookie: str, answer: Callable[[Answer], None]) -> None:
        """Send to the node that the cookie names, or another one; `answer` is called once."""


class Pinned:
    """Straight to one node, whatever its health."""

    def __init__(self, simulation: "Simulation", node: str) -> None:
        self._simulation = simulation
        self.host = node

    def send(self, request: Request, cookie: str, answer: Callable[[Answer], None]) -> None:
        del cookie
        Visit(self._simulation, self.host, self.host, request, answer, may_refer=False)


class Balancer:
    def __init__(self, simulation: "Simulation", host: str, nodes: list[str]) -> None:
        self._simulation = simulation
        self.host = host
        self._failed = dict.fromkeys(nodes, 0)
        simulation.timeline.tell(self._check())

    def _check(self) -> Story:
        while True:
            yield CHECK_INTERVAL_S
            for node in self._failed:
                self._failed[node] = 0 if self._is_healthy(node) else self._failed[node] + 1

    def _is_healthy(self, node: str) -> bool:
        network = self._simulation.network
        process = network.hosts.get(node)
        return (
            process is not None
            and not process.is_paused
            and not network.is_cut_off(self.host, node)
            and process.machine.membership.joined
            and not process.machine.draining
        )

    def _pick(self, cookie: str, tried: list[str]) -> str:
        up = [node for node, failed in self._failed.items() if failed < FALL and node not in tried]
        if cookie in up:
            return cookie
        untried = [node for node in self._failed if node not in tried]
        return self._simulation.workload.choice(up or untried or list(self._failed))

    def send(self, request: Request, cookie: str, answer: Callable[[Answer], None]) -> None:
        self._attempt(request, self._pick(cookie, []), [], answer, may_refer=True)

    def _attempt(
        self,
        request: Request,
        node: str,
        tried: list[str],
        answer: Callable[[Answer], None],
        *,
        may_refer: bool,
    ) -> None:
        def answered(said: Answer) -> None:
            if said.status is Status.UNREACHED:
                self._failed[node] = FALL
            may_repeat = said.status is Status.UNREACHED or (
                said.status is Status.LOST and request.deed.is_get
            )
            if said.status is Status.ELSEWHERE:
                self._attempt(request, said.node, [*tried, node], answer, may_refer=False)
            elif may_repeat and len(tried) + 1 < ATTEMPTS_MAX:
                rest = [*tried, node]
                self._attempt(request, self._pick("", rest), rest, answer, may_refer=may_refer)
            else:
                answer(said)

        Visit(self._simulation, self.host, node, request, answered, may_refer=may_refer)
