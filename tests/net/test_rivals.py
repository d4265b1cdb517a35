"""Two nodes and their connections as a model: messages arrive in any order between connections, in order on
each; either end may break at any time, and the other one hears of that as late as the schedule likes."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.core.types import Life
from sessiond.net.rivals import Rivals

LIVES = (Life("low", 1), Life("top", 1))


class End:
    """One side's view of a connection: new → … → open → closed."""

    def __init__(self, wire, side):
        self.wire = wire
        self.side = side
        self.state = "new"
        self.began = 0
        self.inbox = deque()

    @property
    def is_open(self):
        return self.state == "open"

    @property
    def initiated_by_us(self):
        return self.wire.initiator == self.side

    @property
    def other(self):
        return self.wire.ends[1 - self.side]


class Wire:
    def __init__(self, initiator):
        self.initiator = initiator
        self.ends = (End(self, 0), End(self, 1))


class World:
    def __init__(self):
        self.rivals = (Rivals(), Rivals())
        self.wires = []
        self.replaced = 0
        self.missed = 0

    def dial(self, side):
        wire = Wire(side)
        self.wires.append(wire)
        wire.ends[side].state = "dialing"
        wire.ends[1 - side].inbox.append("connected")

    def break_(self, end):
        """This end closes, for whatever reason; the other one will read that some time."""
        if end.state in {"new", "closed"}:
            return
        was_open = end.is_open
        end.state = "closed"
        end.other.inbox.append("end")
        rivals, peer = self.rivals[end.side], LIVES[1 - end.side]
        rivals.withdraw(peer, end)
        if was_open and rivals.forget(peer, end):
            self.missed += 1

    def open_(self, end):
        rivals, peer = self.rivals[end.side], LIVES[1 - end.side]
        rivals.withdraw(peer, end)
        end.state = "open"
        replaced = rivals.open(peer, end)
        if replaced is not None:
            was_given_up = not replaced.other.is_open or end.other.state == "closed"
            assert was_given_up, "a link was replaced that both sides still had"
            self.replaced += 1
            self.break_(replaced)

    def steps(self):
        """What may happen next without anybody doing anything new."""
        ends = [end for wire in self.wires for end in wire.ends]
        steps = [lambda end=end: self.hear(end) for end in ends if end.inbox and end.state != "deciding"]
        return steps + [lambda end=end: self.decide(end) for end in ends if end.state == "deciding"]

    def hear(self, end):
        said = end.inbox.popleft()
        if end.state == "closed":
            return
        match said:
            case "connected":
                end.state, end.began = "greeting", self.rivals[end.side].moment()
                end.other.inbox.append("who I am")
            case "who I am":
                end.state = "deciding"
            case "welcome":
                self.open_(end)
            case "no" | "end":
                self.break_(end)

    def decide(self, end):
        rivals, peer = self.rivals[end.side], LIVES[1 - end.side]
        if end.initiated_by_us:
            if rivals.may_commit(peer):
                rivals.commit(peer, end)
                end.state = "committed"
                end.other.inbox.append("who I am")
                return
        elif rivals.may_accept(peer, began=end.began, peer_is_lower=peer < LIVES[end.side]):
            end.other.inbox.append("welcome")
            self.open_(end)
            return
        end.other.inbox.append("no")
        self.break_(end)

    def settle(self):
        while steps := self.steps():
            steps[0]()

    def links(self):
        for rivals in self.rivals:
            rivals.check_invariants()
        return [rivals.get(peer) for rivals, peer in zip(self.rivals, reversed(LIVES), strict=True)]

    def run(self, schedule, *, may_break):
        for choice in schedule:
            ends = [end for wire in self.wires for end in wire.ends if end.state not in {"new", "closed"}]
            breaks = [lambda end=end: self.break_(end) for end in ends] if may_break else []
            dials = [lambda: self.dial(0), lambda: self.dial(1)] if len(self.wires) < 6 else []
            steps = self.steps()
            # Steps count thrice, so that schedules get somewhere before something breaks.
            choices = steps * 3 + dials + breaks
            if choices:
                choices[choice % len(choices)]()
        self.settle()


schedules = st.lists(st.integers(0, 10_000), max_size=80)


@settings(max_examples=1500, deadline=None)
@given(schedules)
def test_whatever_breaks_both_sides_end_with_the_same_link_or_none(schedule):
    world = World()
    world.run(schedule, may_break=True)
    one, two = world.links()
    assert (one and one.wire) is (two and two.wire)


@settings(max_examples=1000, deadline=None)
@given(schedules)
def test_dials_that_cross_make_one_link_that_nobody_ever_loses(schedule):
    world = World()
    world.run(schedule, may_break=False)
    one, two = world.links()
    assert (one and one.wire) is (two and two.wire)
    assert (one is not None) is bool(world.wires)
    assert world.replaced == 0
    assert world.missed == 0


@settings(max_examples=1000, deadline=None)
@given(schedules, st.sampled_from([0, 1]))
def test_nothing_that_broke_keeps_the_two_apart(schedule, dialer):
    world = World()
    world.run(schedule, may_break=True)
    if world.links() == [None, None]:
        world.dial(dialer)
        world.settle()
    assert None not in world.links()


def committed_both_ways():
    world = World()
    world.dial(0)
    world.dial(1)
    low_dial, top_dial = (wire.ends[wire.initiator] for wire in world.wires)
    for end in (low_dial, top_dial):
        world.hear(end.other)
        world.hear(end)
        world.decide(end)
    return world, low_dial, top_dial


def test_when_both_have_committed_the_dial_of_the_lower_life_wins():
    world, low_dial, top_dial = committed_both_ways()
    world.settle()
    assert world.links() == [low_dial, low_dial.other]
    assert top_dial.state == "closed"


def test_the_dialer_of_an_old_link_that_died_unnoticed_is_let_in_again():
    for dialer in (0, 1):
        for redialer in (0, 1):
            world = World()
            world.dial(dialer)
            world.settle()
            old = world.wires[0].ends[redialer]
            world.break_(old)
            old.other.inbox.clear()  # the other side never hears of it
            world.dial(redialer)
            world.settle()
            assert [link and link.wire for link in world.links()] == [world.wires[1]] * 2


def test_a_second_dial_to_a_linked_life_keeps_the_link_that_is_there():
    world = World()
    world.dial(1)
    world.settle()
    links = world.links()
    world.dial(0)
    world.dial(1)
    world.settle()
    assert world.links() == links
