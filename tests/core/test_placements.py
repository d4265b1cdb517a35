"""Each scheme under deaths, joins, slow members and drains: who holds what, and when."""

from dataclasses import replace

from sessiond.backend import Committed, Elsewhere
from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.options import Options
from sessiond.errors import Unavailable
from tests.core.world import KEY, World

FAST = Options(rebalance_after_s=1.0, reprotect_delay_s=0.5)
KEYS = [index.to_bytes(16, "big") for index in range(1, 21)]

PAIR = replace(FAST, placement="pair")
ALL = replace(FAST, placement="all")
NONE = replace(FAST, placement="none")
CENTRAL = replace(FAST, placement="central")
STATE = replace(CENTRAL, role="state")
STATES = ("s1", "s2")


def world_of(*names: str, options: Options, own: dict[str, Options] | None = None) -> World:
    world = World(options, own=own)
    world.boot(*names)
    world.run(1.0)
    return world


def central(*names: str, states: tuple[str, ...] = STATES) -> World:
    own = dict.fromkeys(STATES, STATE)
    return world_of(*names, *states, options=CENTRAL, own=own)


def reboot(world: World, name: str, options: Options) -> None:
    """A process in order: drained, gone, and back with other options."""
    world.machine(name).begin_drain(world.now, for_good=True)
    world.run(2.0)
    assert world.machine(name).drained
    world.machine(name).leave(world.now)
    world.settle()
    world.kill(name)
    world.own[name] = options
    world.boot(name)
    world.run(2.0)


# --- pair ---------------------------------------------------------------------------------------------


def partners(world: World, primary: str) -> set[str]:
    """Names of those that back up the sessions of this node."""
    return {next(iter(world.listed(key))) for key in KEYS if world.primaries(key) == [primary]}


def test_pair_all_sessions_of_a_node_are_backed_up_by_the_next_one_and_by_one_further_when_that_dies():
    world = world_of("n1", "n2", "n3", "n4", options=PAIR)
    for key in KEYS:
        world.create("n2", key)
    assert partners(world, "n2") == {"n3"}
    world.kill("n3")
    world.run(1.0)
    assert partners(world, "n2") == {"n4"}
    assert world.machine("n2").unprotected == 0


def test_pair_a_partner_that_comes_back_is_the_partner_again_once_things_are_quiet():
    world = world_of("n1", "n2", "n3", options=PAIR)
    for key in KEYS:
        world.create("n3", key)
    world.kill("n1")
    world.run(1.0)
    assert partners(world, "n3") == {"n2"}
    world.boot("n1")
    world.run(0.5)
    assert partners(world, "n3") == {"n2"}
    world.run(3.0)
    assert partners(world, "n3") == {"n1"}
    assert all(world.where(key) == {"n3": "P", "n1": "B"} for key in KEYS)


def test_pair_the_partner_takes_over_what_its_dead_node_had_and_finds_a_partner_of_its_own():
    world = world_of("n1", "n2", "n3", "n4", options=PAIR)
    for key in KEYS:
        world.create("n1", key)
    world.kill("n1")
    world.run(2.0)
    assert {tuple(world.primaries(key)) for key in KEYS} == {("n2",)}
    assert partners(world, "n2") == {"n3"}


# --- all ----------------------------------------------------------------------------------------------


def test_all_every_node_holds_every_session_and_serves_it_after_a_death():
    world = world_of("n1", "n2", "n3", "n4", options=ALL)
    world.create("n1", n=b"7")
    assert world.where() == {"n1": "P", "n2": "B", "n3": "B", "n4": "B"}
    world.kill("n1")
    for name in ("n2", "n3", "n4"):
        world.run(0.1)  # each has it for a moment at least
        operation = world.ask(name, "open", KEY, may_refer=False)
        world.run(0.1)
        checkout = world.outcome(name, operation)
        assert isinstance(checkout, Checkout)
        assert checkout.read("n") == b"7"
        checkout.release()
    assert world.machine("n4").stats.lookups == 0  # nobody had to be asked
    assert world.where() == {"n2": "B", "n3": "B", "n4": "P"}
    assert world.machine("n4").unprotected == 0


