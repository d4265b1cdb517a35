import asyncio
import socket

import pytest

from sessiond.core.identity import Refusal, RefusalCode
from sessiond.core.types import Life
from sessiond.errors import ConfigurationError
from sessiond.net.events import DialFailureKind
from sessiond.net.greetings import Hello, encode
from sessiond.net.hub import Hub
from sessiond.net.limits import LinkLimits
from tests.net.nodes import SECRET, Node, identity, linked, until


async def test_a_dial_makes_a_link_that_both_nodes_have(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    link, other_end = await linked(one, two)
    assert (link.peer, other_end.peer) == (two.identity, one.identity)
    assert (link.initiated_by_us, other_end.initiated_by_us) == (True, False)
    assert (link.dialed, other_end.dialed) == (two.address, None)
    assert one.events == [("admit", two.life, True), ("opened", two.life)]
    assert two.events == [("admit", one.life, False), ("opened", one.life)]
    assert one.hub.link_to(Life("node2", 2)) is None, "another incarnation is another link"


async def test_frames_that_come_with_the_welcome_are_delivered_after_the_link_has_opened(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    two.on_opened = lambda link: link.send(b"x" * 50_000)
    link, _ = await linked(one, two)
    await until(lambda: one.frames(link) == [b"x" * 50_000])


async def test_a_link_may_be_closed_as_soon_as_it_opens(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    two.on_opened = lambda link: link.close("changed my mind")
    one.hub.dial(two.address)
    await until(lambda: two.happened("closed"))
    await until(lambda: one.happened("closed") or one.happened("failed"))
    assert two.hub.link_to(one.life) is one.hub.link_to(two.life) is None


async def test_a_node_is_reached_by_name(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    two.address = two.address.replace("127.0.0.1", "localhost")
    await linked(one, two)


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback address")
async def test_links_work_over_ipv6(start_node):
    one, two = await start_node("node1"), await start_node("node2", "[::1]:0")
    two.address = "[::1]:" + two.address.rsplit(":", 1)[1]
    await linked(one, two)


# Refusals


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"secrets": [b"another secret"]}, RefusalCode.SECRET),
        ({"secrets": []}, RefusalCode.SECRET),
        ({"cluster_name": "bank"}, RefusalCode.CLUSTER_NAME),
    ],
)
async def test_a_node_of_another_cluster_is_told_why_it_gets_no_link(start_node, options, code):
    one, two = await start_node("node1", **options), await start_node("node2")
    one.hub.dial(two.address)
    await until(lambda: one.failures)
    (failure,) = one.failures
    assert failure.kind is DialFailureKind.REFUSAL
    assert failure.refusal.code is code
    assert failure.refusal.code.is_final
    assert not failure.refused_by_us
    assert failure.detail
    assert two.events == []


