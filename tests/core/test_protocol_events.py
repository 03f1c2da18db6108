"""Events: a consumer that holds, sends, closes or raises in the middle of a batch; and what goes out."""

import array
import gc
import random

import frames
import pytest
from feeding import feed, play, slices
from frames import BINARY, PONG, TEXT, answer, answer_close, binary, close, cont, ping, text

from fastws._recorder import Recorder

BATCH = (
    text("1") + ping(b"2") + binary(b"3") + text("4", fin=False) + ping(b"5") + cont("6") + close(1000, b"7")
)
EVENTS = [
    ("message", "1"),
    ("ping", b"2"),
    ("message", b"3"),
    ("ping", b"5"),
    ("message", "46"),
    ("close", 1000, "7"),
]


def test_R8_a_hold_stops_delivery_in_the_middle_of_a_batch():
    recorder = Recorder(hold_after_message=True)
    taken = recorder.receive_data(BATCH)
    assert taken == len(text("1"))
    assert recorder.events == EVENTS[:1]
    assert recorder.data_to_send() == b""
    for _ in range(3):
        assert recorder.receive_data(BATCH[taken:]) == 0
        assert recorder.receive_direct(BATCH[taken:]) == 0
    assert recorder.events == EVENTS[:1]
    recorder.release()
    taken += recorder.receive_data(BATCH[taken:])
    assert recorder.events == EVENTS[:3]
    assert recorder.data_to_send() == answer(PONG, b"2")
    recorder.release()
    taken += recorder.receive_data(BATCH[taken:])
    assert recorder.events == EVENTS[:5]
    assert not recorder.close_arrived
    recorder.release()
    taken += recorder.receive_data(BATCH[taken:])
    assert taken == len(BATCH)
    assert recorder.events == EVENTS


def test_R8_order_and_bytes_are_intact_on_resume():
    held = play(BATCH, hold_after_message=True)
    assert held == play(BATCH)
    assert held.events == EVENTS


def test_R8_large_messages_are_intact_on_resume():
    payloads = [random.Random(i).randbytes(30_000 + i) for i in range(3)]
    stream = b"".join(map(binary, payloads))
    assert play(stream, hold_after_message=True).messages == payloads


def test_R8_each_of_many_small_messages_is_held_and_delivered_once():
    words = [str(i) for i in range(200)]
    recorder = feed(Recorder(hold_after_message=True), [b"".join(map(text, words))])
    assert recorder.events == [("message", word) for word in words]


def test_R8_a_hold_at_the_very_end_of_the_input_takes_all_of_it():
    recorder = Recorder(hold_after_message=True)
    assert recorder.receive_data(text("all")) == len(text("all"))
    assert recorder.receive_data(b"") == 0
    recorder.release()
    assert recorder.receive_data(text("more")) == len(text("more"))
    assert recorder.events == [("message", "all"), ("message", "more")]


def test_R8_a_message_finished_in_the_direct_buffer_holds():
    recorder = Recorder(hold_after_message=True)
    stream = binary(bytes(40_000))
    recorder.receive_data(stream[:20_000])
    rest = stream[20_000:]
    while rest:
        taken = recorder.receive_direct(rest) or recorder.receive_data(rest)
        rest = rest[taken:]
    assert recorder.events == [("message", bytes(40_000))]
    assert recorder.receive_data(text("next")) == 0
    recorder.release()
    assert recorder.receive_data(text("next")) == len(text("next"))


def test_R8_a_hold_keeps_nothing_of_what_it_does_not_take():
    recorder = Recorder(hold_after_message=True)
    recorder.receive_data(text("first") + binary(bytes(1000), fin=False))
    assert recorder.retained == 0


def reacting(reactions, **options):
    """Return a Recorder that calls `reactions[event]` with itself when an event happens."""

    def react(event):
        if event in reactions:
            reactions[event](recorder)

    recorder = Recorder(on_event=react, **options)
    return recorder


def test_R20_an_answer_from_a_callback_goes_out_between_the_frames():
    reactions = {("message", "1"): lambda r: r.send("one"), ("message", b"3"): lambda r: r.send(b"three")}
    result = play(BATCH, make=lambda: reacting(reactions))
    assert result.events == EVENTS
    expected = answer(TEXT, b"one") + answer(PONG, b"2") + answer(BINARY, b"three") + answer(PONG, b"5")
    assert result.output == expected + answer_close(1000, b"7")


