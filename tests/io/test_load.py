"""The load generator against servers that work."""

import asyncio
import itertools
import json
import os
import pickle
import signal
import socket
import threading
import time

import pytest
from loading import (
    BINARY,
    TEXT,
    Echoing,
    Publishing,
    Run,
    background,
    by_hand,
    frame,
    loading,
    opened,
    ours,
    read_message,
    response_to,
    silent,
    started,
    theirs,
)

from fastws._load import Load, LoadError, Sample


@pytest.fixture(params=[ours, theirs])
def echo(request):
    return request.param


@pytest.mark.parametrize("kind", ["binary", "text", "utf8", "ticker"])
def test_every_kind_of_message_is_echoed(echo, kind):
    with echo() as server, started(server.port, connections=3, kind=kind, sizes=[(300, 1)]) as run:
        run.until(lambda run: run.messages >= 100)
        assert run.errors == {}
        assert run.handshakes == 3
        assert sum(run.latencies.values()) == run.messages
        assert run.received_bytes >= run.messages * 304
        assert run.last.connections == 3


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 1_000_000])
def test_messages_of_every_length_form(echo, size):
    with echo() as server, started(server.port, connections=2, sizes=[(size, 1)]) as run:
        assert run.until(lambda run: run.messages >= 10).errors == {}


def test_over_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6: {error}")
    with ours(host="::1") as server:
        load = Load(address="::1", port=server.port, authority=f"[::1]:{server.port}", connections=2)
        run = Run(load).until(lambda _: load.opened() == 2)
        load.start()
        assert run.until(lambda run: run.messages >= 10).errors == {}
        load.close()


def test_many_messages_in_flight_on_a_connection():
    with ours() as server, started(server.port, connections=2, in_flight=100) as run:
        assert run.until(lambda run: run.messages >= 5000).errors == {}


def test_more_messages_in_flight_than_are_prepared():
    with ours() as server, started(server.port, in_flight=300, sizes=[(1_000_000, 1)]) as run:
        assert run.until(lambda run: run.messages >= 300).errors == {}


def test_messages_in_fragments(echo):
    with (
        echo() as server,
        started(server.port, kind="utf8", fragments=5, sizes=[(0, 1), (3, 1), (1000, 1)]) as run,
    ):
        assert run.until(lambda run: run.messages >= 100).errors == {}


def test_sizes_come_as_often_as_their_weights_say():
    sizes = {10: 70, 1000: 29, 20_000: 1}
    seen = []

    async def script(reader, writer):
        for _ in range(1000):
            first, payload = await read_message(reader)
            seen.append(payload)
            writer.write(frame(first, payload))
        await reader.read()

    with by_hand(script) as server, started(server.port, sizes=sizes.items()) as run:
        run.until(lambda run: run.messages == 1000)
    assert {size: sum(len(one) == size for one in seen) / 10 for size in sizes} == sizes
    assert len(set(seen)) == 1000


def test_the_messages_are_what_they_are_said_to_be():
    seen = {}

    async def script(reader, writer):
        first, payload = await read_message(reader)
        seen[len(seen)] = first, payload
        writer.write(frame(first, payload))
        await reader.read()

    with by_hand(script) as server:
        for kind in ("binary", "text", "utf8", "ticker"):
            with started(server.port, kind=kind, sizes=[(1000, 1)]) as run:
                run.until(lambda run: run.messages)
    (binary, _), (text, ascii_text), (utf8, mixed), (ticker, news) = seen.values()
    assert (binary, text, utf8, ticker) == (BINARY, TEXT, TEXT, TEXT)
    assert ascii_text.isascii()
    assert {len(character.encode()) for character in mixed.decode()} == {1, 2, 3, 4}
    assert json.loads(news)["channel"] == "trades"
    assert [len(payload) for _, payload in seen.values()] == [1000] * 4


def test_connections_do_not_say_the_same():
    seen = []

    async def script(reader, writer):
        _, payload = await read_message(reader)
        seen.append(payload)
        await reader.read()

    with by_hand(script) as server, started(server.port, connections=20) as run:
        run.until(lambda _: len(seen) == 20)
    assert len(set(seen)) == 20


# ---------------------------------------------------------------- what a server may do


def test_answers_may_come_in_fragments_with_pings_between():
    pongs = []

    async def script(reader, writer):
        number = itertools.count()
        while True:
            first, payload = await read_message(reader)
            if first == 0x8A:
                pongs.append(payload)
            elif next(number) % 2:
                writer.write(
                    frame(first & 0x7F, payload[:3]) + frame(0x89, b"still there?") + frame(0x80, payload[3:])
                )
            else:
                writer.write(frame(0x8A, b"unasked") + frame(first, payload))

    with by_hand(script) as server, started(server.port, kind="text") as run:
        run.until(lambda run: run.messages >= 20 and len(pongs) >= 10)
        assert run.errors == {}
    assert set(pongs) == {b"still there?"}


