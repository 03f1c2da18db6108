"""Frames: what RFC 6455 5 demands of a client's, one row after the other, however they arrive."""

import random

import frames
import pytest
from feeding import cut, fails, feed, outcome, play
from frames import BINARY, CLOSE, CONT, PING, PONG, TEXT, answer, binary, cont, ping, pong, text

from fastws._recorder import Recorder

GOOD = text("good")
DELIVERED = [("message", "good")]
OPCODES = {"continuation": CONT, "text": TEXT, "binary": BINARY, "close": CLOSE, "ping": PING, "pong": PONG}
CONTROL = {name: opcode for name, opcode in OPCODES.items() if opcode & 8}


def each(opcodes):
    return pytest.mark.parametrize("opcode", opcodes.values(), ids=opcodes)


@each(OPCODES)
@pytest.mark.parametrize("size", [0, 5, 125])
def test_F1_an_unmasked_frame_fails_the_connection(opcode, size):
    stream = GOOD + frames.frame(opcode, bytes(size), mask=None) + GOOD
    fails(stream, 1002, before=DELIVERED, reason="a frame from a client is not masked")


@pytest.mark.parametrize("size", [126, 65535, 65536])
def test_F1_an_unmasked_frame_is_refused_before_its_length_is_known(size):
    fails(binary(bytes(size), mask=None)[:2], 1002, reason="a frame from a client is not masked")


@pytest.mark.parametrize("size", [0, 1, 3, 125, 126, 70_000])
def test_F2_a_masking_key_of_zeros_is_accepted(size):
    payload = random.Random(size).randbytes(size)
    assert play(binary(payload, mask=bytes(4))).events == [("message", payload)]


@each(OPCODES)
@pytest.mark.parametrize("rsv", [1, 2, 3, 5, 6, 7])
def test_F3_rsv2_and_rsv3_fail_the_connection(opcode, rsv):
    reason = "reserved bits are set, and no extension that uses them was negotiated"
    fails(GOOD + frames.frame(opcode, b"xy", rsv=rsv), 1002, before=DELIVERED, reason=reason)


@each(OPCODES)
def test_F4_rsv1_without_an_extension_fails_the_connection(opcode):
    reason = "reserved bits are set, and no extension that uses them was negotiated"
    fails(GOOD + frames.frame(opcode, b"xy", rsv=frames.RSV1), 1002, before=DELIVERED, reason=reason)


@pytest.mark.parametrize("opcode", range(3, 8))
@pytest.mark.parametrize("fin", [True, False])
def test_F5_a_reserved_data_opcode_fails_the_connection(opcode, fin):
    stream = GOOD + frames.frame(opcode, b"xy", fin=fin) + GOOD
    fails(stream, 1002, before=DELIVERED, reason="the opcode is not defined")


@pytest.mark.parametrize("opcode", range(11, 16))
@pytest.mark.parametrize("fin", [True, False])
def test_F6_a_reserved_control_opcode_fails_the_connection(opcode, fin):
    stream = GOOD + frames.frame(opcode, b"xy", fin=fin) + GOOD
    fails(stream, 1002, before=DELIVERED, reason="the opcode is not defined")


@pytest.mark.parametrize("size", [0, 1, 10, 124, 125])
def test_F7_a_16_bit_length_below_126_fails_the_connection(size):
    stream = GOOD + binary(bytes(size), form=2) + GOOD
    fails(stream, 1002, before=DELIVERED, reason="the payload length is not in its shortest form")


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535])
def test_F8_a_64_bit_length_below_65536_fails_the_connection(size):
    # The header alone, for the length counts as announced.
    stream = GOOD + frames.header(BINARY, size, form=8) + GOOD
    fails(stream, 1002, before=DELIVERED, reason="the payload length is not in its shortest form")


@pytest.mark.parametrize("size", [2**63, 2**63 + 5, 2**64 - 1])
@pytest.mark.parametrize("max_size", [None, 1024])
def test_F9_a_64_bit_length_with_its_most_significant_bit_set_fails_the_connection(size, max_size):
    stream = GOOD + frames.header(BINARY, size, form=8) + GOOD
    reason = "the payload length has its most significant bit set"
    fails(stream, 1002, before=DELIVERED, reason=reason, max_size=max_size)


