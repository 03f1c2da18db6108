"""
An echo server on aiohttp and uvloop, for bench.py.

    aiohttp_echo.py PORT [--mode binary|str|bytes] [--broadcast] [--deflate] [--cert FILE --key FILE]

With --broadcast each message goes to every connection, one after another: one that does not read holds up the
others. With --deflate compression is as it is by default.
"""

from __future__ import annotations

import argparse
import asyncio

import uvloop
from aiohttp import WSMsgType, web
from options import context, parser

connections: set[web.WebSocketResponse] = set()


async def main(options: argparse.Namespace) -> None:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse(
            max_msg_size=32 * 1024 * 1024, compress=options.deflate, decode_text=options.mode != "bytes"
        )
        await connection.prepare(request)
        connections.add(connection)
        try:
            await serve(connection)
        finally:
            connections.discard(connection)
        return connection

    application = web.Application()
    application.router.add_get("/{path:.*}", handle)
    serve = broadcast if options.broadcast else echo_text_as_bytes if options.mode == "bytes" else echo
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", options.port, backlog=4096, ssl_context=context(options))
    await site.start()
    host, port = runner.addresses[0]
    print(f"listening {host}:{port}", flush=True)
    await asyncio.Event().wait()


async def echo(connection: web.WebSocketResponse) -> None:
    async for message in connection:
        if message.type is WSMsgType.TEXT:
            await connection.send_str(message.data)
        else:
            await connection.send_bytes(message.data)


async def echo_text_as_bytes(connection: web.WebSocketResponse) -> None:
    async for message in connection:
        await connection.send_frame(message.data, message.type)


async def broadcast(connection: web.WebSocketResponse) -> None:
    async for message in connection:
        text = message.type is WSMsgType.TEXT
        for each in tuple(connections):
            await (each.send_str if text else each.send_bytes)(message.data)


if __name__ == "__main__":
    uvloop.run(main(parser(deflate=True).parse_args()))
