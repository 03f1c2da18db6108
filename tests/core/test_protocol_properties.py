"""Properties of the protocol, for streams that Hypothesis makes up: good, bad and arbitrary."""

import array
import itertools

import frames
import pytest
from feeding import feed, splits
from hypothesis import example, given
from hypothesis import strategies as st
from invariance import Oracle, check
from websockets.frames import Frame as WebsocketsFrame
from websockets.streams import StreamReader

from fastws._recorder import Recorder

CODES = st.sampled_from([None, 1000, 1001, 1003, 1007, 1014, 3000, 4999])
KEYS = st.binary(min_size=4, max_size=4) | st.just(bytes(4))
# Long ones too, for the direct buffer and each form of length, cheap to make.
LONG = st.builds(
    lambda size, unit: (unit * size)[:size],
    st.sampled_from([126, 65535, 65536, 40_000]),
    st.binary(min_size=1),
)
TEXTS = st.text(max_size=40) | st.builds(
    lambda unit, times: unit * times, st.text(min_size=1), st.integers(1, 3000)
)
ALLOWED = [*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)]


@st.composite
def controls(draw):
    opcode = draw(st.sampled_from([frames.PING, frames.PONG]))
    return frames.frame(opcode, draw(st.binary(max_size=125)), mask=draw(KEYS))


@st.composite
def messages(draw):
    """One message in any number of frames, with control frames between them."""
    if draw(st.booleans()):
        opcode, payload = frames.TEXT, draw(TEXTS).encode()
    else:
        opcode, payload = frames.BINARY, draw(st.binary(max_size=300) | LONG)
    edges = [0, *sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4))), len(payload)]
    stream = b""
    for i, (a, b) in enumerate(itertools.pairwise(edges)):
        fin = b == len(payload) and i == len(edges) - 2
        stream += frames.frame(opcode if i == 0 else frames.CONT, payload[a:b], fin=fin, mask=draw(KEYS))
        if not fin and draw(st.booleans()):
            stream += draw(controls())
    return stream


def close_frames():
    return st.builds(
        lambda code, reason: frames.close(
            code, b"" if code is None else reason.encode()[:120].decode(errors="ignore").encode()
        ),
        CODES,
        st.text(max_size=60),
    )


