"""What leaves, when, and in what order: slow peers, two senders, buffers that change, pings."""

import array
import asyncio

import pytest
import websockets
from peers import Echo, port_of, until
from wire import BINARY, CLOSE, PING, PONG, TEXT, deaf, fill, frame, frames, opened, read_frame, serve

import fastws


def test_r6_a_stuck_subscriber_costs_the_others_nothing(run):
    cap, closed = 500_000, []

    async def main():
        async with (
            serve(on_close=lambda ws, code, reason: closed.append((ws, code)), write_cap=cap) as server,
            deaf(server),
        ):
            (stuck,) = server.connections
            await fill(stuck)
            while stuck.buffered_amount < cap - 50_000:
                stuck.send(b"x" * 20_000)
            uri = f"ws://127.0.0.1:{port_of(server)}"
            others = await asyncio.gather(
                *(websockets.connect(uri, compression=None, ping_interval=None) for _ in range(199))
            )
            counts = []
            for number in range(12):
                news = f"{number:2}" * 5000
                counts.append(fastws.broadcast(server.connections | {stuck}, news))
                for other in others:
                    assert await other.recv() == news
            # Before it was dropped it was counted; no other ever was missed.
            assert counts[0] == 200
            assert counts[-1] == 199
            await until(lambda: closed == [(stuck, 1006)])
            await asyncio.gather(*(other.close() for other in others))

    run(main)


def test_r7_a_ping_flood_leaves_the_newest_pong_only(run):
    pings = []

    async def main():
        loop = asyncio.get_running_loop()
        async with (
            serve(on_ping=lambda ws, data: pings.append(data), ping_interval=None) as server,
            deaf(server) as peer,
        ):
            (connection,) = server.connections

            async def flood(data):
                pings.clear()
                await loop.sock_sendall(peer, frame(PING, data) * 2000)
                await until(lambda: len(pings) == 2000)

            await fill(connection)
            await flood(b"p" * 125)
            bound = connection.buffered_amount
            for _ in range(10):
                await flood(b"q" * 125)
                assert connection.buffered_amount <= bound
            await loop.sock_sendall(peer, frame(PING, b"newest"))
            await until(lambda: pings[-1] == b"newest")
            connection.close(4000)
            got = bytearray()
            while not got.endswith(b"\x88\x02\x0f\xa0"):
                got += await loop.sock_recv(peer, 1 << 20)
            *answers, close = frames(bytes(got))
            assert close == (CLOSE, b"\x0f\xa0")
            assert {first for first, _ in answers} == {BINARY, PONG}
            # Of those that could not leave, nothing but the last.
            assert answers.count((PONG, b"newest")) == 1
            assert answers.count((PONG, b"q" * 125)) == 0

    run(main)


@pytest.mark.parametrize("end", ["abort", "reset", "timeout"])
def test_r17_a_sender_that_waits_hears_of_the_end(run, end):
    heard = []

    async def main():
        async def on_open(ws):
            try:
                while True:
                    await ws.send(b"x" * 100_000)
            except fastws.ConnectionClosed as error:
                heard.append(error)

        async with (
            serve(on_open=on_open, close_timeout=0.1) as server,
            deaf(server) as peer,
        ):
            (connection,) = server.connections
            await until(lambda: connection.buffered_amount > 64 * 1024)
            assert heard == []
            if end == "abort":
                connection.abort()
            elif end == "timeout":
                connection.close()
            else:
                peer.close()  # with bytes that it has not read: that is a RST
            await until(lambda: heard)
            await connection.wait_closed()
        assert connection.buffered_amount == 0
        assert connection.close_code == 1006

    run(main)


def test_r17_a_close_behind_a_pending_send_leaves_no_half_frame(run):
    async def main():
        loop = asyncio.get_running_loop()
        async with (
            serve(Echo) as server,
            deaf(server) as peer,
        ):
            (connection,) = server.connections
            count = await fill(connection)
            connection.close(4000)
            with pytest.raises(fastws.ConnectionClosed):
                connection.send(b"late")
            got = bytearray()
            while not got.endswith(b"\x88\x02\x0f\xa0"):
                got += await loop.sock_recv(peer, 1 << 20)
            assert frames(bytes(got)) == [(BINARY, b"x" * 100_000)] * count + [(CLOSE, b"\x0f\xa0")]
            await loop.sock_sendall(peer, frame(CLOSE, b"\x0f\xa0"))
            assert await loop.sock_recv(peer, 1) == b""

    run(main)


