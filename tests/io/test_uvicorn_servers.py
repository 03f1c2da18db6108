"""uvicorn with `fastws.uvicorn`: frameworks, its settings, TLS, several processes, and its shutdown."""

import asyncio
import contextlib
import gc
import json
import os
import re
import ssl
import zlib

import pytest
import websockets
from peers import HANDSHAKE, masked
from uvicorn_process import OURS, SANSIO, accepted, bounded, uvicorn

import fastws

for module in ("uvicorn", "starlette", "fastapi", "trustme"):
    pytest.importorskip(module)

IMPLEMENTATIONS = {"fastws": OURS, "sansio": SANSIO}
LOOPS = {
    "asyncio-h11": ("--loop", "asyncio", "--http", "h11"),
    "uvloop-httptools": ("--loop", "uvloop", "--http", "httptools"),
}
DEFLATE = b"13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"


# ---------------------------------------------------------------- frameworks


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def starlette(request):
    with uvicorn("asgi_frameworks:starlette", ws=IMPLEMENTATIONS[request.param]) as server:
        yield server


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def fastapi(request):
    with uvicorn("asgi_frameworks:fastapi", ws=IMPLEMENTATIONS[request.param]) as server:
        yield server


def test_an_endpoint_of_starlette_echoes_and_learns_the_code(starlette):
    async def main():
        async with websockets.connect(starlette.uri("/echo", "s1")) as client:
            await client.send("é")
            assert await client.recv() == "é"
            await client.close(4002)
        assert (await starlette.note("s1"))["code"] == 4002

    bounded(main())


def test_iterating_in_starlette_ends_when_the_peer_closes(starlette):
    async def main():
        async with websockets.connect(starlette.uri("/iterate", "s2"), subprotocols=["chat"]) as client:
            assert client.subprotocol == "chat"
            for i in range(100):
                await client.send(str(i))
                assert json.loads(await client.recv()) == [i]
        assert await starlette.note("s2")

    bounded(main())


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [("/deny", 418, b'{"why":"no"}'), ("/refuse", 403, b""), ("/nothing", 403, b"")],
)
def test_starlette_denies_and_refuses(starlette, path, status, body):
    async def main():
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with websockets.connect(starlette.uri(path)):
                pass
        response = caught.value.response
        assert (response.status_code, response.body or b"") == (status, body)

    bounded(main())


def test_starlette_tells_a_sender_that_its_peer_has_left(starlette):
    if starlette.ws == SANSIO:
        pytest.skip("there such a sender never lets the event loop run, and so is told nothing")

    async def main():
        async with starlette.opened("/send_to_nobody", "s3") as (reader, writer):
            writer.write(masked(0x81, b"go"))
            await reader.readexactly(100)
            writer.transport.abort()
        assert (await starlette.note("s3"))["code"] == 1006

    bounded(main())


def test_fastapi_has_parameters_dependencies_and_disconnects(fastapi):
    async def main():
        uri = fastapi.uri("/items/7", "q=5")
        async with websockets.connect(uri, additional_headers={"Cookie": "session=me"}) as client:
            await client.send("hi")
            assert json.loads(await client.recv()) == {"item": 7, "who": "me/5", "text": "hi"}
            await client.close(4003, "why")
        noted = await fastapi.note("q=5")
        assert (noted["code"], noted["reason"]) == (4003, "why")

    bounded(main())


@pytest.mark.parametrize("path", ["/items/7", "/items/seven"], ids=["exception", "not-valid"])
def test_fastapi_refuses_what_its_dependencies_do(fastapi, path):
    async def main():
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with websockets.connect(fastapi.uri(path)):
                pass
        assert caught.value.response.status_code == 403

    bounded(main())


# ---------------------------------------------------------------- where it runs


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    import trustme

    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    return folder


# Python 3.10 warns of clients' transports that the peer has closed, when they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("loop", LOOPS)
def test_tls(certificate, loop):
    async def main(server):
        context = ssl.create_default_context(cafile=certificate / "ca.pem")
        async with websockets.connect(server.uri("/scope", scheme="wss"), ssl=context) as client:
            assert json.loads(await client.recv())["scheme"] == "wss"
        async with websockets.connect(
            server.uri("/echo", "t1", "wss"), ssl=context, max_size=None, compression=None
        ) as client:
            for message in "x", b"y" * 3_000_000:
                await client.send(message)
                assert await client.recv() == message
        assert (await server.note("t1"))["end"]["code"] == 1000
        # No frame, nor the end of TLS.
        async with server.opened("/echo", "t2", ssl=context) as (reader, writer):
            writer.transport.abort()
        assert (await server.note("t2"))["end"]["code"] == 1006
        # A peer that answers nothing: the end comes all the same.
        async with server.opened("/close", ssl=context) as (reader, _):
            assert (await reader.readexactly(7))[4:] == b"bye"
            server.stop()
            assert await reader.read() == b""
        await server.ended()

    files = ("--ssl-keyfile", str(certificate / "key.pem"), "--ssl-certfile", str(certificate / "cert.pem"))
    with uvicorn("asgi_apps:bare", *LOOPS[loop], *files) as server:
        bounded(main(server))
    gc.collect()


