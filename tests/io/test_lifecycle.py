"""How connections end, and what a callback may do to its own: raise, abort, close, pause, forget."""

import asyncio
import gc
import threading
import time
import weakref

import pytest
import uvloop
import websockets
from peers import LIMIT, Echo, port_of, raw, until
from wire import CLOSE, PING, PONG, TEXT, deaf, frame, opened, read_frame, reset, serve

import fastws

# ---------------------------------------------------------------- how connections end


@pytest.mark.parametrize(
    "sent", [b"", b"\x81", frame(TEXT, b"hello")[:8], frame(TEXT, b"x" * 70_000)[:-1]], ids=len
)
@pytest.mark.parametrize("end", ["fin", "rst"])
def test_f31_r12_an_end_without_close_is_1006_once(run, sent, end):
    events = []

    async def main():
        async with (
            serve(
                on_message=lambda ws, message: events.append(message),
                on_close=lambda ws, code, reason: events.append((code, reason)),
            ) as server,
            deaf(server) as peer,
        ):
            (connection,) = server.connections
            await asyncio.get_running_loop().sock_sendall(peer, sent)
            if end == "fin":
                peer.close()
            else:
                reset(peer)
            await until(lambda: events)
            await connection.wait_closed()
        assert events == [(1006, "")]
        assert connection.close_code == 1006

    run(main)


def test_r12_a_write_to_a_peer_that_is_gone_ends_with_1006_once(run):
    codes = []

    async def main():
        async with (
            serve(on_close=lambda ws, code, reason: codes.append(code)) as server,
            deaf(server) as peer,
        ):
            (connection,) = server.connections
            peer.close()
            # No turn of the loop between: the second write meets the RST that answers the first.
            for message in ("first", "second"):
                connection.send(message)
                connection.flush()
            assert codes == []  # never from inside a call of ours
            assert connection.state is fastws.State.CLOSED
            with pytest.raises(fastws.ConnectionClosed):
                connection.send("third")
            await connection.wait_closed()
        assert codes == [1006]

    run(main)


def test_f24b_after_our_close_data_is_discarded_and_pings_are_answered(run):
    messages, codes = [], []

    async def main():
        async with (
            serve(
                on_message=lambda ws, message: messages.append(message),
                on_close=lambda ws, code, reason: codes.append(code),
            ) as server,
            opened(server) as (reader, writer),
        ):
            (connection,) = server.connections
            connection.close(4000)
            assert await read_frame(reader) == (CLOSE, b"\x0f\xa0")
            for byte in frame(TEXT, b"late") + frame(PING, b"1") + frame(0x01, b"half"):
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            assert await read_frame(reader) == (PONG, b"1")
            writer.write(frame(0x80, b"rest") + frame(PING, b"2") + frame(TEXT, b"later"))
            assert await read_frame(reader) == (PONG, b"2")
            assert codes == []
            writer.write(frame(CLOSE, b"\x0f\xa1") + frame(PING, b"3"))
            assert await reader.read() == b""
        assert (messages, codes) == ([], [4001])

    run(main)


def test_abort_ends_at_once_with_1006(run):
    codes = []

    async def main():
        async with (
            serve(on_close=lambda ws, code, reason: codes.append(code)) as server,
            opened(server) as (reader, _),
        ):
            (connection,) = server.connections
            connection.abort()
            connection.abort()
            assert codes == []
            assert await reader.read() == b""
            await connection.wait_closed()
            assert server.connections == set()
        assert codes == [1006]

    run(main)


def test_a_server_closed_in_two_steps_leaves_connections_until_the_second(run):
    async def main():
        async with serve(Echo) as server:
            port = port_of(server)
            client = await websockets.connect(f"ws://127.0.0.1:{port}")
            server.close(close_connections=False)
            assert not server.is_serving()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            await client.send("still here")
            assert await client.recv() == "still here"
            ended = asyncio.create_task(server.wait_closed())
            server.close(close_connections=False)
            await client.send("and again")
            assert await client.recv() == "and again"
            assert not ended.done()
            server.close(code=1012)
            await client.wait_closed()
            assert client.close_code == 1012
            await ended

    run(main)


# ---------------------------------------------------------------- what callbacks may do


