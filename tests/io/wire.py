"""Frames as a client writes and reads them, peers that do not read, and servers in processes of their own."""

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import sys
import time

from peers import HANDSHAKE, LIMIT, port_of, raw

import fastws

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


def frame(first, payload):
    """Return a frame of any length from a client, with a mask of zeros."""
    size = len(payload)
    if size < 126:
        return bytes([first, 0x80 | size, 0, 0, 0, 0]) + payload
    if size < 65536:
        return struct.pack("!BBHI", first, 0xFE, size, 0) + payload
    return struct.pack("!BBQI", first, 0xFF, size, 0) + payload


def frames(data):
    """Return the frames of a server in `data`, which must end where a frame ends."""
    found = []
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        assert len(data) >= start + size, "half a frame"
        found.append((data[0], data[start : start + size]))
        data = data[start + size :]
    return found


async def read_frame(reader):
    first, size = await reader.readexactly(2)
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    elif size == 127:
        size = int.from_bytes(await reader.readexactly(8), "big")
    return first, await reader.readexactly(size)


def serve(handler=None, **options):
    """Serve on a free port, without keepalive Pings, which would come in between."""
    return fastws.serve(handler, "127.0.0.1", 0, **{"ping_interval": None, **options})


@contextlib.asynccontextmanager
async def opened(server):
    """Connect a plain TCP client that has had its 101."""
    async with raw(server) as (reader, writer):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        yield reader, writer


@contextlib.asynccontextmanager
async def deaf(server, room=4096, handshake=HANDSHAKE):
    """Connect a client that reads nothing by itself, with little room in its kernel unless `room` is None."""
    loop = asyncio.get_running_loop()
    with socket.socket() as peer:
        if room is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        peer.setblocking(False)
        await loop.sock_connect(peer, ("127.0.0.1", port_of(server)))
        await loop.sock_sendall(peer, handshake)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await loop.sock_recv(peer, 1)
        yield peer


async def fill(connection, chunk=b"x" * 100_000):
    """Send to a deaf peer until its kernel takes no more; return the count of messages."""
    count = 0
    while connection.buffered_amount == 0:
        connection.send(chunk)
        connection.flush()
        count += 1
    return count


def reset(sock):
    """Close so that the peer gets a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextlib.contextmanager
def serving(program):
    """Run `program`, which prints its port first, as a process; yield it, with its `port`."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            process.port = int(process.stdout.readline())
            yield process
        finally:
            process.kill()


def connect(process, path=b"/", handshake=HANDSHAKE):
    """Connect a blocking client and send the opening handshake."""
    peer = socket.create_connection(("127.0.0.1", process.port), LIMIT)
    peer.sendall(handshake.replace(b" / ", b" " + path + b" ", 1))
    return peer


def read_head(peer):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = peer.recv(1)
        if not byte:
            raise EOFError(head)
        head += byte
    return head


def read_exactly(peer, size):
    data = b""
    while len(data) < size:
        piece = peer.recv(size - len(data))
        if not piece:
            raise EOFError(data)
        data += piece
    return data


def cpu_seconds(process):
    """Return the processor time that `process` has used."""
    with open(f"/proc/{process.pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_used(process, seconds):
    """Watch `process` for so long; return the processor time that it used meanwhile."""
    before = cpu_seconds(process)
    time.sleep(seconds)
    return cpu_seconds(process) - before
