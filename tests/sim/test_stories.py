"""Hypothesis tells the story: which request, which failure, when. What it finds it shortens to the steps that matter.

The same world, promises and invariants as in `simulation`; only who decides is another one. A failure waits until
the last one's window has closed, as the promises of `any` ask for.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.sim.balancers import Pinned
from tests.sim.clients import Client
from tests.sim.plans import FAST, Plan
from tests.sim.requests import Deed
from tests.sim.simulation import Simulation

NODES = st.sampled_from([f"n{i + 1}" for i in range(5)])


class Told(Client):
    """A user who sends one request when told to, and none while one is under way."""

    deed = Deed.CREATE
    is_busy = False

    def _think(self) -> None:
        self.is_busy = False

    def _deed(self) -> Deed:
        return self.deed

    def does(self, deed: Deed) -> None:
        if not self.is_busy:
            self.deed, self.is_busy = deed, True
            self._act()


class Stories(RuleBasedStateMachine):
    @initialize(node=NODES)
    def begins(self, node: str) -> None:
        self.simulation = Simulation(0, Plan(strict=True, options=FAST))
        for name in self.simulation.names:
            self.simulation.boot(name)
        self.passes(1.0)
        self.session = self.simulation.add_session()
        users = (node, *(name for name in self.simulation.names if name != node))
        self.users = {
            name: Told(self.simulation, name, Pinned(self.simulation, name), self.session, creates=True)
            for name in users
        }
        self.users[node].does(Deed.CREATE)
        self.passes(0.2)

    def passes(self, seconds: float) -> None:
        self.simulation.timeline.run_until(self.simulation.timeline.now + seconds)

    @rule(node=NODES, deed=st.sampled_from([Deed.READ, Deed.WRITE, Deed.WRITE, Deed.COUNT, Deed.END]))
    def asks(self, node: str, deed: Deed) -> None:
        if self.session.created and not self.session.ended:
            self.users[node].does(deed)

    @rule(milliseconds=st.sampled_from([1, 3, 10, 100, 1000]))
    def time_passes(self, milliseconds: int) -> None:
        self.passes(milliseconds / 1000)

    @rule(one=NODES, other=NODES)
    def a_link_breaks(self, one: str, other: str) -> None:
        for end in self.simulation.network.links():
            if {end.owner.name, end.other.owner.name if end.other else ""} == {one, other}:
                self.simulation.network.reset(end)

    @rule(node=NODES, milliseconds=st.sampled_from([1, 50, 1500]))
    def a_node_crashes_and_comes_back(self, node: str, milliseconds: int) -> None:
        self.simulation.settle()
        self.simulation.crash(node)
        self.passes(milliseconds / 1000)
        self.simulation.boot(node)

    @rule(node=NODES, seconds=st.sampled_from([0.3, 0.8, 1.6]))
    def a_node_stands_still(self, node: str, seconds: float) -> None:
        self.simulation.settle()
        self.simulation.network.hosts[node].pause()
        self.passes(seconds)
        self.simulation.network.hosts[node].resume()

    def teardown(self) -> None:
        if hasattr(self, "simulation"):
            self.simulation.finish()


TestStories = Stories.TestCase
TestStories.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