def test_r18_messages_of_two_senders_do_not_interleave(run):
    async def main():
        async with (
            serve(Echo) as server,
            websockets.connect(
                f"ws://127.0.0.1:{port_of(server)}", max_size=None, compression=None
            ) as client,
        ):
            (connection,) = server.connections

            async def sender(byte):
                for size in range(10):
                    await connection.send(byte * (300_000 + size))

            senders = [asyncio.create_task(sender(byte)) for byte in (b"a", b"b")]
            got = [await client.recv() for _ in range(20)]
            await asyncio.gather(*senders)
            for byte in (b"a", b"b"):
                assert [m for m in got if m[:1] == byte] == [byte * (300_000 + n) for n in range(10)]

    run(main)


def test_r19_send_after_close_raises_and_sends_nothing(run):
    async def main():
        async with serve(Echo) as server, opened(server) as (reader, writer):
            (connection,) = server.connections
            connection.close(4000, "bye")
            for late in (
                lambda: connection.send("late"),
                lambda: connection.send(b"late" * 100_000),
                lambda: connection.ping(b"late"),
                lambda: connection.pong(b"late"),
            ):
                with pytest.raises(fastws.ConnectionClosed):
                    late()
            assert fastws.broadcast([connection], "late") == 0
            connection.close(4001)  # the second changes nothing
            assert await read_frame(reader) == (CLOSE, b"\x0f\xa0bye")
            writer.write(frame(CLOSE, b"\x0f\xa0"))
            assert await reader.read() == b""
            writer.close()
            await connection.wait_closed()
            with pytest.raises(fastws.ConnectionClosed):
                connection.send("later")

    run(main)


@pytest.mark.parametrize("size", [10, 3000, 200_000])
@pytest.mark.parametrize("way", ["send", "view", "broadcast"])
def test_r23_a_buffer_may_change_once_it_is_sent(run, size, way):
    async def main():
        async with serve(Echo) as server, opened(server) as (reader, _):
            (connection,) = server.connections
            buffer = bytearray(b"\x01" * size)
            if way == "send":
                connection.send(buffer)
            elif way == "view":
                connection.send(memoryview(buffer))
            else:
                fastws.broadcast([connection], buffer)
            buffer[:] = b"\x02" * size
            buffer.clear()
            buffer.extend(b"\x03" * 2 * size)
            assert await read_frame(reader) == (BINARY, b"\x01" * size)

    run(main)


def test_r24_a_typed_buffer_leaves_as_its_bytes_and_a_strided_one_not_at_all(run):
    numbers = array.array("I", range(1000))
    square = memoryview(bytes(range(12))).cast("B", (3, 4))

    async def main():
        async with serve(Echo) as server, opened(server) as (reader, _):
            (connection,) = server.connections
            for strided in (
                memoryview(b"abcdef")[::2],
                memoryview(b"abcdef")[::-1],
                memoryview(numbers)[::2],
            ):
                with pytest.raises(TypeError, match="contiguous"):
                    connection.send(strided)
                with pytest.raises(TypeError, match="contiguous"):
                    fastws.broadcast([connection], strided)
            with pytest.raises(TypeError, match="int"):
                connection.send([1, 2])
            for typed in (numbers, memoryview(numbers), memoryview(numbers)[3:5], square):
                connection.send(typed)
                assert await read_frame(reader) == (BINARY, typed.tobytes())

    run(main)


@pytest.mark.without_tls("the socket is looked at")
def test_flush_sends_before_the_turn_ends(run):
    async def main():
        async with serve(Echo) as server, deaf(server) as peer:
            (connection,) = server.connections
            connection.send("now")
            assert connection.buffered_amount == 5
            with pytest.raises(BlockingIOError):
                peer.recv(100)
            connection.flush()
            assert connection.buffered_amount == 0
            assert peer.recv(100) == b"\x81\x03now"
            connection.flush()  # of nothing

    run(main)


