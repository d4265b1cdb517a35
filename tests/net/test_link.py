import asyncio
import socket

import pytest

from sessiond.net.framing import FrameTooLarge, header
from tests.net.nodes import identity, linked, until


async def test_frames_of_one_turn_leave_in_one_write_and_arrive_in_one_call(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    link, other_end = await linked(one, two)
    frames = [b"frame %d" % number for number in range(100)]
    for frame in frames:
        link.send(frame)
    await until(lambda: two.reads)
    assert two.reads == [(other_end, frames)]
    assert link.writes == 1
    assert (link.frames_out, link.bytes_out) == (100, sum(map(len, frames)))
    assert (other_end.frames_in, other_end.bytes_in) == (100, sum(map(len, frames)))


async def test_frames_of_all_sizes_arrive_whole_and_in_order_both_ways(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    ends = await linked(one, two)
    frames = [bytes([size % 251]) * size for size in (0, 1, 3_000_000, 2, 70_000, 8 * 1024 * 1024, 5)]
    for frame in frames:
        for end in ends:
            end.send(frame)
        await asyncio.sleep(0)
    for node, end in zip((one, two), ends, strict=True):
        await until(lambda node=node, end=end: len(node.frames(end)) == len(frames))
        assert node.frames(end) == frames


async def test_small_frames_are_not_held_back_by_the_kernel(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    for end in await linked(one, two):
        connection = end._transport.get_extra_info("socket")
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_frame_over_the_limit_is_refused_to_the_sender_and_the_link_lives_on(start_node):
    one, two = await start_node("node1", frame_bytes_max=100), await start_node("node2", frame_bytes_max=100)
    link, other_end = await linked(one, two)
    with pytest.raises(FrameTooLarge, match="101 bytes"):
        link.send(bytes(101))
    link.send(bytes(100))
    await until(lambda: two.frames(other_end) == [bytes(100)])


async def test_a_peer_that_sends_a_frame_over_the_limit_loses_the_link(start_node, connect_by_hand):
    node = await start_node("node2", frame_bytes_max=100)
    peer = await connect_by_hand(node.address)
    await peer.shake_hands(identity("node1"))
    peer.writer.write(header(101))
    await peer.ended()
    await until(lambda: node.happened("closed"))
    assert "over the limit of 100" in node.events[-1][2]


async def test_a_closed_link_delivers_and_sends_nothing_more(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    link, other_end = await linked(one, two)
    other_end.send(b"on its way")
    link.send(b"queued")
    link.close("the test says so")
    link.send(b"too late")
    assert one.hub.link_to(two.life) is None
    assert not one.happened("closed"), "the driver is told in a later turn"
    await until(lambda: one.happened("closed") and two.happened("closed"))
    assert one.events[-1] == ("closed", two.life, "the test says so")
    assert one.reads == two.reads == []
    assert link.frames_out == 0


async def test_bytes_that_come_after_the_link_was_closed_are_not_looked_at(start_node):
    """As when the driver closes a link while it opens, and frames came in one read with the welcome."""
    one, two = await start_node("node1"), await start_node("node2")
    link, _ = await linked(one, two)
    link.close("the test says so")
    link.data_received(header(4) + b"late")
    assert one.reads == []
    assert link.frames_in == 0


async def test_a_link_closed_while_frames_are_delivered_delivers_no_later_read(start_node):
    one, two = await start_node("node1"), await start_node("node2")
    link, other_end = await linked(one, two)
    delivered = []
    two.frames_received = lambda *_: None
    other_end._deliver = lambda end, frames: (delivered.append(frames), end.close("enough"))
    for number in range(3):
        link.send(b"%d" % number)
        await asyncio.sleep(
            0.01
        )  # another segment, most likely another read; the assertion holds in any case
    await until(lambda: two.happened("closed"))
    assert len(delivered) == 1


async def test_a_peer_that_does_not_read_closes_the_link_when_the_queue_is_full(start_node, connect_by_hand):
    node = await start_node("node2", queue_bytes_max=1_000_000)
    peer = await connect_by_hand(node.address)
    await peer.shake_hands(identity("node1"))
    await until(lambda: node.links)
    peer.writer.transport.pause_reading()
    (link,) = node.links
    sent = 0
    while link.is_open:
        assert sent < 100_000_000, "the queue has no limit"
        link.send(bytes(10_000))
        sent += 10_000
        await asyncio.sleep(0)
    assert link.close_reason == "queue full"
    await until(lambda: node.happened("closed"))
    assert node.events[-1] == ("closed", identity("node1").life, "queue full")


async def test_the_queue_limit_counts_what_one_turn_has_queued(start_node):
    one, two = await start_node("node1", queue_bytes_max=10_000), await start_node("node2")
    link, _ = await linked(one, two)
    for _ in range(9):
        link.send(bytes(1000))
    assert link.is_open
    link.send(bytes(1000))
    assert link.close_reason == "queue full"


async def test_the_end_of_a_peer_is_told_even_if_much_is_still_to_be_sent_to_it(start_node, connect_by_hand):
    node = await start_node("node2")
    peer = await connect_by_hand(node.address)
    await peer.shake_hands(identity("node1"))
    await until(lambda: node.links)
    peer.writer.transport.pause_reading()
    for _ in range(4):
        node.links[0].send(bytes(8_000_000))
    await asyncio.sleep(0)
    peer.writer.write_eof()
    await until(lambda: node.happened("closed"))
    assert node.events[-1][2] == "closed by the peer"
