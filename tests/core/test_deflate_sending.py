"""Messages compressed as they are sent, RFC 7692 7.2.1, and contexts where memory runs out."""

import os
import random

import frames
import pytest
from deflating import HELLO, Peer, agreed, compressed_frame, noise, packed, sent, story, words
from feeding import feed

from fastws._recorder import Recorder

RSV1 = frames.RSV1
KEPT = agreed(out_takeover=True)
FRESH = agreed()
BOTH = pytest.mark.parametrize("deflate", [FRESH, KEPT], ids=["shared", "dedicated"])


def peer_of(deflate):
    return Peer(their_bits=max(deflate.out_bits, 9), their_takeover=deflate.out_takeover)


def outputs(messages, deflate=FRESH, *, client=False, **how):
    """Send messages; return the frames of each."""
    recorder = Recorder(deflate=deflate, client=client)
    found = []
    for message in messages:
        recorder.send(message, **how)
        found.append(recorder.data_to_send())
    return found


@BOTH
@pytest.mark.parametrize("client", [False, True])
def test_messages_of_all_kinds_are_read_by_zlib(deflate, client):
    messages = ["", "x", "plain " * 100, "é€😀" * 300, b"", b"\x00\xff" * 500, b"*" * 300, story(300_000)]
    output = b"".join(outputs(messages, deflate, client=client))
    assert all(bool(output[1] & 128) == client for output in outputs(["x"], deflate, client=client))
    found = peer_of(deflate).read(output)
    assert [content.decode() if kind == frames.TEXT else content for kind, _, content in found] == messages
    assert all(found[number][1] for number in (2, 3, 5, 7))


@BOTH
@pytest.mark.parametrize("size", [1, 2047, 2048, 2049, 2060, 4096, 65535, 65536, 65537, 5 * 2**20])
@pytest.mark.parametrize("make", [noise, story, bytes], ids=["noise", "story", "zeros"])
def test_content_of_any_size_is_read_by_zlib(size, make, deflate):
    data = make(size)
    output = b"".join(outputs([data, b"x" + data, data], deflate, compress=True))
    found = peer_of(deflate).read(output)
    assert found == [(frames.BINARY, True, content) for content in (data, b"x" + data, data)]


@pytest.mark.parametrize("memory_level", [1, 9])
def test_what_hardly_compresses_is_read_by_zlib_at_every_edge_of_its_buffer(memory_level):
    # zlib's bound knows of no flush, and small buffers make many blocks.
    deflate = agreed(memory_level=memory_level, out_takeover=True)
    messages = [noise(size, size) for size in range(64_000, 65_600, 37)]
    assert peer_of(deflate).contents(b"".join(outputs(messages, deflate))) == messages


@BOTH
def test_compressed_payloads_at_the_limit_of_copying_are_whole(deflate):
    messages = [noise(size, size) + bytes(300) for size in range(1960, 2060)]
    recorder = Recorder(deflate=deflate)
    for message in messages:
        recorder.send(message)
    output = recorder.data_to_send()
    sizes = {len(payload) for *_, payload in sent(output)}
    assert len(sizes & {*range(2040, 2049)}) > 3 < len(sizes & {*range(2049, 2057)})
    assert peer_of(deflate).contents(output) == messages


def test_the_last_four_octets_of_a_flush_are_not_sent():
    (output,) = outputs(["Hello" * 40], FRESH._replace(level=6))
    ((fin, rsv, opcode, payload),) = sent(output)
    assert (fin, rsv, opcode) == (1, RSV1, frames.TEXT)
    assert payload == packed(b"Hello" * 40, level=6)


@BOTH
@pytest.mark.parametrize("message", ["", b""])
def test_an_empty_message_is_one_octet_if_it_has_to_be_compressed(message, deflate):
    # RFC 7692 7.2.3.6.
    for output in outputs([message] * 3, deflate, compress=True):
        ((fin, rsv, _, payload),) = sent(output)
        assert (fin, rsv, payload) == (1, RSV1, b"\x00")
    long = b"x" * 400
    contents = peer_of(deflate).contents(
        b"".join(outputs([long, message, message, long], deflate, compress=True))
    )
    assert contents == [long, b"", b"", long]


