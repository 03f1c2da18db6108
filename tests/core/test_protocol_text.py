"""Text: RFC 6455 8.1 and RFC 3629, judged at the very byte that is wrong, however it arrives."""

import frames
import pytest
from feeding import fails, feed, play
from frames import TEXT, answer, binary, cont, ping, text

from fastws._recorder import Recorder

NOT_UTF8 = "text is not valid UTF-8"

# What may not stand in UTF-8: the row, and the bytes up to the first that is wrong.
WRONG = {
    "T1-ff": b"\xff",
    "T1-fe": b"\xfe",
    "T1-lone-continuation": b"\x80",
    "T1-last-lone-continuation": b"\xbf",
    "T1-second-continuation": b"\xc3\xa9\x80",
    "T1-third-continuation": b"\xe2\x82\xac\x80",
    "T1-lead-before-ascii": b"\xc3a",
    "T1-lead-before-lead": b"\xe2\xe2",
    "T2-first-high-surrogate": b"\xed\xa0",
    "T2-last-low-surrogate": b"\xed\xbf",
    "T3-overlong-slash": b"\xc0",
    "T3-overlong-c1": b"\xc1",
    "T3-overlong-of-3": b"\xe0\x80",
    "T3-last-overlong-of-3": b"\xe0\x9f",
    "T3-overlong-of-4": b"\xf0\x80",
    "T3-last-overlong-of-4": b"\xf0\x8f",
    "T4-past-10ffff": b"\xf4\x90",
    **{f"T4-{lead:x}": bytes([lead]) for lead in range(0xF5, 0xFE)},
    "T8-ascii-for-second": b"\xe2a",
    "T8-ascii-for-third": b"\xe2\x82a",
    "T8-ascii-for-fourth": b"\xf0\x9f\x98a",
}
REST = {"T2-first-high-surrogate": b"\x80", "T2-last-low-surrogate": b"\xbf", "T3-overlong-slash": b"\xaf"}

TRUNCATED = {
    "1-of-2": b"\xc3",
    "1-of-3": b"\xe2",
    "2-of-3": b"\xe2\x82",
    "1-of-4": b"\xf0",
    "2-of-4": b"\xf0\x9f",
    "3-of-4": b"\xf0\x9f\x98",
}

# Around the sizes of the blocks that are validated at once.
LEADS = [0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 200]

BOUNDARIES = [
    "\0",
    "\x7f",
    "\x80",
    "\u07ff",
    "\u0800",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U00010000",
    "\U0010ffff",
]


def each(table):
    return pytest.mark.parametrize("wrong", table.values(), ids=table)


@pytest.mark.parametrize("name", WRONG)
def test_T1_T2_T3_T4_T8_text_that_is_not_utf8_fails_the_connection(name):
    wrong = WRONG[name] + REST.get(name, b"")
    fails(
        text("good") + text(wrong + b"tail") + text("good"),
        1007,
        before=[("message", "good")],
        reason=NOT_UTF8,
    )


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("name", WRONG)
def test_T1_T2_T3_T4_T8_a_wrong_byte_is_found_at_every_distance_from_a_block(name, lead):
    for filler in (b"a" * lead, "é".encode() * lead, "€".encode() * lead):
        for tail in (b"", b"b" * 70):
            stream = text(filler + WRONG[name] + tail)
            recorder = feed(Recorder(), [stream])
            assert recorder.events == [("fail", 1007, NOT_UTF8)]


@each(WRONG)
def test_T1_T2_T3_T4_the_same_text_is_refused_when_it_is_delivered_as_bytes(wrong):
    fails(text(wrong + b"tail"), 1007, reason=NOT_UTF8, text_as="bytes")


@each(TRUNCATED)
@pytest.mark.parametrize("before", ["", "text", "é" * 40], ids=["alone", "after-ascii", "after-2"])
@pytest.mark.parametrize("text_as", ["str", "bytes"])
def test_T5_text_that_ends_inside_a_code_point_fails_the_connection(wrong, before, text_as):
    stream = text("good") + text(before.encode() + wrong) + text("good")
    good = "good" if text_as == "str" else b"good"
    fails(stream, 1007, before=[("message", good)], text_as=text_as)


@each(TRUNCATED)
def test_T5_a_fragmented_text_that_ends_inside_a_code_point_fails_the_connection(wrong):
    fails(text("a", fin=False) + cont(wrong) + text("good"), 1007)
    fails(text(wrong, fin=False) + cont(b"") + text("good"), 1007)


@pytest.mark.parametrize("character", BOUNDARIES, ids=ascii)
@pytest.mark.parametrize("before", ["", "a" * 15, "é" * 31], ids=["alone", "after-ascii", "after-2"])
def test_T6_a_code_point_may_be_spread_over_frames(character, before):
    message = f"{before}{character}|{character}"
    data = message.encode()
    for at in range(len(data) + 1):
        for empty in ([], [b""], [b"", b""]):
            stream = frames.fragmented(TEXT, [data[:at], *empty, data[at:]])
            assert feed(Recorder(), [stream]).events == [("message", message)]
            assert feed(Recorder(text_as="bytes"), [stream]).events == [("message", data)]