def test_answers_may_come_in_any_pieces():
    async def script(reader, writer):
        sizes = itertools.cycle([1, 2, 3, 50, 67, 5])
        data = b""
        while True:
            first, payload = await read_message(reader)
            data += frame(first, payload)
            while len(data) > 40:
                size = next(sizes)
                writer.write(data[:size])
                await writer.drain()
                data = data[size:]
                await asyncio.sleep(0)
            if not reader._buffer:
                writer.write(data)
                data = b""

    with by_hand(script) as server, started(server.port, in_flight=7) as run:
        assert run.until(lambda run: run.messages >= 700).errors == {}


def test_whatever_comes_is_counted_where_anything_is_expected():
    async def script(reader, writer):
        for payload in itertools.cycle([b"", b"one", bytes(70_000)]):
            await read_message(reader)
            writer.write(frame(TEXT if payload == b"one" else BINARY, payload))

    with by_hand(script) as server, started(server.port, expected="any") as run:
        run.until(lambda run: run.messages >= 100)
        assert run.errors == {}
        assert sum(run.latencies.values()) == run.messages


def test_idle_connections_count_what_is_pushed_to_them():
    async def script(reader, writer):
        for _ in range(10):
            writer.write(frame(TEXT, b"news"))
        await reader.read()

    with by_hand(script) as server, opened(server.port, connections=3, mode="idle", expected="any") as run:
        assert run.until(lambda run: run.messages == 30).errors == {}


# ---------------------------------------------------------------- the opening request


def head_of(**plan):
    with by_hand(silent) as server, opened(server.port, mode="idle", **plan):
        return server.head


def test_the_request_has_what_the_plan_names():
    head = head_of(path="/a?b=c", headers=[("X-One", "1"), ("User-Agent", "mine")], subprotocols=["x", "y"])
    assert head.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nX-One: 1\r\n" in head
    assert b"\r\nSec-WebSocket-Protocol: x, y\r\n" in head
    assert head.count(b"User-Agent") == 1
    assert b"\r\nCookie: " in head


