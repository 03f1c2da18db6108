"""The load generator against servers that misbehave: each error by its name, no crash, no hang."""

import asyncio
import random
import socket
import time
import zlib

import pytest
from loading import (
    BINARY,
    TEXT,
    Run,
    by_hand,
    error_of,
    frame,
    loading,
    opened,
    read_message,
    response_to,
    silent,
)

from fastws._load import LoadError


def answering(data, respond=response_to):
    """A server that says `data` when the first message has come, then waits."""

    async def script(reader, writer):
        await read_message(reader)
        writer.write(data)
        await reader.read()

    return by_hand(script, respond)


# ---------------------------------------------------------------- frames


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x82\x80\0\0\0\0", "protocol: masked frame"),
        (b"\xc2\x00", "protocol: reserved bits"),
        (b"\xa2\x00", "protocol: reserved bits"),
        (b"\x92\x00", "protocol: reserved bits"),
        (b"\xc9\x00", "protocol: reserved bits"),
        (b"\x83\x00", "protocol: reserved opcode"),
        (b"\x8b\x00", "protocol: reserved opcode"),
        (b"\x82\x7e\x00\x40" + bytes(64), "protocol: length not in the shortest form"),
        (b"\x82\x7f\0\0\0\0\0\0\xff\xff", "protocol: length not in the shortest form"),
        (b"\x82\x7f\x80\0\0\0\0\0\0\0", "protocol: length over 63 bits"),
        (b"\x09\x00", "protocol: fragmented control frame"),
        (b"\x89\x7e\x00\x7e" + bytes(126), "protocol: control frame over 125 bytes"),
        (b"\x80\x00", "protocol: continuation of nothing"),
        (b"\x02\x00\x02\x00", "protocol: message inside a message"),
        (b"\x88\x01\x03", "protocol: close payload of 1 byte"),
        (b"\x88\x02\x03\xed", "protocol: close code 1005"),
        (b"\x88\x02\x03\xf3overloaded", "closed 1011"),
        (b"\x88\x0c\x03\xf3overloaded", "closed 1011"),
        (b"\x88\x02\x0f\xa0", "closed 4000"),
        (b"\x88\x00", "closed 1005"),
        (frame(BINARY, bytes(64)), "wrong answer"),
        (frame(TEXT, bytes(64)), "wrong answer"),
        (frame(BINARY, bytes(63)), "wrong answer"),
        (frame(BINARY, bytes(65)), "wrong answer"),
        (frame(0x02, b"") + frame(0x80, b""), "wrong answer"),
        (b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", "wrong answer"),
    ],
)
@pytest.mark.parametrize("split", [False, True])
def test_what_breaks_the_protocol_has_a_name(data, error, split):
    async def script(reader, writer):
        await read_message(reader)
        for piece in [data] if not split else [data[i : i + 1] for i in range(len(data))]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    with by_hand(script) as server:
        assert error_of(server.port) == error


def test_one_wrong_byte_is_seen_wherever_it_is():
    size = 200_000
    for position in (0, 1, 99_999, size - 1):

        async def script(reader, writer, position=position):
            first, payload = await read_message(reader)
            wrong = bytearray(payload)
            wrong[position] ^= 1
            writer.write(frame(first, wrong))
            await reader.read()

        with by_hand(script) as server:
            assert error_of(server.port, sizes=[(size, 1)]) == "wrong answer"


def test_an_answer_too_many_is_wrong():
    async def script(reader, writer):
        first, payload = await read_message(reader)
        writer.write(frame(first, payload) + frame(first, payload))
        await reader.read()

    with by_hand(script) as server:
        assert error_of(server.port) == "wrong answer"


def test_what_comes_unasked_is_wrong():
    async def script(reader, writer):
        writer.write(frame(TEXT, b"hello"))
        await reader.read()

    with by_hand(script) as server:
        assert error_of(server.port, mode="idle") == "wrong answer"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:10] + bytes([data[10] ^ 0xFF]) + data[11:],
        lambda _: b"\x00" * 20,
        lambda _: zlib.compress(b"x" * 100_000)[2:-4],
        lambda data: data + data,
    ],
)
def test_what_inflates_to_something_else_is_wrong(damage):
    async def script(reader, writer):
        first, payload = await read_message(reader)
        writer.write(frame(first, damage(payload)))
        await reader.read()

    def respond(head):
        return response_to(head, b"Sec-WebSocket-Extensions: permessage-deflate\r\n")

    with by_hand(script, respond) as server:
        assert error_of(server.port, deflate=True, kind="ticker", sizes=[(500, 1)]) == "wrong answer"


