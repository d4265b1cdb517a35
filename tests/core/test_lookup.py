"""Looking for a session: what a node may say before it has asked everybody."""

import pytest

from sessiond.backend import Committed
from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.copies import Copy, Role
from sessiond.core.options import LOOKUP_ROUND_S, Options
from sessiond.core.types import Attribute, Life, Location, Stamp, Term
from sessiond.errors import Unavailable
from tests.core.world import KEY, World

DEAD = b"d" * 16


def cluster(options: Options | None = None, nodes: int = 4) -> World:
    return World.of(nodes, options)


@pytest.fixture
def world() -> World:
    return cluster()


def test_a_session_that_nobody_has_is_gone_once_every_member_has_said_so(world):
    world.hold(m.Here, by="node3")
    operation = world.ask("node1", "open", DEAD, may_refer=False)
    assert world.outcome("node1", operation) == "pending"
    world.let_go()
    assert world.outcome("node1", operation) is None
    assert world.machine("node1").lookup.is_idle


def test_a_member_that_does_not_answer_makes_a_look_up_unavailable_and_never_gone():
    world = cluster(Options(request_wait_s=1.0, silence_timeout_s=10.0))
    world.hold(m.Here, by="node3")
    operation = world.ask("node1", "open", DEAD, may_refer=False)
    world.run(1.5)
    assert isinstance(world.outcome("node1", operation), Unavailable)


def test_a_member_that_dies_is_not_waited_for(world):
    world.hold(m.Here, by="node3")
    operation = world.ask("node1", "open", DEAD, may_refer=False)
    world.kill("node3")
    assert world.outcome("node1", operation) is None


def test_a_member_that_joins_meanwhile_is_asked_too(world):
    # It may have brought the session with it: the round starts anew.
    world.hold(m.Here)
    operation = world.ask("node1", "open", DEAD, may_refer=False)
    world.boot("node5", seeds=("node1",))
    world.run(0.2)
    world.hold(m.Here, by="node5")
    world.held = [entry for entry in world.held if entry[1] == "node5"]
    world.settle()
    assert world.outcome("node1", operation) == "pending"
    world.let_go()
    world.run(0.2)
    assert world.outcome("node1", operation) is None


def test_answers_of_an_earlier_look_up_do_not_count_for_a_later_one(world):
    world.hold(m.Here, by="node3")
    first = world.ask("node1", "open", DEAD, may_refer=False)
    machine = world.machine("node1")
    number = machine.lookup._lookups[DEAD].number
    machine.receive(world.machine("node3").life, m.Here(DEAD, number + 1, None, None), world.now)
    world.settle()
    assert world.outcome("node1", first) == "pending"


@pytest.mark.parametrize("location", ["broadcast", "query"])
def test_a_session_that_moves_to_somebody_who_has_answered_already_is_not_said_to_be_gone(location):
    world = cluster(Options(placement="none", location=location, tenure_min_s=0.0))
    world.hold(m.Locations)
    world.create("node1", n=b"1")
    world.hold(m.Who, by="node3", to="node1")
    operation = world.ask("node3", "open", KEY, may_refer=False)
    world.open("node2").release()
    assert world.where() == {"node2": "P"}
    world.let_go(m.Who)
    assert isinstance(world.outcome("node3", operation), Checkout)
    assert world.where() == {"node3": "P"}


def test_where_locations_are_asked_for_what_was_given_up_is_forgotten_in_a_while():
    options = Options(placement="none", location="query", tenure_min_s=0.0, request_wait_s=3.0)
    world = cluster(options)
    world.create("node1", n=b"1")
    world.open("node2")
    world.run(2.9)
    assert world.machine("node1").directory.get(KEY).term.owner == world.machine("node2").life
    world.run(0.2)
    assert world.machine("node1").directory.get(KEY) is None


def test_one_look_up_serves_all_requests_for_its_key(world):
    world.hold(m.Here)
    operations = [world.ask("node1", "open", DEAD, may_refer=False) for _ in range(5)]
    world.let_go()
    assert [world.outcome("node1", operation) for operation in operations] == [None] * 5
    assert world.machine("node1").stats.lookups == 1


def test_a_look_up_that_lost_its_messages_starts_another_round(world):
    world.hold(m.Who)
    operation = world.ask("node1", "open", DEAD, may_refer=False)
    world.held = []
    for other in ("node2", "node3", "node4"):
        world.reset("node1", other)
    world.run(LOOKUP_ROUND_S + 0.05)
    assert world.outcome("node1", operation) is None


