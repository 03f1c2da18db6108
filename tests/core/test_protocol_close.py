"""The closing handshake: RFC 6455 5.5.1 and 7, from either side."""

import frames
import pytest
from feeding import fails, feed, play
from frames import PONG, answer, answer_close, binary, close, cont, ping, pong, text

from fastws._recorder import Recorder

ALLOWED = [*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)]
FORBIDDEN = sorted(set(range(2**16)) - set(ALLOWED))
EDGES = [1000, 1001, 1002, 1003, 1007, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
BEYOND = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 5001, 10_000, 2**15, 2**16 - 1]

AFTERWARDS = {
    "text": text("late"),
    "ping": ping(b"late"),
    "close": close(1001),
    "bad-opcode": frames.frame(3),
    "unmasked": binary(b"late", mask=None),
    "bad-text": text(b"\xff"),
    "noise": b"\xff" * 50,
    "large": binary(bytes(70_000)),
}


def test_F18_a_close_between_fragments_is_echoed():
    result = play(text("half", fin=False) + close(1000) + cont("rest"))
    assert result.events == [("close", 1000, "")]
    assert result.output == answer_close(1000)
    assert result.close_received == result.close_sent == (1000, "")
    assert (result.failed, result.retained) == (False, 0)


def test_F18_a_close_gives_up_the_memory_of_an_unfinished_message():
    recorder = feed(Recorder(), [binary(bytes(50_000), fin=False)])
    assert recorder.retained == 50_000
    feed(recorder, [close()])
    assert recorder.retained == 0


def test_F19_an_empty_close_is_echoed_empty_and_counts_as_1005():
    result = play(text("good") + close())
    assert result.events == [("message", "good"), ("close", 1005, "")]
    assert result.output == answer_close()
    assert result.close_received == result.close_sent == (1005, "")
    assert not result.failed


@pytest.mark.parametrize("byte", [b"\0", b"\x03", b"\xe8", b"\xff"])
def test_F20_a_close_payload_of_1_byte_fails_the_connection(byte):
    fails(frames.frame(frames.CLOSE, byte), 1002, reason="a Close frame's payload is 1 byte")


@pytest.mark.parametrize("code", BEYOND)
@pytest.mark.parametrize("reason", [b"", b"why", b"\xff"], ids=["empty", "reason", "bad-reason"])
def test_F21_a_code_that_must_not_be_sent_fails_the_connection(code, reason):
    fails(close(code, reason), 1002, reason=f"close code is {code}, which must not be sent")


def test_F21_every_code_that_must_not_be_sent_fails_the_connection():
    for code in FORBIDDEN:
        assert feed(Recorder(), [close(code)]).events[0][:2] == ("fail", 1002), code


@pytest.mark.parametrize("code", EDGES)
@pytest.mark.parametrize("reason", ["", "why", "Grüße", "x" * 123, "é" * 61 + "x"])
def test_F22_a_code_that_may_be_sent_is_echoed_with_its_reason(code, reason):
    result = play(close(code, reason.encode()))
    assert result.events == [("close", code, reason)]
    assert result.output == answer_close(code, reason.encode())
    assert result.close_received == result.close_sent == (code, reason)
    assert not result.failed


def test_F22_every_code_that_may_be_sent_is_echoed():
    for code in ALLOWED:
        recorder = feed(Recorder(), [close(code)])
        assert recorder.events == [("close", code, "")]
        assert recorder.data_to_send() == answer_close(code)


@pytest.mark.parametrize(
    "reason",
    [
        b"\xff",
        b"\x80",
        b"a\xc3",
        b"\xe2\x82",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\xf4\x90\x80\x80",
        b"x" * 122 + b"\xc3",
    ],
    ids=bytes.hex,
)
def test_F23_a_close_reason_that_is_not_utf8_fails_the_connection(reason):
    fails(text("good") + close(1000, reason), 1007, before=[("message", "good")])


