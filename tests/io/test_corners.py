"""What happens where two things meet: an end in the middle of a beginning, a wait behind another."""

import asyncio
import contextlib
import gc
import socket
import struct
import weakref

import pytest
from peers import HANDSHAKE, LIMIT, masked, on_reactor, port_of, raw, until

import fastws


def test_leaving_recv_streaming_with_a_full_queue_goes_on_receiving(run):
    got = []

    async def handler(ws):
        stream = ws.recv_streaming()
        got.append(await stream.__anext__())
        await asyncio.sleep(0.1)  # the inbox fills with fragments
        await stream.aclose()
        got.append(await asyncio.wait_for(ws.recv(), 1))

    async def main():
        async with (
            fastws.serve(handler, "127.0.0.1", 0, max_queue=4, close_timeout=0.2) as server,
            raw(server) as (reader, writer),
        ):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(masked(0x01, b"a"))
            await until(lambda: got)
            writer.write(masked(0x00, b"b") * 8 + masked(0x80, b"c") + masked(0x81, b"next"))
            await reader.read()
        assert got == ["a", "next"]

    run(main)


def test_a_reset_during_a_clients_opening_is_told_at_once(run):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            loop = asyncio.get_running_loop()
            task = asyncio.ensure_future(
                fastws.connect(
                    f"ws://127.0.0.1:{listener.getsockname()[1]}/", proxy=None, open_timeout=None
                )._connect()
            )
            peer, _ = await loop.sock_accept(listener)
            await loop.sock_recv(peer, 10)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            done, _ = await asyncio.wait({task}, timeout=LIMIT / 2)
            assert done == {task}
            with pytest.raises(fastws.InvalidHandshake):
                task.result()

    run(main)


def test_a_connect_cancelled_when_its_response_has_come_leaves_no_connection(run, monkeypatch):
    from fastws import client as module

    async def handler(ws):
        async for _ in ws:
            pass

    async def main():
        real = module.open_client
        holder = []

        def open_client(*args):
            future = real(*args)
            # Before the task's own callback: as any other task of this pass may.
            future.add_done_callback(lambda _: holder[0].cancel())
            return future

        monkeypatch.setattr(module, "open_client", open_client)
        async with fastws.serve(handler, "127.0.0.1", 0, close_timeout=0.2) as server:
            connecting = fastws.connect(
                f"ws://127.0.0.1:{port_of(server)}/", proxy=None, ping_interval=None, open_timeout=None
            )
            holder.append(asyncio.ensure_future(connecting._connect()))
            with pytest.raises(asyncio.CancelledError):
                await holder[0]
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(until(lambda: not server.connections), 1)
            assert server.connections == set()

    run(main)


def test_a_process_request_that_aborts_leaves_nothing_behind(run):
    opened = []

    async def handler(ws):
        opened.append(ws.state.name)

    async def main():
        server = await fastws.serve(
            handler, "127.0.0.1", 0, process_request=lambda ws, request: ws.abort(), close_timeout=0.2
        )
        async with raw(server) as (reader, _):
            assert await asyncio.wait_for(reader.read(), 2) == b""
        await asyncio.sleep(0.05)
        server.close()
        try:
            await asyncio.wait_for(server.wait_closed(), 3)
        finally:
            assert opened == []

    run(main)


def test_recv_streaming_decodes_characters_that_fragments_cut(run):
    got = []

    async def handler(ws):
        got.extend([part async for part in ws.recv_streaming(decode=True)])

    async def main():
        async with (
            fastws.serve(handler, "127.0.0.1", 0, text_as="bytes", close_timeout=0.2) as server,
            raw(server) as (reader, writer),
        ):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(masked(0x01, b"x\xc3"))
            await asyncio.sleep(0.05)
            writer.write(masked(0x80, b"\xa9"))
            await reader.read()
        assert "".join(got) == "x\xe9"

    run(main)


def test_a_send_awaited_late_ends_when_what_was_published_has_left(run):
    ends = []

    async def handler(ws):
        ws.subscribe("t")
        waiting = ws.send(b"x" * 16_000_000)  # more than any kernel takes
        assert ws.buffered_amount > 64 * 1024
        await until(lambda: ws.buffered_amount == 0)  # somebody reads
        for _ in range(50):
            ws.server.publish("t", b"y" * 300_000)
        ws.flush()
        assert ws.buffered_amount > 64 * 1024
        ws.server.again.set()
        await waiting
        ends.append(1)

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0, write_cap=None) as server:
            server.topic("t", max_bytes=100_000_000)
            server.again = asyncio.Event()
            async with raw(server) as (reader, _):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head
                await reader.readexactly(16_000_010)
                await server.again.wait()
                await reader.readexactly(15_000_000)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(reader.read(), 1)
        assert ends == [1]

    run(main)


def test_a_send_behind_a_stream_ends_with_the_connection(run):
    ends = []

    async def handler(ws):
        started = asyncio.Event()

        async def source():
            yield "a"
            started.set()
            await asyncio.Event().wait()

        streaming = asyncio.ensure_future(ws.send(source()))
        await started.wait()
        try:
            await asyncio.wait_for(ws.send("behind"), 2)
        except Exception as error:
            ends.append(type(error))
        streaming.cancel()

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0) as server, raw(server) as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(3)
            writer.close()
            await until(lambda: ends)
        assert ends[0] is not asyncio.TimeoutError and issubclass(ends[0], fastws.ConnectionClosed)

    run(main)


def test_a_pause_of_the_handlers_outlives_the_opening(run):
    got = []

    async def handler(ws):
        ws.pause_reading()
        with contextlib.suppress(asyncio.TimeoutError):
            got.append(await asyncio.wait_for(ws.recv(), 0.2))
        ws.resume_reading()

    async def main():
        async with (
            fastws.serve(handler, "127.0.0.1", 0, close_timeout=0.1) as server,
            raw(server, HANDSHAKE + masked(0x81, b"early")) as (reader, _),
        ):
            await reader.read()
        assert got == []

    run(main)


def test_a_connection_that_received_after_its_end_needs_no_collector(run):
    references = []

    async def handler(ws):
        references.append(weakref.ref(ws))
        await ws.wait_closed()
        with contextlib.suppress(fastws.ConnectionClosed):
            await ws.recv()

    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0, close_timeout=0.1) as server:
            async with raw(server) as (reader, _writer):
                await reader.readuntil(b"\r\n\r\n")
            await until(lambda: references and not server.connections)
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.05)

    gc.collect()
    gc.disable()
    try:
        run(main)
        assert references[0]() is None
    finally:
        gc.enable()


@on_reactor
def test_a_serve_that_fails_accepts_nothing(run):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as sock:
            with pytest.raises(OSError):
                await fastws.serve(lambda ws: None, sock=[sock, sock])
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(HANDSHAKE)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.3)
            writer.close()

    run(main)


def test_a_recv_closed_while_it_waits_leaves_no_callback_to_the_next(run):
    called = []

    async def handler(ws):
        first = ws.recv()
        assert first.send(None) is first  # as a task does
        first.add_done_callback(called.append)
        first.close()
        del first
        await ws.recv()

    async def main():
        async with (
            fastws.serve(handler, "127.0.0.1", 0, close_timeout=0.1) as server,
            raw(server) as (reader, writer),
        ):
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.05)
            writer.write(masked(0x81, b"x"))
            await reader.read()
        assert called == []

    run(main)
