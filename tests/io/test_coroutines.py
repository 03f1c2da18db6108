"""Coroutine handlers on real sockets: what a task may do with `recv`, `send` and cancellation."""

import asyncio
import collections.abc
import contextlib
import contextvars
import socket

import pytest
import websockets
from peers import HANDSHAKE, echo, half_close, masked, port_of, raw, served, until, uri

import fastws


@pytest.mark.parametrize("message", ["", "text", "é一😀" * 5000, b"", b"y" * 3_000_000], ids=len)
def test_async_for_and_send_echo(run, message):
    async def main():
        async with served(echo, max_size=None) as (_, client):
            await client.send(message)
            assert await client.recv() == message

    run(main)


def test_every_message_of_a_batch_comes_once_and_in_order(run):
    async def main():
        async with served(echo) as (_, client):
            for i in range(2000):
                await client.send(str(i))
            assert [await client.recv() for _ in range(2000)] == [str(i) for i in range(2000)]

    run(main)


def test_iteration_ends_in_silence_after_1000_and_raises_after_4000(run):
    ends = []

    async def handler(ws):
        try:
            async for _ in ws:
                pass
            ends.append("silence")
        except fastws.ConnectionClosedError as error:
            ends.append(error.rcvd.code)

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0) as server:
            for code in 1000, 4000:
                async with websockets.connect(uri(server)) as client:
                    await client.close(code)
            await until(lambda: len(ends) == 2)
        assert ends == ["silence", 4000]

    run(main)


def test_messages_before_the_end_are_taken_before_it_raises(run):
    got = []

    async def handler(ws):
        await ws.server.late.wait()
        with contextlib.suppress(fastws.ConnectionClosed):
            while True:
                got.append(await ws.recv())

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0) as server:
            server.late = asyncio.Event()
            async with raw(server) as (reader, writer):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(masked(0x81, b"one") + masked(0x81, b"two"))
                half_close(writer)
                await until(lambda: not server.connections)
                server.late.set()
                await until(lambda: got == ["one", "two"])

    run(main)


@pytest.mark.parametrize(
    ("sent", "decode", "expected"),
    [
        ("é", None, "é"),
        ("é", True, "é"),
        ("é", False, "é".encode()),
        (b"\xc3\xa9", None, b"\xc3\xa9"),
        (b"\xc3\xa9", True, "é"),
        (b"\xc3\xa9", False, b"\xc3\xa9"),
    ],
)
@pytest.mark.parametrize("text_as", ["str", "bytes"])
def test_recv_decodes_as_it_is_told(run, sent, decode, expected, text_as):
    got = []

    async def handler(ws):
        got.append(await ws.recv(decode))

    async def main():
        async with served(handler, text_as=text_as) as (_, client):
            await client.send(sent)
            await client.wait_closed()

    run(main)
    if text_as == "bytes" and decode is None:
        expected = "é".encode()
    assert got == [expected]


def test_a_cancelled_recv_loses_no_message(run):
    got = []

    async def handler(ws):
        while len(got) < 300:
            try:
                got.append(await asyncio.wait_for(ws.recv(), 0.0005))
            except (TimeoutError, asyncio.TimeoutError):
                ws.server.timeouts += 1

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0) as server:
            server.timeouts = 0
            async with websockets.connect(uri(server)) as client:
                for i in range(300):
                    if i % 10 == 0:
                        seen = server.timeouts
                        await until(lambda seen=seen: server.timeouts > seen)
                    await client.send(str(i))
                await client.wait_closed()
            assert server.timeouts >= 30

    run(main)
    assert got == [str(i) for i in range(300)]


def test_a_recv_that_is_cancelled_when_its_message_is_there_leaves_it(run):
    got = []

    async def handler(ws):
        waiting = asyncio.ensure_future(ws.recv())
        await asyncio.sleep(0)
        # The message wakes the task that waits for it; it is cancelled by a third one at once.
        await until(lambda: waiting.done() or ws.server.sent)
        if not waiting.done():
            waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            got.append(await waiting)
        while len(got) < 3:
            got.append(await ws.recv())

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0) as server:
            server.sent = False
            async with websockets.connect(uri(server)) as client:
                for text in "abc":
                    await client.send(text)
                server.sent = True
                await client.wait_closed()

    run(main)
    assert got == ["a", "b", "c"]


def test_two_concurrent_recv_raise_and_the_first_goes_on(run):
    seen = []

    async def handler(ws):
        first = asyncio.ensure_future(ws.recv())
        await asyncio.sleep(0)
        for second in (ws.recv, ws.__anext__):
            with pytest.raises(fastws.ConcurrencyError):
                await second()
        with pytest.raises(fastws.ConcurrencyError):
            async for _ in ws.recv_streaming():
                pass
        ws.send("go on")
        seen.append(await first)

    async def main():
        async with served(handler) as (_, client):
            await client.recv()
            await client.send("x")
            await client.wait_closed()

    run(main)
    assert seen == ["x"]