@each(CONTROL)
@pytest.mark.parametrize("size", [0, 1, 125])
def test_F13_a_fragmented_control_frame_fails_the_connection(opcode, size):
    stream = GOOD + frames.frame(opcode, bytes(size), fin=False) + GOOD
    fails(stream, 1002, before=DELIVERED, reason="a control frame is fragmented")


@each(CONTROL)
@pytest.mark.parametrize(("form", "size"), [(2, 10), (2, 125), (2, 126), (2, 65535), (8, 10), (8, 65536)])
def test_F14_an_extended_length_on_a_control_frame_fails_the_connection(opcode, form, size):
    stream = GOOD + frames.header(opcode, size, form=form) + GOOD
    reason = "a control frame's payload is longer than 125 bytes"
    fails(stream, 1002, before=DELIVERED, reason=reason)


@each(CONTROL)
@pytest.mark.parametrize("code", [126, 127])
def test_F14_a_control_frame_is_refused_before_its_extended_length_arrives(opcode, code):
    fails(bytes([0x80 | opcode, 0x80 | code]), 1002)


@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("payload", [b"", b"x", bytes(200)], ids=len)
def test_F15_a_continuation_of_no_message_fails_the_connection(fin, payload):
    reason = "a continuation frame continues no message"
    fails(cont(payload, fin=fin) + GOOD, 1002, reason=reason)
    fails(GOOD + cont(payload, fin=fin) + GOOD, 1002, before=DELIVERED, reason=reason)
    finished = frames.fragmented(TEXT, [b"go", b"od"])
    fails(finished + cont(payload, fin=fin), 1002, before=DELIVERED, reason=reason)


@pytest.mark.parametrize("second", [TEXT, BINARY])
@pytest.mark.parametrize("first", [TEXT, BINARY])
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("begun", [b"", b"begun"], ids=["empty", "begun"])
def test_F16_a_new_message_inside_a_fragmented_one_fails_the_connection(first, second, fin, begun):
    stream = frames.frame(first, begun, fin=False) + frames.frame(second, b"new", fin=fin) + GOOD
    fails(stream, 1002, reason="a new message begins inside a fragmented one")


@pytest.mark.parametrize("payload", [b"", b"p", bytes(range(125))], ids=len)
def test_F17_a_ping_inside_a_fragmented_message_is_answered_and_the_message_is_intact(payload):
    stream = text("ab", fin=False) + ping(payload) + cont("cd", fin=False) + ping(payload) + cont("e")
    result = play(stream)
    assert result.events == [("ping", payload), ("ping", payload), ("message", "abcde")]
    assert result.output == answer(PONG, payload) * 2


def test_F17_the_pong_goes_out_before_the_message_goes_on():
    recorder = Recorder()
    feed(recorder, [text("ab", fin=False) + ping(b"now")])
    assert recorder.data_to_send() == answer(PONG, b"now")
    feed(recorder, [cont("cd")])
    assert recorder.events == [("ping", b"now"), ("message", "abcd")]


def test_F17_a_ping_inside_a_large_message_leaves_it_intact():
    payload = random.Random(17).randbytes(100_000)
    stream = binary(payload[:40_000], fin=False) + ping(b"1") + cont(payload[40_000:], fin=False) + ping(b"2")
    result = play(stream + cont())
    assert result.events == [("ping", b"1"), ("ping", b"2"), ("message", payload)]
    assert result.output == answer(PONG, b"1") + answer(PONG, b"2")


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536])
@pytest.mark.parametrize("direct", [False, True], ids=["read", "direct"])
def test_F26_a_header_cut_at_every_two_places_gives_the_same_events(length, direct):
    payload = random.Random(length).randbytes(length)
    message = binary(payload)
    stream = ping(b"?") + message + text("after")
    expected = [("ping", b"?"), ("message", payload), ("message", "after")]
    start = len(ping(b"?"))
    edges = range(start, start + min(16, len(message)) + 1)
    for first in edges:
        for second in edges:
            recorder = feed(Recorder(), cut(stream, [first, second]), direct=direct)
            assert recorder.events == expected
            assert recorder.data_to_send() == answer(PONG, b"?")


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING], ids=["text", "binary", "ping"])
def test_F27_a_payload_is_the_same_at_every_alignment_and_split(opcode):
    payload = bytes(random.Random(27).choices(range(128), k=125))
    seen = {TEXT: ("message", payload.decode()), BINARY: ("message", payload), PING: ("ping", payload)}[
        opcode
    ]
    for shift in range(64):
        before = pong(bytes(shift))
        stream = before + frames.frame(opcode, payload, mask=b"\x01\x80\xfe\x5a")
        start = len(stream) - len(payload)
        for at in (None, *range(64)):
            pieces = [stream] if at is None else cut(stream, [start + at])
            assert feed(Recorder(), pieces).events == [("pong", bytes(shift)), seen]


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_F27_a_large_payload_received_directly_is_the_same_at_every_split(opcode):
    payload = bytes(random.Random(28).choices(range(128), k=20_000))
    expected = payload.decode() if opcode == TEXT else payload
    head = frames.header(opcode, len(payload))
    body = frames.xor(payload, frames.KEY)
    for at in range(64):
        for size in (1009, 4096):
            pieces = [head + body[:at], *cut(body[at:], range(size, len(body) - at, size))]
            assert feed(Recorder(), pieces, direct=True).events == [("message", expected)]


