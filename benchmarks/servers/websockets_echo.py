"""
An echo server on websockets' asyncio API and uvloop, for bench.py.

    websockets_echo.py PORT [--mode binary|str|bytes] [--broadcast] [--deflate] [--cert FILE --key FILE]

With --broadcast each message goes to every connection, by the library's `broadcast`: it sets no limit to what
waits for one that does not read, and compresses for each connection anew. With --deflate compression is as it
is by default.
"""

from __future__ import annotations

import argparse

import uvloop
from options import context, parser
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def echo_text_as_bytes(connection: ServerConnection) -> None:
    while True:
        await connection.send(await connection.recv(decode=False), text=True)


async def broadcast_all(connection: ServerConnection) -> None:
    async for message in connection:
        broadcast(connection.server.connections, message)


async def main(options: argparse.Namespace) -> None:
    handler = broadcast_all if options.broadcast else echo_text_as_bytes if options.mode == "bytes" else echo
    async with serve(
        handler,
        "127.0.0.1",
        options.port,
        compression="deflate" if options.deflate else None,
        max_size=32 * 1024 * 1024,
        ping_interval=None,
        backlog=4096,
        ssl=context(options),
    ) as server:
        host, port = server.sockets[0].getsockname()
        print(f"listening {host}:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(parser(deflate=True).parse_args()))
