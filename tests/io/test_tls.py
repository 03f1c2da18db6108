"""TLS on the server's side: messages, handshakes, certificates, reloading, on both event loops."""

import asyncio
import contextlib
import logging
import shutil
import ssl
from asyncio.subprocess import PIPE, STDOUT

import pytest
import websockets
from certificates import by_hand, certificate, client_context, server_context, uri_of
from peers import HANDSHAKE, Echo, masked, port_of, raw, until
from wire import BINARY, TEXT, frame, serve

import fastws

pytestmark = pytest.mark.without_tls("it is there already")

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def secure(handler=None, **options):
    return serve(handler, **{"ssl": server_context(), **options})


def connect(server, **options):
    """Connect with the `websockets` library."""
    return websockets.connect(
        uri_of(server), **{"ssl": client_context(), "max_size": None, "compression": None, **options}
    )


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("message", ["", "text", "é一😀" * 5000, b"x" * 16384, b"y" * 5_000_000], ids=len)
def test_a_message_is_echoed_as_what_it_was(run, message, version):
    async def main():
        async with (
            secure(Echo, max_size=None) as server,
            connect(server, ssl=client_context(version)) as client,
        ):
            await client.send(message)
            assert await client.recv() == message

    run(main)


def test_many_small_messages_come_in_order(run):
    async def main():
        async with secure(Echo) as server, connect(server, max_queue=None) as client:
            for i in range(5000):
                await client.send(str(i))
            for i in range(5000):
                assert await client.recv() == str(i)

    run(main)


def test_a_coroutine_handler_gets_and_sends(run):
    async def echo(ws):
        async for message in ws:
            await ws.send(message)

    async def main():
        async with secure(echo) as server, connect(server) as client:
            for size in (1, 100, 1_000_000):
                await client.send(b"z" * size)
                assert await client.recv() == b"z" * size

    run(main)


def test_topics_broadcast_and_compression_go_over_tls(run):
    def on_open(ws):
        ws.subscribe("news")

    async def main():
        async with (
            secure(on_open=on_open, compression="deflate") as server,
            connect(server, compression="deflate") as first,
            connect(server) as second,
        ):
            await until(lambda: len(server.presence("news")) == 2)
            server.publish("news", "a" * 3000)
            fastws.broadcast(server.connections, b"b" * 200_000)
            for client in (first, second):
                assert await client.recv() == "a" * 3000
                assert await client.recv() == b"b" * 200_000
        assert first.protocol.extensions and not second.protocol.extensions

    run(main)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_split_at_every_byte_handshakes_and_messages_are_the_same(run, version):
    async def main():
        async with secure(Echo) as server, by_hand(server, client_context(version)) as client:
            client.piece = 1
            await client.open()
            for size in (5, 3000):
                await client.send(frame(BINARY, b"m" * size))
                assert (await client.read(size + (2 if size < 126 else 4)))[-size:] == b"m" * size

    run(main)


def test_records_in_one_piece_are_all_taken(run):
    """Empty records, small and large ones, and half of one, as no split of a stream may matter."""

    async def main():
        async with secure(Echo) as server, by_hand(server) as client:
            await client.open()
            sizes = [1, 0, 20, 5000, 0, 70_000, 3, 4096, 16384, 2] * 3
            for size in sizes:
                client.tls.write(frame(TEXT, b"t" * size))
            data = client.outgoing.read()
            for start in range(0, len(data), 50_001):
                await client.loop.sock_sendall(client.sock, data[start : start + 50_001])
            answer = await client.read(
                sum(size + (2 if size < 126 else 4 if size < 65536 else 10) for size in sizes)
            )
            assert answer.count(b"t") == sum(sizes)

    run(main)


def test_a_frame_with_the_last_of_the_handshake_is_answered(run):
    async def main():
        async with secure(Echo) as server, by_hand(server) as client:
            # All in one piece: the client's Finished, the request, and a frame.
            kept, client.leave = client.leave, None

            async def nothing():
                if client.tls.version() is None:
                    await kept()

            client.leave = nothing
            await client.shake()
            client.tls.write(HANDSHAKE + masked(TEXT, b"hi"))
            client.leave = kept
            await client.leave()
            assert (await client.head()).startswith(b"HTTP/1.1 101 ")
            assert await client.read(4) == b"\x81\x02hi"

    run(main)