def test_R20_a_pong_precedes_what_the_ping_callback_sends():
    reactions = {("ping", b"2"): lambda r: r.send("after"), ("ping", b"5"): lambda r: r.ping(b"mine")}
    result = play(BATCH, make=lambda: reacting(reactions))
    expected = answer(PONG, b"2") + answer(TEXT, b"after") + answer(PONG, b"5") + answer(frames.PING, b"mine")
    assert result.output == expected + answer_close(1000, b"7")


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("hold", [False, True], ids=["going-on", "holding"])
def test_R20_a_close_from_a_callback_stops_messages_but_not_pings_and_the_closing_handshake(index, hold):
    reactions = {EVENTS[index]: lambda r: r.close(4000, "enough")}
    result = play(BATCH, make=lambda: reacting(reactions, hold_after_message=hold))
    later = [event for event in EVENTS[index + 1 :] if event[0] != "message"]
    assert result.events == EVENTS[: index + 1] + later
    assert result.close_sent == (4000, "enough")
    assert result.close_received == (1000, "7")
    assert result.output.count(answer_close(4000, b"enough")) == 1
    assert answer_close(1000, b"7") not in result.output
    assert (result.failed, result.retained) == (False, 0)


def test_R20_a_close_from_a_callback_inside_a_fragmented_message_drops_that_message():
    stream = (
        binary(bytes(5000), fin=False) + ping(b"now") + cont(bytes(5000), fin=False) + cont() + text("late")
    )
    result = play(stream, make=lambda: reacting({("ping", b"now"): lambda r: r.close()}))
    assert result.events == [("ping", b"now")]
    assert result.output == answer(PONG, b"now") + answer_close(1000)
    assert result.retained == 0


def test_R20_a_close_and_send_from_the_close_and_fail_callbacks_change_nothing_that_was_decided():
    for stream, last in [
        (close(1000), ("close", 1000, "")),
        (frames.frame(3), ("fail", 1002, "the opcode is not defined")),
    ]:
        result = play(stream + text("late"), make=lambda last=last: reacting({last: lambda r: r.close(4000)}))
        assert result.events == [last]
        assert result.close_sent == last[1:]
        assert result.output == answer_close(last[1], last[2].encode())


@pytest.mark.parametrize("index", range(6))
def test_R20_bytes_behind_a_callback_that_raises_do_no_harm(index):
    class Boom(Exception):
        pass

    def raise_once(_):
        raise Boom

    recorder = reacting({EVENTS[index]: raise_once})
    with pytest.raises(Boom):
        recorder.receive_data(BATCH)
    assert recorder.events == EVENTS[: index + 1]
    recorder.close(1011)
    recorder.data_to_send()
    feed(recorder, slices(close(1000) * 2, 3))
    assert recorder.close_arrived
    assert recorder.retained == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_R16_a_callback_may_raise_anything(error):
    def raise_it(_):
        raise error

    recorder = Recorder(on_event=raise_it)
    for stream in (text("1"), ping(), text("2", fin=False) + cont("3"), binary(bytes(30_000))):
        with pytest.raises(error):
            feed(recorder, [stream[:100], stream[100:]], direct=True)
    assert [kind for kind, _ in recorder.events] == ["message", "ping", "message", "message"]


def test_R21_a_callback_may_drop_the_last_reference():
    class Box:
        pass

    box = Box()
    events = []

    def drop(event):
        events.append(event)
        box.recorder = None
        gc.collect()

    box.recorder = Recorder(on_event=drop)
    box.recorder.receive_data(BATCH)
    assert events == EVENTS


def test_R22_a_payload_kept_after_its_callback_stays_valid():
    payloads = [random.Random(i).randbytes(20_000) for i in range(5)]
    views = []
    recorder = Recorder(on_event=lambda event: views.append(memoryview(event[1])))
    feed(recorder, slices(b"".join(map(binary, payloads)), 4096), direct=True)
    recorder.events.clear()
    del recorder
    gc.collect()
    assert [bytes(view) for view in views] == payloads


