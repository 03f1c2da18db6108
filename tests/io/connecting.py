"""For tests of `fastws.connect`: servers of `websockets`, and peers that answer as no server should."""

import asyncio
import contextlib
import itertools
import socket

import pytest
import websockets
from peers import echo, port_of, until

from fastws.headers import accept_key

MARKS = [
    pytest.mark.usefixtures("no_proxies"),
    pytest.mark.without_tls("the servers are those of others; TLS is in test_tls_client"),
]


def serve(handler=echo, **options):
    """Serve with websockets on a free port."""
    return websockets.serve(handler, "127.0.0.1", 0, **options)


def uri_of(server, path="/", user=""):
    return f"ws://{user}127.0.0.1:{port_of(server)}{path}"


def redirecting(where, status=302):
    """Return a `process_request` that knows the path "/there" and sends all others to `where`."""
    seen = []

    def process_request(connection, request):
        seen.append(request)
        if request.path == "/there":
            return None
        response = connection.respond(status, "There.\n")
        response.headers["Location"] = where() if callable(where) else where
        return response

    process_request.seen = seen
    return process_request


@contextlib.asynccontextmanager
async def peer(*answers):
    """
    Listen, and give each connection the next of `answers`, the last again and again.

    An answer is bytes to send behind the request head, before the end; or a coroutine function,
    called with reader and writer.
    """
    remaining = itertools.chain(answers, itertools.repeat(answers[-1]))
    tasks = set()

    async def accept(reader, writer):
        task = asyncio.current_task()
        tasks.add(task)
        try:
            answer = next(remaining)
            if callable(answer):
                await answer(reader, writer)
            else:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the client has had enough, or the test
        finally:
            tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await until(lambda: not tasks)
        await server.wait_closed()


async def accept_by_hand(reader, writer, more=b"", behind=b""):
    """Accept a connection, with more fields, and with bytes right behind the head."""
    head = await reader.readuntil(b"\r\n\r\n")
    key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept_key(key)
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n" + more + b"\r\n" + behind)


async def silent(reader, writer):
    await reader.read()


def http_proxy(answer=b"HTTP/1.1 200 OK\r\n\r\n", seen=None):
    """Return a coroutine function for `peer` that is a proxy; it tunnels when its answer is 200."""

    async def pump(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
            writer.write_eof()

    async def accept(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head.decode())
        if b" 200 " not in answer:
            writer.write(answer)
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        behind, to_server = await asyncio.open_connection(host, int(port))
        try:
            writer.write(answer)
            await asyncio.gather(pump(reader, to_server), pump(behind, writer))
        finally:
            to_server.close()
            with contextlib.suppress(OSError):
                await to_server.wait_closed()

    return accept


def closed_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
