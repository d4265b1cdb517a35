"""`location="query"`: locations stay with the holders, everybody else asks when a user comes."""

import pytest

from sessiond.backend import Committed, Elsewhere
from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.directory import BUCKETS
from sessiond.core.effects import Send
from sessiond.core.options import LOCATION_BATCH_S, QUERY_CONFIRM_INTERVAL_S, Options
from sessiond.core.types import Location, Term
from tests.core.world import KEY, World

QUERY = Options(location="query", reprotect_delay_s=60.0)


def cluster(nodes: int = 4, options: Options = QUERY) -> World:
    """node1 is the session's primary."""
    return World.with_session(nodes, options)


@pytest.fixture
def world() -> World:
    return cluster()


def knowing(world: World, key: bytes = KEY) -> set[str]:
    return {name for name, process in world.processes.items() if process.machine.directory.get(key)}


def sent(world: World, kind: type) -> int:
    return sum(type(message) is kind for process in world.processes.values() for message in process.sent)


def test_only_the_holders_know_where_a_session_lives(world):
    assert knowing(world) == {"node1", *world.listed()}
    (backup,) = world.listed()
    location = world.machine("node1").copies[KEY].location
    assert world.machine(backup).directory.get(KEY) == location


def test_list_changes_reach_the_holders_and_nobody_else():
    world = cluster(5, Options(location="query", copies=2, reprotect_delay_s=60.0))
    first, second = world.listed()
    world.kill(first)
    world.run(0.5)
    assert second in world.listed()
    location = world.machine("node1").copies[KEY].location
    assert knowing(world) == {"node1", *world.listed()}
    for name in world.listed():
        copy = world.machine(name).copies[KEY]
        assert world.machine(name).directory.get(KEY) == location
        assert (copy.seq, copy.backups) == (location.seq, location.backups)


def test_the_backup_of_a_dead_primary_takes_over_when_a_user_comes_to_it(world):
    (backup,) = world.listed()
    world.kill("node1")
    assert world.read(backup) == b"1"
    assert world.commit(backup, n=b"2") == Committed(2, protected=True)
    assert world.primaries() == [backup]
    world.run(LOCATION_BATCH_S * 2)
    assert knowing(world) == {backup, *world.listed()}


def test_another_node_asks_and_the_backup_of_the_dead_primary_grants_it_the_session(world):
    (backup,) = world.listed()
    asker = world.strangers()[0]
    world.kill("node1")
    assert world.read(asker) == b"1"
    assert world.where()[backup] == "B"
    assert world.primaries() == [asker]
    world.run(LOCATION_BATCH_S * 2)
    assert knowing(world) == {asker, backup}


def test_a_request_that_can_be_sent_elsewhere_is_referred_to_the_living_primary(world):
    asker = world.strangers()[0]
    assert world.open(asker, may_refer=True) == Elsewhere("node1")
    assert world.primaries() == ["node1"]
    assert asker not in knowing(world)  # what it has learnt would only become stale


def test_a_request_that_cannot_be_sent_elsewhere_gets_the_session_from_its_living_primary(world):
    asker = world.strangers()[0]
    operation = world.ask(asker, "open", KEY, may_refer=False)
    world.run(0.2)
    assert isinstance(world.outcome(asker, operation), Checkout)
    assert world.primaries() == [asker]


def test_no_such_session_is_said_once_everybody_has_answered(world):
    asker = world.strangers()[0]
    operation = world.ask(asker, "open", b"x" * 16, may_refer=True)
    assert world.outcome(asker, operation) is None
    assert knowing(world, b"x" * 16) == set()


def test_the_end_of_a_session_is_kept_by_its_holders_until_the_tombstone_expires(world):
    holders = {"node1", *world.listed()}
    world.ask("node1", "invalidate", KEY)
    world.run(0.1)
    assert world.where() == {}
    assert {name for name in world.processes if world.machine(name).directory.is_gone(KEY)} == holders
    assert world.open(world.strangers()[0]) is None
    world.run(world.options.tombstone_ttl_s)
    assert knowing(world) == set()


def test_a_joiner_loads_no_locations(world):
    for number in range(50):
        world.create("node1", bytes([number]) * 16)
    world.run(0.1)
    for process in world.processes.values():
        process.sent.clear()
    world.boot("node5")
    world.run(1.0)
    assert world.machine("node5").membership.joined
    assert len(world.machine("node5").directory) == 0
    snapshots = [s for p in world.processes.values() for s in p.sent if type(s) is m.Snapshot]
    assert {s.locations for s in snapshots} == {()}
    assert any(s.end == BUCKETS for s in snapshots)
    assert world.read("node5") == b"1"


def test_directories_are_not_compared(world):
    (backup,) = world.listed()
    world.reset("node1", backup)
    world.run(10.0)
    assert sent(world, m.Digest) == sent(world, m.Dir) == 0