ENDS = {
    "close": lambda ws: ws.close(4000) and None,
    "abort": lambda ws: ws.abort(),
    "pause": lambda ws: ws.pause_reading(),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("large", [False, True])
def test_r20_frames_behind_an_end_in_the_same_read_are_not_delivered(run, end, large):
    events = []

    def on_message(ws, message):
        events.append(message[:5])
        ws.send(message)
        ws.send("second answer")
        if message.startswith("two"):
            ENDS[end](ws)

    async def main():
        async with (
            serve(on_message=on_message, on_ping=lambda ws, data: events.append(data)) as server,
            opened(server) as (reader, writer),
        ):
            (connection,) = server.connections
            tail = b"." * (100_000 if large else 2)
            writer.write(b"".join(frame(TEXT, text + tail) for text in (b"one", b"two", b"three", b"four")))
            writer.write(frame(PING, b"p"))
            await until(lambda: len(events) > 1)
            if end == "close":
                while (await read_frame(reader))[0] != CLOSE:
                    pass
                assert await read_frame(reader) == (PONG, b"p")
                writer.write(frame(CLOSE, b"\x0f\xa0"))
                assert await reader.read() == b""
            elif end == "abort":
                await connection.wait_closed()
            else:
                for text in (b"one", b"two"):
                    assert await read_frame(reader) == (TEXT, text + tail)
                    assert await read_frame(reader) == (TEXT, b"second answer")
                assert events == ["one..", "two.."]
                connection.resume_reading()
                for text in (b"three", b"four"):
                    assert await read_frame(reader) == (TEXT, text + tail)
                    assert await read_frame(reader) == (TEXT, b"second answer")
                assert await read_frame(reader) == (PONG, b"p")
                assert len(events) == 5
                return
        assert events == ["one..", "two.."]

    run(main)


def test_r20_resuming_inside_a_callback_keeps_the_order(run):
    seen, depth = [], []

    def on_message(ws, message):
        assert not depth  # one at a time, whatever a callback calls
        depth.append(message)
        ws.pause_reading()
        ws.send(message)
        ws.flush()
        ws.resume_reading()
        seen.append(int(message))
        depth.pop()

    async def main():
        async with serve(on_message=on_message) as server, opened(server) as (_, writer):
            writer.write(b"".join(frame(TEXT, b"%d" % n) for n in range(200)))
            await until(lambda: len(seen) == 200)
        assert seen == list(range(200))

    run(main)


def test_pause_reading_delivers_nothing_until_resumed_and_then_all_in_order(run):
    seen = []

    async def main():
        async with (
            serve(
                on_open=lambda ws: ws.pause_reading(),
                on_message=lambda ws, message: seen.append(int(message)),
            ) as server,
            opened(server) as (reader, writer),
            opened(server) as (_, other),
        ):
            (connection,) = [
                c for c in server.connections if c.remote_address == writer.get_extra_info("sockname")
            ]
            (good,) = server.connections - {connection}
            good.resume_reading()
            writer.write(b"".join(frame(TEXT, b"%d" % n) for n in range(100)))
            writer.write(frame(PING, b"behind"))
            # The other's message comes later, and arrives.
            other.write(frame(TEXT, b"-1"))
            await until(lambda: seen == [-1])
            connection.send("output goes on")
            assert await read_frame(reader) == (TEXT, b"output goes on")
            assert seen == [-1]
            connection.resume_reading()
            connection.pause_reading()
            connection.resume_reading()
            assert await read_frame(reader) == (PONG, b"behind")
            assert seen == [-1, *range(100)]

    run(main)


def test_r21_a_callback_may_drop_the_last_reference_and_collect(run):
    gone, seen = [], []

    class Forgetful:
        def on_message(self, ws, message):
            seen.append(message)
            gone.extend((weakref.ref(ws), weakref.ref(self)))
            ws.itself, ws.mine = ws, self  # a cycle, which only the collector frees
            ws.abort()
            del ws, self, message
            gc.collect()

    async def main():
        async with serve(Forgetful) as server, opened(server) as (reader, writer):
            writer.write(frame(TEXT, b"one") + frame(TEXT, b"two") * 50)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await reader.readexactly(1)
            await until(lambda: gc.collect() is not None and all(r() is None for r in gone))
        assert seen == ["one"]

    run(main)


@pytest.mark.parametrize("size", [5, 3000, 100_000])
@pytest.mark.parametrize("pieces", [1, 3])
def test_r22_a_view_of_a_message_stays_valid(run, size, pieces):
    views = []

    async def main():
        async with (
            serve(on_message=lambda ws, message: views.append(memoryview(message))) as server,
            opened(server) as (_, writer),
        ):
            for number in range(30):
                payload = bytes([number]) * size
                for piece in range(pieces):
                    first = (0x80 if piece == pieces - 1 else 0) | (0 if piece else 2)
                    writer.write(frame(first, payload))
                await writer.drain()
            await until(lambda: len(views) == 30)
        for number, view in enumerate(views):
            assert view == bytes([number]) * (size * pieces)

    run(main)


# ---------------------------------------------------------------- async callbacks


def test_r14_an_async_callback_that_returns_leaves_the_connection_open(run):
    async def on_open(ws):
        await asyncio.sleep(0)

    async def main():
        async with (
            serve(on_open=on_open, on_message=lambda ws, m: ws.send(m)) as server,
            opened(server) as (reader, writer),
        ):
            writer.write(frame(TEXT, b"hi"))
            assert await read_frame(reader) == (TEXT, b"hi")

    run(main)


def test_r15_a_cancelled_callback_costs_1001(run, caplog):
    tasks, codes = [], []

    async def on_message(ws, message):
        tasks.append(asyncio.current_task())
        await asyncio.sleep(LIMIT)

    async def main():
        async with (
            serve(on_message=on_message, on_close=lambda ws, code, reason: codes.append(code)) as server,
            opened(server) as (reader, writer),
        ):
            writer.write(frame(TEXT, b"one") + frame(TEXT, b"two"))
            await until(lambda: tasks)
            tasks[0].cancel()
            assert await read_frame(reader) == (CLOSE, b"\x03\xe9")
            writer.write(frame(CLOSE, b"\x03\xe9"))
            assert await reader.read() == b""
        assert tasks[0].cancelled()
        assert (len(tasks), codes) == (1, [1001])

    run(main)
    assert caplog.records == []


# ---------------------------------------------------------------- threads and clocks


def test_r32_a_foreign_thread_gets_an_error_and_changes_nothing(run):
    async def main():
        async with serve(Echo) as server, opened(server) as (reader, writer):
            (connection,) = server.connections
            calls = [
                lambda: connection.send("x"),
                lambda: connection.ping(),
                lambda: connection.pong(),
                lambda: connection.close(),
                lambda: connection.abort(),
                lambda: connection.flush(),
                lambda: connection.pause_reading(),
                lambda: connection.resume_reading(),
                lambda: fastws.broadcast([connection], "x"),
            ]

            def foreign():
                for call in calls:
                    with pytest.raises(RuntimeError, match="thread"):
                        call()
                return True

            assert await asyncio.to_thread(foreign)
            assert connection.buffered_amount == 0
            writer.write(frame(TEXT, b"hi"))
            assert await read_frame(reader) == (TEXT, b"hi")
        # asyncio's threads stay, and what they hold, until they are told.
        await asyncio.get_running_loop().shutdown_default_executor()

    run(main)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_two_loops_in_two_threads_serve_side_by_side(factory):
    echoed, failed = [], []
    both = threading.Barrier(2, timeout=LIMIT)

    async def main(name):
        async with (
            serve(Echo) as server,
            websockets.connect(f"ws://127.0.0.1:{port_of(server)}", compression=None) as client,
        ):
            both.wait()
            for number in range(300):
                await client.send(f"{name} {number}")
                assert await client.recv() == f"{name} {number}"
            assert len(server.connections) == 1
        both.wait()
        echoed.append(name)

    def thread(name):
        loop = factory()
        try:
            loop.run_until_complete(asyncio.wait_for(main(name), LIMIT))
        except BaseException as error:
            failed.append(error)
            both.abort()
        finally:
            loop.close()

    threads = [threading.Thread(target=thread, args=(name,)) for name in "ab"]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []
    assert sorted(echoed) == ["a", "b"]


@pytest.mark.parametrize("step", [-1e9, 1e9])
def test_r33_a_step_of_the_clock_moves_no_deadline(run, monkeypatch, step):
    now = time.time()
    codes = []

    async def main():
        async with (
            serve(Echo, open_timeout=0.1, ping_interval=1e6, ping_timeout=1e6) as patient,
            serve(
                on_close=lambda ws, code, reason: codes.append(code), ping_interval=0.1, ping_timeout=0.1
            ) as strict,
            opened(patient) as (reader, writer),
            opened(strict),
        ):
            monkeypatch.setattr(time, "time", lambda: now + step)
            async with raw(patient, b"") as (silent, _):
                assert await silent.read() == b""
            await until(lambda: codes == [1006])
            writer.write(frame(TEXT, b"hi"))
            assert await read_frame(reader) == (TEXT, b"hi")

    run(main)
