"""Compressed messages as they come, and how much of them, RFC 7692 7.2.2; rows Z2, Z3, Z6, Z13 and Z14."""

import random
import tracemalloc

import frames
import pytest
from deflating import (
    BOTH,
    FRESH,
    HELLO,
    KEPT,
    TAIL,
    Peer,
    agreed,
    compressed_frame,
    noise,
    packed,
    received,
    story,
    verdict,
)
from feeding import feed, outcome, play, slices

from fastws._recorder import Recorder

EMPTY_BLOCK = b"\x00" + TAIL
MIB = 2**20

# ---------------------------------------------------------------- good ones


@pytest.mark.parametrize("client", [False, True])
@pytest.mark.parametrize("text_as", ["str", "bytes"])
def test_the_rfcs_hello_is_a_message(client, text_as):
    # RFC 7692 7.2.3.1 and 7.2.3.2: whole, in two fragments, and from a shared window.
    mask = None if client else frames.KEY
    stream = compressed_frame(HELLO, frames.TEXT, mask=mask)
    stream += compressed_frame(HELLO[:3], frames.TEXT, fin=False, mask=mask)
    stream += frames.cont(HELLO[3:], mask=mask)
    stream += compressed_frame(b"\xf2\x00\x11\x00\x00", frames.TEXT, mask=mask)
    hello = "Hello" if text_as == "str" else b"Hello"
    result = play(stream, client=client, text_as=text_as, deflate=KEPT)
    assert result.messages == [hello] * 3
    assert all(type(message) is type(hello) for message in result.messages)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",  # 7.2.3.3: a block without compression
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",  # 7.2.3.4: BFINAL, then an empty block
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",  # 7.2.3.5: two blocks
    ],
    ids=["stored", "final", "two"],
)
@BOTH
def test_every_form_of_the_rfcs_hello_is_a_message(payload, deflate):
    assert play(compressed_frame(payload, frames.TEXT) * 3, deflate=deflate).messages == ["Hello"] * 3


@BOTH
@pytest.mark.parametrize("client", [False, True])
def test_messages_of_all_kinds_come_out_as_they_were(deflate, client):
    peer = Peer(takeover=deflate.in_takeover, client=not client)
    texts = ["", "plain", "é€😀" * 500, "x" * 5000]
    stream = b"".join(peer.text(text) + peer.binary(text.encode()) for text in texts)
    expected = [message for text in texts for message in (text, text.encode())]
    assert play(stream, client=client, deflate=deflate).messages == expected


@pytest.mark.parametrize(
    "size", [0, 1, 255, 256, 257, 2047, 2048, 2049, 65535, 65536, 65537, 131072, 3 * MIB]
)
@pytest.mark.parametrize("make", [noise, story, bytes], ids=["noise", "story", "zeros"])
def test_content_of_any_size_comes_out_whole_and_in_pieces(size, make):
    data = make(size)
    peer = Peer(takeover=True)
    stream = peer.binary(data) + peer.binary(data, cuts=[0, 1, 5, 70_000]) + peer.binary(b"end")
    for pieces in ([stream], slices(stream, 4096), slices(stream, 65_537)):
        result = outcome(feed(Recorder(deflate=KEPT), pieces))
        assert result.messages == [data, data, b"end"]


def test_compressed_payloads_at_the_edges_of_scratch_memory_come_out_as_they_were():
    # Stored blocks: the payload is about as long as the content, so that both edges are passed.
    for size in range(65_500, 65_560):
        data = noise(size, size)
        assert received(compressed_frame(packed(data, level=0)), deflate=FRESH) == [data]


