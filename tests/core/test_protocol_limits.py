"""Limits and memory: what a peer announces costs nothing, what it sends at most twice its size."""

import random
import re
import sys
import tracemalloc

import frames
import pytest
from feeding import cut, fails, feed, play, slices
from frames import BINARY, CONT, PING, PONG, TEXT, answer, binary, cont, ping, text

from fastws._recorder import Recorder

MIB = 1024 * 1024
# What a Recorder and its lists take, and what one call leaves behind for a moment.
OVERHEAD = 8 * 1024


def traced(action):
    """Return what `action` returns, and by how many bytes memory grew until it had; the peak too."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = action()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return result, after - before, peak - before


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("max_size", [0, 1, 125, 1024, MIB, 2**63 - 2])
def test_F10_the_largest_length_fails_the_connection_at_its_header(opcode, max_size):
    reason = f"message is {2**63 - 1} bytes, limit is {max_size}"
    stream = text("", fin=True) + frames.header(opcode, 2**63 - 1)
    fails(stream + b"payload", 1009, before=[("message", "")], reason=reason, max_size=max_size)


@pytest.mark.parametrize("max_size", [None, 2**63 - 1, 2**64 - 2, 2**64 - 1])
@pytest.mark.parametrize("direct", [False, True], ids=["read", "direct"])
def test_F10_the_largest_length_allocates_nothing_when_no_limit_forbids_it(max_size, direct):
    recorder = Recorder(max_size=max_size)
    stream = frames.header(BINARY, 2**63 - 1) + bytes(1000)
    pieces = slices(stream, 14)
    _, _, peak = traced(lambda: feed(recorder, pieces, direct=direct))
    assert (recorder.events, recorder.retained) == ([], 1000)
    assert peak < OVERHEAD


@pytest.mark.parametrize("max_size", [0, 1, 124, 125, 126, 65535, 65536])
def test_F11_a_message_of_max_size_passes_and_one_byte_more_fails_at_its_header(max_size):
    payload = random.Random(max_size).randbytes(max_size)
    assert play(binary(payload), max_size=max_size).events == [("message", payload)]
    reason = f"message is {max_size + 1} bytes, limit is {max_size}"
    fails(frames.header(BINARY, max_size + 1), 1009, reason=reason, max_size=max_size)
    fails(frames.header(TEXT, max_size + 1, fin=False), 1009, reason=reason, max_size=max_size)


def test_F11_text_is_measured_in_bytes():
    assert play(text("é" * 5), max_size=10).events == [("message", "é" * 5)]
    fails(text("é" * 5), 1009, reason="message is 10 bytes, limit is 9", max_size=9)


def test_F11_control_frames_are_not_limited_by_max_size():
    result = play(ping(bytes(125)) + frames.close(1000, b"x" * 123), max_size=0)
    assert result.events == [("ping", bytes(125)), ("close", 1000, "x" * 123)]


@pytest.mark.parametrize("have", [1, 10, 1000])
@pytest.mark.parametrize("max_size", [1000, 2**63 - 1])
def test_F12_a_sum_that_would_overflow_fails_the_connection(have, max_size):
    stream = binary(bytes(have), fin=False) + frames.header(CONT, 2**63 - 1)
    reason = f"message is {have + 2**63 - 1} bytes, limit is {max_size}"
    fails(stream, 1009, reason=reason, max_size=max_size)


@pytest.mark.parametrize(
    "sizes", [[100, 1], [0, 101], [50, 50, 1], [1] * 101, [99, 0, 2], [100, 0, 0, 1]], ids=repr
)
def test_R1_fragments_that_exceed_max_size_together_fail_at_the_offending_header(sizes):
    *passing, last = sizes
    stream = b"".join(
        frames.frame(CONT if i else BINARY, bytes(size), fin=False) for i, size in enumerate(passing)
    )
    assert play(stream, max_size=100).events == []
    stream += frames.header(CONT, last, fin=False)
    fails(stream, 1009, reason="message is 101 bytes, limit is 100", max_size=100)


@pytest.mark.parametrize("sizes", [[100, 0], [0, 100], [50, 50], [1] * 100], ids=repr)
def test_R1_fragments_of_max_size_together_pass(sizes):
    stream = frames.fragmented(BINARY, [bytes(size) for size in sizes])
    assert play(stream, max_size=100).events == [("message", bytes(100))]
    # The limit is each message's own.
    assert feed(Recorder(max_size=100), [stream * 3]).events == [("message", bytes(100))] * 3


def test_R2_4096_empty_fragments_pass_and_one_more_fails_the_connection():
    stream = text("", fin=False) + cont(fin=False) * 4095
    assert play(stream).events == []
    result = fails(stream + cont(), 1009)
    assert result.events[-1][2].startswith("message is in 4097 fragments")


def test_R2_the_reason_gives_the_fragments_seen_and_then_the_limit():
    recorder = feed(Recorder(), [text("", fin=False) + cont(fin=False) * 4096])
    assert re.match("message is in 4097 fragments, .*limit .*4096", recorder.events[-1][2])


def test_R2_each_32_bytes_of_payload_allow_one_more_fragment():
    stream = binary(bytes(320), fin=False) + cont(fin=False) * (4095 + 10)
    assert feed(Recorder(), [stream]).events == []
    fails(stream + cont(), 1009)


@pytest.mark.parametrize("piece", [1, 64])
def test_R2_a_message_in_many_small_fragments_passes_up_to_the_bound(piece):
    count = 4096 if piece == 1 else 4 * MIB // 64
    payload = random.Random(2).randbytes(count * piece)
    pieces = slices(payload, piece)
    recorder = feed(Recorder(), slices(frames.fragmented(BINARY, pieces), 65536))
    assert recorder.events == [("message", payload)]


def test_R2_the_fragments_of_each_message_are_counted_anew():
    stream = frames.fragmented(TEXT, [b""] * 4096)
    assert feed(Recorder(), [stream * 3]).events == [("message", "")] * 3


def test_R2_fragments_are_coalesced_into_twice_their_bytes_at_most():
    stream = binary(b"ab", fin=False) + cont(b"cd", fin=False) * 4000
    recorder = Recorder()
    pieces = slices(stream, 100)
    _, grown, peak = traced(lambda: feed(recorder, pieces))
    assert recorder.retained == 8002
    assert grown <= 2 * 8002 + OVERHEAD
    assert peak <= 3 * 8002 + OVERHEAD  # while it moves, both are there


def test_R2_empty_fragments_keep_nothing():
    recorder = Recorder()
    stream = text("", fin=False) + cont(fin=False) * 4000
    pieces = slices(stream, 100)
    _, grown, _ = traced(lambda: feed(recorder, pieces))
    assert recorder.retained == 0
    assert grown < OVERHEAD


@pytest.mark.parametrize("direct", [False, True], ids=["read", "direct"])
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("step", [1, 7, 1000, 4096])
def test_R3_a_dribbled_frame_holds_at_most_twice_what_has_arrived(opcode, direct, step):
    size = 20_000
    stream = frames.frame(opcode, b"a" * size)
    head = len(stream) - size
    recorder = feed(Recorder(), [stream[:head]])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(head, len(stream) - step, step):
            feed(recorder, [stream[i : i + step]], direct=direct)
            arrived = i + step - head
            assert recorder.retained == arrived
            grown = tracemalloc.get_traced_memory()[0] - before
            assert grown <= 2 * arrived + 1024, f"{grown} bytes are held of {arrived}"
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_R3_a_delivered_message_is_no_larger_than_one_made_at_once(opcode):
    payload = b"a" * 100_001
    for stream in (frames.frame(opcode, payload), frames.fragmented(opcode, slices(payload, 999))):
        for size in (100, 4096):
            for direct in (False, True):
                recorder = feed(Recorder(text_as="bytes"), slices(stream, size), direct=direct)
                ((_, message),) = recorder.events
                assert sys.getsizeof(message) == sys.getsizeof(payload)


@pytest.mark.parametrize("text_as", ["str", "bytes"])
def test_R3_a_delivered_message_takes_no_more_memory_than_its_size(text_as):
    payload = b"a" * 100_000
    stream = frames.fragmented(TEXT, slices(payload, 30_000))
    recorder = Recorder(text_as=text_as)
    _, grown, _ = traced(lambda: feed(recorder, slices(stream, 4096), direct=True))
    assert len(recorder.events) == 1
    assert grown <= len(payload) + OVERHEAD


def test_R3_a_frame_dribbled_byte_by_byte_moves_its_bytes_a_bounded_number_of_times():
    size = 40_000
    stream = binary(bytes(size))
    recorder = feed(Recorder(), [stream[:100]])
    buffers = 0
    seen = 0
    tracemalloc.start()
    try:
        for i in range(100, len(stream) - 1):
            recorder.receive_data(stream[i : i + 1])
            now = tracemalloc.get_traced_memory()[0]
            if now - seen > 200 and now > seen:
                buffers += 1
            seen = max(seen, now)
    finally:
        tracemalloc.stop()
    assert buffers < 40


@pytest.mark.parametrize("announced", [70_000, MIB, 2**30, 2**40])
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("direct", [False, True], ids=["read", "direct"])
def test_R4_a_large_length_that_is_announced_costs_what_arrives(announced, fin, direct):
    recorder = Recorder(max_size=2**40)
    stream = frames.header(BINARY, announced, fin=fin) + bytes(5000)
    pieces = slices(stream, 500)
    _, grown, peak = traced(lambda: feed(recorder, pieces, direct=direct))
    assert recorder.retained == 5000
    assert grown <= 2 * 5000 + OVERHEAD
    assert peak <= 3 * 5000 + OVERHEAD


@pytest.mark.parametrize("direct", [False, True], ids=["read", "direct"])
def test_R4_the_last_frame_of_a_message_makes_no_room_beyond_its_end(direct):
    stream = binary(bytes(1000), fin=False) + cont(bytes(60_000))
    recorder = Recorder()
    pieces = [stream[:20_000], stream[20_000:40_000]]
    _, grown, _ = traced(lambda: feed(recorder, pieces, direct=direct))
    assert 30_000 < recorder.retained < 40_000
    assert grown <= 61_000 + 1024


def test_R4_the_direct_buffer_offers_only_room_in_proportion_to_what_arrived():
    recorder = feed(Recorder(), [frames.header(BINARY, 2**40) + bytes(10)])
    taken = recorder.receive_direct(bytes(MIB))
    assert 0 < taken <= 1024


def test_R7_each_ping_is_answered_at_once_and_nothing_of_it_is_kept():
    recorder = Recorder()
    for i in range(1000):
        payload = b"%d" % i
        feed(recorder, slices(ping(payload), 3))
        assert recorder.data_to_send() == answer(PONG, payload)
    recorder.events.clear()
    flood = ping(bytes(125)) * 1000

    def receive():
        for piece in slices(flood, 1000):
            feed(recorder, [piece])
            recorder.events.clear()
            recorder.data_to_send()

    _, grown, _ = traced(receive)
    assert grown < OVERHEAD
    assert recorder.retained == 0


@pytest.mark.parametrize("opcode", [PING, PONG, frames.CLOSE], ids=["ping", "pong", "close"])
def test_R7_an_unfinished_control_frame_keeps_125_bytes_at_most(opcode):
    recorder = Recorder()
    payload = frames.close_payload(1000, b"x" * 123)
    _, grown, _ = traced(lambda: feed(recorder, slices(frames.frame(opcode, payload)[:-1], 10)))
    assert grown < 1024
    feed(recorder, [frames.frame(opcode, payload)[-1:]])
    assert recorder.events == [("close", 1000, "x" * 123) if opcode == frames.CLOSE else recorder.events[0]]


def test_a_recorder_dropped_with_everything_unfinished_gives_all_memory_back():
    half = binary(bytes(5000), fin=False) + ping(bytes(100))[:50]

    def make():
        for _ in range(300):
            feed(Recorder(), cut(half, [3, 2000]))

    make()
    _, grown, _ = traced(make)
    assert grown < OVERHEAD


@pytest.mark.parametrize("bad", [-1, 2**64, 2**70])
def test_a_max_size_out_of_range_is_refused(bad):
    with pytest.raises(OverflowError):
        Recorder(max_size=bad)