@pytest.mark.parametrize("after", AFTERWARDS.values(), ids=AFTERWARDS)
def test_F24_whatever_follows_the_peers_close_is_discarded(after):
    assert play(close(1000, b"bye") + after) == play(close(1000, b"bye"))


def test_F24_what_follows_the_peers_close_is_taken_and_dropped_for_ever():
    recorder = feed(Recorder(), [close(1000)])
    recorder.data_to_send()
    for _ in range(1000):
        assert recorder.receive_data(text("late")) == len(text("late"))
        assert recorder.receive_direct(bytes(100)) == 0
    assert (recorder.events, recorder.retained) == ([("close", 1000, "")], 0)
    assert recorder.data_to_send() == b""


def closing(code=1000, reason="", **options):
    """Return a Recorder that has sent its Close."""
    recorder = Recorder(**options)
    recorder.close(code, reason)
    assert recorder.data_to_send() == answer_close(code, reason.encode())
    return recorder


@pytest.mark.parametrize(
    "data",
    [
        text("ignored"),
        binary(bytes(70_000)),
        text("spread", fin=False) + cont(b"", fin=False) + cont(b"over frames"),
        text(b"\xff is not UTF-8"),
        text(b"\xe2", fin=False) + cont(b"\x82"),
        text(""),
        b"",
    ],
    ids=["text", "large", "fragmented", "not-utf8", "truncated", "empty", "nothing"],
)
def test_F24b_data_after_our_close_is_discarded_and_the_peers_close_is_found(data):
    result = play(data + close(1001, b"bye"), make=closing)
    assert result.events == [("close", 1001, "bye")]
    assert result.output == b""
    assert result.close_sent == (1000, "")
    assert result.close_received == (1001, "bye")
    assert (result.failed, result.retained) == (False, 0)


def test_F24b_data_after_our_close_may_exceed_max_size():
    result = play(
        binary(bytes(1000)) + binary(bytes(1000), fin=False) + cont(bytes(9)) + close(),
        max_size=100,
        make=closing,
    )
    assert result.events == [("close", 1005, "")]


def test_F24b_nothing_is_kept_of_data_after_our_close():
    recorder = closing()
    stream = binary(bytes(100_000))
    feed(recorder, [stream[:100]], direct=True)
    assert recorder.receive_direct(stream[100:]) == 0
    assert recorder.retained == 0


def test_F24b_pings_are_answered_until_the_peers_close():
    stream = (
        ping(b"1")
        + text("half", fin=False)
        + ping(b"2")
        + cont("rest")
        + pong(b"3")
        + close(1000)
        + ping(b"4")
    )
    result = play(stream, make=closing)
    assert result.events == [("ping", b"1"), ("ping", b"2"), ("pong", b"3"), ("close", 1000, "")]
    assert result.output == answer(PONG, b"1") + answer(PONG, b"2")


@pytest.mark.parametrize(
    "bad",
    [
        frames.frame(3),
        text("unmasked", mask=None),
        cont("of nothing"),
        text("half", fin=False) + text("new"),
        close(1005),
        close(1000, b"\xff"),
        frames.frame(frames.CLOSE, b"\x03"),
    ],
    ids=["opcode", "unmasked", "continuation", "interleaved", "code", "reason", "1-byte"],
)
def test_F24b_a_violation_after_our_close_ends_the_connection_without_a_second_close(bad):
    result = play(bad + close(1000) + ping(), make=closing)
    assert result.failed
    assert result.events == [("fail", 1000, "")]
    assert result.close_sent == (1000, "")
    assert (result.close_received, result.output) == (None, b"")


def under_way(begun):
    """Return a maker of Recorders that send their Close when `begun` has arrived."""

    def make():
        recorder = feed(Recorder(), [begun])
        assert recorder.events == []
        recorder.close(1001)
        assert recorder.data_to_send() == answer_close(1001)
        return recorder

    return make


MESSAGE = binary(bytes(50), fin=False) + ping(b"?") + cont(bytes(20_000), fin=False) + cont(b"end")


