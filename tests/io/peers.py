"""What tests on real sockets share: an echo handler, and peers that say just what a test wants said."""

import asyncio
import contextlib
import os

import pytest
import websockets

import fastws

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# Seconds for a test that should take milliseconds; the sanitizers need more.
LIMIT = float(os.environ.get("TEST_LIMIT", "20"))


def masked(first, payload):
    """Return a frame from a client, with a mask of zeros."""
    assert len(payload) < 126
    return bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload


class Echo(fastws.Handler):
    """Echoes; with a list as `log`, notes how its connections open and close."""

    log = None

    def on_open(self, ws):
        if self.log is not None:
            self.log.append("open")

    def on_message(self, ws, message):
        ws.send(message)

    def on_close(self, ws, code, reason):
        if self.log is not None:
            self.log.append(("close", code, reason))


async def echo(ws):
    async for message in ws:
        await ws.send(message)


def port_of(server):
    return server.sockets[0].getsockname()[1]


def uri(server):
    return f"ws://127.0.0.1:{port_of(server)}"


@contextlib.asynccontextmanager
async def served(handler, **options):
    """Give a server and a real client of it."""
    async with (
        fastws.serve(handler, "127.0.0.1", 0, **options) as server,
        websockets.connect(uri(server), compression=None, max_size=None) as client,
    ):
        yield server, client


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


def raw(server, data=HANDSHAKE):
    """Connect a plain TCP client that has sent `data`."""
    return raw_to(port_of(server), data)


@contextlib.asynccontextmanager
async def raw_to(port, data, **options):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    writer.write(data)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def half_close(writer):
    """Say that no more comes; with TLS, which has nothing for that, it is the end both ways."""
    if writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()


# For tests of what only a reactor does.
on_reactor = pytest.mark.parametrize("run", ["asyncio", "uvloop"], indirect=True)