def test_two_processes_serve_on_one_port():
    async def main(server):
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(websockets.connect(server.uri("/echo", f"w{i}")))
                for i in range(8)
            ]
            for client in clients:
                await client.send("x")
                assert await client.recv() == "x"
            server.stop()
            for client in clients:
                with pytest.raises(websockets.ConnectionClosed):
                    await client.recv()
                assert client.close_code == 1012
            assert await server.ended() == 0
        for i in range(8):
            assert server.notes(f"w{i}")[0]["end"]["code"] == 1012

    with uvicorn("asgi_apps:bare", *LOOPS["uvloop-httptools"], workers=2) as server:
        bounded(main(server))


@pytest.mark.parametrize("loop", LOOPS)
def test_unix_socket(tmp_path, loop):
    async def main(server):
        async with websockets.unix_connect(str(tmp_path / "s"), "ws://localhost/scope") as client:
            scope = json.loads(await client.recv())
        assert scope["client"] is None
        assert scope["server"] == [str(tmp_path / "s"), None]

    with uvicorn("asgi_apps:bare", *LOOPS[loop], "--uds", str(tmp_path / "s")) as server:
        bounded(main(server))


# ---------------------------------------------------------------- shutdown


@pytest.mark.parametrize("loop", LOOPS)
def test_shutdown_closes_with_1012_and_tells_the_application(loop):
    async def main(server):
        async with (
            websockets.connect(server.uri("/echo", "d1")) as client,
            server.raw("/echo", "d2") as (deaf, _),
            server.raw("/wait_before_accept", "d3") as (early, _),
        ):
            await accepted(deaf)
            await server.note("d3")
            server.stop()
            with pytest.raises(websockets.ConnectionClosed):
                await client.recv()
            assert client.close_code == 1012
            # Before it was accepted it is an error of the server's.
            assert (await early.read()).startswith(b"HTTP/1.1 500 ")
            # Who answers no Close is waited for, but not for long.
            assert await deaf.read() == b"\x88\x02\x03\xf4"
            assert await server.ended() in (0, -15)
        for name in "d1", "d2":
            assert server.notes(name)[0]["end"] == {
                "type": "websocket.disconnect",
                "code": 1012,
                "reason": "",
            }
        assert server.notes("d3")[1]["end"]["code"] == 1006
        assert server.notes("d3")[1]["error"][:2] == ["ClientDisconnected", True]
        assert "Exception" not in server.output()
        assert "Finished server process" in server.output()

    with uvicorn("asgi_apps:bare", *LOOPS[loop]) as server:
        bounded(main(server))


def test_shutdown_with_nobody_there_ends_at_once():
    async def main(server):
        async with websockets.connect(server.uri("/echo", "e1")):
            pass
        await server.note("e1")
        server.stop()
        await server.ended()
        assert "Waiting for connections" not in server.output()

    with uvicorn("asgi_apps:bare") as server:
        bounded(main(server))


def test_shutdown_cancels_an_application_that_does_not_end():
    async def main(server):
        async with server.raw("/wait_then_accept", "f1") as (reader, _):
            await server.note("f1")
            server.stop()
            assert (await reader.read()).startswith(b"HTTP/1.1 500 ")
            await server.ended()
        assert "Cancel 1 running task(s), timeout graceful shutdown exceeded" in server.output()

    with uvicorn("asgi_apps:bare", "--timeout-graceful-shutdown", "1") as server:
        bounded(main(server))


# ---------------------------------------------------------------- settings


def test_ws_max_size_ends_a_larger_message_with_1009():
    async def main(server):
        async with websockets.connect(server.uri("/echo", "m1")) as client:
            await client.send("x" * 1000)
            assert await client.recv() == "x" * 1000
            # What it inflates to counts.
            await client.send("x" * 1001)
            with pytest.raises(websockets.ConnectionClosed):
                await client.recv()
            assert client.close_code == 1009
        assert (await server.note("m1"))["end"]["code"] == 1009

    with uvicorn("asgi_apps:bare", "--ws-max-size", "1000") as server:
        bounded(main(server))


def test_ws_max_queue_bounds_what_waits_for_the_application():
    async def main(server):
        async with server.opened("/listen_late", "q1") as (reader, writer):
            # More than the kernel takes: with a queue without a bound all of it would be read.
            piece = b"\x82\xff" + (1 << 20).to_bytes(8, "big") + bytes(4 + (1 << 20))
            for _ in range(40):
                writer.write(piece)
            size = writer.transport.get_write_buffer_size
            last, same = size(), 0
            while same < 30:
                await asyncio.sleep(0.01)
                last, same = size(), same + 1 if size() == last else 0
            assert last > 20 << 20
            writer.write(masked(0x81, b"end"))
            await server.get("/go", "q1")
            assert (await reader.readexactly(10))[2:] == str(40 << 20).encode()

    with uvicorn("asgi_apps:bare", "--ws-max-queue", "2") as server:
        bounded(main(server))


