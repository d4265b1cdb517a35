"""A member that is sick slows down its own sessions once, and nobody else."""

from sessiond.backend import Committed
from sessiond.core import messages as m
from sessiond.core.candidates import SLOW_PASSED_OVER_S
from sessiond.core.options import Options
from tests.core.world import World

SESSIONS = 40
OPTIONS = Options(ack_timeout_s=0.3, silence_timeout_s=20.0)


def keys() -> list[bytes]:
    return [index.to_bytes(16, "big") for index in range(1, SESSIONS + 1)]


def sick_world() -> tuple[World, list[bytes]]:
    """node2 applies nothing and yet lives; one session has found out. The keys of the others that it backs up."""
    world = World.of(3, OPTIONS)
    for key in keys():
        world.create("node1", key)
    mine = [key for key in keys() if world.listed(key) == ["node2"]]
    world.hold(m.Put, m.Patch, to="node2")
    first, *others = mine
    world.ask("node1", "commit", first, {"n": b"2"}, None)
    world.run(OPTIONS.ack_timeout_s + 0.15)
    return world, others


def test_sessions_with_healthy_backups_do_not_notice_a_sick_one():
    world, _ = sick_world()
    for key in [key for key in keys() if world.listed(key) == ["node3"]]:
        assert world.commit("node1", key, n=b"2") == Committed(2, protected=True)


def test_further_sessions_of_a_sick_backup_are_given_another_without_waiting_for_the_time_out():
    world, others = sick_world()
    for key in others:
        operation = world.ask("node1", "commit", key, {"n": b"2"}, None)
        world.run(0.06)
        assert world.listed(key)[-1] == "node3"
        assert world.outcome("node1", operation) == "pending" or "node2" not in world.listed(key)
    world.let_go()  # it applies late, or releases: either way the writes are answered
    world.run(0.2)
    for key in others:
        assert world.machine("node3").copies[key].read("n") == b"2"


def test_a_sick_backup_that_answers_again_is_released_and_not_the_one_that_took_its_place():
    world, others = sick_world()
    world.ask("node1", "commit", others[0], {"n": b"2"}, None)
    world.run(0.1)
    world.let_go()
    world.run(0.5)
    assert world.listed(others[0]) == ["node3"]
    assert "node2" not in world.where(others[0])


def test_a_member_that_acks_in_time_again_keeps_the_sessions_it_has():
    world, others = sick_world()
    world.let_go()
    world.run(0.5)
    world.commit("node1", others[0], n=b"2")  # found to be prompt again by this one
    assert "node2" not in {life.name for life in world.machine("node1").candidates.late}
    for key in others[1:]:
        assert world.commit("node1", key, n=b"2") == Committed(2, protected=True)
        assert world.listed(key) == ["node2"]


def test_a_member_that_was_slow_is_not_chosen_for_new_sessions_for_a_while():
    world, _ = sick_world()
    world.let_go()
    fresh = [b"a" * 15 + bytes([index]) for index in range(20)]
    for key in fresh:
        world.create("node1", key)
        assert world.listed(key) == ["node3"]
    world.run(SLOW_PASSED_OVER_S + 1.0)
    later = [b"b" * 15 + bytes([index]) for index in range(20)]
    for key in later:
        world.create("node1", key)
    assert any(world.listed(key) == ["node2"] for key in later)


def test_a_sick_sole_candidate_is_better_than_none():
    world, _ = sick_world()
    world.let_go()
    world.kill("node3")
    world.create("node1", b"c" * 16)
    assert world.listed(b"c" * 16) == ["node2"]


def test_that_a_member_was_slow_is_said_once_and_not_for_each_session():
    world, others = sick_world()
    for key in others:
        world.ask("node1", "commit", key, {"n": b"2"}, None)
    world.run(1.0)
    assert [fields["peer"] for fields in world.logged("node1", "peer.slow")] == ["node2"]
