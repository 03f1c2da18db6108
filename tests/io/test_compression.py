"""Compression on real sockets, RFC 7692: with other implementations, in fragments, amid hooks and ends."""

import asyncio
import contextlib
import random
import threading
import zlib

import aiohttp
import pytest
import websockets
from aiohttp import web
from inflating import DEDICATED, SHARED, client_of, opening
from peers import LIMIT, echo, port_of, until
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from wire import BINARY, CLOSE, PING, TEXT, frame, frames, read_frame, serve

import fastws

NOISE = random.Random(5).randbytes(3000)
MESSAGES = [
    "",
    "text",
    "é一😀" * 1000,
    b"",
    NOISE,
    NOISE + b"!",
    "text",
    bytes(70_000),
    NOISE * 30,
    "é" * 300,
]
SERVERS = {
    "shared": SHARED,
    "dedicated": DEDICATED,
    "dedicated-9": fastws.Deflate(
        shared=False, min_size=0, server_max_window_bits=9, client_max_window_bits=9, level=9, memory_level=9
    ),
    "dedicated-15": fastws.Deflate(
        shared=False, min_size=0, server_max_window_bits=15, client_max_window_bits=15, memory_level=1
    ),
}
BY_SERVER = pytest.mark.parametrize("deflate", SERVERS.values(), ids=SERVERS)


class Back(fastws.Handler):
    def on_message(self, ws, message):
        ws.send(message)


async def exchange(client):
    """Send messages there and back, one by one and all at once."""
    for message in MESSAGES:
        await client.send(message)
        assert await client.recv() == message
    for message in MESSAGES:
        await client.send(message)
    assert [await client.recv() for _ in MESSAGES] == MESSAGES


# ---------------------------------------------------------------- others


@pytest.mark.parametrize("handler", [echo, Back])
@pytest.mark.parametrize(
    "offer",
    [
        {},
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        {"server_max_window_bits": 9, "client_max_window_bits": 9},
        {"server_max_window_bits": 12, "client_no_context_takeover": True},
    ],
    ids=str,
)
@BY_SERVER
def test_a_websockets_client_gets_messages_back(run, deflate, offer, handler):
    async def main():
        async with (
            fastws.serve(handler, "127.0.0.1", 0, compression=deflate) as server,
            opening(server, **offer) as client,
        ):
            assert client.protocol.extensions
            await exchange(client)

    run(main)


@pytest.mark.parametrize(
    "factory",
    [
        {},
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        {"server_max_window_bits": 9, "client_max_window_bits": 9},
    ],
    ids=str,
)
@BY_SERVER
def test_a_websockets_server_gives_messages_back(run, deflate, factory):
    async def main():
        extensions = [ServerPerMessageDeflateFactory(**factory)]
        async with websockets.serve(
            echo, "127.0.0.1", 0, compression=None, extensions=extensions, max_size=None
        ) as server:
            uri = f"ws://127.0.0.1:{port_of(server)}"
            async with fastws.connect(uri, compression=deflate) as ws:
                assert ws.extensions == ws.response.headers["Sec-WebSocket-Extensions"]
                await exchange(ws)

    run(main)


class AiohttpClient:
    def __init__(self, ws):
        self.ws = ws

    async def send(self, message):
        await (self.ws.send_str if isinstance(message, str) else self.ws.send_bytes)(message)

    async def recv(self):
        return (await self.ws.receive()).data


@pytest.mark.parametrize("bits", [9, 15])
@BY_SERVER
def test_an_aiohttp_client_gets_messages_back(run, deflate, bits):
    async def main():
        async with (
            fastws.serve(echo, "127.0.0.1", 0, compression=deflate) as server,
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{port_of(server)}/", compress=bits) as ws,
        ):
            assert ws.compress
            await exchange(AiohttpClient(ws))

    run(main)


