"""
Programs as users of `websockets` write them; `test_dropin` runs each with both libraries.

A program is `async def program(servers, clients, log)`: the library that serves, the library that
connects, and a list for what each side saw, by the side's name, as sides take turns as they like.
All it uses of the two are names that both have.
"""

import asyncio
import collections
import contextlib


class Log(collections.defaultdict):
    """What each side of a program saw, in its order."""

    def __init__(self):
        super().__init__(list)


def listen(library, handler, **options):
    """Serve on a free port."""
    return library.serve(handler, "127.0.0.1", 0, compression=None, **options)


def call(library, server, path="/", user="", **options):
    """Connect to a server."""
    port = server.sockets[0].getsockname()[1]
    return library.connect(f"ws://{user}127.0.0.1:{port}{path}", compression=None, **options)


@contextlib.asynccontextmanager
async def by_hand(server, frames=b""):
    """Connect without a library, send bytes behind the request, and give the streams behind the response."""
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        writer.write(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" + frames
        )
        await reader.readuntil(b"\r\n\r\n")
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def how_closed(error):
    """What a `ConnectionClosed` says, but its wording."""
    rcvd, sent = (None if one is None else (int(one.code), one.reason) for one in (error.rcvd, error.sent))
    return type(error).__name__, rcvd, sent, error.rcvd_then_sent


async def raised(awaitable):
    """Return the name of what awaiting raises."""
    try:
        await awaitable
    except Exception as error:
        return type(error).__name__
    return None
