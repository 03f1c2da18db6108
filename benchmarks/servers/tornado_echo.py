"""
An echo server on tornado and uvloop, for bench.py.

    tornado_echo.py PORT [--mode binary|str] [--broadcast] [--deflate] [--cert FILE --key FILE]

Text comes as str, which cannot be switched off. With --broadcast each message goes to every connection, one
after another; nothing limits what waits for one that does not read. With --deflate compression is as it is by
default.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
from typing import Any

import uvloop
from options import context, parser
from tornado import httpserver, netutil, web, websocket

connections: set[Echo] = set()


class Echo(websocket.WebSocketHandler):
    def initialize(self, deflate: bool) -> None:
        self.deflate = deflate

    def get_compression_options(self) -> dict[str, Any] | None:
        return {} if self.deflate else None

    def check_origin(self, origin: str) -> bool:
        return True

    def open(self, *args: str) -> None:
        self.set_nodelay(True)

    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, binary=isinstance(message, bytes))


class Broadcast(Echo):
    def open(self, *args: str) -> None:
        super().open(*args)
        connections.add(self)

    def on_close(self) -> None:
        connections.discard(self)

    def on_message(self, message: str | bytes) -> None:
        binary = isinstance(message, bytes)
        for each in connections:
            each.write_message(message, binary=binary)


async def main(options: argparse.Namespace) -> None:
    application = web.Application(
        [("/.*", Broadcast if options.broadcast else Echo, {"deflate": options.deflate})],
        websocket_max_message_size=32 * 1024 * 1024,
        log_function=lambda handler: None,
    )
    sockets = netutil.bind_sockets(options.port, "127.0.0.1", socket.AF_INET, backlog=4096)
    server = httpserver.HTTPServer(application, ssl_options=context(options))
    server.add_sockets(sockets)
    host, port = sockets[0].getsockname()
    print(f"listening {host}:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(parser(deflate=True).parse_args()))