@pytest.mark.parametrize("payload", [b"", b"never asked for", bytes(125)], ids=len)
def test_F28_an_unsolicited_pong_is_handed_on_and_not_answered(payload):
    result = play(pong(payload) + text("a", fin=False) + pong(payload) + cont("b"))
    assert result.events == [("pong", payload), ("pong", payload), ("message", "ab")]
    assert result.output == b""


def test_F29_what_is_good_before_a_bad_frame_is_delivered():
    stream = text("one") + binary(b"two") + ping(b"three") + frames.frame(3, b"bad") + text("four")
    before = [("message", "one"), ("message", b"two"), ("ping", b"three")]
    fails(stream, 1002, before=before, answers=answer(PONG, b"three"))


@pytest.mark.parametrize(
    "after",
    [text("good"), ping(b"?"), frames.close(1000), frames.frame(3), b"\xff" * 20, binary(bytes(70_000))],
    ids=["text", "ping", "close", "bad-opcode", "noise", "large"],
)
def test_F30_nothing_after_a_failure_is_parsed_or_kept(after):
    alone = play(GOOD + frames.frame(3))
    result = play(GOOD + frames.frame(3) + after)
    assert result == alone
    assert result.retained == 0


def test_F30_bytes_after_a_failure_are_taken_and_dropped_for_ever():
    recorder = feed(Recorder(), [frames.frame(3)])
    before = outcome(recorder)
    for _ in range(1000):
        assert recorder.receive_data(GOOD) == len(GOOD)
        assert recorder.receive_direct(GOOD) == 0
    assert recorder.events == before.events
    assert recorder.retained == 0
    assert recorder.data_to_send() == b""


def test_F30_a_failure_while_a_message_is_under_way_gives_up_its_memory():
    recorder = feed(Recorder(), [binary(bytes(50_000), fin=False)])
    assert recorder.retained == 50_000
    feed(recorder, [binary(b"new")])
    assert recorder.failed
    assert recorder.retained == 0


@pytest.mark.parametrize(
    "unfinished",
    [
        b"",
        text("half", fin=False),
        binary(bytes(100))[:50],
        binary(bytes(100))[:5],
        frames.close(1000)[:-1],
        ping(b"half")[:-2],
    ],
    ids=["nothing", "message", "payload", "header", "close", "ping"],
)
def test_F31_a_stream_that_ends_without_a_close_gives_no_close_event(unfinished):
    result = play(GOOD + unfinished)
    assert result.events == DELIVERED
    assert (result.close_sent, result.close_received, result.output) == (None, None, b"")


@pytest.mark.parametrize("size", [0, 1, 2, 124, 125, 126, 127, 128, 65535, 65536, 65537])
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
def test_a_message_of_each_form_of_length_is_delivered(opcode, size):
    payload = bytes(random.Random(size).choices(range(128), k=size))
    expected = payload.decode() if opcode == TEXT else payload
    stream = frames.frame(opcode, payload)
    assert play(stream + stream).events == [("message", expected)] * 2


@pytest.mark.parametrize(
    "pieces", [[b""], [b"", b""], [b"", b"", b"x"], [b"x", b"", b""], [b"", b"x", b"", b"y", b""]]
)
def test_empty_fragments_add_nothing_to_a_message(pieces):
    whole = b"".join(pieces)
    stream = frames.fragmented(TEXT, pieces) + frames.fragmented(BINARY, pieces)
    assert play(stream).events == [("message", whole.decode()), ("message", whole)]
    assert play(stream, text_as="bytes").events == [("message", whole), ("message", whole)]