@st.composite
def violations(draw):
    """A frame that must not come, wherever it comes."""
    opcode = draw(st.sampled_from([0, 1, 2, 8, 9, 10]))
    control = draw(st.sampled_from([8, 9, 10]))
    payload = draw(st.binary(max_size=20))
    bad_code = draw(st.integers(0, 2**16 - 1).filter(lambda code: code not in ALLOWED))
    bad_text = draw(
        st.sampled_from([b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\x80", b"\xe2\x82"])
    )
    return draw(
        st.sampled_from(
            [
                frames.frame(opcode, payload, mask=None),
                frames.frame(opcode, payload, rsv=draw(st.integers(1, 7))),
                frames.frame(draw(st.sampled_from([3, 4, 5, 6, 7, 11, 12, 13, 14, 15])), payload),
                frames.header(frames.BINARY, draw(st.integers(0, 125)), form=2),
                frames.header(frames.BINARY, draw(st.integers(0, 2**16 - 1)), form=8),
                frames.header(frames.BINARY, draw(st.integers(2**63, 2**64 - 1)), form=8),
                frames.frame(control, payload, fin=False),
                frames.header(control, draw(st.integers(0, 2**16 - 1)), form=2),
                frames.cont(payload),
                frames.text(payload, fin=False) + frames.binary(payload),
                frames.close(bad_code, payload),
                frames.close(1000, bad_text),
                frames.frame(frames.CLOSE, payload[:1] or b"\0"),
                frames.text(bad_text),
                frames.text(b"a", fin=False) + frames.cont(bad_text),
            ]
        )
    )


def streams():
    """Good frames, then perhaps one violation or a Close, then perhaps more, and perhaps cut off."""
    good = st.lists(messages() | controls(), max_size=4).map(b"".join)
    end = st.just(b"") | violations() | close_frames()
    more = st.just(b"") | messages() | st.binary(max_size=30)
    whole = st.builds(lambda *parts: b"".join(parts), good, end, more)
    return whole | st.builds(lambda stream, cut: stream[: len(stream) - cut], whole, st.integers(0, 30))


@st.composite
def mutated(draw):
    """A stream of which some bytes were replaced, removed or inserted."""
    stream = bytearray(draw(streams()))
    for _ in range(draw(st.integers(1, 4))):
        if not stream:
            break
        # Near the start, where the headers are, as often as anywhere.
        at = draw(st.integers(0, min(len(stream), 40) - 1) | st.integers(0, len(stream) - 1))
        kind = draw(st.sampled_from(["bit", "byte", "remove", "insert"]))
        if kind == "bit":
            stream[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte":
            stream[at] = draw(st.integers(0, 255))
        elif kind == "remove":
            del stream[at : at + draw(st.integers(1, 4))]
        else:
            stream[at:at] = draw(st.binary(min_size=1, max_size=4))
    return bytes(stream)


# Random text inside valid frames, for the judgement of UTF-8 alone.
@st.composite
def dubious_texts(draw):
    unit = st.sampled_from(
        [
            b"a",
            "é".encode(),
            "€".encode(),
            "😀".encode(),
            b"\xed\xa0\x80",
            b"\xc3",
            b"\xe2\x82",
            b"\xf0\x9f",
            b"\x80",
            b"\xff",
        ]
    )
    payload = b"".join(draw(st.lists(unit, max_size=30))) * draw(st.sampled_from([1, 1, 10]))
    edges = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3)))
    pieces = [payload[a:b] for a, b in zip([0, *edges], [*edges, len(payload)], strict=True)]
    return frames.fragmented(frames.TEXT, pieces, mask=draw(KEYS))


def with_splits(stream_strategy):
    return stream_strategy.flatmap(lambda stream: st.tuples(st.just(stream), splits(stream)))


def options():
    return st.fixed_dictionaries(
        {},
        optional={
            "max_size": st.integers(0, 200) | st.sampled_from([2**16, 2**63]),
            "text_as": st.sampled_from(["str", "bytes"]),
            "close_at": st.integers(0, 4),
        },
    )


@given(with_splits(streams()), options())
def test_F26_F29_any_split_of_frames_gives_the_same_events(case, how):
    check(*case, **how)


@given(with_splits(mutated()), options())
def test_F26_any_split_of_mutated_frames_gives_the_same_events(case, how):
    check(*case, **how)


@given(with_splits(streams() | mutated()))
def test_F1_F23_wsproto_judges_good_and_mutated_frames_alike(case):
    check(*case)


@given(with_splits(dubious_texts()))
def test_T1_T10_wsproto_judges_text_alike(case):
    check(*case)


@given(with_splits(st.binary(max_size=200)), options())
@example((b"", []), {})
def test_arbitrary_bytes_never_crash_or_raise(case, how):
    check(*case, **how)


@given(st.lists(st.binary(max_size=300), max_size=10), st.booleans())
def test_arbitrary_bytes_in_masked_frames_never_crash_or_raise(payloads, fin):
    for opcode in (frames.TEXT, frames.BINARY, frames.CLOSE, frames.PING):
        stream = b"".join(frames.frame(opcode, payload, fin=fin) for payload in payloads)
        check(stream, range(0, len(stream), 50))


def buffers():
    return st.one_of(
        st.text(),
        TEXTS,
        st.binary() | LONG,
        st.binary().map(bytearray),
        st.builds(
            lambda data, a, b: memoryview(data)[a : a + b], st.binary(), st.integers(0, 9), st.integers(0, 99)
        ),
        st.lists(st.integers(-(2**15), 2**15 - 1)).map(lambda numbers: array.array("h", numbers)),
        st.lists(st.floats(allow_nan=False)).map(lambda numbers: array.array("d", numbers)),
    )