def test_a_stale_directory_leads_to_the_session_all_the_same(world):
    # It names a holder that has long given the session up.
    world.create("node1", n=b"1")
    world.run(0.2)
    stale = world.machine("node4").directory.get(KEY)
    for _ in range(2):
        world.read("node2")
        world.run(0.2)
        world.read("node3")
        world.run(0.2)
    machine = world.machine("node4")
    machine.drop_copy(KEY)
    machine.directory.forget(KEY)
    machine.directory.merge(KEY, stale, world.now)
    assert world.read("node4") == b"1"


def test_a_node_whose_only_hint_was_wrong_asks_everybody_at_once(world):
    world.create("node1", n=b"1")
    world.run(0.2)
    asker = min(set(world.processes) - set(world.where()))
    hint = world.machine(asker).directory.get(KEY)
    world.read(max(set(world.processes) - set(world.where())))
    world.run(0.2)
    for name in ("node1", asker):
        world.machine(name).directory.forget(KEY)
    world.machine("node1").drop_copy(KEY)
    world.machine(asker).directory.merge(KEY, hint, world.now)
    assert world.read(asker) == b"1"  # no time passes


def test_everybody_who_is_asked_leads_to_the_arbiter():
    # Whatever the order of the list: the first of it that holds the session grants, nobody else.
    world = cluster(Options(copies=2, reprotect_delay_s=60.0))
    keys = [bytes([number]) * 16 for number in range(8)]
    for key in keys:
        world.create("node1", key, n=b"1")
    world.run(0.2)
    first = {key: world.machine("node1").copies[key].backups[0].name for key in keys}
    askers = {key: min(set(world.processes) - set(world.where(key))) for key in keys}
    world.kill("node1")
    for key in keys:
        world.machine(askers[key]).directory.forget(key)
        grants = world.machine(first[key]).stats.grants
        assert world.read(askers[key], key=key) == b"1"
        assert world.machine(first[key]).stats.grants == grants + 1


def test_a_node_that_lost_its_whole_directory_finds_a_live_primary_and_gets_the_session(world):
    world.create("node1", n=b"1")
    world.run(0.2)
    asker = min(set(world.processes) - set(world.where()))
    world.machine(asker).directory.forget(KEY)
    assert world.read(asker) == b"1"
    assert world.where()[asker] == "P"


def test_asking_everybody_teaches_the_directory(world):
    world.create("node1", n=b"1")
    world.run(0.2)
    asker = min(set(world.processes) - set(world.where()))
    known = world.machine(asker).directory.get(KEY)
    world.machine(asker).directory.forget(KEY)
    world.hold(m.Claim)
    world.ask(asker, "open", KEY, may_refer=False)
    assert world.machine(asker).directory.get(KEY) == known


def test_arbiters_that_have_lost_their_copies_are_passed_over():
    # The list names two holders; the first one has dropped its copy and says so.
    world = cluster(Options(copies=2, reprotect_delay_s=60.0))
    world.create("node1", n=b"1")
    world.run(0.2)
    first, second = [life.name for life in world.machine("node1").copies[KEY].backups]
    world.kill("node1")
    world.machine(first).drop_copy(KEY)
    asker = min(set(world.processes) - {first, second})
    assert isinstance(world.machine(asker).locate(KEY).primary, str)
    operation = world.ask(asker, "open", KEY, may_refer=False)
    world.run(1.0)
    checkout = world.outcome(asker, operation)
    assert isinstance(checkout, Checkout)
    assert checkout.read("n") == b"1"
    assert world.machine(second).stats.grants == 1


def test_a_holder_takes_over_at_once_from_an_arbiter_that_says_it_holds_nothing():
    world = cluster(Options(copies=2, reprotect_delay_s=60.0))
    world.create("node1", n=b"1")
    world.run(0.2)
    first, second = [life.name for life in world.machine("node1").copies[KEY].backups]
    world.kill("node1")
    world.machine(first).drop_copy(KEY)
    assert world.read(second) == b"1"  # no time passes


# --- what a higher term means -----------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["P", "B"])
def test_a_copy_stands_aside_for_a_higher_term_that_does_not_list_it(world, role):
    world.create("node1", n=b"1")
    world.run(0.2)
    machine = world.machine(next(name for name, held in world.where().items() if held == role))
    other = world.machine(min(set(world.processes) - set(world.where()))).life
    higher = Location(Term(5, other), 1, ())
    machine.receive(other, m.Locations(((KEY, higher),)), world.now)
    machine.check_invariants()
    assert machine.copies[KEY].role is Role.QUARANTINED