def test_a_holder_that_missed_a_list_learns_it_by_its_confirm():
    world = cluster(5, Options(location="query", copies=2, reprotect_delay_s=60.0))
    first, second = world.listed()
    world.hold(m.Locations, to=second)
    world.kill(first)
    world.run(0.5)
    lives = world.machine("node1").life, world.machine(second).life
    world.links[frozenset(lives)][lives[1]].clear()  # lost with the connection
    world.held.clear()
    location = world.machine("node1").copies[KEY].location
    assert world.machine(second).copies[KEY].seq < location.seq
    world.reset("node1", second)
    world.run(0.2)
    copy = world.machine(second).copies[KEY]
    assert copy.location == location


def test_a_node_that_was_presumed_dead_finds_its_sessions_new_primary_by_asking():
    world = cluster(4, Options(location="query", reprotect_delay_s=0.2))
    world.stop("node1")
    world.run(world.options.silence_timeout_s + 1.0)
    world.resume("node1")
    world.run(2.0)
    assert sorted(world.where().values()) == ["B", "P"]
    assert knowing(world) == set(world.where())


def test_two_primaries_that_a_partition_left_find_each_other_when_a_link_opens():
    # Nobody broadcasts, nobody compares digests, and neither asks for a session that it owns.
    world = cluster(3, Options(location="query", copies=0))
    machine, other = world.machine("node1"), world.machine("node2")
    copy = machine.copies[KEY]
    fork = m.Grant(KEY, copy.term._replace(epoch=7, owner=other.life), (), copy.data(world.now))
    other.receive(machine.life, fork, world.now)
    world.run(1.0)
    assert world.primaries() == ["node1", "node2"]
    world.reset("node1", "node2")
    world.run(0.2)
    assert world.where() == {"node2": "P"}


def test_a_newcomer_is_told_of_no_sessions(world):
    for number in range(20):
        world.create("node1", bytes([number]) * 16)
    world.run(1.0)
    world.processes["node1"].sent.clear()
    world.boot("node5")
    world.run(1.0)
    assert sent(world, m.Locations) == 0


def late_put(world: World, sender: str, receiver: str, owner: str) -> None:
    """The sender fences the receiver, which holds nothing, for a grant to the owner that it repeats."""
    copy = world.machine(owner).copies.get(KEY) or world.machine("node1").copies[KEY]
    term = Term(copy.term.epoch + (copy.term.owner.name != owner), world.machine(owner).life)
    backups = (world.machine(sender).life, world.machine(receiver).life)
    put = m.Put(KEY, term, 0, backups, copy.data(world.now))
    world.machine(receiver).receive(world.machine(sender).life, put, world.now)
    world.settle()
    assert world.where()[receiver] == "B"


def test_who_was_fenced_anew_for_a_grant_that_had_arrived_does_not_keep_its_copy(world):
    (backup,) = world.listed()
    asker, stranger = world.strangers()
    world.kill("node1")
    assert world.read(asker) == b"1"
    world.run(0.1)
    late_put(world, backup, stranger, asker)
    granted = world.machine(asker).copies[KEY]
    backups = (world.machine(backup).life, world.machine(stranger).life)
    grant = m.Grant(KEY, granted.term, backups, granted.data(world.now))
    world.machine(asker).receive(world.machine(backup).life, grant, world.now)
    world.run(2.0)
    assert world.where() == {asker: "P", backup: "B"}


def test_a_copy_whose_owner_and_arbiter_know_nothing_of_it_finds_its_place(world):
    (backup,) = world.listed()
    owner, stranger = world.strangers()
    late_put(world, owner, stranger, owner)
    world.reset(owner, stranger)
    world.run(3.0)
    assert world.where() == {"node1": "P", backup: "B"}


def test_who_returns_from_another_life_is_told_of_sessions_though_it_holds_none(world):
    # It may know of the end of one of them; a process that starts anew knows of nothing.
    stranger = world.strangers()[0]
    machine, teller = world.machine(stranger), world.machine("node1").membership
    assert not teller.may_have_copies(machine.life)
    machine.rejoin(machine.life.incarnation, "it was declared dead")
    world.run(2.0)
    assert teller.is_linked(machine.life)
    assert teller.may_have_copies(machine.life)
    world.kill(stranger)
    world.boot(stranger)
    world.run(1.0)
    assert not teller.may_have_copies(world.machine(stranger).life)


def test_who_backed_up_a_copy_that_gives_way_to_a_later_term_is_told_of_it(world):
    # Found by the simulator: it waited for the old primary, by now a backup of another one, until the next full round.
    (backup,) = world.listed()
    successor, _ = world.strangers()
    old = world.machine("node1").copies[KEY]
    world.machine("node1").quarantine(old)
    term = Term(old.term.epoch + 3, world.machine(successor).life)
    put = m.Put(KEY, term, 2, (world.machine("node1").life,), old.data(world.now))
    world.machine("node1").receive(world.machine(successor).life, put, world.now)
    told = [
        effect
        for effect in world.machine("node1").take_effects()
        if isinstance(effect, Send) and isinstance(effect.message, m.Locations)
    ]
    assert [(effect.to, effect.message.entries[0][1].term) for effect in told] == [
        ((world.machine(backup).life,), term)
    ]