def test_all_after_a_death_without_requests_each_session_has_one_primary_and_a_copy_everywhere_else():
    world = world_of("n1", "n2", "n3", "n4", options=ALL)
    for key in KEYS:
        world.create("n1", key)
    world.kill("n1")
    world.run(2.0)
    for key in KEYS:
        assert sorted(world.where(key).values()) == ["B", "B", "P"]
        assert len(world.listed(key)) == 2


def test_all_a_newcomer_gets_its_copies_at_once_and_not_when_it_is_time_to_rebalance():
    world = world_of("n1", "n2", options=replace(ALL, rebalance_after_s=60.0))
    for key in KEYS:
        world.create("n1", key)
    world.boot("n3")
    world.run(1.0)
    assert all(world.where(key) == {"n1": "P", "n2": "B", "n3": "B"} for key in KEYS)


def test_all_the_copies_of_a_newcomer_keep_to_the_rate_of_reprotection():
    world = world_of("n1", "n2", options=replace(ALL, reprotect_rate_max=10))
    for key in KEYS:
        world.create("n1", key)
    world.boot("n3")
    world.run(1.0)
    assert 5 <= world.machine("n3").copies.counts["B"] <= 15
    assert world.machine("n1").unprotected == 0  # each has one in step all the while


def test_all_a_slow_member_is_let_go_and_taken_in_again_when_its_time_is_over():
    world = world_of("n1", "n2", "n3", options=ALL)
    world.create("n1")
    world.hold(m.Ack, by="n3")
    operation = world.ask("n1", "commit", KEY, {"n": b"2"}, None)
    world.run(0.25)
    assert world.outcome("n1", operation) == "pending"
    world.run(0.25)
    assert world.outcome("n1", operation) == "pending"  # it counts until it has left
    world.let_go()
    assert world.outcome("n1", operation) == Committed(2, protected=True)
    assert world.where() == {"n1": "P", "n2": "B"}
    assert world.machine("n1").unprotected == 0
    world.run(5.0)
    assert world.where() == {"n1": "P", "n2": "B"}
    world.run(9.0)  # slow no more after 10 s, and one more without a change
    assert world.where() == {"n1": "P", "n2": "B", "n3": "B"}


def test_all_a_sole_member_that_is_slow_is_not_let_go():
    world = world_of("n1", "n2", options=ALL)
    world.create("n1")
    world.hold(m.Ack, by="n2")
    operation = world.ask("n1", "commit", KEY, {"n": b"2"}, None)
    world.run(1.0)
    assert world.listed() == ["n2"]
    world.let_go()
    assert world.outcome("n1", operation) == Committed(2, protected=True)


def test_all_a_session_is_unprotected_only_when_nobody_has_it():
    world = world_of("n1", "n2", "n3", options=ALL)
    world.create("n1")
    world.kill("n2")
    assert world.machine("n1").unprotected == 0
    world.kill("n3")
    world.run(0.2)
    assert world.machine("n1").unprotected == 1


def test_all_a_node_drains_without_waiting_for_a_substitute():
    world = world_of("n1", "n2", "n3", options=ALL)
    world.create("n1", KEYS[0])
    world.create("n3", KEYS[1])
    world.machine("n3").begin_drain(world.now)
    world.run(2.0)
    assert world.machine("n3").drain.is_safe_to_stop
    assert "n3" not in {*world.where(KEYS[0]), *world.where(KEYS[1])}


# --- none ---------------------------------------------------------------------------------------------


def test_none_writes_are_answered_without_a_copy_anywhere_and_nothing_counts_as_missing():
    world = world_of("n1", "n2", options=NONE)
    assert world.create("n1") == Committed(1, protected=False)
    assert world.commit("n1", n=b"2") == Committed(2, protected=False)
    assert world.where() == {"n1": "P"}
    assert world.machine("n1").unprotected == 0
    assert world.machine("n1").stats.writes_unprotected == 0
    assert world.machine("n1").is_settled(KEY, world.now)


