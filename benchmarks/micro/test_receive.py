"""The whole receive path and the way out, without a socket; beside other libraries' parsers.

A batch is what one read gives: so many masked frames, each with a masking key of its own. Input is
bytes; fastws copies it first, which a connection does not, since it unmasks in place.

Each parser gives what its server hands to a handler, text as checked `str`. websockets decodes in
`recv()`: that is added.
"""

import frames
import pytest
from websockets.frames import Frame, Opcode

from fastws._recorder import Recorder

from .parsers import PARSERS, fastws
from .payloads import ascii_text, masked_frames, mixed_text, random_bytes

MIB = 1024 * 1024
MESSAGES = {
    "binary-64": random_bytes(64),
    "text-128": ascii_text(128).decode(),
    "text-16k": mixed_text(16 * 1024).decode(),
}

each_batch = pytest.mark.parametrize("count", [1, 16, 256])
each_parser = pytest.mark.parametrize("parser", PARSERS)


def batch(message, count):
    if isinstance(message, str):
        return masked_frames(frames.TEXT, message.encode(), count)
    return masked_frames(frames.BINARY, message, count)


@each_parser
@each_batch
@pytest.mark.parametrize("kind", MESSAGES)
def test_receive(benchmark, kind, count, parser):
    benchmark.group = f"receive {kind} x {count}"
    message = MESSAGES[kind]
    assert benchmark(PARSERS[parser](), [batch(message, count)]) == [message] * count


@each_batch
def test_receive_text_as_bytes(benchmark, count):
    benchmark.group = f"receive text-16k as bytes x {count}"
    message = MESSAGES["text-16k"]
    assert benchmark(fastws("bytes"), [batch(message, count)]) == [message.encode()] * count


def in_pieces(message):
    stream = batch(message, 1)
    return [stream[i : i + 64 * 1024] for i in range(0, len(stream), 64 * 1024)]


@each_parser
def test_receive_1_mib_in_pieces(benchmark, parser):
    benchmark.group = "receive binary-1m in reads of 64 KiB"
    message = random_bytes(MIB)
    assert benchmark(PARSERS[parser](), in_pieces(message)) == [message]


def test_receive_1_mib_in_pieces_where_it_stays(benchmark):
    """As a connection does, which receives into the message; here that is a copy."""
    benchmark.group = "receive binary-1m in reads of 64 KiB"
    message = random_bytes(MIB)
    assert benchmark(fastws(direct=True), in_pieces(message)) == [message]


# ---- the way out


def expected(message):
    if isinstance(message, str):
        return frames.answer(frames.TEXT, message.encode())
    return frames.answer(frames.BINARY, message)


def by_fastws():
    recorder = Recorder()

    def send(message):
        recorder.send(message)
        return recorder.data_to_send()

    return send


def by_websockets():
    def send(message):
        if isinstance(message, str):
            return Frame(Opcode.TEXT, message.encode()).serialize(mask=False)
        return Frame(Opcode.BINARY, message).serialize(mask=False)

    return send


SENDERS = {"fastws": by_fastws, "websockets": by_websockets}


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("kind", [*MESSAGES, "binary-1m"])
def test_send(benchmark, kind, sender):
    """fastws copies the frame twice on its way through the Recorder; a connection at most once."""
    benchmark.group = f"send {kind}"
    message = MESSAGES[kind] if kind in MESSAGES else random_bytes(MIB)
    assert benchmark(SENDERS[sender](), message) == expected(message)
