"""Clients that offer permessage-deflate, RFC 7692, and read what they get with Python's zlib."""

import contextlib
import zlib

import websockets
from peers import HANDSHAKE, port_of, raw
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from wire import CLOSE, read_frame

import fastws

TAIL = b"\x00\x00\xff\xff"
DEDICATED = fastws.Deflate(shared=False, min_size=0)
SHARED = fastws.Deflate(min_size=0)


def offering(offer):
    """Return an opening handshake with such an offer; None is none."""
    if offer is None:
        return HANDSHAKE
    return HANDSHAKE[:-2] + f"Sec-WebSocket-Extensions: {offer}\r\n\r\n".encode()


def opening(server, **factory):
    """Connect a client of websockets', which compresses all that it sends."""
    uri = f"ws://127.0.0.1:{port_of(server)}"
    options = {"client_max_window_bits": True, **factory}
    extensions = [ClientPerMessageDeflateFactory(**options)]
    return websockets.connect(uri, compression=None, extensions=extensions, max_size=None)


class Inflater:
    """Decodes the frames of a server: all of them have to be there, in order."""

    def __init__(self, agreed=""):
        bits = agreed.partition("server_max_window_bits=")[2].partition(";")[0]
        self.bits = int(bits or 15)
        self.takeover = "server_no_context_takeover" not in agreed
        self.stream = None

    def message(self, first, payload):
        """Return a message: str or bytes."""
        if first & 0x40:
            if self.stream is None or not self.takeover:
                self.stream = zlib.decompressobj(-self.bits)
            payload = self.stream.decompress(payload + TAIL)
        return payload.decode() if first & 15 == 1 else payload

    def messages(self, frames):
        """Return the messages in whole frames, which may be fragments."""
        found = []
        start, pieces = 0, []
        for first, payload in frames:
            if first & 8:
                continue
            start = first if first & 15 else start
            pieces.append(payload)
            if first & 0x80:
                found.append(self.message(start, b"".join(pieces)))
                pieces = []
        assert not pieces
        return found


class Client:
    """A client that reads frame by frame."""

    def __init__(self, reader, writer, agreed):
        self.reader, self.writer, self.agreed = reader, writer, agreed
        self.inflater = Inflater(agreed)

    async def frames(self):
        """Return the frames of the next message."""
        found = []
        while True:
            first, payload = await read_frame(self.reader)
            assert first != CLOSE, payload
            if not first & 8:
                found.append((first, payload))
                if first & 0x80:
                    return found

    async def recv(self):
        (message,) = self.inflater.messages(await self.frames())
        return message


def answered(head):
    """Return the value of Sec-WebSocket-Extensions in a response; "" without it."""
    _, _, rest = head.decode().partition("Sec-WebSocket-Extensions: ")
    return rest.partition("\r\n")[0]


@contextlib.asynccontextmanager
async def client_of(server, offer="permessage-deflate"):
    async with raw(server, offering(offer)) as (reader, writer):
        yield Client(reader, writer, answered(await reader.readuntil(b"\r\n\r\n")))
