"""What is written in one turn of the loop leaves at its end, in order, and never gathers without limit."""

import asyncio

from balancer.proxy.outbox import SMALL_BYTES_MAX, WRITES_MAX, Outbox


class Recorder(asyncio.WriteTransport):
    """A transport that notes what is written, together with others, in order."""

    def __init__(self, written: list[tuple[str, bytes]], name: str) -> None:
        super().__init__()
        self._written = written
        self._name = name
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        self._written.append((self._name, b"closed"))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing
        self._written.append((self._name, bytes(data)))


async def test_writes_of_a_turn_leave_in_order_when_it_ends() -> None:
    written: list[tuple[str, bytes]] = []
    a, b = Recorder(written, "a"), Recorder(written, "b")
    outbox = Outbox(asyncio.get_running_loop())
    outbox.write(a, b"1")
    outbox.write(b, b"2")
    outbox.write(a, b"3")
    assert written == []
    await asyncio.sleep(0)
    assert written == [("a", b"1"), ("b", b"2"), ("a", b"3")]
    outbox.write(b, b"4")
    await asyncio.sleep(0)
    assert written[3:] == [("b", b"4")]


async def test_flush_sends_at_once_and_only_once() -> None:
    written: list[tuple[str, bytes]] = []
    outbox = Outbox(asyncio.get_running_loop())
    outbox.write(Recorder(written, "a"), b"1")
    outbox.flush()
    assert written == [("a", b"1")]
    await asyncio.sleep(0)
    assert written == [("a", b"1")]


async def test_a_long_write_goes_at_once_after_what_waited() -> None:
    written: list[tuple[str, bytes]] = []
    transport = Recorder(written, "a")
    outbox = Outbox(asyncio.get_running_loop())
    long = b"x" * (SMALL_BYTES_MAX + 1)
    outbox.write(transport, b"1")
    outbox.write(transport, long)
    assert written == [("a", b"1"), ("a", long)]


async def test_no_more_than_some_writes_wait() -> None:
    written: list[tuple[str, bytes]] = []
    transport = Recorder(written, "a")
    outbox = Outbox(asyncio.get_running_loop())
    for _ in range(WRITES_MAX - 1):
        outbox.write(transport, b"x")
    assert written == []
    outbox.write(transport, b"x")
    assert len(written) == WRITES_MAX


async def test_what_waits_for_a_connection_that_was_given_up_is_dropped() -> None:
    written: list[tuple[str, bytes]] = []
    gone, other = Recorder(written, "gone"), Recorder(written, "other")
    outbox = Outbox(asyncio.get_running_loop())
    outbox.write(gone, b"1")
    outbox.write(other, b"2")
    gone.closing = True
    await asyncio.sleep(0)
    assert written == [("other", b"2")]


async def test_a_close_waits_for_what_was_written_before_it() -> None:
    written: list[tuple[str, bytes]] = []
    a, b = Recorder(written, "a"), Recorder(written, "b")
    outbox = Outbox(asyncio.get_running_loop())
    outbox.write(a, b"1")
    outbox.close(a)
    outbox.write(a, b"too late")
    outbox.close(b)
    assert written == []
    await asyncio.sleep(0)
    assert written == [("a", b"1"), ("a", b"closed"), ("b", b"closed")]


async def test_for_a_moment_it_can_be_told_that_nothing_left() -> None:
    written: list[tuple[str, bytes]] = []
    gone, other = Recorder(written, "gone"), Recorder(written, "other")
    outbox = Outbox(asyncio.get_running_loop())
    before = outbox.flushes
    for transport in (gone, other):
        outbox.write(transport, b"1")
        assert outbox.surely_kept(transport, before), "it waits"
    gone.closing = True
    outbox.flush()
    assert outbox.surely_kept(gone, before), "it was dropped"
    assert not outbox.surely_kept(other, before)
    outbox.write(other, b"2")
    outbox.flush()
    assert not outbox.surely_kept(gone, before), "that was too long ago"


async def test_a_rest_that_is_dropped_is_not_all() -> None:
    transport = Recorder([], "a")
    outbox = Outbox(asyncio.get_running_loop())
    before = outbox.flushes
    outbox.write(transport, b"head")
    outbox.flush()
    outbox.write(transport, b"body")
    transport.closing = True
    outbox.flush()
    assert not outbox.surely_kept(transport, before)