@BOTH
@pytest.mark.parametrize("min_size", [0, 1, 100])
def test_messages_below_min_size_are_not_compressed_unless_compress_says_so(min_size, deflate):
    deflate = deflate._replace(min_size=min_size)
    sizes = [max(min_size - 1, 0), min_size, min_size + 50]
    messages = [b"x" * size for size in sizes]

    def rsvs(compress=None):
        return [sent(output)[0][1] for output in outputs(messages, deflate, compress=compress)]

    if min_size == 100:
        assert rsvs() == [0, RSV1, RSV1]
    assert rsvs(False) == [0, 0, 0]
    assert rsvs(True) == [RSV1, RSV1, RSV1]


def test_a_shared_message_that_would_not_be_smaller_is_sent_as_it_is():
    data = noise(5000)
    ((_, rsv, _, payload),) = sent(outputs([data])[0])
    assert (rsv, payload) == (0, data)
    ((_, rsv, _, payload),) = sent(outputs([data], compress=True)[0])
    assert rsv == RSV1
    assert len(payload) > len(data)
    # With a window of its own the next message may refer to it.
    first, second = outputs([data, data], KEPT)
    assert len(second) < 100 < len(first)


@pytest.mark.parametrize("how", [None, True])
def test_an_eight_bit_window_is_never_compressed_for(how):
    ((_, rsv, _, payload),) = sent(outputs([b"x" * 5000], agreed(out_bits=8), compress=how)[0])
    assert (rsv, payload) == (0, b"x" * 5000)


def test_nothing_is_compressed_where_nothing_was_agreed_on():
    ((_, rsv, _, payload),) = sent(outputs([b"x" * 5000], None, compress=True)[0])
    assert (rsv, payload) == (0, b"x" * 5000)


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("takeover", [False, True])
def test_distances_keep_to_the_window_agreed_on(bits, takeover):
    # zlib as the peer has no more than that, and would fail.
    deflate = agreed(out_bits=bits, out_takeover=takeover)
    rng = random.Random(bits)
    data = [words(rng, rng.randrange(1, 2 ** min(bits, 13))) for _ in range(100)]
    output = b"".join(outputs(data, deflate))
    assert peer_of(deflate).contents(output) == data
    again = b"".join(outputs([noise(150), noise(150)], deflate, compress=True))
    assert (len(again) < 250) == takeover


def test_a_dedicated_compressor_refers_to_messages_before_and_a_shared_one_does_not():
    data = noise(1000) + bytes(1000)
    assert [len(output) < 50 for output in outputs([data] * 3, KEPT)] == [False, True, True]
    assert len({*outputs([data] * 3, FRESH)}) == 1


def test_many_parameters_in_turn_are_each_kept_to():
    # More than there are compressors to share.
    sets = [(bits, memory, level) for bits in (9, 11, 15) for memory in (1, 5, 9) for level in (1, 3, 6, 9)]
    data = story(20_000)
    sizes = {}
    for _ in range(3):
        for bits, memory_level, level in sets:
            deflate = agreed(out_bits=bits, memory_level=memory_level, level=level)
            (output,) = outputs([data], deflate)
            assert peer_of(deflate).contents(output) == [data]
            assert sizes.setdefault((bits, memory_level, level), len(output)) == len(output)
    assert sizes[15, 9, 9] < sizes[15, 9, 1]
    assert sizes[15, 9, 9] < sizes[9, 9, 9]


@pytest.mark.parametrize("client", [False, True])
def test_what_a_buffer_holds_later_does_not_change_what_was_sent(client):
    recorder = Recorder(deflate=KEPT, client=client)
    buffer = bytearray(story(3000))
    recorder.send(buffer)
    buffer[:] = bytes(3000)
    assert peer_of(KEPT).contents(recorder.data_to_send()) == [story(3000)]


@pytest.mark.parametrize("text_as", ["str", "bytes"])
def test_a_message_sent_back_is_the_one_that_came(text_as):
    # What is known of text that is just being delivered must be of that text.
    texts = ["é" * 200, "a" * 200, "€" * 30_000, "😀", "", "é" * 200]
    peer = Peer(takeover=True, their_takeover=True)
    found = []

    def back(event):
        recorder.send(event[1], text=True)
        found.append(event[1])

    recorder = Recorder(text_as=text_as, on_event=back, deflate=agreed(in_takeover=True, out_takeover=True))
    feed(recorder, [b"".join(peer.text(text) for text in texts)])
    assert peer.contents(recorder.data_to_send()) == [text.encode() for text in texts]