def test_a_known_compressed_answer_is_not_taken_for_another():
    async def script(reader, writer):
        answers = []
        while True:
            first, payload = await read_message(reader)
            answers.append(payload)
            # They go through the prepared ones again and again; in the second round, one is not in its place.
            wrong = len(answers) == 2 * messages
            writer.write(frame(first, answers[-2] if wrong else payload))

    def respond(head):
        extension = b"permessage-deflate; server_no_context_takeover"
        return response_to(head, b"Sec-WebSocket-Extensions: " + extension + b"\r\n")

    messages = 13  # of 10,000 bytes are prepared
    with by_hand(script, respond) as server, opened(server.port, deflate=True, sizes=[(10_000, 1)]) as run:
        run.load.start()
        run.until(lambda run: run.errors)
        assert run.errors == {"wrong answer": 1}
        assert run.messages == 2 * messages - 1


def test_a_close_is_answered_with_its_code():
    seen = []

    async def script(reader, writer):
        writer.write(b"\x88\x02\x03\xe9")
        seen.append(await read_message(reader))

    with by_hand(script) as server:
        assert error_of(server.port, mode="idle") == "closed 1001"
    assert seen == [(0x88, b"\x03\xe9")]


def test_an_end_without_a_close_is_1006():
    async def script(reader, _writer):
        await read_message(reader)

    with by_hand(script) as server:
        assert error_of(server.port) == "closed 1006"


def test_an_end_inside_a_frame_is_1006():
    async def script(reader, writer):
        first, payload = await read_message(reader)
        writer.write(frame(first, payload)[:20])

    with by_hand(script) as server:
        assert error_of(server.port) == "closed 1006"


def test_a_reset_has_a_name():
    async def script(reader, writer):
        await read_message(reader)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    with by_hand(script) as server:
        assert error_of(server.port) == "reset"


def test_a_server_that_never_answers_times_out():
    with by_hand(silent) as server:
        began = time.monotonic()
        assert error_of(server.port, timeout=0.3) == "timeout"
        assert time.monotonic() - began < 3


def test_a_server_that_never_answers_a_rate_times_out():
    with by_hand(silent) as server:
        assert error_of(server.port, timeout=0.3, rate=100) == "timeout"


def test_a_server_that_never_upgrades_times_out():
    with by_hand(silent, lambda _head: b"HTTP/1.1 101 ") as server:
        assert error_of(server.port, timeout=0.3) == "timeout"


def test_an_idle_connection_does_not_time_out():
    with by_hand(silent) as server, opened(server.port, mode="idle", timeout=0.05) as run:
        run.step(0.3)
        assert run.errors == {}
        assert run.last.connections == 1


def test_an_error_costs_its_connection_alone():
    async def script(reader, writer):
        wrong = not hasattr(script, "seen")
        script.seen = True
        while True:
            first, payload = await read_message(reader)
            writer.write(frame(first, payload[::-1] if wrong else payload))

    with by_hand(script) as server:
        load = loading(server.port, connections=4)
        run = Run(load).until(lambda _: load.opened() == 4)
        load.start()
        run.until(lambda run: run.errors and run.messages > 300)
        assert run.errors == {"wrong answer": 1}
        assert run.last.connections == 3
        load.close()


def test_strict_raises_the_first_error():
    async def script(reader, writer):
        first, payload = await read_message(reader)
        writer.write(frame(first, payload[:5] + b"?" + payload[6:]))
        await reader.read()

    with by_hand(script) as server:
        load = loading(server.port, strict=True, kind="text", seed=3)
        while not load.opened():
            load.step(0.01)
        load.start()
        with pytest.raises(LoadError, match=r"connection 0: wrong answer: byte 5 of 64 is 0x3F and not 0x"):
            load.step(5)
        load.close()


# ---------------------------------------------------------------- handshakes


