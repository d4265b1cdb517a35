"""Courses of events that broke earlier rules of the protocol (its section 8), each kept as a test.

Those that belong to one concept stand with it, marked "Protocol 8": `test_joining` (three nodes that wait for
each other; a joiner that says "gone"), `test_replication` (a read that shows an unacked value; a late PUT),
`test_takeover` (a lost grant of a high epoch), `test_lookup` (a demoted owner that lives), `test_invalidation`
(an uncommitted end), `test_rejoin` (queued requests, mutual votes, a primary that restarts empty). What
concerns leases and majorities comes with them.
"""

from sessiond.backend import Committed
from sessiond.core import messages as m
from sessiond.core.checkout import Checkout
from sessiond.core.copies import Copy, Role
from sessiond.core.options import Options
from sessiond.core.types import Attribute, Life, Location, Stamp, Term
from tests.core.world import KEY, World


def cluster(nodes: int, options: Options) -> World:
    """Nodes whose session has node1 as its primary."""
    return World.with_session(nodes, options)


def holders(world: World, node: str = "node1") -> list[str]:
    return [life.name for life in world.machine(node).copies[KEY].backups]


def test_an_acked_write_is_on_the_backup_that_takes_over_even_if_that_backup_was_slow():
    """Dropping a slow backup from the list without its consent lost writes.

    The primary cannot reach its backup, adds another one, answers, and dies together with the new one: the
    slow backup, which nobody had told, took over with the old value. So the write waits for the slow one.
    """
    world = cluster(3, Options(silence_timeout_s=3.0))
    (slow,) = holders(world)
    world.hold(m.Patch, m.Put, m.Release, to=slow)
    write = world.ask("node1", "commit", KEY, {"n": b"2"}, None)
    world.run(1.5)
    assert len(holders(world)) == 2
    was_acked = world.outcome("node1", write) != "pending"
    world.kill("node1")
    world.kill(next(name for name in world.processes if name != slow))
    world.held = []
    assert not was_acked
    assert world.read(slow) == b"1"


def test_a_claim_repeated_while_the_granter_is_still_fencing_does_not_grant_early():
    """The asker repeats its claim while another holder is not fenced yet; a grant sent at once made two primaries.

    The unfenced holder could grant the session, in the old term, to somebody else.
    """
    world = cluster(4, Options(copies=2, reprotect_delay_s=60.0, request_wait_s=5.0))
    first, second = holders(world)
    (asker,) = set(world.processes) - {"node1", first, second}
    world.kill("node1")
    world.hold(m.Put, to=second)
    operation = world.ask(asker, "open", KEY, may_refer=False)
    granter = world.machine(first)
    assert granter.copies[KEY].is_granting
    claims = [sent for sent in world.processes[asker].sent if type(sent) is m.Claim]
    for _ in range(5):
        world.run(0.1)
        granter.receive(world.machine(asker).life, claims[0], world.now)
        world.settle()
        assert world.outcome(asker, operation) == "pending"
        assert granter.copies[KEY].is_granting
    fences = [sent for sent in world.processes[first].sent if type(sent) is m.Put]
    assert len(fences) <= 1 + 0.5 / world.options.ack_timeout_s
    world.let_go()
    world.run(0.1)
    assert isinstance(world.outcome(asker, operation), Checkout)
    assert granter.stats.grants == 1


def test_an_offer_is_merged_while_a_session_is_about_to_be_handed_over():
    """A primary that froze for a handoff ignored offers, while the offering node held up what it waited for."""
    world = cluster(4, Options())
    (holder,) = holders(world)
    asker, stranger = sorted(set(world.processes) - {"node1", holder})
    held = world.open("node1")
    operation = world.ask(asker, "open", KEY, may_refer=False)
    assert world.machine("node1").copies[KEY].leads.handoff is not None
    news = Attribute(b"7", Stamp(Term(1, Life("node0", 1)), 5))
    data = world.machine("node1").copies[KEY].data(world.now)
    copy = Copy(KEY, Role.QUARANTINED, news.stamp.term, world.now)
    copy.load(data._replace(attributes={"news": news}, last=news.stamp), world.now)
    machine = world.machine(stranger)
    machine.copies.put(copy)
    machine.reprotection.look_after(KEY)
    world.run(0.3)
    assert KEY not in machine.copies
    held.release()
    world.run(0.1)
    assert world.outcome(asker, operation).read("news") == b"7"


