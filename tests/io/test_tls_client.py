"""TLS on the client's side, and how TLS connections end, on both event loops."""

import asyncio
import contextlib
import logging
import socket
import ssl

import pytest
import websockets
from certificates import authority, by_hand, client_context, server_context, uri_of
from peers import Echo, echo, masked, port_of, until
from wire import CLOSE, PING, TEXT, deaf, reset, serve

import fastws
from fastws.tls import default_context

pytestmark = [
    pytest.mark.usefixtures("no_proxies"),
    pytest.mark.without_tls("it is there already"),
]


def secure(handler=None, **options):
    return serve(handler, **{"ssl": server_context(), **options})


def connect(server, **options):
    return fastws.connect(uri_of(server), **{"ssl": client_context(), "max_size": None, **options})


# ---------------------------------------------------------------- connecting


@pytest.mark.parametrize("message", ["", "é一😀" * 5000, b"y" * 3_000_000], ids=len)
def test_a_message_comes_back_from_websockets_and_from_fastws(run, message):
    async def main():
        async with (
            websockets.serve(echo, "127.0.0.1", 0, ssl=server_context(), max_size=None) as theirs,
            secure(Echo, max_size=None) as ours,
        ):
            for server in (theirs, ours):
                async with connect(server) as ws:
                    await ws.send(message)
                    assert await ws.recv() == message
                assert ws.close_code == 1000

    run(main)


def test_compressed_messages_come_back(run):
    async def main():
        async with (
            secure(Echo, compression="deflate") as server,
            connect(server, compression="deflate") as ws,
        ):
            await ws.send("a" * 100_000)
            assert await ws.recv() == "a" * 100_000
            assert ws.extensions

    run(main)


def test_http_1_1_is_offered_and_the_certificate_known(run, monkeypatch, tmp_path):
    pem = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))

    async def main():
        context = server_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        async with secure(Echo, ssl=context) as server:
            # Without a context: the system's certificates, which are ours alone here.
            for value in (None, True):
                async with fastws.connect(uri_of(server), ssl=value) as ws:
                    assert ws.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
                    assert ("DNS", "localhost") in ws.get_extra_info("peercert")["subjectAltName"]
                    assert ws.get_extra_info("sslcontext").check_hostname

    run(main)
    default_context.cache_clear()


def test_a_server_that_nobody_vouches_for_is_refused(run):
    async def main():
        async with secure(Echo) as server:
            with pytest.raises(ssl.SSLCertVerificationError):
                await fastws.connect(uri_of(server))
            with pytest.raises(ssl.SSLCertVerificationError, match="elsewhere"):
                await connect(server, server_hostname="elsewhere")
            await until(lambda: not server._settings.opening_count)

    run(main)


def test_another_name_can_be_asked_for(run):
    async def main():
        async with secure(Echo, ssl=server_context("elsewhere")) as server:
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(server)
            async with connect(server, server_hostname="elsewhere") as ws:
                await ws.send("x")
                assert await ws.recv() == "x"

    run(main)


def test_an_address_is_verified_too(run):
    async def main():
        async with (
            secure(Echo) as server,
            fastws.connect(f"wss://127.0.0.1:{port_of(server)}", ssl=client_context()) as ws,
        ):
            await ws.send("x")
            assert await ws.recv() == "x"

    run(main)


def test_over_a_unix_socket_it_is_the_same(run, tmp_path):
    path = str(tmp_path / "s")

    async def main():
        async with (
            fastws.unix_serve(Echo, path, ssl=server_context()),
            fastws.unix_connect(path, "wss://localhost/", ssl=client_context()) as first,
            fastws.unix_connect(path, ssl=client_context()) as second,
        ):
            for ws in (first, second):
                await ws.send("x")
                assert await ws.recv() == "x"

    run(main)


