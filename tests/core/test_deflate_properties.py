"""Compressed messages that Hypothesis makes up, against Python's zlib and against wsproto."""

import itertools
import random

import frames
import pytest
from deflating import Peer, agreed, compressed_frame, noise, raw_deflate, words
from feeding import cut, feed, outcome, splits
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Message, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from fastws._recorder import Recorder

CONTENTS = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=60),
    st.builds(lambda seed, count: words(random.Random(seed), count), st.integers(0, 3), st.integers(0, 3000)),
    st.builds(noise, st.sampled_from([1, 300, 5000, 65535, 65536, 65537]), st.integers(0, 2)),
    st.builds(bytes, st.sampled_from([1, 256, 32768, 65536, 300_000])),
)
BITS = st.integers(9, 15)


def opcode_and_bytes(content):
    return (frames.TEXT, content.encode()) if isinstance(content, str) else (frames.BINARY, content)


@st.composite
def sequences(draw):
    """Messages, each with the cuts of its payload, and whether it is compressed."""
    message = st.tuples(CONTENTS, st.lists(st.integers(0, 10**6), max_size=4), st.integers(0, 9).map(bool))
    return draw(st.lists(message, max_size=8))


@settings(max_examples=150)
@given(st.data())
def test_any_messages_from_a_peer_come_out_as_they_were(data):
    bits, takeover, client = data.draw(st.tuples(BITS, st.booleans(), st.booleans()))
    peer = Peer(bits=bits, takeover=takeover, client=not client, level=data.draw(st.integers(0, 9)))
    stream, expected = b"", []
    for content, cuts, compressed in data.draw(sequences()):
        opcode, payload = opcode_and_bytes(content)
        between = frames.ping(b"p", mask=peer.mask) if len(cuts) % 2 else b""
        if compressed:
            stream += peer.message(opcode, payload, cuts, between)
        else:
            stream += frames.frame(opcode, payload, mask=peer.mask)
        expected.append(content)
    pieces = cut(stream, data.draw(splits(stream)))
    recorder = Recorder(client=client, deflate=agreed(in_bits=bits, in_takeover=takeover))
    assert outcome(feed(recorder, pieces, direct=data.draw(st.booleans()))).messages == expected


@settings(max_examples=150)
@given(st.data())
def test_any_messages_that_are_sent_are_read_by_zlib(data):
    bits, takeover, client = data.draw(st.tuples(BITS, st.booleans(), st.booleans()))
    deflate = agreed(
        out_bits=bits,
        out_takeover=takeover,
        level=data.draw(st.integers(1, 9)),
        memory_level=data.draw(st.integers(1, 9)),
        min_size=data.draw(st.sampled_from([0, 100, 1000])),
    )
    recorder = Recorder(client=client, deflate=deflate)
    expected = []
    for content in data.draw(st.lists(CONTENTS, max_size=8)):
        recorder.send(content, compress=data.draw(st.sampled_from([None, None, True, False])))
        expected.append(opcode_and_bytes(content))
    found = Peer(their_bits=bits, their_takeover=takeover).read(recorder.data_to_send())
    assert [(opcode, content) for opcode, _, content in found] == expected


@settings(max_examples=150)
@given(st.data())
def test_what_breaks_a_compressed_stream_is_judged_alike_however_it_arrives(data):
    # A distance beyond the window is seen or not as zlib is given its input: so all windows are full ones.
    takeover = data.draw(st.booleans())
    peer = Peer(takeover=takeover)
    parts = [peer.binary(b"before" * 50)]
    payload = bytearray(raw_deflate(words(random.Random(1), 40)))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] ^= 1 << data.draw(st.integers(0, 7))
    end = data.draw(st.integers(0, len(payload)))
    parts.append(compressed_frame(bytes(payload[:end])))
    parts.append(peer.binary(b"after" * 50))
    stream = b"".join(parts)
    options = {"max_size": data.draw(st.sampled_from([None, 300])), "deflate": agreed(in_takeover=takeover)}
    whole = outcome(feed(Recorder(**options), [stream]))
    assert outcome(feed(Recorder(**options), cut(stream, data.draw(splits(stream))))) == whole
    assert whole.messages[:1] == [b"before" * 50]
    assert whole.verdict in (None, 1007, 1009)
    assert all(len(message) <= (options["max_size"] or 10**6) for message in whole.messages)


# ---------------------------------------------------------------- wsproto


def oracle(client, takeover, bits):
    """A wsproto connection, and what a Recorder at its other end has agreed on."""
    extension = PerMessageDeflate()
    header = "permessage-deflate"
    if not takeover:
        header += "; server_no_context_takeover; client_no_context_takeover"
    extension.finalize(f"{header}; server_max_window_bits={bits}; client_max_window_bits={bits}")
    kind = ConnectionType.CLIENT if client else ConnectionType.SERVER
    deflate = agreed(out_bits=bits, in_bits=bits, out_takeover=takeover, in_takeover=takeover)
    return Connection(kind, [extension]), deflate


def told(connection, data):
    """Return the messages that wsproto sees in `data`."""
    connection.receive_data(data)
    found, pieces = [], []
    for event in connection.events():
        assert isinstance(event, Message), event
        pieces.append(event.data)
        if event.message_finished:
            found.append((b"" if isinstance(event, BytesMessage) else "").join(pieces))
            pieces.clear()
    return found


def fragments_of(content, cuts):
    edges = [0, *sorted(c % (len(content) + 1) for c in cuts), len(content)]
    return [content[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("client", [False, True])
@settings(max_examples=60)
@given(data=st.data())
def test_wsproto_and_we_read_each_other(client, data):
    theirs, deflate = oracle(not client, data.draw(st.booleans()), data.draw(BITS))
    ours = Recorder(client=client, deflate=deflate)
    sent = data.draw(st.lists(st.tuples(CONTENTS, st.lists(st.integers(0, 10**6), max_size=3)), max_size=6))
    stream = b""
    for content, cuts in sent:
        event = TextMessage if isinstance(content, str) else BytesMessage
        pieces = fragments_of(content, cuts)
        for number, piece in enumerate(pieces):
            stream += theirs.send(event(data=piece, message_finished=number == len(pieces) - 1))
            if number < len(pieces) - 1:
                stream += theirs.send(Ping(payload=b"between"))
    result = outcome(feed(ours, cut(stream, data.draw(splits(stream)))))
    assert result.messages == [content for content, _ in sent]
    for content, _ in sent:
        ours.send(content)
    assert told(theirs, ours.data_to_send()) == [content for content, _ in sent]