def test_a_backup_that_a_higher_term_lists_stays(world):
    world.create("node1", n=b"1")
    world.run(0.2)
    machine = world.machine(next(name for name, held in world.where().items() if held == "B"))
    other = world.machine(min(set(world.processes) - set(world.where()))).life
    higher = Location(Term(5, other), 1, (machine.life,))
    machine.receive(other, m.Locations(((KEY, higher),)), world.now)
    assert machine.copies[KEY].role is Role.BACKUP


# --- quarantined copies -----------------------------------------------------------------------------------


def fork(world: World, node: str, data: m.CopyData) -> None:
    """A quarantined copy, as a node has it that stood aside."""
    machine = world.machine(node)
    copy = Copy(KEY, Role.QUARANTINED, data.last.term, world.now)
    copy.load(data, world.now)
    machine.copies.put(copy)
    machine.reprotection.look_after(KEY)


def quarantined(world: World, *nodes: str) -> None:
    for node in nodes:
        world.machine(node).quarantine(world.machine(node).copies[KEY])
        world.machine(node).check_invariants()


def test_a_quarantined_copy_serves_nobody_by_itself(world):
    world.create("node1", n=b"1")
    world.run(0.2)
    world.hold(m.Who)
    quarantined(world, "node1")
    machine = world.machine("node1")
    assert machine.try_open(KEY, world.now) is None
    assert world.open("node1") == "pending"
    assert machine.locate(KEY) is not None


def test_a_quarantined_copy_grants_nothing(world):
    world.create("node1", n=b"1")
    world.run(0.2)
    holder = next(name for name, role in world.where().items() if role == "B")
    quarantined(world, holder)
    world.hold(m.Who)
    machine = world.machine(holder)
    asker = world.machine("node1").life
    machine.take_effects()
    machine.receive(asker, m.Claim(KEY, asker, None, None, 7, None), world.now)
    refers = [e.message for e in machine.take_effects() if type(getattr(e, "message", None)) is m.Refer]
    assert [(refer.empty, refer.round) for refer in refers] == [(True, 7)]
    assert machine.copies[KEY].role is Role.QUARANTINED


def test_a_quarantined_copy_without_news_is_dropped_once_the_primary_says_so(world):
    world.create("node1", n=b"1")
    world.run(0.2)
    stranger = min(set(world.processes) - set(world.where()))
    fork(world, stranger, world.machine("node1").copies[KEY].data(world.now))
    world.hold(m.OfferOk)
    world.run(0.2)
    assert world.where()[stranger] == "Q"
    world.let_go()
    world.run(0.2)
    assert sorted(world.where().values()) == ["B", "P"]
    assert world.machine("node1").stats.merged == 0


def test_news_of_a_quarantined_copy_are_merged_by_stamp_and_acked_by_the_list_before_it_is_dropped(world):
    world.create("node1", n=b"1", other=b"1")
    world.run(0.2)
    world.read("node2")
    world.run(0.2)
    primary = next(name for name, role in world.where().items() if role == "P")
    holder = next(name for name, role in world.where().items() if role == "B")
    stranger = min(set(world.processes) - set(world.where()))
    term = world.machine(primary).copies[KEY].term
    data = world.machine(primary).copies[KEY].data(world.now)
    news, older = Stamp(Term(term.epoch, Life("node9", 1)), 9), Stamp(Term(1, Life("node0", 1)), 50)
    attributes = {"n": Attribute(b"9", news), "other": Attribute(b"0", older)}
    fork(world, stranger, data._replace(attributes=attributes, last=news))
    machine = world.machine(stranger)
    world.hold(m.Ack, by=holder)
    world.run(0.2)
    assert machine.copies[KEY].role is Role.QUARANTINED  # kept until the list has its news
    world.let_go()
    world.run(0.5)
    assert KEY not in machine.copies
    for name in (primary, holder):
        copy = world.machine(name).copies[KEY]
        assert (copy.read("n"), copy.read("other")) == (b"9", b"1")
    assert world.machine(primary).copies[KEY].term.epoch > term.epoch  # above the fork's
    assert world.machine(primary).stats.merged == 1
    assert world.logged(primary, "session.fork_merged")[0]["attributes"] == ["n"]