def test_pings_are_sent_and_who_answers_none_is_dropped():
    async def main(server):
        async with websockets.connect(server.uri("/echo", "p1")) as client:
            async with server.opened("/echo", "p2") as (reader, _):
                assert (await reader.readexactly(6))[:2] == b"\x89\x04"
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            assert (await server.note("p2"))["end"]["code"] == 1006
            assert "Traceback" not in server.output()
            # This one has answered.
            await client.send("x")
            assert await client.recv() == "x"

    with uvicorn("asgi_apps:bare", "--ws-ping-interval", "0.1", "--ws-ping-timeout", "0.2") as server:
        bounded(main(server))


def test_messages_are_compressed_with_a_shared_compressor():
    text = "compressible " * 1000

    async def main(server):
        async with server.raw("/compressible", data=HANDSHAKE.replace(b"13\r\n", DEFLATE)) as (
            reader,
            writer,
        ):
            extensions = re.search(rb"(?i)sec-websocket-extensions: (.*)\r\n", await accepted(reader))[1]
            assert extensions == (
                b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            )
            deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
            packed = deflate.compress(text.encode()) + deflate.flush(zlib.Z_SYNC_FLUSH)
            writer.write(masked(0xC1, packed[:-4]))
            first, size = await reader.readexactly(2)
            assert first == 0xC1
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2), "big")
            data = await reader.readexactly(size) + b"\x00\x00\xff\xff"
            assert zlib.decompressobj(-15).decompress(data).decode() == text
            assert size < len(text) // 10
        async with fastws.connect(server.uri("/compressible"), compression="deflate") as ws:
            await ws.send(text)
            assert await ws.recv() == text

    with uvicorn("asgi_apps:bare") as server:
        bounded(main(server))


def test_settings_of_compression_paths_and_headers():
    async def main(server):
        forwarded = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"}
        async with websockets.connect(server.uri("/sub%20path"), additional_headers=forwarded) as client:
            assert client.protocol.extensions == []
            scope = json.loads(await client.recv())
            assert "server" not in client.response.headers
            assert client.response.headers["x-own"] == "1"
        assert scope["root_path"] == "/root"
        assert scope["path"] == "/root/sub path"
        assert scope["raw_path"] == "/root/sub%20path"
        # As its proxy says, which uvicorn's middleware believes.
        assert scope["client"] == ["192.0.2.7", 0]
        assert scope["scheme"] == "wss"

    options = ("--ws-per-message-deflate", "false", "--root-path", "/root", "--no-server-header")
    with uvicorn("asgi_apps:bare", *options, "--header", "x-own:1") as server:
        bounded(main(server))


def test_no_date_header_leaves_it_out_but_for_that_of_the_application():
    async def main(server):
        wrong = HANDSHAKE.replace(b"Version: 13", b"Version: 12")
        for path, data, status in (
            ("/echo", HANDSHAKE, 101),
            ("/deny", HANDSHAKE, 401),
            ("/refuse", HANDSHAKE, 403),
            ("/echo", wrong, 426),
            ("/raise_before", HANDSHAKE, 500),
        ):
            async with server.raw(path, data=data) as (reader, _):
                head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"\r\ndate:" not in head.lower()
            assert b"\r\nserver: uvicorn\r\n" in head.lower()
        async with server.raw("/dated") as (reader, _):
            assert (await accepted(reader)).lower().count(b"\r\ndate: today\r\n") == 1

    with uvicorn("asgi_apps:bare", "--no-date-header") as server:
        bounded(main(server))


def test_memory_does_not_grow_with_connections_that_have_ended():
    async def main(server):
        async def many():
            for _ in range(300):
                async with server.opened("/echo") as (reader, writer):
                    writer.write(masked(0x82, bytes(100)) + masked(0x88, b""))
                    await reader.read()
            return resident(server.process.pid)

        await many()
        before = await many()
        assert await many() - before < 1 << 20

    with uvicorn("asgi_apps:bare") as server:
        bounded(main(server))


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_log_at_level_trace_says_how_connections_begin_and_end():
    async def main(server):
        async with websockets.connect(server.uri("/echo")) as client:
            address = "{}:{}".format(*client.local_address)
        await server.wait_for(f"TRACE: +{address} - WebSocket connection made\n")
        await server.wait_for(f"TRACE: +{address} - WebSocket connection lost\n")

    with uvicorn("asgi_apps:bare", "--log-level", "trace") as server:
        bounded(main(server))
