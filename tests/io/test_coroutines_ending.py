"""Coroutine handlers on real sockets: how they end, and what the peer and the log are told then."""

import asyncio
import gc

import pytest
import websockets
from peers import echo, masked, raw, served, until, uri

import fastws


def test_r14_a_handler_that_returns_closes_with_1000(run):
    async def handler(ws):
        await ws.send("bye")

    async def main():
        async with served(handler) as (_, client):
            assert await client.recv() == "bye"
            await client.wait_closed()
            assert client.close_code == 1000

    run(main)


@pytest.mark.parametrize("kind", [ZeroDivisionError, fastws.ConnectionClosedError])
def test_r13_a_handler_that_raises_costs_1011_and_one_record(run, caplog, kind):
    async def handler(ws):
        await ws.recv()
        raise kind(None, None) if kind is fastws.ConnectionClosedError else kind("mine")

    async def main():
        async with served(handler) as (_, client):
            await client.send("x")
            await client.wait_closed()
            assert client.close_code == 1011

    run(main)
    assert [r.exc_info[0] for r in caplog.records if r.levelname == "ERROR"] == [kind]


def test_a_handler_that_lets_its_own_connection_closed_out_is_no_error(run, caplog):
    async def handler(ws):
        while True:
            await ws.recv()

    async def main():
        async with served(handler) as (_, client):
            await client.close(4000)

    run(main)
    assert [r for r in caplog.records if r.name == "fastws.server" and r.levelname == "ERROR"] == []


def test_r15_a_cancelled_handler_closes_with_1001(run):
    async def handler(ws):
        asyncio.current_task().cancel()
        await ws.recv()

    async def main():
        async with served(handler) as (_, client):
            await client.wait_closed()
            assert client.close_code == 1001

    run(main)


def test_r16_system_exit_leaves_the_loop_and_its_connection_gets_1011():
    codes = []

    async def handler(ws):
        await ws.recv()
        raise SystemExit(3)

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0) as server:
            client = await websockets.connect(uri(server))
            await client.send("x")
            try:
                await client.wait_closed()
            finally:
                codes.append(client.close_code)

    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    try:
        with pytest.raises(SystemExit) as caught:
            loop.run_until_complete(task)
        assert caught.value.code == 3
        loop.run_until_complete(task)
    finally:
        loop.close()
    assert codes == [1011]


def test_closing_the_server_ends_handlers_and_cancels_those_that_stay(run):
    ends = []

    async def handler(ws):
        try:
            async for _ in ws:
                pass
            ends.append("over")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0, close_timeout=0.1) as server:
            client = await websockets.connect(uri(server))
        await client.wait_closed()
        assert client.close_code == 1001

    run(main)
    assert ends == ["over", "cancelled"]


def test_connections_and_their_tasks_are_freed(run):
    async def main():
        async with fastws.serve(echo, "127.0.0.1", 0) as server:
            for _ in range(20):
                async with websockets.connect(uri(server)) as client:
                    await client.send("x")
                    await client.recv()
            await until(lambda: not server.connections)
            await asyncio.sleep(0)
            gc.collect()
            left = [o for o in gc.get_objects() if type(o) is fastws.Connection]
            assert len(left) <= 1  # the loop may hold the last one's frame

    run(main)


def test_f29_what_came_before_a_fault_is_answered_before_the_close(run):
    async def main():
        async with fastws.serve(echo, "127.0.0.1", 0) as server, raw(server) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(masked(0x81, b"one") + masked(0x81, b"two") + b"\xf1\x80\0\0\0\0")
            answer = await reader.read()
            assert answer.startswith(b"\x81\x03one\x81\x03two\x88")
            assert answer[12:14] == b"\x03\xea"

    run(main)