async def test_the_called_node_may_refuse_with_what_the_caller_has_to_know(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    two.answer = Refusal(RefusalCode.DEAD, "node1/1 was voted dead", incarnation_floor=41)
    one.hub.dial(two.address)
    await until(lambda: one.failures)
    assert one.failures[0].refusal == two.answer
    assert not one.failures[0].refused_by_us
    assert one.links == two.links == []


async def test_the_caller_may_refuse_and_the_called_node_is_told(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    one.answer = Refusal(RefusalCode.DEAD, "node2/1 was voted dead", incarnation_floor=41)
    one.hub.dial(two.address)
    await until(lambda: one.failures and two.refusals)
    assert one.failures[0].refused_by_us
    assert two.refusals == [one.answer]
    assert one.links == two.links == []
    assert two.events == []


async def test_a_node_that_dials_itself_finds_out_and_makes_no_link(start_node):
    node = await start_node("node1")
    node.hub.dial(node.address)
    await until(lambda: node.failures)
    assert node.failures[0].refusal.code is RefusalCode.SELF
    assert not node.happened("admit")
    assert not node.links


async def test_a_decision_that_fails_ends_the_dial_and_is_not_hidden(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    one.answer = RuntimeError("a fault of the driver")
    one.hub.dial(two.address)
    await until(lambda: one.failures and complaints)
    assert one.failures[0].kind is DialFailureKind.LOCAL
    assert complaints[0]["exception"] is one.answer


# Two at once, and again


@pytest.mark.parametrize("round_", range(10))
async def test_dials_that_cross_make_one_link_and_nobody_loses_one(start_node, round_):
    low, top = await start_node("node1"), await start_node("node2")
    for node, other in ((low, top), (top, low)):
        node.hub.dial(other.address)
        node.hub.dial(other.address.replace("127.0.0.1", "localhost"))
    for node, other in ((low, top), (top, low)):
        await until(lambda node=node, other=other: node.hub.link_to(other.life) and not node.hub._dials)
    ends = low.hub.link_to(top.life), top.hub.link_to(low.life)
    assert ends[0].initiated_by_us is not ends[1].initiated_by_us
    ends[0].send(b"the same connection?")
    await until(lambda: top.frames(ends[1]) == [b"the same connection?"])
    for node in (low, top):
        assert len(node.happened("opened")) == 1
        assert not node.happened("closed")
        assert {failure.refusal.code for failure in node.failures} <= {RefusalCode.REDUNDANT}


@pytest.mark.parametrize("first", [0, 1])
async def test_when_both_have_committed_the_dial_of_the_lower_name_wins(start_node, first):
    nodes = one, two = await start_node("node1"), await start_node("node2")
    held = asyncio.get_running_loop().create_future()

    async def admit(_identity, initiated_by_us):
        if initiated_by_us:
            nodes_deciding.append(1)
            await asyncio.shield(held)

    nodes_deciding = []
    one.admit = two.admit = admit
    nodes[first].hub.dial(nodes[1 - first].address)
    nodes[1 - first].hub.dial(nodes[first].address)
    await until(lambda: len(nodes_deciding) == 2)
    held.set_result(None)  # both commit in one turn of the loop
    await until(lambda: one.hub.link_to(two.life) and two.hub.link_to(one.life) and two.failures)
    assert one.hub.link_to(two.life).initiated_by_us
    assert not two.hub.link_to(one.life).initiated_by_us
    assert [failure.refusal.code for failure in two.failures] == [RefusalCode.REDUNDANT]
    assert not one.failures


async def test_two_dials_to_one_life_that_are_decided_at_once_make_one_link(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    one.answer = asyncio.get_running_loop().create_future()
    one.hub.dial(two.address)
    one.hub.dial(two.address.replace("127.0.0.1", "localhost"))
    await until(lambda: len(one.happened("admit")) == 2)
    one.answer.set_result(None)
    await until(lambda: one.links and one.failures)
    assert one.failures[0].refusal.code is RefusalCode.REDUNDANT
    assert len(one.links) == 1


async def test_a_dial_that_was_dropped_while_it_was_decided_bars_no_later_one(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    one.answer = asyncio.get_running_loop().create_future()
    one.hub.dial(two.address)
    await until(lambda: one.happened("admit"))
    one.hub.drop_all("rejoining")
    one.answer.set_result(None)
    await until(lambda: not one.hub._tasks)
    await linked(one, two)


async def test_a_peer_that_comes_again_replaces_its_old_link_without_a_word_about_that(
    start_node, connect_by_hand
):
    node = await start_node("node2")
    old, new = await connect_by_hand(node.address), await connect_by_hand(node.address)
    await old.shake_hands(identity("node1"))
    await new.shake_hands(identity("node1"))
    await old.ended()
    await until(lambda: len(node.links) == 2)
    assert node.hub.link_to(Life("node1", 1)) is node.links[1]
    node.links[0].send(b"to the old one")
    node.links[1].send(b"to the new one")
    assert await new.hear() == b"to the new one"
    assert not node.happened("closed")


async def test_a_peer_comes_in_again_though_we_dialed_the_link_that_it_has_lost(
    start_node, connect_by_hand, listen_by_hand
):
    """A half-dead link: the peer has forgotten it, we have not heard of that."""
    low, top = await start_node("node1"), await start_node("node2")
    link, lost = await linked(low, top)
    top.hub._rivals.forget(low.life, lost)
    _, new_end = await linked(top, low)
    await until(lambda: low.hub.link_to(top.life) is not link)
    assert low.hub.link_to(top.life) is new_end
    assert not link.is_open
    assert not low.happened("closed")


async def test_a_dial_to_a_life_that_is_linked_already_leaves_the_link_alone(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    ends = await linked(one, two)
    for node, other in ((one, two), (two, one)):
        node.hub.dial(other.address)
        await until(lambda node=node: node.failures)
        assert node.failures[0].refusal.code is RefusalCode.REDUNDANT
    assert (one.hub.link_to(two.life), two.hub.link_to(one.life)) == ends
    assert all(end.is_open for end in ends)


async def test_one_address_is_dialed_once_at_a_time(start_node, listen_by_hand):
    node = await start_node("node1", handshake_timeout_s=0.2)
    connections = []

    async def keep_silent(peer):
        connections.append(peer)
        await peer.ended()

    address = await listen_by_hand(keep_silent)
    for _ in range(3):
        node.hub.dial(address)
    await until(lambda: node.failures)
    assert len(connections) == 1
    node.hub.dial(address)
    await until(lambda: len(node.failures) == 2)
    assert len(connections) == 2


# Strangers and silence


async def test_a_server_that_says_nothing_is_given_up_after_the_handshake_timeout(start_node, listen_by_hand):
    node = await start_node("node1", handshake_timeout_s=0.05)
    node.hub.dial(await listen_by_hand(lambda peer: peer.ended()))
    await until(lambda: node.failures)
    assert node.failures[0].kind is DialFailureKind.HANDSHAKE
    assert "0.05 s" in node.failures[0].detail


async def test_a_server_that_speaks_something_else_is_no_final_refusal(start_node, listen_by_hand):
    """Its port may have been a node's a moment ago, and may be again."""

    async def speak_http(peer):
        peer.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.ended()

    node = await start_node("node1")
    node.hub.dial(await listen_by_hand(speak_http))
    await until(lambda: node.failures)
    assert node.failures[0].kind is DialFailureKind.HANDSHAKE
    assert node.failures[0].refusal is None
    assert "--join" in node.failures[0].detail


async def test_a_server_that_hangs_up_is_a_failed_handshake(start_node, listen_by_hand):
    async def hang_up(_peer):
        pass

    node = await start_node("node1")
    node.hub.dial(await listen_by_hand(hang_up))
    await until(lambda: node.failures)
    assert node.failures[0].kind is DialFailureKind.HANDSHAKE


async def test_a_stranger_is_told_that_this_is_no_port_for_it_and_hung_up_on(start_node, connect_by_hand):
    node = await start_node("node1")
    stranger = await connect_by_hand(node.address)
    stranger.writer.write(b"GET / HTTP/1.1\r\nHost: node1\r\n\r\n")
    assert b"cluster" in await stranger.hear()
    await stranger.ended()
    assert node.events == []


async def test_a_stranger_that_says_nothing_is_hung_up_on(start_node, connect_by_hand):
    node = await start_node("node1", handshake_timeout_s=0.05)
    stranger = await connect_by_hand(node.address)
    await stranger.ended()
    assert node.events == []


async def test_a_stranger_cannot_make_a_node_hold_more_than_a_small_message(start_node, connect_by_hand):
    node = await start_node("node1")
    stranger = await connect_by_hand(node.address)
    stranger.writer.write((2049).to_bytes(4, "big"))
    assert b"refused" in await stranger.hear()
    await stranger.ended()


async def test_silent_strangers_do_not_keep_a_node_out(start_node, connect_by_hand):
    one, two = await start_node("node1"), await start_node("node2", pending_handshakes_max=3)
    strangers = [await connect_by_hand(two.address) for _ in range(6)]
    await until(lambda: len(two.hub._unproven) == 3)
    two.hub.check_invariants()
    await linked(one, two)
    for stranger in strangers[:4]:
        await stranger.ended()


async def test_a_peer_that_talks_while_we_decide_is_refused(start_node, connect_by_hand):
    node = await start_node("node2")
    node.answer = asyncio.get_running_loop().create_future()
    peer = await connect_by_hand(node.address)
    shaking = asyncio.ensure_future(peer.shake_hands(identity("node1")))
    await until(lambda: node.happened("admit"))
    peer.say(encode(Hello("shop", bytes(16))))
    with pytest.raises(Exception, match="out of turn"):
        await shaking
    node.answer.set_result(None)
    await peer.ended()
    assert not node.links


# Ways a dial fails before the handshake are told apart in test_connecting.


async def test_a_port_nobody_listens_at_is_reported_as_refused(start_node):
    node, gone = await start_node("node1"), await start_node("node2")
    await gone.hub.close()
    node.hub.dial(gone.address)
    await until(lambda: node.failures)
    assert node.events == [("failed", gone.address, DialFailureKind.REFUSED)]


# Beginning and end


async def test_a_busy_port_is_a_configuration_error_that_names_option_and_address(start_node):
    node = await start_node("node1")
    with pytest.raises(ConfigurationError, match=f"--cluster {node.address}.*in use"):
        await start_node("node2", node.address)


@pytest.mark.parametrize("address", ["7101", "192.0.2.1:7101", "127.0.0.1:port"])
async def test_an_address_that_cannot_be_listened_at_is_a_configuration_error(start_node, address):
    with pytest.raises(ConfigurationError, match="--cluster"):
        await start_node("node1", address)


def test_more_secrets_than_a_handshake_can_offer_are_a_configuration_error():
    with pytest.raises(ConfigurationError, match="5 secrets"):
        Hub(identity, [SECRET] * 5, LinkLimits(), Node("node1"))


async def test_a_node_that_changes_its_life_drops_everything_and_links_anew(start_node, listen_by_hand):
    one, two, three = [await start_node(name) for name in ("node1", "node2", "node3")]
    link, _ = await linked(one, two)
    three.answer = asyncio.get_running_loop().create_future()
    one.hub.dial(three.address)  # in the middle of its handshake
    silent = await listen_by_hand(lambda peer: peer.ended())
    one.hub.dial(silent)
    await until(lambda: three.happened("admit"))

    one.identity = identity("node1", incarnation=2)
    one.hub.drop_all("rejoining")
    assert one.hub.link_to(two.life) is None
    one.hub.check_invariants()
    one.hub.dial(two.address)
    await until(lambda: one.hub.link_to(two.life))
    await until(lambda: two.happened("closed"))
    assert one.hub.link_to(two.life) is not link
    assert two.hub.link_to(Life("node1", 2)) is not None
    assert two.hub.link_to(Life("node1", 1)) is None
    assert not one.failures, "dials that were dropped are not reported"
    three.answer.set_result(None)
    await until(lambda: not three.hub._tasks)
    assert not three.links


async def test_a_connection_accepted_for_a_life_that_ends_before_it_is_reported_does_not_become_a_link(
    start_node,
):
    node, caller = await start_node("node2"), await start_node("node1")
    accept = node.hub._accepted
    accepted = []

    def rejoin_meanwhile():
        accepted.append(accept())
        if len(accepted) == 1:
            node.identity = identity("node2", incarnation=2)
            node.hub.drop_all("rejoining")
        return accepted[-1]

    node.hub._accepted = rejoin_meanwhile
    await node.hub._stop_listening(node.hub._server)
    host, port = node.address.rsplit(":", 1)
    node.hub._server = await asyncio.get_running_loop().create_server(rejoin_meanwhile, host, int(port))
    caller.hub.dial(node.address)
    await until(lambda: caller.failures or caller.links)
    assert not caller.links
    caller.hub.dial(node.address)
    await until(lambda: caller.links)
    assert caller.hub.link_to(Life("node2", 2)) is not None


async def test_a_closed_link_is_reported_unless_a_new_one_to_the_life_has_opened(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    link, _ = await linked(one, two)
    one.hub.drop_all("rejoining")
    await until(lambda: one.happened("closed"))
    assert one.events[-1] == ("closed", two.life, "rejoining")
    assert link.close_reason == "rejoining"


async def test_what_was_queued_leaves_before_the_hub_closes_and_nothing_is_reported_after(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    link, other_end = await linked(one, two)
    link.send(b"m" * 3_000_000)
    link.send(b"leaving")
    one.hub.dial("127.0.0.1:1")
    await one.hub.close()
    await until(lambda: two.happened("closed"))
    assert two.frames(other_end) == [b"m" * 3_000_000, b"leaving"]
    assert one.events == [("admit", two.life, True), ("opened", two.life)]
    host, port = one.address.rsplit(":", 1)
    with socket.create_server((host, int(port))):
        pass  # the port is free again


@pytest.mark.parametrize("is_dropped", [False, True])
async def test_a_hub_can_be_closed_at_any_moment_of_a_dial(start_node, is_dropped):
    for turns in range(16):
        one, two = await start_node("node1"), await start_node("node2")
        one.hub.dial(two.address)
        for _ in range(turns):
            await asyncio.sleep(0)
        if is_dropped:
            one.hub.drop_all("rejoining")
        async with asyncio.timeout(10):
            await one.hub.close()
            await two.hub.close()
        one.hub.check_invariants()
        two.hub.check_invariants()


async def test_closing_does_not_wait_for_a_peer_that_does_not_read(start_node, connect_by_hand):
    node = await start_node("node2", close_timeout_s=0.05)
    peer = await connect_by_hand(node.address)
    await peer.shake_hands(identity("node1"))
    await until(lambda: node.links)
    peer.writer.transport.pause_reading()
    for _ in range(4):
        node.links[0].send(bytes(8_000_000))
    async with asyncio.timeout(10):
        await node.hub.close()
