"""Compressed messages that are wrong, or end in a way of their own; rows Z1, Z4, Z5, Z7 to Z12."""

import zlib

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
    raw_deflate,
    received,
    story,
    verdict,
)
from feeding import fails, feed, outcome, play, slices

from fastws._recorder import Recorder

CORRUPT = "a compressed message is invalid"

# ---------------------------------------------------------------- Z1: what is no deflate


@pytest.mark.parametrize(
    "payload",
    [
        b"\x06",  # block type 3
        b"\x07",
        b"\x00\x05\x00\xfa\xfeHello",  # LEN and NLEN differ
        HELLO[:-1] + b"\x06",
        b"\xff" * 20,
    ],
    ids=["type-3", "type-3-final", "length", "second-block", "ones"],
)
@BOTH
def test_z1_what_is_no_deflate_is_1007(payload, deflate):
    good = Peer().binary(b"before")
    fails(good + compressed_frame(payload) + good, 1007, before=[("message", b"before")], deflate=deflate)


@BOTH
def test_z1_a_distance_before_the_first_byte_is_1007(deflate):
    secret = noise(300)
    stream = compressed_frame(packed(secret, before=secret))
    assert len(stream) < 100
    fails(stream, 1007, reason=CORRUPT, deflate=deflate)


def test_z11_a_reference_to_a_forgotten_message_is_1007():
    peer = Peer(takeover=True)
    data = noise(300)
    stream = peer.binary(data) + peer.binary(data)
    fails(stream, 1007, before=[("message", data)], reason=CORRUPT, deflate=FRESH)
    assert received(stream, deflate=KEPT) == [data, data]


def test_z11_no_message_sees_what_another_connection_received():
    # Inflaters are passed on from connection to connection: what the one before left must be gone.
    secret = noise(300)
    leak = compressed_frame(packed(secret, before=secret))
    for bits in (9, 15, 9, 12, 15):
        deflate = agreed(in_bits=bits)
        assert received(compressed_frame(packed(secret, bits=9)), deflate=deflate) == [secret]
        assert verdict(leak, deflate=deflate) == 1007
        assert verdict(leak, deflate=agreed(in_bits=bits, in_takeover=True)) == 1007


@pytest.mark.parametrize("bits", range(8, 15))
def test_z12_a_distance_beyond_the_window_agreed_on_is_1007(bits):
    data, gap = noise(200), noise(2**bits, 2)
    peer = Peer(bits=15, takeover=True)
    stream = peer.binary(data) + peer.binary(gap) + peer.binary(data)
    before = [("message", data), ("message", gap)]
    fails(stream, 1007, before=before, reason=CORRUPT, deflate=agreed(in_bits=bits, in_takeover=True))
    assert received(stream, deflate=agreed(in_bits=bits + 1, in_takeover=True)) == [data, gap, data]


# ---------------------------------------------------------------- Z4, Z5: RSV1 where it must not be


@pytest.mark.parametrize("opcode", [frames.CLOSE, frames.PING, frames.PONG])
def test_z4_rsv1_on_a_control_frame_is_1002(opcode):
    for start in (b"", compressed_frame(HELLO[:3], fin=False)):
        fails(start + frames.frame(opcode, rsv=frames.RSV1) + frames.cont(), 1002, deflate=FRESH)


@pytest.mark.parametrize("begin", [compressed_frame, frames.binary], ids=["compressed", "plain"])
@pytest.mark.parametrize("fin", [False, True])
def test_z5_rsv1_on_a_continuation_is_1002(begin, fin):
    stream = begin(HELLO[:3], fin=False) + frames.cont(HELLO[3:], fin=fin, rsv=frames.RSV1)
    fails(stream, 1002, reason="RSV1 is set on a continuation frame", deflate=FRESH)


@pytest.mark.parametrize("rsv", [frames.RSV2, frames.RSV3, frames.RSV1 | frames.RSV2, 7])
def test_rsv2_and_rsv3_stay_forbidden(rsv):
    fails(frames.binary(HELLO, rsv=rsv), 1002, deflate=FRESH)