def test_none_a_session_dies_with_its_node():
    world = world_of("n1", "n2", "n3", options=NONE)
    world.create("n1")
    world.kill("n1")
    world.run(1.0)
    assert world.open("n2") is None


def test_none_a_drain_hands_sessions_over_all_the_same():
    world = world_of("n1", "n2", "n3", options=NONE)
    for key in KEYS:
        world.create("n1", key, n=b"5")
    world.machine("n1").begin_drain(world.now)
    world.run(2.0)
    assert world.machine("n1").drain.is_safe_to_stop
    assert {world.primaries(key)[0] for key in KEYS} == {"n2", "n3"}
    assert all(world.read("n2", key=key) == b"5" for key in KEYS)
    world.run(1.0)
    assert all(world.where(key) == {"n2": "P"} for key in KEYS)


def test_none_a_node_does_not_leave_before_what_it_handed_over_has_arrived():
    world = world_of("n1", "n2", options=NONE)
    world.create("n1")
    world.hold(m.Grant)
    world.machine("n1").begin_drain(world.now, for_good=True)
    world.run(0.5)
    assert not world.machine("n1").drained
    world.let_go()
    world.run(0.5)
    assert world.machine("n1").drained
    assert world.where() == {"n2": "P"}


# --- central ------------------------------------------------------------------------------------------


def test_central_copies_are_on_state_nodes_and_nowhere_else():
    world = central("n1", "n2")
    for key in KEYS:
        world.create("n1", key)
    assert {world.listed(key)[0] for key in KEYS} == {"s1", "s2"}


def test_central_a_request_after_a_death_gets_the_session_from_the_state_node():
    world = central("n1", "n2", "n3")
    world.create("n1", n=b"7")
    (holder,) = world.listed()
    world.kill("n1")
    assert world.read("n3") == b"7"
    assert world.where() == {"n3": "P", holder: "B"}


def test_central_without_a_request_the_state_node_takes_over_and_backs_up_on_the_other_one():
    world = central("n1", "n2")
    world.create("n1", n=b"7")
    (holder,) = world.listed()
    (other,) = {*STATES} - {holder}
    world.kill("n1")
    world.run(0.4)
    assert world.primaries() == []
    world.run(0.6)
    assert world.where() == {holder: "P", other: "B"}
    world.kill(holder)
    world.run(1.0)
    assert world.where() == {other: "P"}
    assert world.read("n2") == b"7"
    assert world.where() == {"n2": "P", other: "B"}


def test_central_nobody_is_referred_to_a_state_node_but_fetches_the_session_from_there():
    world = central("n1", "n2")
    world.create("n1", n=b"7")
    world.kill("n1")
    world.run(1.0)
    assert world.primaries()[0] in STATES
    operation = world.ask("n2", "open", KEY, may_refer=True)
    world.run(0.1)
    assert not isinstance(world.outcome("n2", operation), Elsewhere | str)
    assert world.primaries() == ["n2"]


def test_central_a_state_node_serves_nobody_and_begins_nothing():
    world = central("n1", "n2")
    world.create("n1")
    (holder,) = world.listed()
    assert world.open(holder, may_refer=True) == Elsewhere("n1")
    assert isinstance(world.open(holder), Unavailable)
    assert isinstance(world.create(holder, KEYS[0]), Unavailable)
    world.kill("n1")
    world.run(1.0)
    assert world.primaries() == [holder]
    assert world.machine(holder).try_open(KEY, world.now) is None
    assert world.open(holder, may_refer=True) == Elsewhere("n2")
    assert isinstance(world.open(holder), Unavailable)


def test_central_a_drained_app_node_leaves_its_sessions_to_state_nodes():
    world = central("n1", "n2")
    for key in KEYS:
        world.create("n1", key, n=b"5")
    world.machine("n1").begin_drain(world.now)
    world.run(2.0)
    assert world.machine("n1").drain.is_safe_to_stop
    for key in KEYS:
        assert sorted(world.where(key)) == ["s1", "s2"]
    assert world.open("n1", KEYS[0], may_refer=True) == Elsewhere("n2")
    assert all(world.read("n2", key=key) == b"5" for key in KEYS)