def test_a_holder_that_offers_news_of_its_own_does_not_hold_up_a_grant():
    """The granter waited for the ack of a holder which, quarantined meanwhile, answered the fence with an offer."""
    world = cluster(4, Options(copies=2, reprotect_delay_s=60.0))
    first, second = holders(world)
    (asker,) = set(world.processes) - {"node1", first, second}
    machine = world.machine(second)
    copy = machine.copies[KEY]
    machine.quarantine(copy)
    bytes_before = copy.bytes
    copy.apply({"news": b"7"}, Stamp(copy.term, 9), None)
    machine.copies.reweigh(bytes_before, copy)
    world.kill("node1")
    operation = world.ask(asker, "open", KEY, may_refer=False)
    assert isinstance(world.outcome(asker, operation), Checkout)
    world.outcome(asker, operation).release()
    world.run(1.0)
    assert world.read(asker, "news") == b"7"


def test_backups_with_different_lists_do_not_wait_for_each_other():
    """Two backups, one of which missed the last list change, each took the other for the arbiter."""
    world = cluster(5, Options(copies=2, reprotect_delay_s=60.0))
    first, second = holders(world)
    machine = world.machine(second)
    copy = machine.copies[KEY]
    copy.backups = tuple(reversed(copy.backups))  # as if an older list were known here
    (asker, _) = sorted(set(world.processes) - {"node1", first, second})
    world.kill("node1")
    operation = world.ask(asker, "open", KEY, may_refer=False)
    world.run(2.0)
    assert isinstance(world.outcome(asker, operation), Checkout)
    assert list(world.where().values()).count("P") == 1


def test_a_granter_whose_fence_is_refused_goes_above_the_term_that_the_other_holder_knows():
    """A primary raises its term, tells one node, and dies; its backup, which has not heard, grants one too low.

    The holder that knows the higher term of the dead refused the fence for ever, and the session was stuck.
    """
    world = World(Options(copies=2, reprotect_delay_s=60.0))
    world.boot("node1", "node2", "node3", "node4")
    world.run(1.0)
    world.create("node4", n=b"1")
    world.run(0.2)
    first, second = holders(world, "node4")
    machine = world.machine(second)
    raised = Location(Term(2, world.machine("node4").life), 1, (world.machine(first).life,))
    machine.receive(world.machine("node4").life, m.Locations(((KEY, raised),)), world.now)
    machine.take_effects()
    world.kill("node4")
    operation = world.ask(first, "open", KEY, may_refer=False)
    world.run(0.5)
    assert isinstance(world.outcome(first, operation), Checkout)
    assert world.machine(first).copies[KEY].term == Term(3, world.machine(first).life)
    assert world.commit(first, n=b"2") == Committed(2, protected=True)


def test_two_survivors_asked_at_once_after_a_death_lose_no_write():
    """Requests of one browser reach two nodes at once after the kill; in other systems both made a session."""
    for order in ((0, 1), (1, 0)):
        world = cluster(4, Options())
        (holder,) = holders(world)
        pair = [holder, min(set(world.processes) - {"node1", holder})]
        nodes = [pair[i] for i in order]
        world.kill("node1")
        operations = [world.ask(node, "open", KEY, may_refer=False) for node in nodes]
        visits = []
        for _ in range(100):
            world.run(0.02)
            for node, operation in zip(nodes, operations, strict=True):
                checkout = world.outcome(node, operation)
                if isinstance(checkout, Checkout) and node not in [seen for seen, _ in visits]:
                    visit = int(checkout.read("visits") or b"0") + 1
                    outcome = world.commit(node, if_version=checkout.version, visits=b"%d" % visit)
                    assert isinstance(outcome, Committed)
                    visits.append((node, visit))
                    checkout.release()
        assert sorted(visit for _, visit in visits) == [1, 2]
        assert sorted(node for node, _ in visits) == sorted(nodes)