# ---------------------------------------------------------------- handshakes


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02", bytes.fromhex("160301003801000034")])
def test_a_handshake_that_does_not_end_is_dropped_at_its_deadline(run, data):
    async def main():
        async with secure(Echo, open_timeout=0.1) as server, raw(server, data) as (reader, _):
            assert await reader.read() == b""

    run(main)


def test_between_the_handshakes_the_same_deadline_counts(run):
    async def main():
        async with secure(Echo, open_timeout=0.2) as server, by_hand(server) as client:
            await client.shake()
            with pytest.raises((EOFError, ssl.SSLError)):
                await client.read(1)

    run(main)


@pytest.mark.parametrize(
    "data",
    [
        HANDSHAKE,
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(100),
        b"\xff" * 100,
        b"SSH-2.0-x\r\n",
        b"\x16\x03\x01\x00\x06hi\x00\x00\x02..",
    ],
    ids=["websocket", "http", "zeros", "ones", "ssh", "no-hello"],
)
def test_h42_what_is_no_tls_is_ended_with_one_line_in_the_log(run, caplog, data):
    caplog.set_level(logging.DEBUG, "fastws.server")

    async def main():
        async with secure(Echo) as server, raw(server, data) as (reader, writer):
            answer = await reader.read()
            # An alert, or nothing.
            assert answer == b"" or answer[0] == 21
            # The peer's end is waited for: a RST could overtake the alert.
            writer.close()
            async with connect(server) as good:
                await good.send("x")
                assert await good.recv() == "x"

    run(main)
    [record] = [record for record in caplog.records if "TLS" in record.getMessage()]
    assert record.levelno == logging.DEBUG and record.exc_info is None
    assert "127.0.0.1" in record.getMessage() and "TLS handshake failed: " in record.getMessage()


def test_h41_a_tls_client_of_a_plain_port_gets_an_error(run):
    async def main():
        async with serve(Echo) as server:
            with pytest.raises(ssl.SSLError):
                await connect(server)
            with pytest.raises(ssl.SSLError):
                await fastws.connect(uri_of(server), ssl=client_context())

    run(main)


def test_a_burst_of_handshakes_leaves_others_their_turns(run):
    async def main():
        async with secure(Echo) as server, connect(server) as client:
            opening = [
                asyncio.ensure_future(fastws.connect(uri_of(server), ssl=client_context())._connect())
                for _ in range(200)
            ]
            # Echoes while they go on; 200 handshakes take longer than one echo.
            echoes = 0
            while not all(one.done() for one in opening):
                await client.send("x")
                assert await client.recv() == "x"
                echoes += 1
            assert echoes > 5
            for one in opening:
                ws = one.result()
                await ws.send("y")
                assert await ws.recv() == "y"
                await ws.close()

    run(main)


def test_too_many_are_closed_without_the_cost_of_an_answer(run):
    async def main():
        async with secure(Echo, max_connections=1) as server, connect(server) as client:
            async with raw(server, b"") as (reader, _):
                assert await reader.read() == b""
            await client.send("x")
            assert await client.recv() == "x"

    run(main)


def test_a_server_that_closes_ends_handshakes_under_way(run):
    async def main():
        async with secure(Echo) as server, raw(server, b"\x16\x03\x01\x02") as (reader, _):
            await until(lambda: server._settings.opening_count)
            server.close()
            await server.wait_closed()
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""

    run(main)


# ---------------------------------------------------------------- certificates


def test_a_client_s_certificate_reaches_the_handler(run):
    found = {}

    def on_open(ws):
        for name in ("peercert", "cipher", "compression", "ssl_object", "sslcontext", "peername", "other"):
            found[name] = ws.get_extra_info(name, "default")

    async def main():
        context = server_context(clients=True)
        async with secure(on_open=on_open, ssl=context) as server:
            mine = client_context()
            certificate("client.example").configure_cert(mine)
            async with connect(server, ssl=mine):
                await until(lambda: found)
        assert ("DNS", "client.example") in found["peercert"]["subjectAltName"]
        assert isinstance(found["ssl_object"], ssl.SSLObject)
        assert found["sslcontext"] is context
        assert len(found["cipher"]) == 3
        assert found["peername"][0] == "127.0.0.1"
        assert found["compression"] == found["other"] == "default"

    run(main)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_a_client_without_the_certificate_that_is_asked_for_does_not_get_in(run, version):
    opened = []

    async def main():
        async with secure(on_open=opened.append, ssl=server_context(clients=True)) as server:
            with pytest.raises((ssl.SSLError, websockets.InvalidMessage)):
                await connect(server, ssl=client_context(version))
            with pytest.raises(ssl.SSLError):
                await fastws.connect(uri_of(server), ssl=client_context(version))
        assert not opened

    run(main)


