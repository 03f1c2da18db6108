"""The server on real sockets, on both event loops, with a real client and with hostile bytes."""

import asyncio
import signal
import socket
import subprocess
import sys

import pytest
import websockets
from peers import HANDSHAKE, LIMIT, Echo, masked, port_of, raw, until

import fastws


@pytest.mark.parametrize(
    "message", ["", "text", "é一😀" * 5000, b"", b"x" * 65536, b"y" * 5_000_000], ids=len
)
def test_a_message_is_echoed_as_what_it_was(run, message):
    async def main():
        async with (
            fastws.serve(Echo, "127.0.0.1", 0, max_size=None) as server,
            websockets.connect(
                f"ws://127.0.0.1:{port_of(server)}", max_size=None, compression=None
            ) as client,
        ):
            await client.send(message)
            assert await client.recv() == message

    run(main)


def test_callbacks_come_in_order_and_close_comes_once(run):
    class Logged(Echo):
        log = []  # noqa: RUF012

    async def main():
        async with fastws.serve(Logged, "127.0.0.1", 0) as server:
            async with websockets.connect(f"ws://127.0.0.1:{port_of(server)}") as client:
                await client.close(4000, "enough")
            await until(lambda: len(Logged.log) == 2)
        assert Logged.log == ["open", ("close", 4000, "enough")]

    run(main)


def test_h47_a_frame_behind_the_request_is_answered(run):
    async def main():
        async with (
            fastws.serve(Echo, "127.0.0.1", 0) as server,
            raw(server, HANDSHAKE + masked(0x81, b"hi")) as (r, _),
        ):
            assert (await r.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await r.readexactly(4) == b"\x81\x02hi"

    run(main)


def test_h43_a_request_that_does_not_end_is_dropped_at_its_deadline(run):
    async def main():
        async with (
            fastws.serve(Echo, "127.0.0.1", 0, open_timeout=0.1) as server,
            raw(server, HANDSHAKE[:20]) as (reader, _),
        ):
            assert await reader.read() == b""

    run(main)


def test_r8_async_callbacks_run_one_at_a_time_and_in_order(run):
    running, seen = [], []

    async def on_message(ws, message):
        running.append(message)
        assert len(running) == 1
        await asyncio.sleep(0)
        seen.append(int(message))
        running.clear()

    async def main():
        async with (
            fastws.serve(on_message=on_message, host="127.0.0.1", port=0) as server,
            websockets.connect(f"ws://127.0.0.1:{port_of(server)}") as client,
        ):
            for i in range(500):
                await client.send(str(i))
            await until(lambda: len(seen) == 500)
        assert seen == list(range(500))

    run(main)


def test_r5_a_peer_that_does_not_read_holds_its_sender_and_drains(run):
    drained = []

    async def main():
        got = asyncio.get_running_loop().create_future()

        async def on_open(ws):
            for _ in range(40):
                await ws.send(b"x" * 100_000)
            got.set_result(ws)

        async with fastws.serve(on_open=on_open, on_drain=drained.append, host="127.0.0.1", port=0) as server:
            with socket.socket() as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                peer.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(peer, ("127.0.0.1", port_of(server)))
                await loop.sock_sendall(peer, HANDSHAKE)
                await until(lambda: any(c.buffered_amount > 64 * 1024 for c in server.connections))
                assert not got.done()
                while not got.done():
                    await loop.sock_recv(peer, 1 << 20)
        assert drained

    run(main)


def test_r5_a_peer_that_never_reads_is_dropped_at_the_cap(run):
    closed = []

    async def main():
        async with (
            fastws.serve(
                on_close=lambda ws, code, reason: closed.append(code),
                host="127.0.0.1",
                port=0,
                write_cap=1_000_000,
            ) as server,
            raw(server) as (reader, _),
        ):
            await reader.readuntil(b"\r\n\r\n")
            (connection,) = server.connections
            with pytest.raises(fastws.ConnectionClosed):
                for _ in range(200):
                    connection.send(b"x" * 100_000)
            await until(lambda: closed == [1006])

    run(main)


@pytest.mark.without_tls("there it is closed without an answer")
def test_r9_a_connection_too_many_gets_503(run):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0, max_connections=1) as server, raw(server) as (first, _):
            assert (await first.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            async with raw(server) as (second, _):
                answer = await second.read()
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"\r\nRetry-After: " in answer

    run(main)


def test_r11_a_silent_peer_is_dropped_with_1006(run):
    closed = []

    async def main():
        async with (
            fastws.serve(
                on_close=lambda ws, code, reason: closed.append(code),
                host="127.0.0.1",
                port=0,
                ping_interval=0.1,
                ping_timeout=0.1,
            ) as server,
            raw(server) as (reader, _),
        ):
            await reader.read()
            await until(lambda: closed == [1006])

    run(main)


def test_a_deadline_set_while_another_is_due_does_not_put_off_those_before_it(run):
    async def main():
        async with fastws.serve(
            Echo, "127.0.0.1", 0, open_timeout=0.6, ping_interval=None, close_timeout=1000
        ) as patient:

            def close_all(ws, code, reason):
                for connection in patient.connections:
                    connection.close()

            async with (
                fastws.serve(
                    on_close=close_all, host="127.0.0.1", port=0, ping_interval=0.1, ping_timeout=0.1
                ) as server,
                raw(patient) as (reader, _),
                raw(patient, b"") as (silent, _),
                raw(server),
            ):
                # Dropped without a Pong, the last one has the first wait a thousand seconds for its Close.
                assert b"\x88\x02\x03\xe8" in await reader.readuntil(b"\x03\xe8")
                assert await silent.read() == b""
                patient.abort()

    run(main)


def test_r13_a_handler_that_raises_costs_its_own_connection_1011(run, caplog):
    def on_message(ws, message):
        if message == "bad":
            raise ZeroDivisionError("mine")
        ws.send(message)

    async def main():
        async with fastws.serve(on_message=on_message, host="127.0.0.1", port=0) as server:
            uri = f"ws://127.0.0.1:{port_of(server)}"
            async with websockets.connect(uri) as good, websockets.connect(uri) as bad:
                await bad.send("bad")
                with pytest.raises(websockets.ConnectionClosedError) as caught:
                    await bad.recv()
                assert caught.value.rcvd.code == 1011
                await good.send("still here")
                assert await good.recv() == "still here"

    run(main)
    assert [r.exc_info[0] for r in caplog.records if r.levelname == "ERROR"] == [ZeroDivisionError]


def test_f25_a_peer_that_ignores_our_close_is_dropped(run):
    closed = []

    async def main():
        async with (
            fastws.serve(
                on_open=lambda ws: ws.close() and None,
                on_close=lambda ws, code, reason: closed.append(code),
                host="127.0.0.1",
                port=0,
                close_timeout=0.1,
            ) as server,
            raw(server) as (reader, _),
        ):
            assert (await reader.read()).endswith(b"\x88\x02\x03\xe8")
            await until(lambda: closed == [1006])

    run(main)


def test_hooks_answer_pages_and_refuse(run):
    async def process_request(ws, request):
        await asyncio.sleep(0)
        return ws.respond(200, "hello") if request.path == "/page" else None

    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0, process_request=process_request) as server:
            async with raw(server, b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n") as (reader, _):
                answer = await reader.read()
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                assert answer.endswith(b"\r\n\r\nhello\n")
            async with websockets.connect(f"ws://127.0.0.1:{port_of(server)}/other") as client:
                await client.send("x")
                assert await client.recv() == "x"

    run(main)


def test_closing_the_server_sends_1001(run):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0) as server:
            client = await websockets.connect(f"ws://127.0.0.1:{port_of(server)}")
        await client.wait_closed()
        assert client.close_code == 1001

    run(main)