@pytest.mark.parametrize("bits", range(8, 16))
def test_a_window_of_any_size_is_kept_over_messages(bits):
    # Each message is the one before with a word changed: nearly all of it is a reference, over messages.
    peer = Peer(bits=max(bits, 9), takeover=True)
    data = noise(2 ** min(bits, 12) // 4)
    messages = [data[:i] + b"*" + data[i + 1 :] for i in range(len(data))][:200]
    stream = b"".join(peer.binary(message) for message in messages)
    if bits > 8:
        assert len(stream) < len(data) * len(messages) / 3, "the peer refers to no message before"
        assert received(stream, deflate=agreed(in_bits=bits, in_takeover=True)) == messages
    else:
        # The peer of an 8-bit window has to keep to it; one that sends only itself does.
        one = compressed_frame(packed(data, bits=9))
        assert received(one, deflate=agreed(in_bits=8, in_takeover=True)) == [data]


def test_a_window_reaches_over_a_message_larger_than_it():
    peer = Peer(takeover=True)
    data, tail = noise(200_000), noise(30_000)
    stream = peer.binary(data + tail)
    again = peer.binary(tail)
    assert len(again) < 1000
    assert play(stream + again, deflate=KEPT).messages == [data + tail, tail]


def test_z6_a_message_without_rsv1_is_taken_as_it_is_and_enters_no_window():
    peer = Peer(takeover=True)
    data = noise(500)
    stream = peer.binary(data) + frames.binary(bytes(500)) + frames.text("é") + peer.binary(data)
    stream += frames.fragmented(frames.TEXT, [b"a", b"\xc3", b"\xa9"]) + peer.binary(data)
    expected = [data, bytes(500), "é", data, "aé", data]
    assert play(stream, deflate=KEPT).messages == expected


@BOTH
def test_z13_one_byte_fragments_with_pings_between_are_a_message(deflate):
    peer = Peer(takeover=deflate.in_takeover)
    data = story(3000)
    stream = peer.text(data, cuts=range(3000), between=frames.ping(b"?")) + peer.text("after")
    result = outcome(feed(Recorder(deflate=deflate), [stream]))
    assert result.messages == [data.decode(), "after"]
    pings = stream.count(frames.ping(b"?"))
    assert pings > 300
    assert result.output == frames.answer(frames.PONG, b"?") * pings


def test_a_streaming_consumer_gets_content_of_compressed_fragments_as_they_end():
    peer = Peer()
    first = peer.pack(b"one, \xc3", last=False)
    second = peer.pack(b"\xa9 two", last=False)
    stream = compressed_frame(first, frames.TEXT, fin=False) + frames.cont(b"", fin=False)
    stream += frames.cont(second, fin=False) + frames.cont(b"\x00") + compressed_frame(HELLO, frames.TEXT)
    result = play(stream, deflate=FRESH, streaming=True)
    assert result.events == [
        ("fragment", "one, ", False),
        ("fragment", "é two", False),
        ("fragment", "", True),
        ("message", "Hello"),
    ]


@pytest.mark.parametrize("text_as", ["str", "bytes"])
def test_a_message_held_back_is_delivered_later_as_it_is(text_as):
    peer = Peer(takeover=True)
    texts = ["é" * 300, "b" * 300, "", "é" * 300]
    stream = b"".join(peer.text(text) for text in texts)
    recorder = Recorder(hold_after_message=True, text_as=text_as, deflate=KEPT)
    expected = texts if text_as == "str" else [text.encode() for text in texts]
    assert outcome(feed(recorder, [stream])).messages == expected


def test_many_connections_in_the_middle_of_messages_do_not_disturb_each_other():
    # More than there are spare inflaters, and of different windows.
    rng = random.Random(3)
    ends = []
    for number in range(60):
        bits, takeover = rng.randrange(9, 16), rng.random() < 0.5
        peer = Peer(bits=bits, takeover=takeover)
        contents = [story(rng.randrange(2000), rng.random()) for _ in range(6)]
        stream = b"".join(peer.binary(data, cuts=[rng.randrange(100)]) for data in contents)
        recorder = Recorder(deflate=agreed(in_bits=bits, in_takeover=takeover))
        ends.append((recorder, contents, slices(stream, rng.choice([37, 100, 1000]))))
        if number % 7 == 3:
            feed(recorder, ends.pop()[2][:2])  # one that is gone amid a message
    for turn in range(max(len(pieces) for *_, pieces in ends)):
        for recorder, _, pieces in ends:
            feed(recorder, pieces[turn : turn + 1])
    for recorder, contents, _ in ends:
        assert [event[1] for event in recorder.events] == contents


# ---------------------------------------------------------------- Z2, Z3, Z14: too much


def peak_of(stream, pieces, **options):
    recorder = Recorder(**options)
    pieces = slices(stream, pieces)
    tracemalloc.start()
    try:
        feed(recorder, pieces)
        return recorder, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("piece", [4096, 65536, 10 * MIB])
@pytest.mark.parametrize("opcode", [frames.TEXT, frames.BINARY])
def test_z2_a_bomb_is_1009_and_takes_little_more_memory_than_max_size(piece, opcode):
    stream = compressed_frame(packed(bytes(200 * MIB), level=9), opcode)
    assert len(stream) < 210_000
    recorder, peak = peak_of(stream, piece, max_size=MIB, deflate=FRESH)
    assert recorder.close_sent == (1009, f"message is more than {MIB} bytes inflated, limit is {MIB}")
    assert recorder.events == [("fail", *recorder.close_sent)]
    assert recorder.retained == 0
    # The copies that Recorder and this test make of the input are in it.
    assert peak < MIB + 2 * len(stream) + 128 * 1024


@pytest.mark.parametrize("streaming", [False, True])
def test_z3_a_bomb_over_fragments_is_1009_in_all(streaming):
    peer = Peer()
    pieces = [peer.pack(bytes(300_000), last=False) for _ in range(4)]
    stream = compressed_frame(pieces[0], fin=False)
    stream += b"".join(frames.cont(piece, fin=False) for piece in pieces[1:])
    recorder, peak = peak_of(stream, 10 * MIB, max_size=MIB, streaming=streaming, deflate=FRESH)
    assert recorder.close_sent[0] == 1009
    assert [len(event[1]) for event in recorder.events[:-1]] == ([300_000] * 3 if streaming else [])
    assert peak < 2.3 * MIB if streaming else 1.2 * MIB
    # The three alone are fine.
    stream = compressed_frame(pieces[0], fin=False) + frames.cont(pieces[1], fin=False)
    options = {"max_size": MIB, "streaming": streaming, "deflate": FRESH}
    assert verdict(stream + frames.cont(pieces[2] + b"\x00"), **options) is None


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 65534, 65535, 65536, 65537, 300_000])
@pytest.mark.parametrize("make", [noise, bytes], ids=["noise", "zeros"])
@BOTH
def test_a_message_of_max_size_passes_and_one_more_byte_is_1009(size, make, deflate):
    for cuts in ([], [7, 100, 40_000]):
        peer = Peer(takeover=deflate.in_takeover)
        good = peer.binary(make(size), cuts) * (1 if deflate.in_takeover else 2)
        bad = peer.binary(make(size + 1), cuts)
        for piece in (10 * MIB, 1000, 65536):
            result = outcome(feed(Recorder(max_size=size, deflate=deflate), slices(good + bad, piece)))
            assert result.messages in ([make(size)], [make(size)] * 2)
            assert result.verdict == 1009
            result = outcome(feed(Recorder(max_size=size + 1, deflate=deflate), slices(good + bad, piece)))
            assert result.messages[-1] == make(size + 1)