def test_a_plain_request_has_the_required_fields_alone():
    names = {line.partition(b":")[0] for line in head_of(plain_request=True).split(b"\r\n")[1:] if line}
    assert names == {b"Host", b"Connection", b"Upgrade", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version"}


def test_a_subprotocol_that_was_offered_may_be_chosen():
    def respond(head):
        return response_to(head, b"Sec-WebSocket-Protocol: y\r\n")

    plan = {"mode": "idle", "subprotocols": ["x", "y"]}
    with by_hand(silent, respond) as server, opened(server.port, **plan) as run:
        assert run.handshakes == 1


# ---------------------------------------------------------------- modes


def test_storm_opens_connections_anew():
    with ours() as server:
        load = loading(server.port, mode="storm", connections=8, sources=20)
        run = Run(load).until(lambda run: run.handshakes >= 200)
        load.stop()
        assert run.errors == {}
        assert run.messages == 0
        assert run.latencies == run.handshake_latencies
        load.close()


@pytest.mark.parametrize("deflate", [False, True])
def test_fanout_counts_deliveries(deflate):
    with ours(Publishing, compression="deflate" if deflate else None) as server:
        plan = {"kind": "ticker", "sizes": [(256, 1)], "deflate": deflate}
        with started(server.port, mode="fanout", connections=40, in_flight=2, **plan) as run:
            run.until(lambda run: run.messages >= 40 * 20)
            run.load.stop()
            run.step(0.1)
            assert run.errors == {}
            assert run.messages % 80 == 0
            assert sum(run.latencies.values()) == run.messages


def test_stuck_connections_are_filled_and_left_alone():
    plan = {"mode": "fanout", "connections": 6, "stuck": 2, "in_flight": 3}
    with ours(Publishing) as server, opened(server.port, **plan) as run:
        # Filling them is not counted, though it was sent and received.
        assert run.messages == 0
        assert run.sent_bytes > 256 * 1024 < run.received_bytes / 4
        run.load.start()
        run.until(lambda run: run.messages >= 4 * 30)
        assert run.errors == {}
        assert run.last.connections + run.last.stuck_closed == 6


def test_fanout_begins_when_all_are_open():
    with ours(Publishing) as server:
        load = loading(server.port, mode="fanout", connections=5)
        with pytest.raises(LoadError, match="5 connections are not open yet"):
            load.start()
        load.close()


def test_two_thousand_idle_connections():
    with ours() as server, opened(server.port, connections=2000, mode="idle", sources=10) as run:
        run.step(0.05)
        assert run.last.connections == run.handshakes == 2000
        assert run.errors == {}


def test_connections_come_from_many_addresses():
    seen = set()

    async def script(reader, writer):
        seen.add(writer.get_extra_info("peername")[0])
        await reader.read()

    with by_hand(script) as server, opened(server.port, connections=6, mode="idle", sources=3) as run:
        run.until(lambda _: len(seen) == 3)
    assert seen == {"127.0.0.2", "127.0.0.3", "127.0.0.4"}


def test_a_ramp_opens_connections_evenly():
    with ours() as server:
        load = loading(server.port, mode="idle", connections=50, ramp=0.5)
        began, opening = time.monotonic(), []
        run = Run(load)
        while load.opened() < 50:
            run.step(0.02)
            opening.append((time.monotonic() - began, load.opened()))
        load.close()
        assert opening[-1][0] > 0.45
        assert all(count <= seconds * 100 + 2 for seconds, count in opening)


def test_over_a_unix_socket(tmp_path):
    path = str(tmp_path / "socket")

    async def start(shared):
        async def on_connection(reader, writer):
            writer.write(response_to(await reader.readuntil(b"\r\n\r\n")))
            while not reader.at_eof():
                try:
                    first, payload = await read_message(reader)
                except asyncio.IncompleteReadError:
                    break
                writer.write(frame(first, payload) if first == BINARY else b"")
            writer.close()

        shared.server = await asyncio.start_unix_server(on_connection, path)
        return await asyncio.start_server(on_connection, "127.0.0.1", 0)

    with background(start) as server:
        load = Load(address="", unix=path, authority="localhost", connections=3)
        run = Run(load).until(lambda _: load.opened() == 3)
        load.start()
        run.until(lambda run: run.messages >= 30)
        load.close()
        server.loop.call_soon_threadsafe(server.server.close)
        assert run.errors == {}


# ---------------------------------------------------------------- ends


def test_close_says_1000_to_the_server():
    closes = []

    class Noting(Echoing):
        def on_close(self, ws, code, reason):
            closes.append(code)

    with ours(Noting) as server:
        with started(server.port, connections=5) as run:
            run.until(lambda run: run.messages >= 50)
            run.load.stop()
            run.step(0.1)
        assert run.load.take().errors == {}
        deadline = time.monotonic() + 5
        while len(closes) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert closes == [1000] * 5


def test_stop_sends_nothing_new():
    with ours() as server, started(server.port, connections=2) as run:
        run.until(lambda run: run.messages)
        run.load.stop()
        run.step(0.1)
        assert run.step(0.1).last.messages == 0
        assert run.last.connections == 2


def test_a_load_leaves_no_descriptor():
    with ours() as server:
        before = len(os.listdir("/proc/self/fd"))
        with started(server.port, connections=10) as run:
            run.until(lambda run: run.messages)
        # Neither does one that nobody closed.
        run = Run(loading(server.port, connections=10)).until(lambda run: run.handshakes == 10)
        del run
        deadline = time.monotonic() + 5
        while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) == before


def test_one_thread_at_a_time():
    with by_hand(silent) as server, opened(server.port, mode="idle") as run:
        thread = threading.Thread(target=run.load.step, args=(0.5,))
        thread.start()
        with pytest.raises(LoadError, match="another thread is in step"):
            while thread.is_alive():
                run.load.opened()
        thread.join()


def test_a_signal_ends_a_step():
    class Ended(Exception):
        pass

    def end(_number, _frame):
        raise Ended

    with socket.create_server(("127.0.0.1", 0)) as listener:
        load = loading(listener.getsockname()[1], mode="idle")
        previous = signal.signal(signal.SIGUSR1, end)
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        try:
            began = time.monotonic()
            with pytest.raises(Ended):
                load.step(10)
            assert time.monotonic() - began < 5
        finally:
            timer.join()
            signal.signal(signal.SIGUSR1, previous)
        load.close()


def test_start_is_called_once():
    with by_hand(silent) as server, opened(server.port) as run:
        run.load.start()
        with pytest.raises(LoadError, match="started or stopped before"):
            run.load.start()


def test_a_sample_can_be_sent_to_another_process():
    with by_hand(silent) as server, opened(server.port, mode="idle") as run:
        sample = pickle.loads(pickle.dumps(run.last))
        assert isinstance(sample, Sample)
        assert vars(sample) == vars(run.last)
        assert vars(sample)["handshakes"] == 1
