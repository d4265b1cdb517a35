"""A student refers to a school, and both are attributes: what becomes of that when their node is killed.

Sessions as an application sees them on a cluster of real cores, in virtual time.
"""

import pytest
from structlog.testing import capture_logs

from sessiond.contract.session_id import Key, Keyring
from sessiond.core.options import Options
from sessiond.session import Session, Sessions
from tests.core.backend import WorldNode
from tests.core.world import World
from tests.support.school import School, Student

KEYRING = Keyring([b"0123456789abcdef"], "test")
LIMIT = 10_000


class Place:
    """A node and the sessions of its application."""

    def __init__(self, world: World, name: str, granularity: str) -> None:
        self.name = name
        self.node = WorldNode(world, name)
        self.sessions = Sessions(self.node, KEYRING, granularity, LIMIT)

    async def visit(self, key: Key) -> Session:
        checkout = await self.node.open(key)
        assert checkout is not None
        return self.sessions.attach(key, "token", self.name, checkout)


def cluster(*granularities: str, options: Options | None = None) -> tuple[World, list[Place]]:
    """A node for each."""
    world = World.of(len(granularities), options)
    return world, [
        Place(world, f"node{number + 1}", granularity) for number, granularity in enumerate(granularities)
    ]


async def enrolled(place: Place) -> Key:
    """A session with the two attributes."""
    session = place.sessions.new()
    session["school"] = school = School("Old")
    session["student"] = Student("Ann", school)
    await session.settle()
    assert session.key is not None
    key = bytes.fromhex(session.key)
    session.close()
    return key


@pytest.mark.parametrize(
    ("granularity", "is_one"), [("attribute", False), ("dirty", True), ("session", True)]
)
async def test_after_a_takeover_the_school_of_the_student_is_the_school_or_it_was_said_that_it_is_not(
    granularity, is_one
):
    world, (first, *others) = cluster(*[granularity] * 3)
    with capture_logs() as logs:
        key = await enrolled(first)
    reported = [line["attributes"] for line in logs if line["event"] == "session.shared_object"]
    assert reported == ([] if is_one else [["school", "student"]])
    world.kill(first.name)
    for place, name in zip(others, ("New", "Newer"), strict=True):
        session = await place.visit(key)
        session["school"].name = name
        assert session["student"].school.name == (name if is_one else "Old")
        await session.settle()
        session.close()
        assert world.primaries(key) == [place.name]


async def test_a_cluster_whose_setting_is_changed_node_by_node_loses_nothing_either_way():
    _, places = cluster("attribute", "dirty", "session", "attribute")
    session = places[0].sessions.new()
    session["n"], session["cart"], session["kept"] = 0, [], "from the start"
    await session.settle()
    key = bytes.fromhex(session.key)
    session.close()
    for number in range(8):
        place = places[number % 4]
        session = await place.visit(key)
        assert (session["n"], len(session["cart"]), session["kept"]) == (number, number, "from the start")
        session["n"] = number + 1
        session["cart"].append(place.name)
        await session.settle()
        session.close()


async def test_a_whole_session_as_large_as_many_attributes_is_limited_as_a_session():
    _, (place, _) = cluster("dirty", "dirty", options=Options(attribute_bytes_max=LIMIT))
    session = place.sessions.new()
    for number in range(20):
        session[f"n{number}"] = "x" * (LIMIT - 100)
    await session.settle()
    assert session.version == 1
    session.close()


@pytest.mark.parametrize("granularity", ["attribute", "dirty", "session"])
async def test_flushes_carry_what_each_granularity_writes(granularity):
    world, (first, second, _) = cluster(*[granularity] * 3, options=Options(flush_s=0.5))
    key = await enrolled(first)
    for name in ("A", "B"):
        session = await first.visit(key)
        session["school"].name = name
        await session.settle()
        session.close()
    world.run(0.6)
    world.kill(first.name)
    session = await second.visit(key)
    assert session["school"].name == "B"
    session.close()


async def test_save_survives_a_kill_at_once_whatever_the_settings():
    world, (first, second, _) = cluster(*["dirty"] * 3, options=Options(flush_s=60.0, ack="async"))
    key = await enrolled(first)
    session = await first.visit(key)
    session["school"].name = "Saved"
    await session.save()
    session["school"].name = "Not saved"
    await session.settle()
    world.kill(first.name)
    session.close()
    session = await second.visit(key)
    assert session["student"].school.name == "Saved"
    session.close()