def test_who_is_granted_a_session_merges_the_news_of_its_own_quarantined_copy():
    world = cluster(Options(reprotect_delay_s=60.0))
    world.create("node1", n=b"1")
    world.run(0.2)
    holder = next(name for name, role in world.where().items() if role == "B")
    asker = min(set(world.processes) - set(world.where()))
    data = world.machine("node1").copies[KEY].data(world.now)
    world.kill("node1")
    news = Attribute(b"9", Stamp(Term(1, Life("node0", 1)), 5))
    world.machine(asker).reprotection.look_after = lambda key: None  # it does not offer them meanwhile
    fork(world, asker, data._replace(attributes={"news": news}, last=news.stamp))
    life = world.machine(asker).life
    world.machine(holder).receive(life, m.Claim(KEY, life, None, None, 1, None), world.now)
    world.settle()
    assert world.where() == {asker: "P", holder: "B"}
    for name in (asker, holder):
        copy = world.machine(name).copies[KEY]
        assert (copy.read("n"), copy.read("news")) == (b"1", b"9")


def test_if_only_quarantined_copies_are_left_the_one_written_last_comes_back(world):
    # By last stamp: list changes must not outrank writes.
    world.create("node1", n=b"1")
    world.run(0.2)
    holder = next(name for name, role in world.where().items() if role == "B")
    world.hold(m.Patch)
    world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    quarantined(world, holder, "node1")
    world.held = []
    world.run(1.0)
    assert world.where()["node1"] == "P"
    assert world.read("node1") == b"2"
    assert world.logged("node1", "session.reactivated")
    assert world.machine("node1").copies[KEY].term.epoch > 1
    assert sorted(world.where().values()) == ["B", "P"]


def test_a_request_at_a_node_with_nothing_gets_a_session_of_which_only_quarantined_copies_are_left(world):
    world.create("node1", n=b"1")
    world.run(0.2)
    holder = next(name for name, role in world.where().items() if role == "B")
    asker = min(set(world.processes) - set(world.where()))
    quarantined(world, holder, "node1")
    operation = world.ask(asker, "open", KEY, may_refer=False)
    world.run(1.5)
    checkout = world.outcome(asker, operation)
    assert isinstance(checkout, Checkout)
    assert checkout.read("n") == b"1"
    assert world.commit(asker, n=b"2") == Committed(2, protected=True)


def test_only_the_owner_of_a_term_can_resign_it(world):
    world.create("node1", n=b"1")
    world.run(0.2)
    holder = next(name for name, role in world.where().items() if role == "B")
    machine = world.machine(holder)
    term = machine.copies[KEY].term
    stranger = min(set(world.processes) - set(world.where()))
    machine.receive(world.machine(stranger).life, m.Resigned(KEY, term), world.now)
    assert not machine.takeover.has_ended(KEY, term)
    machine.receive(term.owner, m.Resigned(KEY, term), world.now)
    assert machine.takeover.has_ended(KEY, term)


def test_a_resigned_term_is_forgotten_with_its_session_its_owner_or_when_there_are_too_many(
    world, monkeypatch
):
    def resigned(*keys: bytes) -> list[bool]:
        return [machine.takeover.has_ended(key, term) for key in keys]

    machine = world.machine("node1")
    term = Term(1, world.machine("node2").life)
    monkeypatch.setattr("sessiond.core.takeover.RESIGNED_MAX", 2)
    first, second, third = (bytes([number]) * 16 for number in range(3))
    for key in (first, second, third):
        machine.receive(term.owner, m.Resigned(key, term), world.now)
    assert resigned(first, second, third) == [False, True, True]
    machine.locating.merge(second, Location(term, 1, (), gone=True))
    assert resigned(second, third) == [False, True]
    machine.takeover.life_ended(term.owner)
    assert resigned(third) == [False]


def test_a_backup_does_not_wait_for_an_owner_that_was_demoted_and_lives():
    # Protocol 8: the owner says it has resigned that term, and never installs it again.
    world = cluster(Options(reprotect_delay_s=60.0))
    world.create("node1", n=b"1")
    world.run(0.2)
    holder = next(name for name, role in world.where().items() if role == "B")
    quarantined(world, "node1")
    world.run(1.0)
    assert world.machine(holder).takeover.has_ended(KEY, Term(1, world.machine("node1").life))
    operation = world.ask(holder, "open", KEY, may_refer=False)
    world.run(0.5)
    assert isinstance(world.outcome(holder, operation), Checkout)
    assert world.machine(holder).copies[KEY].term.epoch > 1
