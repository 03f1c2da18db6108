"""Servers behind proxies: the PROXY protocol in front of all else, with and without TLS; header fields."""

import asyncio
import contextlib
import logging
import socket
import struct

import pytest
from certificates import ByHand, by_hand, client_context, server_context
from peers import HANDSHAKE, masked, raw, until
from wire import read_frame, serve

import fastws

pytestmark = pytest.mark.without_tls("what matters with it has parameters of its own")

LINE = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n"
BLOCK = (
    b"\r\n\r\n\x00\r\nQUIT\n"
    + struct.pack("!BBH", 0x21, 0x21, 36 + 5)
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
    + struct.pack("!HH", 4711, 443)
    + b"\x04\x00\x02no"
)
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", 0x20, 0, 0)
HEADERS = {
    LINE: ("192.0.2.1", 4711),
    BLOCK: ("2001:db8::1", 4711, 0, 0),
}


class Addresses(fastws.Handler):
    def on_message(self, ws, message):
        ws.send(f"{message} {ws.remote_address}")


def proxied(**options):
    return serve(Addresses, **{"trusted_proxies": ["127.0.0.1"], "address_from": "PROXY", **options})


async def answer(reader):
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    return (await read_frame(reader))[1].decode()


async def told(server, head):
    """Send what ends in a handshake, and a message; return the answer, and the address that it came from."""
    async with raw(server, head + masked(0x81, b"x")) as (reader, writer):
        return await answer(reader), writer.get_extra_info("sockname")


@pytest.mark.parametrize("header", HEADERS)
def test_the_address_in_the_header_is_the_clients(run, header):
    async def main():
        async with proxied() as server:
            said, _ = await told(server, header + HANDSHAKE)
            assert said == f"x {HEADERS[header]}"

    run(main)


@pytest.mark.parametrize("header", HEADERS)
def test_header_and_request_may_come_byte_by_byte(run, header):
    async def main():
        async with proxied() as server, raw(server, b"") as (reader, writer):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in header + HANDSHAKE[:20]:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            writer.write(HANDSHAKE[20:] + masked(0x81, b"hello"))
            assert await answer(reader) == f"hello {HEADERS[header]}"

    run(main)


def test_a_proxy_that_speaks_for_itself_has_its_own_address(run):
    async def main():
        async with proxied() as server:
            said, own = await told(server, LOCAL + HANDSHAKE)
            assert said == f"x {own}"

    run(main)


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("piece", [None, 7], ids=["whole", "in pieces"])
def test_the_header_comes_before_tls(run, header, piece):
    async def main():
        async with proxied(ssl=server_context()) as server, by_hand(server) as client:
            client.piece = piece
            await client.loop.sock_sendall(client.sock, header)
            await client.open()
            await client.send(masked(0x81, b"hello"))
            expected = f"hello {HEADERS[header]}".encode()
            assert await client.read(2 + len(expected)) == bytes([0x81, len(expected)]) + expected

    run(main)


def test_the_header_may_come_in_one_piece_with_the_beginning_of_tls(run):
    class Together(ByHand):
        async def leave(self):
            self.outgoing_data = self.outgoing.read()
            if self.outgoing_data:
                await self.loop.sock_sendall(self.sock, self.first + self.outgoing_data)
                self.first = b""

    async def main():
        async with proxied(ssl=server_context()) as server, by_hand(server) as client:
            together = Together(client.sock, client_context())
            together.first = BLOCK
            await together.open()
            await together.send(masked(0x81, b"hello"))
            expected = f"hello {HEADERS[BLOCK]}".encode()
            assert (await together.read(2 + len(expected)))[2:] == expected

    run(main)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "data", [HANDSHAKE, b"PROXY TCP4 a b c d\r\n" + HANDSHAKE, b"\x16\x03\x01\x00\x05hello"]
)
def test_a_trusted_proxy_without_a_valid_header_is_dropped_with_one_line(run, caplog, data, secure):
    async def main():
        options = {"ssl": server_context()} if secure else {}
        async with proxied(**options) as server, raw(server, data) as (reader, _):
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            assert server.connections == set()

    with caplog.at_level(logging.INFO, "fastws.server"):
        run(main)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "('127.0.0.1', " in caplog.messages[0] and " dropped: " in caplog.messages[0]


