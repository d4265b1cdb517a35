"""How nodes find each other, and what a node may say before it knows the cluster."""

import pytest

from sessiond.contract.cluster_view import MemberState
from sessiond.core import messages as m
from sessiond.core.options import SNAPSHOT_CHUNK, Options
from sessiond.core.snapshots import SNAPSHOT_WAIT_S
from sessiond.errors import Unavailable
from tests.core.world import KEY, World


def test_the_first_node_starts_alone_at_once():
    world = World()
    world.boot("node1")
    assert world.machine("node1").membership.joined
    assert world.create("node1").protected is False


def test_a_node_that_is_its_own_seed_starts_alone_and_does_not_dial_itself_for_ever():
    world = World()
    world.boot("node1", seeds=("node1",))
    assert world.machine("node1").membership.joined
    world.run(5.0)
    dialer = world.machine("node1").membership._dialer
    assert dialer.next_deadline() is None


def test_a_node_whose_seeds_do_not_answer_starts_alone_keeps_trying_and_joins_them_later():
    world = World()
    world.boot("node1", seeds=("node2",))
    assert world.machine("node1").membership.joined
    world.run(30.0)
    world.boot("node2", seeds=())
    world.run(2.0)
    assert world.members("node1") == world.members("node2") == {"node1", "node2"}


def test_three_fresh_nodes_do_not_wait_for_each_other():
    # Each sees two others that have not joined either; the lowest name goes first.
    world = World()
    world.boot("node1", "node2", "node3", seeds=("node1", "node2", "node3"))
    world.run(0.5)
    for name in world.processes:
        assert world.machine(name).membership.joined
        assert world.members(name) == {"node1", "node2", "node3"}
    firsts = [n for n in world.processes if "first" in world.logged(n, "node.joined")[0]["how"]]
    assert firsts == ["node1"]


def test_nodes_that_know_only_one_seed_come_to_know_all():
    world = World()
    world.boot("node1")
    world.boot("node2", "node3", "node4", seeds=("node1",))
    world.run(1.0)
    for name in world.processes:
        assert world.members(name) == {"node1", "node2", "node3", "node4"}


def test_a_joiner_loads_the_whole_directory_before_it_serves():
    # The sessions' primary is dead and nobody has taken them over: only the directory knows of them.
    world = World(Options(reprotect_delay_s=60.0))
    world.boot("node1", "node2")
    world.run(1.0)
    for number in range(2 * SNAPSHOT_CHUNK + 1):
        world.create("node2", number.to_bytes(16))
    world.run(0.1)
    world.kill("node2")
    world.hold(m.Snapshot)
    world.boot("node3", seeds=("node1",))
    world.run(0.5)
    joiner = world.machine("node3")
    assert joiner.state is MemberState.JOINING
    assert len(joiner.directory) == 0
    world.let_go()
    assert joiner.state is MemberState.ALIVE
    assert len(joiner.directory) == 2 * SNAPSHOT_CHUNK + 1
    assert dict(joiner.directory.items()) == dict(world.machine("node1").directory.items())


def test_a_joiner_answers_neither_gone_nor_anything_else_before_its_snapshot():
    # Protocol 8: a joiner that said "no such session" made browsers lose theirs.
    world = World.of(2)
    world.create("node1")
    world.hold(m.Snapshot)
    world.boot("node3", seeds=("node1",))
    world.run(0.5)
    assert isinstance(world.open("node3"), Unavailable)
    assert isinstance(world.create("node3", b"n" * 16), Unavailable)
    assert world.machine("node3").try_open(KEY, world.now) is None
    world.let_go()
    assert world.read("node3") == b"1"


def test_a_joiner_takes_no_copies_before_it_knows_the_cluster():
    world = World.of(1)
    world.create("node1")
    world.hold(m.Snapshot)
    world.boot("node2", seeds=("node1",))
    world.run(0.5)
    assert world.machine("node1").cluster_view().members[1].state is MemberState.JOINING
    world.let_go()
    world.run(0.5)
    assert world.where() == {"node1": "P", "node2": "B"}


def test_a_joiner_asks_another_member_when_the_first_one_does_not_send_its_directory():
    world = World.of(2)
    world.hold(m.Snapshot)
    for process in world.processes.values():
        process.sent.clear()
    world.boot("node3", seeds=("node1",))
    asked = next(n for n in ("node1", "node2") if any(type(s) is m.Snapshot for s in world.processes[n].sent))
    world.held = [(m.Snapshot, asked, None)]
    for _ in range(8):  # whom it asks next is chosen by chance
        world.run(SNAPSHOT_WAIT_S + 0.3)
    assert world.machine("node3").membership.joined


def test_locations_that_change_while_the_snapshot_is_under_way_are_not_lost():
    world = World.of(2)
    world.create("node1")
    world.run(0.1)
    world.hold(m.Snapshot, by="node1")
    world.hold(m.Snapshot, by="node2")
    world.boot("node3", seeds=("node1",))
    world.run(0.1)
    world.open("node2").release()  # node2 is the primary now
    world.run(0.1)
    world.let_go()
    world.run(0.1)
    assert world.machine("node3").directory.get(KEY) == world.machine("node2").copies[KEY].location


def test_a_member_that_has_not_joined_gives_no_snapshot():
    world = World()
    world.boot("node1", "node2", seeds=("node1", "node2"))
    world.run(1.0)
    world.hold(m.Snapshot)
    world.boot("node3", seeds=("node1",))
    world.run(0.1)
    joiner = world.machine("node3")
    joiner.take_effects()
    joiner.receive(world.machine("node1").life, m.SnapshotRequest(0), world.now)
    assert joiner.take_effects() == []


@pytest.mark.parametrize("first", ["apart1", "apart3"])
def test_two_clusters_that_started_apart_merge_when_one_node_meets_another(first):
    # Each side has its own sessions; afterwards every node is linked with every other, all sessions are
    # known everywhere, and nothing was quarantined for it.
    world = World()
    world.boot("apart1", "apart2", seeds=("apart1",))
    world.run(1.0)
    world.boot("apart3", "apart4", seeds=("apart3",))
    world.run(1.0)
    world.create("apart1", b"1" * 16)
    world.create("apart3", b"3" * 16)
    world.run(0.2)
    other = "apart3" if first == "apart1" else "apart1"
    world.machine(first).membership._dialer.want(f"{other}:7101", world.now)
    world.run(3.0)
    for name in world.processes:
        assert world.members(name) == {"apart1", "apart2", "apart3", "apart4"}
        machine = world.machine(name)
        assert machine.locate(b"1" * 16).primary == "apart1"
        assert machine.locate(b"3" * 16).primary == "apart3"
        assert machine.stats.quarantined == 0
