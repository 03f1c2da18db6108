"""
A WebSocket server for Python that runs at the speed of the kernel underneath it.

    import fastws

    class Echo(fastws.Handler):
        def on_message(self, ws, message):
            ws.send(message)

    fastws.run(Echo, "127.0.0.1", 8765)
"""

from fastws._connection import Connection, broadcast
from fastws._kernels import kernels
from fastws.codes import Close, CloseCode, Opcode, State
from fastws.exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidState,
    WebSocketException,
)
from fastws.handler import Handler
from fastws.headers import Headers
from fastws.http11 import Request, Response
from fastws.running import run
from fastws.server import Server, serve, unix_serve
from fastws.version import __version__

__all__ = [
    "Close",
    "CloseCode",
    "Connection",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "Handler",
    "Headers",
    "InvalidHandshake",
    "InvalidState",
    "Opcode",
    "Request",
    "Response",
    "Server",
    "State",
    "WebSocketException",
    "__version__",
    "broadcast",
    "kernels",
    "run",
    "serve",
    "unix_serve",
]