def test_awaitables_are_coroutines_to_tasks_gather_and_groups(run):
    done = []

    async def handler(ws):
        for awaitable in (ws.send("x"), ws.recv(), ws.wait_closed(), ws.ping()):
            assert isinstance(awaitable, collections.abc.Coroutine)
            awaitable.close()
        received, sent = await asyncio.gather(ws.recv(), asyncio.create_task(ws.send("a")))
        assert sent is None
        done.append(received)
        await asyncio.create_task(ws.close(4000))
        done.append(ws.state.name)

    async def main():
        async with served(handler) as (_, client):
            assert await client.recv() == "x"
            await client.send("b")
            await client.wait_closed()
            await until(lambda: len(done) == 2)

    run(main)
    assert done == ["b", "CLOSED"]


def test_the_task_is_the_handlers_own_and_keeps_its_context(run):
    variable = contextvars.ContextVar("variable", default="outside")
    tasks = []

    async def handler(ws):
        mine = await ws.recv()
        variable.set(mine)
        tasks.append(asyncio.current_task())
        for _ in range(5):
            await ws.recv()
            assert variable.get() == mine
            assert asyncio.current_task() is tasks[-1] or asyncio.current_task() in tasks
        await ws.send(variable.get())

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0) as server:
            clients = [await websockets.connect(uri(server)) for _ in range(3)]
            for n, client in enumerate(clients):
                await client.send(str(n))
            for _ in range(5):
                for client in clients:
                    await client.send("again")
            assert [await client.recv() for client in clients] == ["0", "1", "2"]
            for client in clients:
                await client.close()
        assert variable.get() == "outside"
        assert len(set(tasks)) == 3

    run(main)


def test_r8_a_full_queue_stops_reading_and_goes_on(run):
    counts = []

    async def handler(ws):
        await ws.server.go.wait()
        async for message in ws:
            counts.append(int(message))  # noqa: PERF401 - they are looked at meanwhile

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0, max_queue=4) as server:
            server.go = asyncio.Event()
            with socket.socket() as peer:
                peer.setblocking(False)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(peer, ("127.0.0.1", port_of(server)))
                await loop.sock_sendall(peer, HANDSHAKE)
                frames = b"".join(masked(0x81, b"%0100d" % i) for i in range(20_000))
                sending = asyncio.ensure_future(loop.sock_sendall(peer, frames))
                await asyncio.wait([sending], timeout=0.2)
                assert not sending.done()
                server.go.set()
                await sending
                await until(lambda: len(counts) == 20_000)
        assert counts == list(range(20_000))

    run(main)


def test_send_waits_while_the_peer_is_slow_and_fails_when_it_is_gone(run):
    ends = []

    async def handler(ws):
        try:
            while True:
                await ws.send(b"x" * 100_000)
        except fastws.ConnectionClosed:
            ends.append(ws.close_code)

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0) as server:
            async with raw(server) as (reader, _):
                await reader.readuntil(b"\r\n\r\n")
                await until(lambda: any(c.buffered_amount > 64 * 1024 for c in server.connections))
                (connection,) = server.connections
                assert connection.buffered_amount < 1_000_000
            await until(lambda: ends == [1006])

    run(main)


def test_recv_is_refused_where_messages_go_to_callbacks(run):
    seen = []

    class Handler(fastws.Handler):
        async def on_open(self, ws):
            with pytest.raises(fastws.InvalidState, match="on_message"):
                await ws.recv()
            seen.append(1)

        def on_message(self, ws, message):
            pass

    async def main():
        async with served(Handler):
            await until(lambda: seen)

    run(main)


def test_the_response_is_what_the_client_got(run):
    seen = []

    async def handler(ws):
        seen.append(ws.response)

    async def main():
        async with served(handler, subprotocols=["chat"]) as (_, client):
            await client.wait_closed()

    async def with_subprotocol():
        async with (
            fastws.serve(handler, "127.0.0.1", 0, subprotocols=["chat"]) as server,
            websockets.connect(uri(server), subprotocols=["chat"]) as client,
        ):
            await client.wait_closed()
            assert list(seen[0].headers.raw_items()) == list(client.response.headers.raw_items())

    run(with_subprotocol)


@pytest.mark.skipif(not hasattr(asyncio, "timeout"), reason="asyncio.timeout and TaskGroup are Python 3.11's")
def test_timeouts_and_task_groups_cancel_a_recv_that_waits(run):
    got = []

    async def handler(ws):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ws.recv()
        with pytest.raises(BaseException) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(ws.recv())
                group.create_task(fail(ws))
        assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
        got.append(await ws.recv())

    async def fail(ws):
        await asyncio.sleep(0)
        await ws.send("now")
        raise ZeroDivisionError

    async def main():
        async with served(handler) as (_, client):
            assert await client.recv() == "now"
            await client.send("kept")
            await client.wait_closed()
            assert client.close_code == 1000

    run(main)
    assert got == ["kept"]


def test_a_handler_that_is_no_coroutine_function_is_named(run, caplog):
    def handler(ws):
        return "something"

    async def main():
        async with served(handler) as (_, client):
            await client.wait_closed()
            assert client.close_code == 1011

    run(main)
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert "returned 'something', expected a coroutine: make it `async def`" in str(record.exc_info[1])


def test_run_inside_a_running_loop_says_what_to_do(run):
    async def main():
        with pytest.raises(RuntimeError, match="async with"):
            fastws.run(echo)

    run(main)