def test_who_was_fenced_anew_for_a_grant_that_is_active_is_told_by_the_granter(world):
    # Found by the simulator: the claim was repeated before the grant came, and the fence reached a former holder.
    (granter,) = world.listed()
    asker, former = world.strangers()
    world.kill("node1")
    world.hold(m.Locations, to=granter)
    assert world.read(asker) == b"1"
    granted = world.machine(asker).copies[KEY]
    copy = world.machine(granter).copies[KEY]
    copy.backups = (copy.backups[0], world.machine(former).life)  # which has left meanwhile
    world.hold(m.Ack, by=former, to=granter)
    claim = m.Claim(KEY, world.machine(asker).life, None, None, 1, None)
    world.machine(granter).receive(world.machine(asker).life, claim, world.now)
    world.settle()
    assert world.where() == {asker: "P", granter: "B", former: "B"}
    news = m.Locations(((KEY, granted.location),))
    world.machine(granter).receive(world.machine(asker).life, news, world.now)
    world.settle()
    assert world.where() == {asker: "P", granter: "B"}


def test_a_backup_of_two_primaries_tells_the_one_that_is_superseded(world):
    # Found by the simulator: a fork came to the same backup, and the lower primary, idle, stayed for five minutes.
    (backup,) = world.listed()
    other, _ = world.strangers()
    lower = world.machine("node1").copies[KEY]
    term = Term(lower.term.epoch + 1, world.machine(other).life)
    put = m.Put(KEY, term, 2, (world.machine(backup).life,), lower.data(world.now))
    world.machine(backup).receive(world.machine(other).life, put, world.now)
    world.settle()
    assert world.primaries() == []


def test_a_copy_that_came_after_its_release_asks_in_a_moment_whether_it_counts(world):
    # Found by the simulator: a repeated grant fenced anew who had left, came to who had handed the session on, and ended there.
    (backup,) = world.listed()
    asker, former = world.strangers()
    world.kill("node1")
    assert world.read(asker) == b"1"
    world.run(0.1)
    late_put(world, backup, former, asker)
    world.run(3.0)
    assert world.where() == {asker: "P", backup: "B"}


def test_a_copy_that_no_list_names_asks_within_an_interval_whether_it_counts(world):
    (backup,) = world.listed()
    former, _ = world.strangers()
    primary = world.machine("node1").copies[KEY]
    late = m.Put(KEY, primary.term, primary.seq, (world.machine(former).life,), primary.data(world.now))
    world.machine(former).receive(world.machine("node1").life, late, world.now)
    world.machine(former).confirming._soon.clear()  # whatever should have made it ask sooner
    primary.seq += 1  # of a list that it was taken from since
    world.settle()
    assert world.where() == {"node1": "P", backup: "B", former: "B"}
    world.run(QUERY_CONFIRM_INTERVAL_S + 1.0)
    assert world.where() == {"node1": "P", backup: "B"}


def test_a_member_that_was_asked_to_leave_gets_no_copy_for_its_doubts(world):
    # Found by the simulator: the copy came after it had left, and stayed.
    (backup,) = world.listed()
    primary, life = world.machine("node1"), world.machine(backup).life
    copy = primary.copies[KEY]
    world.hold(m.Release)
    primary.lists._release(copy, life)
    world.processes["node1"].sent.clear()
    offer = m.Offer(KEY, copy.term, copy.data(world.now))
    primary.receive(life, offer, world.now)
    world.settle()
    assert m.Put not in map(type, world.processes["node1"].sent)


def test_who_backs_up_a_copy_in_doubt_is_told_of_the_end_that_its_holder_hears_of(world):
    # Found by the simulator: the backup of a copy that had given way took over the session that had ended elsewhere.
    (backup,) = world.listed()
    copy = world.machine("node1").copies[KEY]
    world.machine("node1").quarantine(copy)
    end = Location(Term(copy.term.epoch + 1, world.machine("node1").life), 1, (), gone=True)
    stranger = world.machine(world.strangers()[0]).life
    world.machine("node1").receive(stranger, m.Locations(((KEY, end),)), world.now)
    world.settle()
    assert world.machine(backup).directory.is_gone(KEY)
    assert world.where() == {}


def test_a_backup_whose_owner_has_given_the_session_up_looks_for_its_place(world):
    # Found by the simulator: asked whether the copy still counted, the former owner, which knew of nothing, claimed it.
    (backup,) = world.listed()
    owner = world.machine("node1").life
    claim = m.Claim(KEY, owner, None, None, 0, None)
    world.machine(backup).receive(owner, claim, world.now)
    assert world.where() == {"node1": "P", backup: "Q"}
    world.run(1.0)
    assert world.where() == {"node1": "P", backup: "B"}
