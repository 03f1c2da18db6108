"""
An echo server on fastws, for bench.py.

    fastws_echo.py PORT [--mode binary|str|bytes] [--broadcast] [--coroutines] [--streams] [--deflate]
                   [--cert FILE --key FILE]

Binary messages come as bytes. Text comes as str (the default), or with `--mode bytes` as validated bytes, and
goes back as text either way. With --broadcast each message goes to every connection, by a topic. A connection
that does not read misses what comes while 64 KiB wait for it: the other servers that have a limit have this
one, too. With --coroutines the handlers are coroutines instead of callbacks; with --streams connections are
on the event loop's transports instead of fastws' own; with --deflate answers are compressed.
"""

from __future__ import annotations

import argparse

import uvloop
from options import context, parser

import fastws


class Echo(fastws.Handler):
    def on_message(self, ws, message):
        ws.send(message)


class EchoTextAsBytes(fastws.Handler):
    def on_message(self, ws, message):
        ws.send(message, text=True)


class Broadcast(fastws.Handler):
    def on_open(self, ws):
        ws.subscribe("all")

    def on_message(self, ws, message):
        ws.server.publish("all", message)


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def echo_text_as_bytes(ws):
    async for message in ws:
        await ws.send(message, text=True)


async def broadcast(ws):
    ws.subscribe("all")
    async for message in ws:
        ws.server.publish("all", message)


async def main(options: argparse.Namespace) -> None:
    if options.coroutines:
        handler = broadcast if options.broadcast else echo_text_as_bytes if options.mode == "bytes" else echo
    else:
        handler = Broadcast if options.broadcast else EchoTextAsBytes if options.mode == "bytes" else Echo
    settings = {"text_as": "bytes"} if options.mode == "bytes" else {}
    if options.streams:
        settings["transport"] = "streams"
    async with fastws.serve(
        handler,
        "127.0.0.1",
        options.port,
        compression="deflate" if options.deflate else None,
        max_size=32 * 1024 * 1024,
        ping_interval=None,
        ssl=context(options),
        **settings,
    ) as server:
        if options.broadcast:
            server.topic("all", policy="drop", max_bytes=64 * 1024)
        host, port = server.sockets[0].getsockname()[:2]
        print(f"listening {host}:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    arguments = parser(deflate=True)
    arguments.add_argument("--coroutines", action="store_true")
    arguments.add_argument("--streams", action="store_true")
    uvloop.run(main(arguments.parse_args()))