@pytest.mark.parametrize(
    ("respond", "error"),
    [
        (lambda _head: b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP 503"),
        (lambda _head: b"HTTP/1.0 101 Switching Protocols\r\n\r\n", "HTTP 101"),
        (lambda _head: b"HTTP/1.1 1011\r\n\r\n", "HTTP 101"),
        (lambda _head: b"SSH-2.0\r\n\r\n", "no HTTP"),
        (lambda _head: b"\r\n\r\n", "no HTTP"),
        (lambda _head: b"x" * 20_000, "over 16384 bytes"),
        (lambda _head: b"HTTP/1.1 101 \0\r\n\r\n", "a zero byte"),
        (lambda _head: b"", "closed"),
        (lambda _head: b"HTTP/1.1 101 Switching", "closed"),
        (lambda head: response_to(head).replace(b"Accept: ", b"Accept: x"), "Sec-WebSocket-Accept"),
        (lambda head: response_to(head).replace(b"Sec-WebSocket-Accept", b"Other"), "Sec-WebSocket-Accept"),
        (lambda head: response_to(head).replace(b"Upgrade: websocket", b"Upgrade: h2c"), "Upgrade"),
        (lambda head: response_to(head).replace(b"Connection: Upgrade", b"Connection: close"), "Connection"),
        (lambda head: response_to(head, b"Sec-WebSocket-Protocol: z\r\n"), "subprotocol not offered"),
        (lambda head: response_to(head, b"Sec-WebSocket-Protocol: x,y\r\n"), "subprotocol not offered"),
        (lambda head: response_to(head, b"Sec-WebSocket-Extensions: x-other\r\n"), "extension not offered"),
    ],
)
def test_a_bad_handshake_has_a_name(respond, error):
    async def script(reader, _writer):
        if error != "closed":
            await reader.read()

    with by_hand(script, respond) as server:
        assert error_of(server.port, subprotocols=["x", "y"]) == f"bad handshake: {error}"


@pytest.mark.parametrize(
    ("extensions", "error"),
    [
        (None, "no compression"),
        ("x-other", "extension not offered"),
        ("permessage-deflate; client_max_window_bits=9", "extension not offered"),
        ("permessage-deflate, permessage-deflate", "two extensions"),
        ("permessage-deflate", "server takes context over"),
    ],
)
def test_compression_must_be_agreed_on_as_it_was_offered(extensions, error):
    def respond(head):
        field = f"Sec-WebSocket-Extensions: {extensions}\r\n"
        return response_to(head, field.encode() if extensions else b"")

    with by_hand(silent, respond) as server:
        assert error_of(server.port, deflate=True, server_no_context=True) == f"bad handshake: {error}"


def test_a_port_where_nobody_listens_refuses():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert error_of(port) == "refused"


def test_a_storm_goes_on_after_errors_and_does_not_spin():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    load = loading(port, mode="storm", connections=4)
    run = Run(load).step(0.3)
    assert 8 <= run.errors["refused"] <= 4 * 31
    assert run.last.cpu_seconds < 0.2
    load.close()


# ---------------------------------------------------------------- garbage


def garbage(chance):
    """Return bytes that a server might say: frames, whole or damaged, and noise."""
    parts = []
    for _ in range(chance.randint(1, 6)):
        size = chance.choice([0, 1, 5, 64, 125, 126, 300, 70_000])
        first = chance.choice([0x02, 0x82, 0x81, 0x80, 0x00, 0x89, 0x8A, 0xC2, 0x42])
        one = frame(first, chance.randbytes(size))
        if chance.random() < 0.3:
            at = chance.randrange(min(len(one), 12))
            one = one[:at] + chance.randbytes(1) + one[at + 1 :]
        if chance.random() < 0.2:
            one = one[: chance.randrange(len(one) + 1)]
        parts.append(one)
    return b"".join(parts)


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("expected", ["echo", "any"])
def test_garbage_ends_connections_and_nothing_else(deflate, expected):
    chance = random.Random(f"{deflate}{expected}")

    async def script(reader, writer):
        for _ in range(20):
            first, payload = await read_message(reader)
            if chance.random() < 0.7:
                right = frame(first, payload)
                writer.write(right if chance.random() < 0.7 else right[: chance.randrange(len(right))])
            else:
                writer.write(garbage(chance))
            if chance.random() < 0.1:
                return

    def respond(head):
        response = response_to(head, b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else b"")
        if chance.random() < 0.1:
            at = chance.randrange(len(response))
            response = response[:at] + chance.randbytes(3) + response[at + 3 :]
        return response + (garbage(chance) if chance.random() < 0.05 else b"")

    plan = {"deflate": deflate, "expected": expected, "timeout": 0.2, "sizes": [(0, 1), (64, 3), (3000, 1)]}
    lost = 0
    with by_hand(script, respond) as server:
        for seed in range(4):
            load = loading(server.port, connections=50, in_flight=2, seed=seed, **plan)
            run = Run(load).until(lambda run: run.load.opened() + sum(run.errors.values()) == 50)
            load.start()
            run.until(lambda run: run.last.connections == 0)
            lost += sum(run.errors.values())
            load.close()
    assert lost == 200