@pytest.mark.parametrize("at", [1, 2, 5, 6, 20, len(binary(bytes(50)))])
def test_F24b_a_message_under_way_when_we_close_is_passed_over(at):
    result = play(MESSAGE[at:] + text("another") + close(1000), make=under_way(MESSAGE[:at]))
    assert result.events == [("ping", b"?"), ("close", 1000, "")]
    assert result.output == answer(PONG, b"?")
    assert result.retained == 0


def test_F24b_a_large_payload_under_way_when_we_close_is_passed_over_and_given_up():
    stream = binary(bytes(100_000))
    recorder = feed(Recorder(), [stream[:60_000]])
    assert recorder.retained > 50_000
    recorder.close()
    assert recorder.retained == 0
    feed(recorder, [stream[60_000:] + close(1000)], direct=True)
    assert recorder.events == [("close", 1000, "")]


def test_F24b_a_message_under_way_when_we_close_is_still_one_for_the_rules_of_fragments():
    make = under_way(text("half", fin=False))
    assert play(text("new") + close(), make=make).failed
    assert play(cont("rest") + cont("of nothing") + close(), make=make).failed
    assert not play(cont("rest", fin=False) + cont("rest") + text("new") + close(), make=make).failed


@pytest.mark.parametrize(
    "code", [*BEYOND, -1, 2**16 + 1000, 2**32 + 1000, 2**64, 1000.0, "1000", b"1000"], ids=repr
)
def test_F24c_a_code_that_must_not_be_sent_raises_and_nothing_is_sent(code):
    recorder = Recorder()
    with pytest.raises(
        ValueError, match=r"^close code is .*, allowed are 1000-1003, 1007-1014 and 3000-4999$"
    ):
        recorder.close(code)
    assert recorder.data_to_send() == b""
    assert (recorder.close_queued, recorder.close_sent) == (False, None)
    recorder.close(1000)
    assert recorder.data_to_send() == answer_close(1000)


@pytest.mark.parametrize(
    ("reason", "size"), [("x" * 124, 124), ("é" * 62, 124), ("€" * 42, 126), ("x" * 10**6, 10**6)]
)
def test_F24c_a_reason_over_123_bytes_raises_and_nothing_is_sent(reason, size):
    recorder = Recorder()
    with pytest.raises(ValueError, match=f"^close reason is {size} bytes, limit is 123$"):
        recorder.close(1000, reason)
    assert recorder.data_to_send() == b""
    assert not recorder.close_queued


def test_F24c_a_reason_with_a_lone_surrogate_raises_and_nothing_is_sent():
    recorder = Recorder()
    with pytest.raises(UnicodeEncodeError):
        recorder.close(1000, "\ud800")
    assert recorder.data_to_send() == b""
    assert not recorder.close_queued


@pytest.mark.parametrize("code", [None, *EDGES])
@pytest.mark.parametrize("reason", ["", "Grüße", "x" * 123])
def test_F24c_what_may_be_sent_is_sent_once(code, reason):
    recorder = Recorder()
    recorder.close(code, "" if code is None else reason)
    expected = answer_close() if code is None else answer_close(code, reason.encode())
    assert recorder.data_to_send() == expected
    assert recorder.close_sent == ((1005, "") if code is None else (code, reason))
    assert recorder.close_queued
    recorder.close(4000, "again")
    assert recorder.data_to_send() == b""
    assert recorder.close_sent == ((1005, "") if code is None else (code, reason))


def test_close_after_the_peers_close_or_a_failure_sends_nothing_more():
    for stream, expected in [(close(3000), answer_close(3000)), (frames.frame(3), None)]:
        recorder = feed(Recorder(), [stream])
        first = recorder.data_to_send()
        assert expected in (None, first)
        recorder.close()
        assert recorder.data_to_send() == b""


def test_a_code_that_is_an_int_of_another_type_is_kept_as_an_int():
    class Code(int):
        pass

    recorder = Recorder()
    recorder.close(Code(1000))
    assert type(recorder.close_sent[0]) is int