def test_without_tls_there_is_nothing_to_know_of_it(run):
    found = []

    async def main():
        async with (
            serve(on_open=lambda ws: found.append(ws.get_extra_info("ssl_object", 5))) as server,
            websockets.connect(f"ws://127.0.0.1:{port_of(server)}"),
        ):
            await until(lambda: found)
        assert found == [5]

    run(main)


def test_reload_is_for_connections_to_come(run):
    async def main():
        async with secure(Echo) as server, connect(server) as old:
            first = old.transport.get_extra_info("peercert")["serialNumber"]
            server.reload_tls(server_context("localhost", "other.example"))
            async with connect(server) as new:
                assert new.transport.get_extra_info("peercert")["serialNumber"] != first
            await old.send("x")
            assert await old.recv() == "x"
            for wrong, kind in ((ssl.create_default_context(), ssl.SSLError), ("a", TypeError)):
                with pytest.raises(kind):
                    server.reload_tls(wrong)
            async with connect(server):
                pass
        async with serve(Echo) as server:
            with pytest.raises(ValueError, match="without TLS"):
                server.reload_tls(server_context())

    run(main)


def test_the_name_asked_for_reaches_the_context(run):
    asked = []

    async def main():
        context = server_context()
        context.sni_callback = lambda ssl_object, name, _context: asked.append(name)
        async with secure(Echo, ssl=context) as server, connect(server):
            pass
        assert asked == ["localhost"]

    run(main)


def test_what_a_name_callback_raises_ends_its_connection_only(run, caplog):
    async def main():
        context = server_context()
        context.sni_callback = lambda *_: 80 if asked.pop() else None
        asked = [False, True]
        async with secure(Echo, ssl=context) as server:
            with pytest.raises(ssl.SSLError):
                await connect(server)
            async with connect(server) as client:
                await client.send("x")
                assert await client.recv() == "x"

    run(main)


@pytest.mark.parametrize(
    ("value", "kind"), [(True, TypeError), ("c.pem", TypeError), (client_context(), ssl.SSLError)]
)
def test_a_context_that_serves_nobody_is_told_at_once(value, kind):
    with pytest.raises(kind):
        fastws.serve(Echo, ssl=value)


# ---------------------------------------------------------------- post-handshake messages


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")
@pytest.mark.parametrize(
    ("version", "command"), [("-tls1_3", b"K\n"), ("-tls1_3", b"k\n"), ("-tls1_2", b"R\n")]
)
def test_key_updates_are_answered_and_renegotiation_is_not(run, version, command):
    async def main():
        async with secure(Echo) as server:
            client = await asyncio.create_subprocess_exec(
                "openssl", "s_client", version, "-connect", f"127.0.0.1:{port_of(server)}",
                stdin=PIPE, stdout=PIPE, stderr=STDOUT,
            )  # fmt: skip
            try:
                client.stdin.write(HANDSHAKE)
                await client.stdout.readuntil(b"HTTP/1.1 101 ")
                client.stdin.write(masked(TEXT, b"before"))
                await client.stdout.readuntil(b"\x81\x06before")
                client.stdin.write(command)
                if command == b"R\n":
                    await client.wait()
                else:
                    # The next one is read as a command too, were it one.
                    await client.stdout.readuntil(b"KEYUPDATE")
                    client.stdin.write(masked(TEXT, b"after"))
                    await client.stdout.readuntil(b"\x81\x05after")
            finally:
                if client.returncode is None:
                    client.kill()
                client.stdin.close()
                await client.wait()
            async with connect(server) as good:
                await good.send("x")
                assert await good.recv() == "x"

    run(main)