def test_z14_a_frame_that_no_content_of_max_size_explains_is_1009_at_its_header():
    limit = 64 * 1024 + 4 * 1000
    header = frames.header(frames.BINARY, limit + 1, rsv=frames.RSV1)
    assert verdict(header, max_size=1000, deflate=FRESH) == 1009
    assert verdict(frames.header(frames.BINARY, limit, rsv=frames.RSV1), max_size=1000, deflate=FRESH) is None
    assert verdict(frames.header(frames.BINARY, 2**62, rsv=frames.RSV1), deflate=FRESH) is None


@pytest.mark.parametrize("max_size", [None, 1000, 100 * MIB])
@pytest.mark.parametrize("per_frame", [200, 2**20])
def test_z14_empty_blocks_without_end_are_1009_long_before_a_mebibyte(max_size, per_frame):
    recorder = Recorder(max_size=max_size, deflate=FRESH)
    block = EMPTY_BLOCK * per_frame
    piece = compressed_frame(block, fin=False) if per_frame == 200 else None
    if piece is None:
        if max_size == 1000:
            block = EMPTY_BLOCK * 13_900
        recorder.receive_data(frames.header(frames.BINARY, len(block), rsv=frames.RSV1, mask=bytes(4)))
        pieces = slices(block, 1000)
    else:
        pieces = [piece, *[frames.cont(block, fin=False)] * 1000]
    taken = 0
    for piece in pieces:
        recorder.receive_data(piece)
        taken += len(piece)
        if recorder.failed:
            break
    assert recorder.close_sent[0] == 1009
    assert taken < 90_000


@pytest.mark.parametrize("blocks", [EMPTY_BLOCK, b"\x03\x00"], ids=["stored", "final"])
def test_z8_z14_some_empty_blocks_are_fine_and_many_count(blocks):
    few = compressed_frame(blocks * 200 + HELLO, frames.TEXT)
    assert play(few * 2, deflate=KEPT).messages == ["Hello"] * 2
    # A final block costs us more than its two bytes: so it counts.
    many = compressed_frame(blocks * (300 if len(blocks) == 2 else 14_000) + HELLO, frames.TEXT)
    assert verdict(many, deflate=KEPT) == 1009
    assert outcome(feed(Recorder(deflate=KEPT), slices(many, 100))).verdict == 1009


def test_what_a_message_took_does_not_count_for_the_next():
    one = compressed_frame(EMPTY_BLOCK * 8000 + HELLO, frames.TEXT) + compressed_frame(b"\x03\x00" * 200)
    assert received(one * 20, deflate=KEPT) == ["Hello", b""] * 20


def test_empty_blocks_before_content_are_judged_alike_however_they_arrive():
    # 70 KB of them, then a megabyte that would explain them.
    stream = compressed_frame(EMPTY_BLOCK * 14_000 + packed(noise(MIB)))
    whole = outcome(feed(Recorder(deflate=FRESH), [stream]))
    assert outcome(feed(Recorder(deflate=FRESH), slices(stream, 1000))) == whole
