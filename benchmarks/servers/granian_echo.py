"""
An echo server on granian and uvloop, in Python over hyper and tungstenite, for bench.py.

    granian_echo.py PORT [--interface asgi|rsgi] [--broadcast] [--cert FILE --key FILE]

asgi: the applications of asgi_app.py, as on uvicorn; rsgi (the default): granian's own interface. One worker
process beside the one that watches it. Text comes as str, which cannot be switched off. There is no
compression, and no setting for the size of messages: frames may have 16 MiB, which is the library's own
limit.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import asgi_app
from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.log import LogLevels
from granian.rsgi import ProtocolClosed, WebsocketMessageType
from options import free_port, parser

PORT = "FASTWS_BENCH_PORT"  # in the environment: the worker tells where it listens


def announce() -> None:
    """Print the address when connections are accepted: granian calls back before it listens."""
    address = ("127.0.0.1", int(os.environ[PORT]))
    until = time.monotonic() + 15
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(address) == 0:
                print(f"listening {address[0]}:{address[1]}", flush=True)
                return
        time.sleep(0.01)


def ready() -> None:
    threading.Thread(target=announce, daemon=True).start()


def with_lifespan(app: Any) -> Any:
    async def started(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        ready()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return started


class Rsgi:
    """Sends each message back."""

    def __rsgi_init__(self, loop: Any) -> None:
        ready()

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        with contextlib.suppress(
            ProtocolClosed
        ):  # what receive and send raise when the peer has gone without a Close
            await self.serve(await protocol.accept())
            protocol.close()

    async def serve(self, connection: Any) -> None:
        while True:
            message = await connection.receive()
            if message.kind == WebsocketMessageType.bytes:
                await connection.send_bytes(message.data)
            elif message.kind == WebsocketMessageType.string:
                await connection.send_str(message.data)
            else:
                break


class RsgiBroadcast(Rsgi):
    """Sends each message to every connection, one after another."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()

    async def serve(self, connection: Any) -> None:
        self.connections.add(connection)
        try:
            while True:
                message = await connection.receive()
                if message.kind == WebsocketMessageType.close:
                    break
                binary = message.kind == WebsocketMessageType.bytes
                for each in tuple(self.connections):
                    await (each.send_bytes if binary else each.send_str)(message.data)
        finally:
            self.connections.discard(connection)


asgi_echo, asgi_broadcast = with_lifespan(asgi_app.echo), with_lifespan(asgi_app.broadcast)
rsgi_echo, rsgi_broadcast = Rsgi(), RsgiBroadcast()


if __name__ == "__main__":
    arguments = parser()
    arguments.add_argument("--interface", choices=("asgi", "rsgi"), default="rsgi")
    options = arguments.parse_args()
    port = options.port or free_port()
    os.environ[PORT] = str(port)
    Granian(
        f"granian_echo:{options.interface}_{'broadcast' if options.broadcast else 'echo'}",
        address="127.0.0.1",
        port=port,
        interface=Interfaces(options.interface),
        workers=1,
        loop=Loops.uvloop,
        runtime_mode=RuntimeModes.st,  # mt and auto reach four fifths of its rate on one core
        http=HTTPModes.http1,
        backlog=4096,
        backpressure=1 << 20,  # connections at a time
        log_level=LogLevels.warning,
        ssl_cert=Path(options.cert) if options.cert else None,
        ssl_key=Path(options.key) if options.key else None,
    ).serve()
