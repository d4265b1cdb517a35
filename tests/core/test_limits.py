"""Size and memory limits: a clear refusal, nothing written, nothing else affected."""

import pytest

from sessiond.backend import Committed
from sessiond.core.options import ATTRIBUTES_MAX, Options
from sessiond.errors import MemoryFull, SessionTooLarge
from tests.core.world import KEY, World

OPTIONS = Options(attribute_bytes_max=100, session_bytes_max=250, memory_bytes_max=5_000)


@pytest.fixture
def world() -> World:
    world = World.of(2, OPTIONS)
    world.create("node1", a=b"x" * 50)
    world.run(0.1)
    return world


def content(world: World) -> list[tuple[dict, int]]:
    return [
        (dict(process.machine.copies[KEY].attributes), process.machine.copies.bytes)
        for process in world.processes.values()
    ]


def test_an_attribute_over_the_limit_is_refused_by_name_and_nothing_is_written(world):
    before = content(world)
    refusal = world.commit("node1", fine=b"1", big=b"x" * 101)
    assert isinstance(refusal, SessionTooLarge)
    for word in ("'big'", "101", "attribute_bytes_max", "100", "nothing was written"):
        assert word in str(refusal)
    assert content(world) == before
    assert world.commit("node1", big=b"x" * 100) == Committed(2, protected=True)


def test_a_session_over_the_limit_is_refused_and_nothing_is_written(world):
    world.commit("node1", b=b"x" * 100)
    before = content(world)
    refusal = world.commit("node1", c=b"x" * 100)
    assert isinstance(refusal, SessionTooLarge)
    for word in ("session_bytes_max", "250", "nothing was written"):
        assert word in str(refusal)
    assert content(world) == before


def test_a_session_at_its_limit_can_shrink_and_change_within_it(world):
    world.commit("node1", b=b"x" * 100, c=b"x" * 97)  # with the names exactly 250
    assert isinstance(world.commit("node1", d=b""), SessionTooLarge)
    assert world.commit("node1", b=b"y" * 100).version == 3
    assert world.commit("node1", b=b"y").version == 4
    assert world.commit("node1", c=None).version == 5
    assert world.commit("node1", d=b"x" * 100).version == 6


def test_a_new_session_over_a_limit_is_refused_and_does_not_exist(world):
    refusal = world.create("node1", b"n" * 16, a=b"x" * 101)
    assert isinstance(refusal, SessionTooLarge)
    assert world.where(b"n" * 16) == {}
    assert world.open("node2", b"n" * 16) is None


def test_a_node_whose_memory_is_full_takes_no_new_data_and_evicts_nothing(world):
    keys = [i.to_bytes(16) for i in range(50)]
    outcomes = [world.create("node1", key, a=b"x" * 90) for key in keys]
    refused = [outcome for outcome in outcomes if not isinstance(outcome, Committed)]
    assert 0 < len(refused) < len(keys)
    assert all(isinstance(outcome, MemoryFull) for outcome in refused)
    for word in ("memory_bytes_max", "5000", "nothing was written"):
        assert word in str(refused[0])
    for key, outcome in zip(keys, outcomes, strict=True):
        assert (world.where(key) == {}) == isinstance(outcome, MemoryFull)
    assert isinstance(world.commit("node1", b=b"x" * 90), MemoryFull)
    assert world.read("node1", "a") == b"x" * 50
    assert world.commit("node1", a=b"y" * 50).version == 2  # no new data
    assert world.commit("node1", a=None).version == 3


def test_a_session_has_a_greatest_number_of_attributes_and_deleted_ones_count():
    # One more, and its PUT would be over the codec's limits: the backup would close the link, for ever.
    world = World.of(2)
    most = {f"a{number}": b"" for number in range(ATTRIBUTES_MAX)}
    assert world.create("node1", KEY, **most) == Committed(1, protected=True)
    refusal = world.commit("node1", more=b"")
    assert isinstance(refusal, SessionTooLarge)
    for word in ("attribute names", str(ATTRIBUTES_MAX), "nothing was written"):
        assert word in str(refusal)
    assert world.commit("node1", a0=None).version == 2
    assert isinstance(world.commit("node1", more=b""), SessionTooLarge)
    assert world.commit("node1", a0=b"again").version == 3
    world.reset("node1", "node2")
    assert isinstance(world.create("node2", b"n" * 16, **most, more=b""), SessionTooLarge)
    world.kill("node1")
    assert world.read("node2", "a0") == b"again"


def test_a_forwarded_write_over_a_limit_is_refused_to_who_made_it():
    world = World.of(3, OPTIONS)
    world.create("node1", a=b"x")
    world.run(0.1)
    world.open("node2").release()
    refusal = world.commit("node1", a=b"x" * 101)
    assert isinstance(refusal, SessionTooLarge)
    assert "'a'" in str(refusal)
    assert world.read("node2", "a") == b"x"
