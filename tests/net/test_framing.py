import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.net.framing import FrameTooLarge, Splitter, header, take_frame

payloads = st.lists(st.binary(max_size=300), max_size=8)


def on_the_wire(frames):
    return b"".join(header(len(frame)) + frame for frame in frames)


@st.composite
def streams_in_pieces(draw):
    frames = draw(payloads)
    stream = on_the_wire(frames)
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=20).map(sorted))
    return frames, [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@given(streams_in_pieces())
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(case):
    frames, pieces = case
    splitter = Splitter(300)
    assert [frame for piece in pieces for frame in splitter.feed(piece)] == frames


@given(streams_in_pieces())
def test_take_frame_returns_the_same_frames_one_by_one(case):
    frames, pieces = case
    stream, taken = bytearray(), []
    for piece in pieces:
        stream += piece
        while (frame := take_frame(stream, 300)) is not None:
            taken.append(frame)
    assert taken == frames
    assert not stream


def test_all_frames_that_a_read_completes_come_at_once():
    splitter = Splitter(100)
    stream = on_the_wire([b"one", b"two", b"three"])
    assert splitter.feed(stream[:-1]) == [b"one", b"two"]
    assert splitter.feed(stream[-1:]) == [b"three"]


def test_a_frame_as_long_as_the_limit_passes_and_one_byte_more_is_refused():
    assert Splitter(5).feed(on_the_wire([b"12345"])) == [b"12345"]
    with pytest.raises(FrameTooLarge, match="a frame of 6 bytes is over the limit of 5"):
        Splitter(5).feed(on_the_wire([b"123456"]))
    with pytest.raises(FrameTooLarge):
        take_frame(bytearray(on_the_wire([b"123456"])), 5)


def test_an_oversized_frame_is_refused_at_its_header_before_its_bytes_arrive():
    splitter = Splitter(1000)
    splitter.feed(header(2**32 - 1)[:3])
    with pytest.raises(FrameTooLarge):
        splitter.feed(header(2**32 - 1)[3:])


def test_a_large_frame_in_small_reads_costs_linear_time():
    """With a copy of all that came before at each read this would move 300 GB."""
    splitter = Splitter(8_000_000)
    stream = on_the_wire([bytes(8_000_000)])
    deadline = time.monotonic() + 10
    frames = []
    for start in range(0, len(stream), 100):
        frames += splitter.feed(stream[start : start + 100])
        assert time.monotonic() < deadline
    assert [len(frame) for frame in frames] == [8_000_000]