def test_through_a_proxy_the_handshake_is_the_server_s(run):
    asked = []

    async def pump(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
            writer.write_eof()

    async def proxy(reader, writer):
        asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
        host, _, port = asked[0].rpartition(":")
        behind, to_server = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pump(reader, to_server), pump(behind, writer))
        for one in (writer, to_server):
            one.close()
            with contextlib.suppress(OSError):
                await one.wait_closed()

    async def main():
        async with secure(Echo) as server:
            between = await asyncio.start_server(proxy, "127.0.0.1", 0)
            async with between, connect(server, proxy=f"http://127.0.0.1:{port_of(between)}") as ws:
                await ws.send("x")
                assert await ws.recv() == "x"
            assert asked == [f"localhost:{port_of(server)}"]

    run(main)


def test_redirects_lead_to_tls_and_not_away_from_it(run, monkeypatch, tmp_path):
    pem = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))

    def to(where):
        def process_request(ws, request):
            response = ws.respond(302, "")
            response.headers["Location"] = where()
            return response

        return process_request

    async def main():
        async with (
            secure(Echo) as target,
            serve(Echo, process_request=to(lambda: uri_of(target))) as plain,
            secure(Echo, process_request=to(lambda: f"ws://127.0.0.1:{port_of(plain)}")) as away,
        ):
            async with fastws.connect(f"ws://127.0.0.1:{port_of(plain)}") as ws:
                assert ws.get_extra_info("cipher")
            with pytest.raises(fastws.SecurityError):
                await connect(away)

    run(main)
    default_context.cache_clear()


@pytest.mark.parametrize(
    ("uri", "options", "kind"),
    [
        ("ws://a", {"ssl": True}, ValueError),
        ("ws://a", {"server_hostname": "b"}, ValueError),
        ("wss://a", {"ssl": "b"}, TypeError),
        ("wss://a", {"ssl": False}, TypeError),
    ],
)
def test_bad_arguments_are_told_at_once(uri, options, kind):
    with pytest.raises(kind):
        fastws.connect(uri, **options)


def test_a_context_of_a_server_s_is_refused_and_leaves_no_descriptor(run):
    async def main():
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            with pytest.raises(ssl.SSLError):
                await connect(server, ssl=server_context())

    run(main)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(50), b""], ids=["http", "zeros", "end"]
)
def test_a_server_without_tls_is_told(run, answer):
    async def main():
        async def accept(reader, writer):
            await reader.read(1)
            writer.write(answer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        async with server:
            with pytest.raises((OSError, fastws.InvalidMessage)):
                await connect(server)

    run(main)


def test_a_handshake_that_does_not_end_times_out_and_can_be_cancelled(run):
    async def main():
        begun = asyncio.Event()

        async def accept(reader, writer):
            with contextlib.suppress(OSError):
                await reader.read(1)
                begun.set()
                await reader.read()
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        async with server:
            with pytest.raises(TimeoutError):
                await connect(server, open_timeout=0.1)
            begun.clear()
            task = asyncio.ensure_future(connect(server)._connect())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main)


# ---------------------------------------------------------------- ends


class Noted(Echo):
    def __init__(self):
        self.log = []


async def greet(client):
    """Open a connection, and have a message echoed."""
    await client.open()
    await client.send(masked(TEXT, b"hi"))
    assert await client.read(4) == b"\x81\x02hi"


def test_close_notify_follows_the_last_frame(run):
    async def main():
        async with secure(Echo) as server, by_hand(server) as client:
            await client.open()
            await client.send(masked(CLOSE, b"\x03\xe8"))
            assert await client.read(4) == b"\x88\x02\x03\xe8"
            # A TCP connection that ends without it is an error to ssl.
            assert await client.until(client.tls.read, 1) == b""

    run(main)


def test_a_close_notify_of_the_peer_s_is_its_end(run):
    handler = Noted()

    async def main():
        async with secure(handler) as server, by_hand(server) as client:
            await greet(client)
            # It waits for ours, and the TCP connection stays.
            await client.until(client.tls.unwrap)
            await until(lambda: len(handler.log) == 2)
        assert handler.log == ["open", ("close", 1006, "")]

    run(main)