# ---------------------------------------------------------------- Z7 to Z10: ends


def chained(pieces, *, trailer=b"", flush=zlib.Z_FINISH):
    """Compress each of `pieces` to an end, each with those before as its window."""
    before, found = b"", []
    for piece in pieces:
        found.append(raw_deflate(piece, before=before[-32768:], flush=flush) + trailer)
        before += piece
    return found


@pytest.mark.parametrize("trailer", [b"", b"\x00"], ids=["bare", "rfc"])
@BOTH
def test_z7_messages_after_a_final_block_come_out_as_they_were(trailer, deflate):
    data = [noise(300), noise(300) + b"!", b"", noise(300), noise(70_000), noise(70_000)[::-1], noise(300)]
    if deflate.in_takeover:
        payloads = chained(data, trailer=trailer)
        assert len(payloads[1]) < 50, "it refers to the message before"
    else:
        payloads = [raw_deflate(piece, flush=zlib.Z_FINISH) + trailer for piece in data]
    stream = b"".join(map(compressed_frame, payloads))
    for pieces in ([stream], slices(stream, 1), slices(stream, 1000)):
        assert outcome(feed(Recorder(deflate=deflate), pieces)).messages == data


def test_z7_a_final_block_and_flushes_take_turns():
    data = [noise(300), noise(300), noise(400), noise(300)]
    first, second, third, fourth = chained(data)
    unfinished = raw_deflate(data[1], before=data[0]).removesuffix(TAIL)
    assert len(second) < 50
    stream = b"".join(map(compressed_frame, [first, unfinished, third, fourth]))
    assert play(stream, deflate=KEPT).messages == data


@pytest.mark.parametrize("trailer", [b"", b"\x00"], ids=["bare", "rfc"])
@BOTH
def test_z8_blocks_after_a_final_one_are_decoded_with_the_same_window(trailer, deflate):
    pieces = [noise(300), noise(300) + b"more", noise(300), story(3000)]
    payload = b"".join(chained(pieces)) + trailer
    assert len(payload) < 400 + len(packed(pieces[3]))
    stream = compressed_frame(payload) + compressed_frame(HELLO, frames.TEXT)
    assert play(stream, deflate=deflate).messages == [b"".join(pieces), "Hello"]
    # In fragments that end behind the final blocks.
    ends = chained(pieces)
    stream = compressed_frame(ends[0], fin=False)
    stream += b"".join(frames.cont(end, fin=False) for end in ends[1:]) + frames.cont(trailer)
    assert play(stream, deflate=deflate).messages == [b"".join(pieces)]


def test_z8_what_follows_a_final_block_and_is_no_deflate_is_1007():
    stream = compressed_frame(raw_deflate(b"data", flush=zlib.Z_FINISH) + b"\x06\x06")
    fails(stream, 1007, reason=CORRUPT, deflate=KEPT)


def test_z9_a_stream_cut_off_inside_a_block_is_1007():
    # Of a stored block the tail completes the first byte, to an empty one, and replaces the last four.
    for payload, fine in ((packed(story(500)), ()), (packed(noise(50), level=0), (1, 51)), (HELLO, ())):
        for end in set(range(1, len(payload) - 1)).difference(fine):
            result = outcome(feed(Recorder(deflate=KEPT), [compressed_frame(payload[:end])]))
            assert result.close_sent == (1007, CORRUPT), end
            pieces = slices(compressed_frame(payload[:end]), 1)
            assert outcome(feed(Recorder(deflate=KEPT), pieces)) == result, end


def test_z9_a_stream_cut_off_between_blocks_is_what_came():
    # The second block, all but its header's first byte, is missing.
    payload = raw_deflate(b"first") + packed(b"second", before=b"first")
    cut = payload[: payload.index(TAIL)]
    assert play(compressed_frame(cut) * 2, deflate=FRESH).messages == [b"first"] * 2