def test_pings_and_pongs_of_the_peer_reach_their_callbacks_in_order(run):
    seen = []

    async def main():
        async with (
            serve(
                on_message=lambda ws, message: seen.append(message),
                on_ping=lambda ws, data: seen.append(("ping", data)),
                on_pong=lambda ws, data: seen.append(("pong", data)),
                ping_interval=None,
            ) as server,
            opened(server) as (reader, writer),
        ):
            writer.write(frame(PING, b"1") + frame(TEXT, b"2") + frame(PONG, b"3") + frame(PING, b""))
            await until(lambda: len(seen) == 4)
            assert seen == [("ping", b"1"), "2", ("pong", b"3"), ("ping", b"")]
            assert await read_frame(reader) == (PONG, b"1")
            assert await read_frame(reader) == (PONG, b"")

    run(main)


def test_f28_a_pong_gives_the_latency_of_its_ping_and_of_those_before(run):
    async def main():
        async with (
            serve(Echo) as server,
            opened(server) as (reader, writer),
        ):
            (connection,) = server.connections
            futures = [await connection.ping(data) for data in (b"a", b"b", b"c")]
            assert [await read_frame(reader) for _ in range(3)] == [(PING, b"a"), (PING, b"b"), (PING, b"c")]
            writer.write(frame(PONG, b"unasked"))
            writer.write(frame(PONG, b"b"))
            first, second = await futures[0], await futures[1]
            assert 0 < second <= first < 10
            assert connection.latency == second
            assert not futures[2].done()
            connection.abort()
            with pytest.raises(fastws.ConnectionClosed):
                await futures[2]

    run(main)


@pytest.mark.parametrize("late", [False, True])
def test_a_ping_may_be_awaited_twice(run, late):
    async def main():
        async with (
            serve(Echo) as server,
            websockets.connect(f"ws://127.0.0.1:{port_of(server)}"),
        ):
            (connection,) = server.connections
            ping = connection.ping()
            first = await ping
            if late:
                latency = await first
                assert await (await ping) == latency
                return
            second = await ping
            assert 0 < await first < 10
            assert await second == await first

    run(main)


def test_a_ping_awaited_by_two_tasks_ends_for_both_when_the_connection_does(run):
    async def main():
        async with serve(Echo) as server, opened(server):
            (connection,) = server.connections
            ping = connection.ping()

            async def wait():
                return await (await ping)

            tasks = [asyncio.create_task(wait()) for _ in range(2)]
            await asyncio.sleep(0)
            connection.abort()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [isinstance(r, fastws.ConnectionClosed) for r in results] == [True, True]

    run(main)


def test_r35_a_64_mib_message_does_not_hold_up_others(run):
    step, steps = 4 * 1024 * 1024, 16
    size = step * steps

    async def main():
        loop = asyncio.get_running_loop()
        worst = 0.0

        async with (
            serve(Echo, max_size=None, write_cap=None) as server,
            deaf(server, room=None) as large,
            opened(server) as (reader, writer),
        ):

            async def ping():
                nonlocal worst
                begin = loop.time()
                writer.write(frame(PING, b"quick"))
                assert await read_frame(reader) == (PONG, b"quick")
                worst = max(worst, loop.time() - begin)

            piece = bytes(range(256)) * (step // 256)
            await loop.sock_sendall(large, frame(BINARY, b"\0" * size)[:14])
            for _ in range(steps):
                # What is not there yet must not be waited for.
                await loop.sock_sendall(large, piece)
                await ping()
            await until(lambda: any(c.buffered_amount for c in server.connections))
            await ping()
            echo, end, pings = bytearray(size + 10), 0, 0
            while end < len(echo):
                end += await loop.sock_recv_into(large, memoryview(echo)[end:])
                if end >= pings * 256 * 1024:
                    pings += 1
                    await ping()
            assert echo[10:] == piece * steps
            assert worst < 1

    run(main)