def test_T6_a_code_point_may_be_spread_over_frames_with_pings_and_empty_fragments_inside():
    data = "😀".encode()
    stream = text(data[:1], fin=False) + cont(b"", fin=False) + ping(b"?") + cont(data[1:2], fin=False)
    result = play(stream + cont(data[2:3], fin=False) + ping(b"!") + cont(data[3:]))
    assert result.events == [("ping", b"?"), ("ping", b"!"), ("message", "😀")]
    assert result.output == answer(frames.PONG, b"?") + answer(frames.PONG, b"!")


@pytest.mark.parametrize("character", BOUNDARIES, ids=ascii)
def test_T7_a_code_point_may_be_spread_over_reads(character):
    message = f"{character}a{character * 2}"
    assert play(text(message)).events == [("message", message)]


def test_T7_a_large_text_may_be_cut_anywhere():
    message = "aé€😀" * 3000
    assert play(text(message)).events == [("message", message)]


@pytest.mark.parametrize("name", [name for name in WRONG if len(WRONG[name]) > 1])
def test_T8_a_wrong_continuation_in_the_next_fragment_fails_the_connection(name):
    wrong = WRONG[name]
    stream = text(b"a" + wrong[:-1], fin=False) + cont(wrong[-1:] + b"tail") + text("good")
    fails(stream, 1007, reason=NOT_UTF8)
    stream = text(b"a" + wrong[:-1], fin=False) + cont(fin=False) + cont(wrong[-1:], fin=False)
    fails(stream, 1007, reason=NOT_UTF8)


@each(WRONG)
def test_T9_a_wrong_byte_fails_the_connection_though_the_message_has_no_end(wrong):
    fails(text(wrong, fin=False), 1007, reason=NOT_UTF8)
    fails(text("good", fin=False) + cont(wrong, fin=False), 1007, reason=NOT_UTF8)


@each(WRONG)
@pytest.mark.parametrize(
    "before", [b"", b"a" * 31, "é".encode() * 40], ids=["alone", "after-ascii", "after-2"]
)
@pytest.mark.parametrize("length", [500, 100_000])
def test_T10_a_wrong_byte_inside_an_unfinished_frame_fails_the_connection_at_that_byte(wrong, before, length):
    payload = before + wrong
    stream = frames.header(TEXT, length) + frames.xor(payload, frames.KEY)
    fails(stream, 1007, reason=NOT_UTF8)
    assert play(stream[:-1]).events == []


@each(WRONG)
def test_T10_a_wrong_byte_received_directly_fails_the_connection_at_that_byte(wrong):
    payload = b"a" * 1000 + wrong
    stream = frames.header(TEXT, 100_000) + frames.xor(payload, frames.KEY)
    recorder = feed(Recorder(), [stream[:100], stream[100:-1]], direct=True)
    assert recorder.events == []
    assert recorder.receive_direct(stream[-1:]) == 1
    assert recorder.events == [("fail", 1007, NOT_UTF8)]
    assert recorder.retained == 0
    assert recorder.receive_direct(b"more") == 0


@pytest.mark.parametrize(
    "message",
    [
        "\0",
        "\0" * 100,
        "\ufeff",
        "\ufefftext",
        "\ufffe",
        "\uffff",
        "a\uffffb",
        "\ufdd0",
        "\U0001ffff",
        "\U0010ffff",
    ],
    ids=ascii,
)
def test_T12_nul_bom_and_noncharacters_are_text(message):
    assert play(text(message)).events == [("message", message)]
    assert play(text(message), text_as="bytes").events == [("message", message.encode())]
    pieces = [bytes([byte]) for byte in message.encode()]
    assert play(frames.fragmented(TEXT, pieces)).events == [("message", message)]


@each(WRONG | TRUNCATED)
def test_T12_binary_may_hold_anything(wrong):
    assert play(binary(wrong)).events == [("message", wrong)]
    stream = binary(wrong, fin=False) + cont(wrong)
    assert play(stream).events == [("message", wrong * 2)]


def test_T12_every_code_point_is_text():
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    size = 100_000
    for i in range(0, len(every), size):
        piece = every[i : i + size]
        recorder = feed(Recorder(), [text(piece)])
        assert recorder.events == [("message", piece)]


@pytest.mark.parametrize(
    "message", ["", "a", "é", "€", "😀", "aé€😀" * 50], ids=["empty", "1", "2", "3", "4", "mixed"]
)
def test_text_is_delivered_as_asked_for(message):
    whole, halves = text(message), frames.fragmented(TEXT, [message.encode(), b""])
    assert play(whole + halves).events == [("message", message)] * 2
    assert play(whole + halves, text_as="bytes").events == [("message", message.encode())] * 2