def test_r25_sigterm_closes_with_1001_and_exits_0(tmp_path):
    program = (
        "import fastws\n"
        "fastws.run(on_message=lambda ws, m: ws.send(m), port=0,"
        " ready=lambda s: print(s.sockets[0].getsockname()[1], flush=True))\n"
    )

    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=tmp_path) as process:

        async def main():
            port = int(process.stdout.readline())
            async with websockets.connect(f"ws://127.0.0.1:{port}") as client:
                process.send_signal(signal.SIGTERM)
                await client.wait_closed()
                assert client.close_code == 1001

        asyncio.run(asyncio.wait_for(main(), LIMIT))
        assert process.wait(LIMIT) == 0


def test_broadcast_reaches_all_and_passes_over_the_closed(run):
    async def main():
        async with fastws.serve(Echo, "127.0.0.1", 0) as server:
            uri = f"ws://127.0.0.1:{port_of(server)}"
            clients = [await websockets.connect(uri) for _ in range(20)]
            connections = list(server.connections)
            await clients[0].close()
            await until(lambda: len(server.connections) == 19)
            assert fastws.broadcast(connections, "news") == 19
            for client in clients[1:]:
                assert await client.recv() == "news"
                await client.close()

    run(main)


def test_an_async_callback_may_wait_for_its_own_close(run):
    async def on_message(ws, message):
        await ws.close(4001)

    async def main():
        async with (
            fastws.serve(on_message=on_message, host="127.0.0.1", port=0, close_timeout=None) as server,
            websockets.connect(f"ws://127.0.0.1:{port_of(server)}") as client,
        ):
            await client.send("x")
            await client.wait_closed()
            assert client.close_code == 4001

    run(main)
