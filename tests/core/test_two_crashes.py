"""`copies=2`: what was acknowledged survives two crashes in the same instant, whichever two nodes they are.

Three nodes hold the session, two do not. In the same instant means that no survivor has processed anything of the first
crash when the second one comes.
"""

import pytest

from sessiond.backend import Committed
from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.options import Options
from tests.core.world import KEY, World

OPTIONS = {
    "any": Options(copies=2),
    "majority": Options(copies=2, quorum="majority", expect=5),
}

VICTIMS = {
    "the owner and its first backup": (0, 1),
    "the owner and its second backup": (0, 2),
    "both backups": (1, 2),
    "the owner and a node without a copy": (0, 3),
    "a backup and a node without a copy": (2, 3),
    "both nodes without a copy": (3, 4),
}
"""Of the owner, its backups in the order of the list, and the others."""

IN_PEACE_S = 4.0


def cluster(quorum: str, *, announced: bool) -> World:
    """Five nodes and one acknowledged write to node1; unless `announced`, only the holders know where it is."""
    world = World.of(5, OPTIONS[quorum])
    if not announced:
        world.hold(m.Locations)
    assert world.create("node1", n=b"1") == Committed(1, protected=True)
    assert world.commit("node1", n=b"2") == Committed(2, protected=True)
    assert sorted(world.where().values()) == ["B", "B", "P"]
    return world


def crash(world: World, victims: tuple[int, int]) -> list[str]:
    """The names of those who live on."""
    places = ["node1", *world.listed(), *world.strangers()]
    world.kill(*(places[number] for number in victims))
    return sorted(world.processes)


def found(world: World) -> dict[str, bytes | None]:
    """What each node shows, asked in turn: the session comes to it as soon as it has been elsewhere for long enough."""
    values = {}
    for name in sorted(world.processes):
        request = world.ask(name, "open", KEY, may_refer=False)
        world.run(IN_PEACE_S)
        checkout = world.outcome(name, request)
        assert isinstance(checkout, Checkout), checkout
        values[name] = checkout.read("n")
        checkout.release()
        world.settle()
    return values


@pytest.mark.parametrize("announced", [True, False], ids=["known to all", "known to its holders"])
@pytest.mark.parametrize("victims", VICTIMS.values(), ids=VICTIMS.keys())
@pytest.mark.parametrize("quorum", ["any", "majority"])
def test_an_acknowledged_write_is_found_at_every_survivor(quorum, victims, announced):
    world = cluster(quorum, announced=announced)
    survivors = crash(world, victims)
    world.let_go()
    world.run(IN_PEACE_S)
    assert found(world) == dict.fromkeys(survivors, b"2")
    world.run(IN_PEACE_S)
    assert sorted(world.where().values()) == ["B", "B", "P"], "three nodes are left, so each has a copy again"


@pytest.mark.parametrize("victims", VICTIMS.values(), ids=VICTIMS.keys())
@pytest.mark.parametrize("quorum", ["any", "majority"])
@pytest.mark.parametrize("asked", range(3))
def test_who_asks_at_once_gets_the_write_and_no_other_answer(quorum, victims, asked):
    world = cluster(quorum, announced=False)
    name = crash(world, victims)[asked]
    request = world.ask(name, "open", KEY, may_refer=False)
    world.let_go()
    world.run(OPTIONS[quorum].request_wait_s - 0.1)
    checkout = world.outcome(name, request)
    assert isinstance(checkout, Checkout), checkout
    assert checkout.read("n") == b"2"
    checkout.release()
    assert world.commit(name, n=b"3") == Committed(3, protected=True)


@pytest.mark.parametrize("victims", VICTIMS.values(), ids=VICTIMS.keys())
@pytest.mark.parametrize("quorum", ["any", "majority"])
def test_what_was_acknowledged_at_the_moment_of_the_crash_is_found_too(quorum, victims):
    world = cluster(quorum, announced=True)
    world.hold(m.Ack)
    write = world.ask("node1", "commit", KEY, {"n": b"3"}, None)
    assert world.outcome("node1", write) == "pending"
    # The acks arrive, the answer leaves, and nothing that the owner says afterwards reaches anybody.
    for kind in (m.Locations, m.Touch, m.Confirm, m.Release):
        world.hold(kind, by="node1")
    world.let_go(m.Ack)
    assert world.outcome("node1", write) == Committed(3, protected=True)
    survivors = crash(world, victims)
    world.let_go()
    world.run(IN_PEACE_S)
    assert found(world) == dict.fromkeys(survivors, b"3")


@pytest.mark.parametrize("quorum", ["any", "majority"])
def test_a_session_with_one_backup_does_not_survive_both_its_holders(quorum):
    # Else the tests above would prove nothing.
    options = Options(copies=1, quorum=quorum, expect=5, request_wait_s=1.0)
    world = World.of(5, options)
    world.create("node1", n=b"1")
    (backup,) = world.listed()
    world.kill("node1", backup)
    world.run(IN_PEACE_S)
    assert world.where() == {}