@pytest.mark.parametrize("deflate", [SHARED, DEDICATED, SERVERS["dedicated-9"]], ids=[*SERVERS][:3])
def test_an_aiohttp_server_gives_messages_back(run, deflate):
    async def handler(request):
        ws = web.WebSocketResponse(compress=True)
        await ws.prepare(request)
        client = AiohttpClient(ws)
        async for message in ws:
            await client.send(message.data)
        return ws

    async def main():
        app = web.Application()
        app.router.add_get("/", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            async with fastws.connect(f"ws://127.0.0.1:{port}/", compression=deflate) as ws:
                assert ws.extensions is not None
                await exchange(ws)
        finally:
            await runner.cleanup()

    run(main)


@pytest.mark.parametrize("handler", [echo, Back])
@pytest.mark.parametrize("theirs", SERVERS.values(), ids=SERVERS)
@BY_SERVER
def test_a_client_and_a_server_of_ours_get_on(run, deflate, theirs, handler):
    async def main():
        async with fastws.serve(handler, "127.0.0.1", 0, compression=deflate) as server:
            uri = f"ws://127.0.0.1:{port_of(server)}"
            async with fastws.connect(uri, compression=theirs) as ws:
                await exchange(ws)
                (connection,) = server.connections
                assert connection.extensions == ws.extensions
                assert ws.extensions.startswith("permessage-deflate")
            async with fastws.connect(uri) as ws:
                assert ws.extensions is None
                await exchange(ws)

    run(main)


# ---------------------------------------------------------------- what is compressed


def test_compress_and_min_size_decide_what_is_compressed(run):
    deflate = fastws.Deflate(min_size=100)

    async def main():
        async with serve(Back, compression=deflate) as server, client_of(server) as client:
            (connection,) = server.connections
            long, short = "x" * 100, "x" * 99
            for message, how, expected in [
                (long, {}, 0xC1),
                (short, {}, TEXT),
                (long, {"compress": False}, TEXT),
                (short, {"compress": True}, 0xC1),
                ([long, "y"], {}, 0x41),
                ([short, "y"], {}, 0x01),
                ([short, "y"], {"compress": True}, 0x41),
                ([long, "y"], {"compress": False}, 0x01),
            ]:
                connection.send(message, **how)
                got = await client.frames()
                assert got[0][0] == expected
                assert client.inflater.messages(got) == ["".join(message)]
            for how, expected in [({}, 0xC1), ({"compress": False}, TEXT)]:
                fastws.broadcast([connection], long, **how)
                assert (await client.frames())[0][0] == expected
                connection.subscribe("a")
                server.publish("a", long, **how)
                assert (await client.frames())[0][0] == expected

    run(main)


def test_a_hook_that_takes_the_header_out_switches_compression_off(run):
    def process_response(_ws, _request, response):
        if response.status_code == 101:
            del response.headers["Sec-WebSocket-Extensions"]
        return response

    async def main():
        async with serve(Back, compression=DEDICATED, process_response=process_response) as server:
            async with client_of(server) as client:
                assert client.agreed == ""
                (connection,) = server.connections
                assert connection.extensions is None
                connection.send("x" * 1000, compress=True)
                assert await client.frames() == [(TEXT, b"x" * 1000)]
                client.writer.write(frame(0xC1, b"\x00"))  # RSV1
                assert (await read_frame(client.reader))[1][:2] == b"\x03\xea"
            async with fastws.connect(f"ws://127.0.0.1:{port_of(server)}", compression="deflate") as ws:
                assert ws.extensions is None
                await exchange(ws)

    run(main)


def test_a_hook_that_leaves_the_header_in_leaves_compression_on(run):
    async def main():
        async with (
            serve(Back, compression=DEDICATED, process_response=lambda *_: None) as server,
            client_of(server) as client,
        ):
            assert client.agreed == "permessage-deflate"
            (connection,) = server.connections
            assert connection.extensions == client.agreed
            assert connection.response.headers["Sec-WebSocket-Extensions"] == client.agreed
            connection.send("x" * 1000)
            assert (await client.frames())[0][0] == 0xC1

    run(main)


# ---------------------------------------------------------------- fragments


@pytest.mark.parametrize("deflate", [SHARED, DEDICATED], ids=["shared", "dedicated"])
def test_messages_in_fragments_are_compressed_as_one(run, deflate):
    async def generated(items):
        for item in items:
            await asyncio.sleep(0)
            yield item

    async def handler(ws):
        for items in (["one, ", "", "é一", "😀"], ["", ""], [NOISE.hex()] * 3, ["x" * 100_000] * 2, ["end"]):
            await ws.send(items)
            await ws.send(iter(items))
            await ws.send(generated(items))
            await ws.send("".join(items))
        binary = [NOISE, NOISE, b"", NOISE * 30]
        await ws.send(binary)
        await ws.send(generated(binary), compress=False)
        await ws.send(NOISE)
        await ws.wait_closed()

    async def main():
        expected = []
        for text in ("one, é一😀", "", NOISE.hex() * 3, "x" * 200_000, "end"):
            expected += [text] * 4
        expected += [NOISE * 32] * 2 + [NOISE]
        async with serve(handler, compression=deflate) as server:
            async with client_of(server) as client:
                assert [await client.recv() for _ in expected] == expected
            async with opening(server) as client:
                assert [await client.recv() for _ in expected] == expected

    run(main)


@pytest.mark.parametrize("deflate", [SHARED, DEDICATED], ids=["shared", "dedicated"])
@pytest.mark.parametrize("how", ["send", "broadcast", "publish"])
def test_a_message_that_waits_for_the_end_of_fragments_is_right_and_so_are_those_after_it(run, how, deflate):
    # What is queued comes behind the fragments, and so it does in the peer's window.
    first, second, queued, last = (random.Random(i).randbytes(400) for i in range(4))
    begun, go = asyncio.Event(), asyncio.Event()

    async def fragments():
        yield first
        begun.set()
        await go.wait()
        yield second
        yield second[:200]

    async def handler(ws):
        ws.subscribe("topic")
        await ws.send(fragments())
        await ws.send(second)
        await ws.send(last + first)
        await ws.send(queued + second)
        await ws.wait_closed()

    async def main():
        async with serve(handler, compression=deflate) as server, client_of(server) as client:
            await begun.wait()
            (connection,) = server.connections
            message = queued + bytes(300)
            for _ in range(2):
                if how == "send":
                    connection.send(message)
                elif how == "broadcast":
                    fastws.broadcast([connection], message)
                else:
                    server.publish("topic", message)
            go.set()
            expected = [first + second + second[:200], message, message]
            expected += [second, last + first, queued + second]
            assert [await client.recv() for _ in expected] == expected

    run(main)


def test_recv_streaming_gives_content_of_compressed_fragments(run):
    seen = []

    async def handler(ws):
        seen.append([fragment async for fragment in ws.recv_streaming()])
        seen.append([fragment async for fragment in ws.recv_streaming()])
        await ws.send("end")

    async def main():
        async with serve(handler, compression=DEDICATED) as server, opening(server) as client:
            await client.send(["one, ", "é" * 300, "😀"])
            await client.send([NOISE, NOISE])
            assert await client.recv() == "end"
        assert "".join(seen[0]) == "one, " + "é" * 300 + "😀"
        assert len(seen[0]) > 1
        assert b"".join(seen[1]) == NOISE * 2

    run(main)


@pytest.mark.parametrize("deflate", [SHARED, DEDICATED], ids=["shared", "dedicated"])
def test_a_close_amid_compressed_fragments_is_1011(run, deflate):
    async def handler(ws):
        async def fragments():
            yield "one" * 100
            ws.close()
            yield "two"

        with contextlib.suppress(fastws.ConnectionClosed):
            await ws.send(fragments())

    async def main():
        async with serve(handler, compression=deflate) as server, client_of(server) as client:
            first, payload = await read_frame(client.reader)
            assert first == 0x41
            assert zlib.decompressobj(-15).decompress(payload) == b"one" * 100
            first, payload = await read_frame(client.reader)
            assert (first, payload[:2]) == (CLOSE, b"\x03\xf3")

    run(main)


def test_a_peer_that_closes_amid_its_compressed_fragments_is_answered(run):
    async def main():
        async with serve(Back, compression=DEDICATED) as server, client_of(server) as client:
            client.writer.write(frame(0x41, b"\xf2\x48\xcd") + frame(PING, b"?") + frame(CLOSE, b"\x03\xe8"))
            assert frames(await client.reader.read()) == [(0x8A, b"?"), (CLOSE, b"\x03\xe8")]
            await until(lambda: not server.connections)

    run(main)


# ---------------------------------------------------------------- ends amid input


@pytest.mark.parametrize("end", ["abort", "close", "drop"])
@pytest.mark.parametrize("amid", [False, True])
def test_a_handler_that_ends_its_connection_gets_nothing_of_what_came_with_it(run, end, amid):
    seen = []

    def stop(ws):
        if end == "abort":
            ws.abort()
        elif end == "close":
            ws.close()
        else:
            while ws.state is fastws.State.OPEN:
                ws.send(NOISE * 1000)  # far beyond write_cap

    class Handler(fastws.Handler):
        def on_message(self, ws, message):
            seen.append(message)
            if not amid:
                with contextlib.suppress(fastws.ConnectionClosed):
                    stop(ws)

        def on_ping(self, ws, _data):
            with contextlib.suppress(fastws.ConnectionClosed):
                stop(ws)

    async def main():
        async with (
            serve(Handler, compression=DEDICATED, write_cap=100_000) as server,
            client_of(server) as client,
        ):
            hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00"
            data = frame(0xC1, hello)
            if amid:
                data += frame(0x41, hello[:3]) + frame(PING, b"") + frame(0x80, hello[3:])
            client.writer.write(data + frame(0xC1, hello) * 5 + frame(0xC1, b"\xff" * 100))
            client.writer.write(frame(CLOSE, b"\x03\xe8"))
            with contextlib.suppress(ConnectionResetError):
                await client.reader.read()
            await until(lambda: not server.connections)
        assert seen == ["Hello"]

    run(main)


@pytest.mark.parametrize(("payload", "code"), [(b"\x06", 1007), (None, 1009)], ids=["corrupt", "bomb"])
def test_z1_z2_what_a_peer_compressed_wrongly_costs_it_its_connection_alone(run, payload, code):
    if payload is None:
        stream = zlib.compressobj(9, zlib.DEFLATED, -15)
        payload = stream.compress(bytes(20_000_000)) + stream.flush(zlib.Z_SYNC_FLUSH)

    async def main():
        async with (
            serve(Back, compression="deflate") as server,
            client_of(server) as good,
            client_of(server) as bad,
        ):
            bad.writer.write(frame(0xC2, payload))
            first, reason = await read_frame(bad.reader)
            assert (first, int.from_bytes(reason[:2], "big")) == (CLOSE, code)
            good.writer.write(frame(BINARY, b"x" * 500))
            assert await good.recv() == b"x" * 500

    run(main)


# ---------------------------------------------------------------- threads


@pytest.mark.parametrize("second", ["plain ASCII " * 30, b"binary" * 60], ids=["ascii", "binary"])
def test_a_message_sent_back_is_the_one_that_came_though_another_thread_inflates_meanwhile(second):
    # Each loop in a thread of its own; the first handler is interrupted before it sends.
    first = "é" * 200
    interrupted, inside, sent = threading.Event(), threading.Event(), threading.Event()
    found = []

    def on_first(ws, message):
        interrupted.set()
        inside.wait(LIMIT)
        ws.send(message)
        sent.set()

    def on_second(ws, message):
        inside.set()
        sent.wait(LIMIT)
        ws.send(message)

    async def visit(handler, message, wait):
        async with serve(on_message=handler, compression=SHARED) as server, opening(server) as client:
            await asyncio.get_running_loop().run_in_executor(None, wait)
            await client.send(message)
            found.append((message, await client.recv()))

    threads = [
        threading.Thread(target=asyncio.run, args=(visit(on_first, first, lambda: None),)),
        threading.Thread(
            target=asyncio.run, args=(visit(on_second, second, lambda: interrupted.wait(LIMIT)),)
        ),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert sorted(found, key=str) == sorted([(first, first), (second, second)], key=str)