def test_messages_before_a_close_notify_are_delivered_though_they_have_to_wait(run):
    got = []

    async def slow(ws):
        ws.pause_reading()
        await paused.wait()
        ws.resume_reading()
        with pytest.raises(fastws.ConnectionClosedError):
            while True:
                got.append(await ws.recv())
        got.append(ws.close_code)

    async def main():
        nonlocal paused
        paused = asyncio.Event()
        async with secure(slow) as server, by_hand(server) as client:
            await client.open()
            for i in range(40):
                client.tls.write(masked(TEXT, b"%d" % i))
            with contextlib.suppress(ssl.SSLWantReadError):
                client.tls.unwrap()
            await client.leave()
            paused.set()
            await until(lambda: len(got) == 41)
        assert got == [*map(str, range(40)), 1006]

    paused = None
    run(main)


@pytest.mark.parametrize("rst", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("part", [0, 3, 10], ids=["between records", "in a header", "in a record"])
def test_an_end_without_close_notify_is_an_end(run, part, rst):
    handler = Noted()

    async def main():
        async with secure(handler) as server, by_hand(server) as client:
            await client.open()
            client.tls.write(masked(TEXT, b"hi"))
            await client.loop.sock_sendall(client.sock, client.outgoing.read()[:part])
            if rst:
                reset(client.sock)
            else:
                client.sock.shutdown(socket.SHUT_WR)
            await until(lambda: len(handler.log) == 2)
        assert handler.log == ["open", ("close", 1006, "")]

    run(main)


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x80zero",
        bytes(100),
        b"\xff" * 100,
        b"\x17\x03\x03\xff\xff",
        b"\x17\x03\x03\x00\x20" + b"x" * 32,
    ],
    ids=["frame", "zeros", "ones", "too long", "not ours"],
)
def test_garbage_instead_of_a_record_ends_its_connection_only(run, caplog, data):
    caplog.set_level(logging.DEBUG, "fastws.server")
    handler = Noted()

    async def main():
        async with secure(handler) as server, by_hand(server) as client:
            await greet(client)
            await client.loop.sock_sendall(client.sock, data)
            with pytest.raises(ssl.SSLError):
                while await client.until(client.tls.read, 1):
                    pass
            await until(lambda: len(handler.log) == 2)
            async with connect(server) as good:
                await good.send("x")
                assert await good.recv() == "x"

    run(main)
    assert handler.log[:2] == ["open", ("close", 1006, "")]
    [record] = [record for record in caplog.records if "TLS failed: " in record.getMessage()]
    assert record.levelno == logging.DEBUG and record.exc_info is None


def test_a_server_that_closes_says_so_to_tls_clients(run):
    async def main():
        async with secure(Echo) as server:
            ws = await connect(server)
            async with websockets.connect(uri_of(server), ssl=client_context()) as theirs:
                server.close()
                for one in (ws, theirs):
                    with pytest.raises((fastws.ConnectionClosed, websockets.ConnectionClosed)):
                        await one.recv()
                    assert one.close_code == 1001
                await server.wait_closed()

    run(main)


def test_abort_tells_the_client_1006(run):
    async def main():
        async with secure(on_message=lambda ws, message: ws.abort()) as server, connect(server) as ws:
            await ws.send("x")
            with pytest.raises(fastws.ConnectionClosed):
                await ws.recv()
            assert ws.close_code == 1006

    run(main)


def test_a_client_ends_when_the_server_only_says_close_notify(run):
    """As asyncio's servers do, which wait for ours before they end the TCP connection."""

    async def main():
        async with websockets.serve(echo, "127.0.0.1", 0, ssl=server_context()) as server:
            ws = await connect(server, close_timeout=None)
            await ws.close()
            await ws.wait_closed()
            assert ws.close_code == 1000

    run(main)


def test_plain_connections_are_beside_encrypted_ones(run):
    async def main():
        async with secure(Echo) as server, serve(Echo) as plain, connect(server) as ws, deaf(plain) as peer:
            await asyncio.get_running_loop().sock_sendall(peer, masked(PING, b"a"))
            await ws.send("x")
            assert await ws.recv() == "x"
            assert await asyncio.get_running_loop().sock_recv(peer, 10) == b"\x8a\x01a"

    run(main)
