"""The whole receive path without a socket, of a server and of a client; beside other libraries' parsers.

A batch is what one read gives: so many masked frames, each with a masking key of its own. Input is
bytes; fastws copies it first, which a connection does not, since it unmasks in place.

Each parser gives what its server hands to a handler, text as checked `str`. websockets decodes in
`recv()`: that is added.
"""

import frames
import pytest

from .parsers import PARSERS, fastws
from .payloads import MESSAGES, masked_frames, random_bytes, server_frame

MIB = 1024 * 1024

each_batch = pytest.mark.parametrize("count", [1, 16, 256])
each_library = pytest.mark.parametrize("library", PARSERS)


def batch(message, count):
    if isinstance(message, str):
        return masked_frames(frames.TEXT, message.encode(), count)
    return masked_frames(frames.BINARY, message, count)


@each_library
@each_batch
@pytest.mark.parametrize("kind", MESSAGES)
def test_receive(benchmark, kind, count, library):
    benchmark.group = f"receive {kind} x {count}"
    message = MESSAGES[kind]
    assert benchmark(PARSERS[library](), [batch(message, count)]) == [message] * count


@each_batch
def test_receive_text_as_bytes(benchmark, count):
    benchmark.group = f"receive text-16k as bytes x {count}"
    message = MESSAGES["text-16k"]
    assert benchmark(fastws(text_as="bytes"), [batch(message, count)]) == [message.encode()] * count


def in_pieces(message):
    stream = batch(message, 1)
    return [stream[i : i + 64 * 1024] for i in range(0, len(stream), 64 * 1024)]


@each_library
def test_receive_1_mib_in_pieces(benchmark, library):
    benchmark.group = "receive binary-1m in reads of 64 KiB"
    message = random_bytes(MIB)
    assert benchmark(PARSERS[library](), in_pieces(message)) == [message]


def test_receive_1_mib_in_pieces_where_it_stays(benchmark):
    """As a connection does, which receives into the message; here that is a copy."""
    benchmark.group = "receive binary-1m in reads of 64 KiB"
    message = random_bytes(MIB)
    assert benchmark(fastws(direct=True), in_pieces(message)) == [message]


@each_library
@each_batch
@pytest.mark.parametrize("kind", MESSAGES)
def test_receive_as_client(benchmark, kind, count, library):
    benchmark.group = f"receive as client {kind} x {count}"
    message = MESSAGES[kind]
    data = server_frame(message) * count
    assert benchmark(PARSERS[library](client=True), [data]) == [message] * count