def test_central_a_drained_state_node_gives_its_copies_to_the_other_one_and_may_leave():
    world = central("n1", "n2")
    for key in KEYS:
        world.create("n1", key)
    for key in KEYS[:10]:
        world.create("n2", key[::-1])
    world.kill("n2")
    world.run(2.0)  # ten sessions have state nodes for their primary and backup
    world.machine("s1").begin_drain(world.now)
    world.run(3.0)
    assert world.machine("s1").drained
    assert {world.listed(key)[0] for key in KEYS} == {"s2"}
    for key in KEYS[:10]:
        assert world.primaries(key[::-1]) == ["s2"]
    left = world.machine("s1").copies.counts
    assert (left["P"], left["Q"]) == (0, 0)
    assert all(copy.term.owner.name == "s2" for copy in world.machine("s1").copies.values())
    assert "the state nodes that stay are not enough" in world.machine("s1").drain.hindrance or not left["B"]


def test_central_without_a_state_node_writes_go_on_unprotected_until_there_is_one():
    world = central("n1", "n2", states=())
    assert world.create("n1") == Committed(1, protected=False)
    assert world.machine("n1").unprotected == 1
    world.boot("s1")
    world.run(1.0)
    assert world.where() == {"n1": "P", "s1": "B"}
    assert world.machine("n1").unprotected == 0


def test_central_without_a_state_node_a_drain_hands_over_to_an_app_node():
    world = central("n1", "n2", states=())
    world.create("n1", n=b"5")
    world.machine("n1").begin_drain(world.now)
    world.run(2.0)
    assert world.machine("n1").drained
    assert world.read("n2") == b"5"


def test_state_nodes_are_given_nothing_by_nodes_that_place_otherwise():
    world = world_of("n1", "n2", "s1", options=FAST, own={"s1": STATE})
    for key in KEYS:
        world.create("n1", key)
    assert {world.listed(key)[0] for key in KEYS} == {"n2"}
    world.machine("n1").begin_drain(world.now)
    world.run(2.0)
    assert {world.primaries(key)[0] for key in KEYS} == {"n2"}


# --- from one to another ------------------------------------------------------------------------------


def test_a_rolling_restart_takes_a_cluster_from_one_scheme_to_another_and_loses_nothing():
    names = ("n1", "n2", "n3", "n4")
    world = world_of(*names, options=FAST)
    for index, key in enumerate(KEYS):
        world.create(names[index % 4], key, n=b"5")
    for options in (PAIR, ALL, NONE, FAST):
        for name in names:
            reboot(world, name, options)
        world.run(4.0)
        ring = dict(zip(names, (*names[1:], names[0]), strict=True))
        for key in KEYS:
            (primary,) = world.primaries(key)
            held = sorted(set(world.where(key)) - {primary})
            if options is PAIR:
                assert held == [ring[primary]]
            elif options is ALL:
                assert held == sorted({*names} - {primary})
            else:
                assert len(held) == (options is FAST)
            assert sorted(world.listed(key)) == held
    for key in KEYS:
        assert world.read("n1", key=key) == b"5"


def test_a_cluster_becomes_central_and_a_list_with_a_node_that_serves_users_is_brought_in_order():
    names = ("n1", "n2", "n3")
    world = world_of(*names, options=FAST)
    for index, key in enumerate(KEYS):
        world.create(names[index % 3], key, n=b"5")
    for name in STATES:
        world.own[name] = STATE
        world.boot(name)
    for name in names:
        reboot(world, name, CENTRAL)
    for key in KEYS:
        assert world.read("n2", key=key) == b"5"
    world.run(4.0)
    for key in KEYS:
        assert world.primaries(key) == ["n2"]
        assert set(world.where(key)) - {"n2"} <= {*STATES}
        assert len(world.listed(key)) == 1