def test_a_clients_message_is_its_own_though_another_thread_compresses_meanwhile(monkeypatch):
    # os.urandom, for masking keys, lets other threads run: here one that sends from another connection.
    mine, other = Recorder(deflate=FRESH, client=True), Recorder(deflate=FRESH, client=True)
    urandom = os.urandom
    drawn = []

    def another_thread(size):
        if not drawn:
            drawn.append(size)
            other.send("another " * 100)
        return urandom(size)

    monkeypatch.setattr(os, "urandom", another_thread)
    for _ in range(1100):  # a key each, of which 1024 are drawn at a time
        mine.send("mine " * 100)
    assert drawn
    assert {*peer_of(FRESH).contents(mine.data_to_send())} == {b"mine " * 100}


# ---------------------------------------------------------------- no memory


def with_refusals(make, call, *errors):
    """
    Call with something new, the first, second, ... request for memory refused, until none is.

    Returns: what was new, where it was refused.
    """
    testcapi = pytest.importorskip("_testcapi")
    refused = []
    for number in range(200):
        subject = make()
        try:
            testcapi.set_nomemory(number, number + 1)
            try:
                call(subject)
            finally:
                testcapi.remove_mem_hooks()
        except errors:
            refused.append(subject)
        else:
            return refused
    raise AssertionError("it never succeeds")


SIZES = pytest.mark.parametrize("size", [300, 3000, 30_000, 300_000])
SIDES = pytest.mark.parametrize("client", [False, True])


@BOTH
@SIDES
@SIZES
def test_no_memory_for_sending_is_a_memory_error(deflate, client, size):
    data = noise(size // 2) + bytes(size)
    assert with_refusals(
        lambda: Recorder(deflate=deflate, client=client), lambda it: it.send(data), MemoryError
    )


@SIDES
@SIZES
def test_what_was_not_sent_for_want_of_memory_is_not_referred_to(client, size):
    # The user may go on after the error; to the next message the peer's window matters.
    data = noise(2500) + bytes(size)

    def make():
        recorder = Recorder(deflate=KEPT, client=client)
        recorder.send(b"first " * 100)
        return recorder

    seen = 0
    for recorder in with_refusals(make, lambda recorder: recorder.send(data), MemoryError, SystemError):
        before = recorder.data_to_send()
        try:
            sent(before)
        except AssertionError:
            continue  # Recorder itself found no memory, amid a frame
        recorder.send(data)
        recorder.send(b"last " + data)
        contents = peer_of(KEPT).contents(before + recorder.data_to_send())
        assert contents == [b"first " * 100, data, b"last " + data]
        seen += 1
    assert seen


@pytest.mark.parametrize("takeover", [False, True])
def test_z15_no_memory_for_a_message_is_a_memory_error_and_harms_no_other_connection(takeover):
    deflate = agreed(in_takeover=takeover)
    peer = Peer(takeover=takeover)
    stream = peer.binary(story(300)) + peer.binary(story(100_000)) + peer.text("é" * 1000)
    refused = with_refusals(
        lambda: Recorder(deflate=deflate), lambda recorder: recorder.receive_data(stream), MemoryError
    )
    assert len(refused) > 3
    refused.clear()
    recorder = feed(Recorder(deflate=deflate), [stream + compressed_frame(HELLO, frames.TEXT)])
    assert [event[1] for event in recorder.events] == [story(300), story(100_000), "é" * 1000, "Hello"]


def test_contexts_end_with_their_connection():
    # Else thousands of connections one after the other would take gigabytes.
    def resident():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    deflate = agreed(in_takeover=True, out_takeover=True, memory_level=9)

    def one():
        recorder = Recorder(deflate=deflate)
        recorder.send(story(40_000))
        recorder.receive_data(compressed_frame(packed(story(40_000)), fin=False))

    for _ in range(50):
        one()
    before = resident()
    for _ in range(500):
        one()
    assert resident() - before < 30 * 2**20
