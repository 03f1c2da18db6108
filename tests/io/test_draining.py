"""Draining: connections closed over some time, and no longer than that."""

import asyncio
import contextlib
import time

import pytest
from peers import HANDSHAKE, Echo, masked, raw, until
from wire import opened, read_frame, serve

import fastws
from fastws import draining
from fastws.draining import span_of

GOING_AWAY = (0x88, b"\x03\xe9")


@pytest.mark.parametrize(
    ("count", "rate", "timeout", "seconds"),
    [(100, 50, 10, 2), (100_000, 2000, 10, 7), (0, 10, 10, 0), (100, None, 10, 0), (100, 10, None, 10)],
)
def test_connections_are_told_at_the_rate_and_within_the_time(count, rate, timeout, seconds):
    assert span_of(count, rate, timeout) == seconds


def test_all_get_1001_one_after_another(run):
    async def main():
        async with serve(Echo()) as server:
            ends = []

            async def stay():
                async with opened(server) as (reader, writer):
                    frame = await read_frame(reader)
                    ends.append(time.monotonic())
                    writer.write(masked(0x88, b"\x03\xe9"))
                    assert frame == GOING_AWAY
                    assert await reader.read() == b""

            clients = [asyncio.ensure_future(stay()) for _ in range(30)]
            await until(lambda: len(server.connections) == 30)
            server.drain(rate=60)
            assert not server.is_serving()
            await asyncio.gather(*clients)
            await server.wait_closed()
            assert ends[-1] - ends[0] > 0.2

    run(main)


def test_one_connection_does_not_wait(run):
    async def main():
        async with serve(Echo()) as server, opened(server) as (reader, writer):
            begin = time.monotonic()
            server.drain()
            assert await read_frame(reader) == GOING_AWAY
            writer.write(masked(0x88, b"\x03\xe9"))
            writer.close()
            await server.wait_closed()
            assert time.monotonic() - begin < 2

    run(main)


def test_messages_are_answered_until_a_connection_has_its_turn(run):
    async def main():
        async with serve(Echo()) as server, opened(server) as (reader, writer):
            async with opened(server):
                server.drain(rate=1, timeout=4)
                count = 0
                while True:
                    writer.write(masked(0x81, b"x"))
                    frame = await read_frame(reader)
                    if frame == GOING_AWAY:
                        break
                    assert frame == (0x81, b"x")
                    count += 1
                server.abort()
            await server.wait_closed()

    run(main)


def test_peers_that_do_not_answer_are_dropped_at_the_timeout(run):
    async def main():
        async with serve(Echo(), close_timeout=100) as server, opened(server) as (reader, _):
            begin = time.monotonic()
            server.drain(timeout=0.3)
            await server.wait_closed()
            assert 0.3 <= time.monotonic() - begin < 5
            assert await read_frame(reader) == GOING_AWAY

    run(main)


def test_opening_handshakes_that_are_under_way_are_refused(run):
    async def main():
        async with serve(Echo()) as server, raw(server, HANDSHAKE[:20]) as (reader, _):
            await until(lambda: server._settings.opening_count == 1)
            server.drain()
            await server.wait_closed()
            assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")

    run(main)


def test_with_handover_they_are_completed_and_then_closed(run, monkeypatch):
    monkeypatch.setattr(draining, "PATIENCE", 0.05)

    async def main():
        async with serve(Echo()) as server, raw(server, HANDSHAKE[:20]) as (reader, writer):
            await until(lambda: server._settings.opening_count == 1)
            server.drain(handover=True)
            await asyncio.sleep(0)
            writer.write(HANDSHAKE[20:])
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await read_frame(reader) == GOING_AWAY
            writer.write(masked(0x88, b"\x03\xe9"))
            writer.close()
            await server.wait_closed()

    run(main)


def test_with_handover_those_that_say_nothing_get_503_in_the_end(run):
    async def main():
        async with serve(Echo()) as server, raw(server, HANDSHAKE[:20]) as (reader, _):
            await until(lambda: server._settings.opening_count == 1)
            server.drain(handover=True, timeout=0.3)
            assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
            await server.wait_closed()

    run(main)


def test_abort_shortens_it(run):
    async def main():
        async with serve(Echo()) as server, opened(server) as (reader, _), opened(server):
            server.drain(rate=0.01, timeout=None)
            server.abort()
            await asyncio.wait_for(server.wait_closed(), 5)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await read_frame(reader)

    run(main)


@pytest.mark.parametrize("arguments", [{"rate": -1}, {"timeout": -1}, {"timeout": "soon"}])
def test_a_bad_argument_is_refused(run, arguments):
    async def main():
        async with fastws.serve(Echo(), "127.0.0.1", 0) as server:
            with pytest.raises(ValueError, match=next(iter(arguments))):
                server.drain(**arguments)
            assert server.is_serving()

    run(main)


async def answers(ws):
    async for message in ws:
        await asyncio.sleep(0.05)
        await ws.send(message)


class Slow(fastws.Handler):
    async def on_message(self, ws, message):
        await asyncio.sleep(0.05)
        ws.send(message)


HANDLERS = pytest.mark.parametrize(
    "handler", [Echo(), Slow(), answers], ids=["callback", "async callback", "coroutine"]
)


async def answers_at_once(ws):
    async for message in ws:
        await ws.send(message)


@pytest.mark.parametrize(
    "handler", [Echo(), Slow(), answers_at_once], ids=["callback", "async callback", "coroutine"]
)
def test_with_handover_the_close_comes_behind_the_answer_to_a_message(run, handler, monkeypatch):
    monkeypatch.setattr(draining, "PATIENCE", 1000)

    async def main():
        async with serve(handler) as server, opened(server) as (reader, writer):
            server.drain(handover=True, timeout=None)
            behind = None
            while behind != GOING_AWAY:
                writer.write(masked(0x81, b"x"))
                assert await read_frame(reader) == (0x81, b"x")
                # Nothing is, if the connection has not had its turn yet.
                with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                    behind = await asyncio.wait_for(read_frame(reader), 0.1)

    run(main)


@HANDLERS
def test_with_handover_a_message_that_is_coming_is_waited_for_and_answered(run, handler, monkeypatch):
    monkeypatch.setattr(draining, "PATIENCE", 0.05)

    async def main():
        async with serve(handler) as server, opened(server) as (reader, writer):
            loop = asyncio.get_running_loop()
            writer.write(masked(0x01, b"a"))
            server.drain(handover=True)
            later = loop.time() + 0.2
            await until(lambda: loop.time() > later)
            writer.write(masked(0x89, b"p"))
            assert await read_frame(reader) == (0x8A, b"p")
            writer.write(masked(0x80, b"b"))
            assert await read_frame(reader) == (0x81, b"ab")
            assert await read_frame(reader) == GOING_AWAY

    run(main)


@pytest.mark.parametrize("handler", [Echo(), answers], ids=["callback", "coroutine"])
def test_with_handover_patience_with_those_who_say_nothing_ends(run, handler, monkeypatch):
    monkeypatch.setattr(draining, "PATIENCE", 0.05)

    async def main():
        async with serve(handler) as server, opened(server) as (reader, _):
            server.drain(handover=True)
            assert await read_frame(reader) == GOING_AWAY

    run(main)


def test_with_handover_nobody_is_waited_for_longer_than_the_timeout(run):
    async def main():
        async with serve(Echo()) as server, opened(server) as (reader, writer):
            writer.write(masked(0x01, b"never ends"))
            server.drain(handover=True, timeout=0.3)
            assert await read_frame(reader) == GOING_AWAY
            await server.wait_closed()

    run(main)