def payload_of(message):
    return message if isinstance(message, str) else bytes(memoryview(message).cast("B"))


def parsed_by_websockets(output):
    """Parse frames as the client of websockets does."""
    reader = StreamReader()
    reader.feed_data(output)
    reader.feed_eof()
    found = []
    while True:
        parser = WebsocketsFrame.parse(reader.read_exact, mask=False)
        try:
            next(parser)
        except StopIteration as end:
            assert end.value.fin
            data = bytes(end.value.data)
            found.append(("message", data.decode() if end.value.opcode == frames.TEXT else data))
        except EOFError:
            return found


@given(st.lists(buffers(), max_size=5))
def test_R24_other_parsers_read_what_is_sent(messages_):
    recorder = Recorder()
    for message in messages_:
        recorder.send(message)
    output = recorder.data_to_send()
    expected = [("message", payload_of(message)) for message in messages_]
    assert Oracle(client=True, extensions=[]).events(output) == expected
    assert parsed_by_websockets(output) == expected


@given(st.text(), st.booleans())
def test_R24_text_overrides_the_kind_of_a_message_for_other_parsers(message, as_text):
    for kind in (message, message.encode(), bytearray(message.encode()), memoryview(message.encode())):
        recorder = Recorder()
        recorder.send(kind, text=as_text)
        expected = [("message", message if as_text else message.encode())]
        assert Oracle(client=True, extensions=[]).events(recorder.data_to_send()) == expected


@given(st.binary(max_size=300))
def test_bytes_are_sent_as_text_exactly_when_they_are_utf8(data):
    recorder = Recorder()
    try:
        expected = data.decode()
    except UnicodeDecodeError as theirs:
        with pytest.raises(UnicodeDecodeError) as ours:
            recorder.send(data, text=True)
        assert (ours.value.start, ours.value.end) == (theirs.start, theirs.end)
        assert recorder.data_to_send() == b""
    else:
        recorder.send(data, text=True)
        assert parsed_by_websockets(recorder.data_to_send()) == [("message", expected)]


@given(st.binary(min_size=1), st.binary())
def test_R23_a_buffer_changed_after_send_does_not_change_what_is_sent(before, after):
    recorder = Recorder()
    message = bytearray(before)
    recorder.send(message)
    message[:] = after
    assert parsed_by_websockets(recorder.data_to_send()) == [("message", before)]


@given(st.text(st.characters(codec=None, categories=["Cs", "Ll"]), min_size=1))
def test_text_is_sent_exactly_when_it_has_no_surrogate(message):
    recorder = Recorder()
    if any(0xD800 <= ord(character) <= 0xDFFF for character in message):
        with pytest.raises(UnicodeEncodeError):
            recorder.send(message)
        assert recorder.data_to_send() == b""
    else:
        recorder.send(message)
        assert parsed_by_websockets(recorder.data_to_send()) == [("message", message)]


@given(st.integers(-10, 70_000), st.text(max_size=80))
def test_F24c_exactly_what_a_close_frame_may_carry_is_sent(code, reason):
    recorder = Recorder()
    if code in ALLOWED and len(reason.encode()) <= 123:
        recorder.close(code, reason)
        assert Oracle(client=True, extensions=[]).events(recorder.data_to_send()) == [("close", code, reason)]
    else:
        with pytest.raises(ValueError):
            recorder.close(code, reason)
        assert recorder.data_to_send() == b""


@given(st.lists(st.binary(max_size=125), max_size=20))
def test_F28_R7_each_ping_is_answered_with_its_own_payload(payloads):
    recorder = feed(Recorder(), [b"".join(map(frames.ping, payloads))])
    assert recorder.data_to_send() == b"".join(frames.answer(frames.PONG, payload) for payload in payloads)