@pytest.mark.parametrize("payload", [b"\x00", b""], ids=["octet", "nothing"])
@BOTH
def test_z10_an_empty_message_is_empty_and_harms_none_after_it(payload, deflate):
    peer = Peer(takeover=deflate.in_takeover)
    data = noise(300)
    empty = compressed_frame(payload) + compressed_frame(payload, frames.TEXT)
    empty += compressed_frame(payload, fin=False) + frames.cont() + compressed_frame(b"", fin=False)
    empty += frames.cont(b"", fin=False) + frames.cont(payload)
    stream = empty + peer.binary(data) + empty + peer.binary(data) + empty
    empties = [b"", "", b"", b""]
    assert play(stream, deflate=deflate).messages == [*empties, data, *empties, data, *empties]


# ---------------------------------------------------------------- text


def test_text_fails_at_its_first_bad_byte_though_the_message_goes_on():
    peer = Peer()
    start = compressed_frame(peer.pack(b"fine \xc3", last=False), frames.TEXT, fin=False)
    recorder = feed(Recorder(deflate=FRESH), [start])
    assert not recorder.failed
    feed(recorder, [frames.cont(peer.pack(b"\xa9 bad \xff", last=False), fin=False)])
    assert recorder.close_sent == (1007, "text is not valid UTF-8")
    # Amid one frame, too: its header announces more than has come.
    payload = Peer().pack(b"bad \xed\xa0", last=False)
    head = frames.header(frames.TEXT, 60_000, rsv=frames.RSV1, mask=bytes(4))
    recorder = feed(Recorder(deflate=FRESH), [head, payload])
    assert recorder.close_sent == (1007, "text is not valid UTF-8")


@pytest.mark.parametrize("bad", [b"\xff", b"abc\xc3", "é".encode() * 40_000 + b"\xe2\x82", b"\xed\xa0\x80"])
def test_text_that_is_not_utf8_is_1007(bad):
    peer = Peer()
    fails(peer.text(bad), 1007, reason="text is not valid UTF-8", deflate=FRESH)
    fails(peer.text(bad, cuts=[1, 3]), 1007, reason="text is not valid UTF-8", deflate=FRESH)
    assert received(peer.binary(bad), deflate=FRESH) == [bad]


@pytest.mark.parametrize(
    "payload",
    [
        packed(b"bad \xff text" + bytes(70_000)),  # too large as well
        raw_deflate(b"bad \xff text") + b"\x06",  # then no deflate at all
        raw_deflate(b"bad \xff text") + b"\x03\x00" * 300,  # then without end
    ],
    ids=["large", "corrupt", "endless"],
)
def test_what_is_wrong_first_is_what_is_said_however_it_arrives(payload):
    stream = compressed_frame(payload, frames.TEXT)
    result = outcome(feed(Recorder(max_size=66_000, deflate=FRESH), slices(stream, 1)))
    assert result.close_sent == (1007, "text is not valid UTF-8")
    assert outcome(feed(Recorder(max_size=66_000, deflate=FRESH), [stream])) == result


# ---------------------------------------------------------------- the closing handshake


def test_a_close_amid_compressed_fragments_is_answered():
    stream = compressed_frame(HELLO[:3], fin=False) + frames.close(1000)
    result = play(stream, deflate=KEPT)
    assert result.events == [("close", 1000, "")]
    assert result.output == frames.answer_close(1000)
    assert result.retained == 0


def test_compressed_frames_after_our_close_are_passed_over_corrupt_ones_too():
    recorder = Recorder(deflate=KEPT)
    feed(recorder, [compressed_frame(HELLO[:3], fin=False)])
    recorder.close(1000)
    feed(recorder, [frames.cont(HELLO[3:]) + compressed_frame(b"\xff" * 300) + frames.close(1000)])
    assert recorder.events == [("close", 1000, "")]
    assert recorder.data_to_send() == frames.answer_close(1000)
