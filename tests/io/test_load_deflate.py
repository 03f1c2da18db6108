"""The load generator with permessage-deflate."""

import itertools
import zlib

import pytest
from loading import BINARY, by_hand, frame, ours, read_message, response_to, started, theirs


@pytest.fixture(params=[ours, theirs])
def echo(request):
    return request.param


@pytest.mark.parametrize("no_context", [False, True])
@pytest.mark.parametrize("kind", ["ticker", "utf8", "binary"])
def test_compressed_messages(echo, kind, no_context):
    plan = {"deflate": True, "server_no_context": no_context, "kind": kind, "sizes": [(2000, 1)]}
    with (
        echo(compression="deflate") as server,
        started(server.port, connections=2, in_flight=3, **plan) as run,
    ):
        run.until(lambda run: run.messages >= 100)
        assert run.errors == {}
        # A server may see that it would gain nothing.
        assert run.uncompressed == 0 or kind == "binary"
        if kind == "ticker":
            assert run.received_bytes < run.messages * 1500


def test_compressed_messages_in_fragments(echo):
    with (
        echo(compression="deflate") as server,
        started(server.port, deflate=True, fragments=3, sizes=[(500, 1)]) as run,
    ):
        assert run.until(lambda run: run.messages >= 20).errors == {}


def test_compressed_answers_that_differ_from_those_before_may_be_right():
    """Without context the bytes of a right answer are known; others, and other frames, are inflated."""

    def compressed(payload, level, pieces):
        deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
        data = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
        data = data[:-4]
        if pieces == 1:
            return frame(BINARY | 0x40, data)
        middle = len(data) // 2
        return frame(0x42, data[:middle]) + frame(0, b"") + frame(0x80, data[middle:])

    async def script(reader, writer):
        kinds = itertools.product([9, 0, 9, 1], [1, 2])
        for level, pieces in itertools.cycle(kinds):
            _, payload = await read_message(reader)
            plain = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
            writer.write(compressed(plain, level, pieces))

    def respond(head):
        extension = b"permessage-deflate; server_no_context_takeover"
        return response_to(head, b"Sec-WebSocket-Extensions: " + extension + b"\r\n")

    plan = {"deflate": True, "sizes": [(60_000, 1)], "connections": 2}
    with by_hand(script, respond) as server, started(server.port, **plan) as run:
        run.until(lambda run: run.messages >= 200)
        assert run.errors == {}


def test_answers_that_come_uncompressed_are_counted():
    async def script(reader, writer):
        while True:
            await read_message(reader)
            writer.write(frame(BINARY, bytes(100)))

    def respond(head):
        return response_to(head, b"Sec-WebSocket-Extensions: permessage-deflate\r\n")

    with by_hand(script, respond) as server, started(server.port, deflate=True, expected="any") as run:
        run.until(lambda run: run.messages >= 10)
        assert run.uncompressed == run.messages