def test_somebody_else_is_taken_as_he_is_and_cannot_use_the_header(run):
    async def main():
        async with proxied(trusted_proxies=["192.0.2.77"]) as server:
            said, own = await told(server, HANDSHAKE)
            assert said == f"x {own}"
            async with raw(server, LINE + HANDSHAKE) as (reader, _):
                assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")

    run(main)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_header_that_does_not_come_costs_the_opening_timeout_and_no_more(run, secure):
    async def main():
        options = {"ssl": server_context()} if secure else {}
        async with proxied(open_timeout=0.1, **options) as server, raw(server, LINE[:9]) as (reader, _):
            assert await reader.read() == b""
            await until(lambda: server._settings.opening_count == 0)

    run(main)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_server_closes_while_a_header_is_awaited(run, secure):
    async def main():
        options = {"ssl": server_context()} if secure else {}
        async with proxied(**options) as server, raw(server, LINE[:9]) as (reader, _):
            await until(lambda: server._settings.opening_count == 1)
            server.close()
            await server.wait_closed()
            with contextlib.suppress(ConnectionResetError):  # what it sent may not have been read
                assert await reader.read() == b""

    run(main)


def test_hooks_and_get_extra_info_see_the_clients_address(run):
    seen = []

    def process_request(connection, request):
        seen.append((connection.remote_address, connection.get_extra_info("peername")))

    async def main():
        async with (
            proxied(process_request=process_request) as server,
            raw(server, LINE + HANDSHAKE) as (reader, _),
        ):
            await reader.readuntil(b"\r\n\r\n")

    run(main)
    assert seen == [(("192.0.2.1", 4711), ("192.0.2.1", 4711))]


@pytest.mark.parametrize(
    ("source", "field", "address"),
    [
        ("X-Forwarded-For", b"X-Forwarded-For: 1.1.1.1, 192.0.2.1", ("192.0.2.1", 0)),
        ("Forwarded", b'Forwarded: for="[2001:db8::1]:5"', ("2001:db8::1", 5, 0, 0)),
    ],
)
def test_a_field_of_a_trusted_proxy_gives_the_address(run, source, field, address):
    request = HANDSHAKE.replace(b"\r\nHost", b"\r\n" + field + b"\r\nHost", 1)

    async def main():
        async with proxied(address_from=source) as server:
            said, _ = await told(server, request)
            assert said == f"x {address}"
            said, own = await told(server, HANDSHAKE)
            assert said == f"x {own}"
        async with proxied(address_from=source, trusted_proxies=["192.0.2.7"]) as server:
            said, own = await told(server, request)
            assert said == f"x {own}"

    run(main)


def test_a_proxy_on_a_unix_socket_can_be_trusted(run, tmp_path):
    request = HANDSHAKE.replace(b"\r\nHost", b"\r\nX-Forwarded-For: 192.0.2.1\r\nHost", 1)

    async def main():
        path = str(tmp_path / "socket")
        async with fastws.unix_serve(Addresses, path, trusted_proxies=["unix"]):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(request + masked(0x81, b"x"))
            assert await answer(reader) == "x ('192.0.2.1', 0)"
            writer.close()
            await writer.wait_closed()

    run(main)


def test_many_headers_with_tls_do_not_hold_up_others(run):
    """As many handshakes as fit in a turn take place, and all in the end."""

    async def main():
        async with proxied(ssl=server_context()) as server:

            async def one():
                async with by_hand(server) as client:
                    await client.loop.sock_sendall(client.sock, LINE)
                    await client.open()

            await asyncio.gather(*(one() for _ in range(20)))

    run(main)