SENT = {
    "str": ("aé€😀", TEXT, "aé€😀".encode()),
    "empty-str": ("", TEXT, b""),
    "bytes": (b"\xff\0", BINARY, b"\xff\0"),
    "bytearray": (bytearray(b"\xff\0"), BINARY, b"\xff\0"),
    "memoryview": (memoryview(b"xabcx")[1:4], BINARY, b"abc"),
    "memoryview-2d": (memoryview(b"abcdef").cast("B", (2, 3)), BINARY, b"abcdef"),
    "array-of-bytes": (array.array("b", [1, -1]), BINARY, b"\x01\xff"),
    "array-of-doubles": (array.array("d", [1.5, -2.0]), BINARY, array.array("d", [1.5, -2.0]).tobytes()),
    "typed-memoryview": (
        memoryview(array.array("I", [1, 2, 3])),
        BINARY,
        array.array("I", [1, 2, 3]).tobytes(),
    ),
    "memoryview-of-one-step": (memoryview(b"abcdef")[::1], BINARY, b"abcdef"),
}


@pytest.mark.parametrize("name", SENT)
def test_R24_the_exact_bytes_of_a_buffer_are_sent(name):
    message, opcode, payload = SENT[name]
    recorder = Recorder()
    recorder.send(message)
    assert recorder.data_to_send() == answer(opcode, payload)


@pytest.mark.parametrize("step", [2, -1, 3])
@pytest.mark.parametrize("text_", [None, True, False])
def test_R24_a_strided_memoryview_raises_typeerror_and_nothing_is_sent(step, text_):
    recorder = Recorder()
    with pytest.raises(TypeError, match="not contiguous"):
        recorder.send(memoryview(b"abcdef")[::step], text=text_)
    assert recorder.data_to_send() == b""


@pytest.mark.parametrize(
    "message", [None, 1, 1.5, [b"a"], object(), range(3)], ids=lambda m: type(m).__name__
)
def test_R24_what_is_no_buffer_raises_typeerror_and_nothing_is_sent(message):
    recorder = Recorder()
    with pytest.raises(TypeError, match=f"message is {type(message).__name__}, expected"):
        recorder.send(message)
    assert recorder.data_to_send() == b""


def test_R23_a_bytearray_changed_after_send_does_not_change_what_is_sent():
    recorder = Recorder()
    message = bytearray(b"before")
    recorder.send(message)
    message[:] = b"after, and resized, for nothing holds it"
    assert recorder.data_to_send() == answer(BINARY, b"before")


@pytest.mark.parametrize("message", ["\ud800", "a\udfffb", "😀" * 100 + "\udc00"], ids=ascii)
def test_a_lone_surrogate_raises_and_nothing_is_sent(message):
    recorder = Recorder()
    for text_ in (None, True, False):
        with pytest.raises(UnicodeEncodeError):
            recorder.send(message, text=text_)
    assert recorder.data_to_send() == b""


@pytest.mark.parametrize(
    "payload", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"x" * 100 + b"\x80"], ids=repr
)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_that_are_not_utf8_are_not_sent_as_text(payload, kind):
    recorder = Recorder()
    with pytest.raises(UnicodeDecodeError):
        recorder.send(kind(payload), text=True)
    assert recorder.data_to_send() == b""
    recorder.send(kind(payload), text=False)
    assert recorder.data_to_send() == answer(BINARY, payload)


def test_text_overrides_the_kind_of_a_message():
    recorder = Recorder()
    recorder.send(b"bytes", text=True)
    recorder.send("é", text=False)
    assert recorder.data_to_send() == answer(TEXT, b"bytes") + answer(BINARY, "é".encode())


@pytest.mark.parametrize("size", [0, 1, 125])
def test_a_ping_of_up_to_125_bytes_is_sent(size):
    recorder = Recorder()
    recorder.ping(bytes(size))
    assert recorder.data_to_send() == answer(frames.PING, bytes(size))


@pytest.mark.parametrize("size", [126, 127, 65536])
def test_a_ping_of_more_than_125_bytes_is_refused(size):
    recorder = Recorder()
    with pytest.raises(ValueError, match=f"^ping payload is {size} bytes, limit is 125$"):
        recorder.ping(bytes(size))
    assert recorder.data_to_send() == b""
