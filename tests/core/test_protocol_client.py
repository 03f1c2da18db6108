"""The protocol in the client's role, and messages that are taken in fragments: RFC 6455 5.1, 5.3 and 5.4."""

import itertools

import frames
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws._recorder import Recorder


def parse_masked(data):
    """Split a client's output into (first byte, masking key, payload), unmasked."""
    found = []
    while data:
        first, second = data[:2]
        assert second & 0x80
        length, size = second & 0x7F, 2
        if length > 125:
            size += 2 if length == 126 else 8
            length = int.from_bytes(data[2:size], "big")
        key = data[size : size + 4]
        payload = data[size + 4 : size + 4 + length]
        assert len(payload) == length
        found.append((first, key, frames.xor(payload, key)))
        data = data[size + 4 + length :]
    return found


def pieces_of(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 2047, 2048, 2049, 65535, 65536, 200_000])
def test_a_client_masks_every_frame_with_a_key_of_its_own(size):
    client = Recorder(client=True)
    payload = bytes(i * 7 & 0xFF for i in range(size))
    for _ in range(3):
        client.send(payload)
    client.ping(b"p")
    client.close(1000, "bye")
    sent = parse_masked(client.data_to_send())
    assert [(first, data) for first, _, data in sent] == [
        *[(0x82, payload)] * 3,
        (0x89, b"p"),
        (0x88, b"\x03\xe8bye"),
    ]
    assert len({key for _, key, _ in sent}) == 5


def test_masking_keys_do_not_repeat_when_the_source_is_drawn_from_again():
    client = Recorder(client=True)
    for _ in range(5000):
        client.send(b"x")
    keys = [key for _, key, _ in parse_masked(client.data_to_send())]
    assert len(set(keys)) > 4990


@given(st.lists(st.integers(0, 400), max_size=4))
def test_a_client_takes_unmasked_frames_in_any_split(cuts):
    stream = (
        frames.text("hé", mask=None)
        + frames.binary(b"\x00" * 300, mask=None)
        + frames.ping(b"?", mask=None)
        + frames.close(4000, b"so", mask=None)
    )
    client = Recorder(client=True)
    for piece in pieces_of(stream, cuts):
        client.receive_data(piece)
    assert client.events == [
        ("message", "hé"),
        ("message", b"\x00" * 300),
        ("ping", b"?"),
        ("close", 4000, "so"),
    ]
    assert [(first, data) for first, _, data in parse_masked(client.data_to_send())] == [
        (0x8A, b"?"),
        (0x88, b"\x0f\xa0so"),
    ]


def test_a_client_fails_a_connection_whose_server_masks():
    client = Recorder(client=True)
    client.receive_data(frames.text("x"))
    ((kind, code, _),) = client.events
    assert (kind, code) == ("fail", 1002)


@given(
    st.lists(st.text(max_size=20), min_size=1, max_size=6),
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(0, 1000), max_size=8),
)
def test_fragments_are_the_message_in_any_split(texts, as_bytes, between_bytes, cuts):
    whole = "".join(texts).encode()
    # Frames may end in the middle of a character.
    pieces = (
        [whole[i : i + 3] for i in range(0, len(whole), 3)] if between_bytes else [t.encode() for t in texts]
    )
    stream = frames.fragmented(frames.TEXT, pieces or [b""]) + frames.binary(b"next")
    recorder = Recorder(streaming=True, text_as="bytes" if as_bytes else "str")
    for piece in pieces_of(stream, cuts):
        recorder.receive_data(piece)
    assert not recorder.failed
    *first, last = recorder.events
    assert last == ("message", b"next")
    joined = (b"" if as_bytes else "").join(event[1] for event in first)
    assert joined == (whole if as_bytes else whole.decode())
    if first[0][0] == "fragment":
        assert [event[2] for event in first] == [False] * (len(first) - 1) + [True]
        assert all(event[1] for event in first[:-1])
    else:
        assert len(first) == 1


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3"])
def test_text_in_fragments_is_validated_to_its_end(bad):
    recorder = Recorder(streaming=True)
    recorder.receive_data(frames.fragmented(frames.TEXT, [b"good", b"a" + bad]))
    assert [event[:2] for event in recorder.events] == [("fragment", "good"), ("fail", 1007)]


def test_max_size_counts_what_was_handed_on():
    recorder = Recorder(streaming=True, max_size=100)
    recorder.receive_data(frames.fragmented(frames.BINARY, [b"x" * 60, b"y" * 40]))
    recorder.receive_data(frames.fragmented(frames.BINARY, [b"x" * 60, b"y" * 41]))
    assert [event[0] for event in recorder.events] == ["fragment", "fragment", "fragment", "fail"]
    assert recorder.close_sent[0] == 1009
