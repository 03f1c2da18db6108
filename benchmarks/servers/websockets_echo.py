"""
An echo server on websockets' asyncio API and uvloop, for bench.py.

    websockets_echo.py PORT [--mode binary|str|bytes] [--broadcast]
"""

from __future__ import annotations

import argparse

import uvloop
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
        compression=None,
        max_size=32 * 1024 * 1024,
        ping_interval=None,
        backlog=4096,
    ) as server:
        host, port = server.sockets[0].getsockname()
        print(f"listening {host}:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--mode", choices=("binary", "str", "bytes"), default="binary")
    parser.add_argument("--broadcast", action="store_true")
    uvloop.run(main(parser.parse_args()))
