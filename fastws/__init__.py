"""
A WebSocket server for Python that runs at the speed of the kernel underneath it.

    import fastws

    class Echo(fastws.Handler):
        def on_message(self, ws, message):
            ws.send(message)

    fastws.run(Echo, "127.0.0.1", 8765)
"""

from fastws._connection import Connection
from fastws._kernels import kernels
from fastws._results import PublishResult, Subscribed
from fastws._sending import broadcast
from fastws._topics import Topic
from fastws.authentication import basic_auth
from fastws.client import connect, unix_connect
from fastws.codes import Close, CloseCode, Opcode, State
from fastws.exceptions import (
    ConcurrencyError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    DuplicateParameter,
    HeaderLineTooLong,
    InvalidHandshake,
    InvalidHeader,
    InvalidHeaderFormat,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidMethod,
    InvalidOrigin,
    InvalidParameterName,
    InvalidParameterValue,
    InvalidProtocol,
    InvalidProxy,
    InvalidProxyMessage,
    InvalidProxyStatus,
    InvalidState,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
    PayloadTooBig,
    ProtocolError,
    ProxyError,
    RequestLineTooLong,
    SecurityError,
    TooManyFragments,
    TooManyHeaders,
    WebSocketException,
)
from fastws.extensions import Deflate
from fastws.handler import Handler
from fastws.headers import Headers
from fastws.http11 import Request, Response
from fastws.routing import route
from fastws.running import run
from fastws.server import Server
from fastws.serving import serve, unix_serve
from fastws.ticker import TickerHandler
from fastws.typing import Data, Origin, Subprotocol
from fastws.version import __version__
from fastws.workers import worker_id

# One class for both sides; the names that other programs annotate with.
ServerConnection = Connection
ClientConnection = Connection

__all__ = [
    "ClientConnection",
    "Close",
    "CloseCode",
    "ConcurrencyError",
    "Connection",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "Data",
    "Deflate",
    "DuplicateParameter",
    "Handler",
    "HeaderLineTooLong",
    "Headers",
    "InvalidHandshake",
    "InvalidHeader",
    "InvalidHeaderFormat",
    "InvalidHeaderValue",
    "InvalidMessage",
    "InvalidMethod",
    "InvalidOrigin",
    "InvalidParameterName",
    "InvalidParameterValue",
    "InvalidProtocol",
    "InvalidProxy",
    "InvalidProxyMessage",
    "InvalidProxyStatus",
    "InvalidState",
    "InvalidStatus",
    "InvalidURI",
    "InvalidUpgrade",
    "NegotiationError",
    "Opcode",
    "Origin",
    "PayloadTooBig",
    "ProtocolError",
    "ProxyError",
    "PublishResult",
    "Request",
    "RequestLineTooLong",
    "Response",
    "SecurityError",
    "Server",
    "ServerConnection",
    "State",
    "Subprotocol",
    "Subscribed",
    "TickerHandler",
    "TooManyFragments",
    "TooManyHeaders",
    "Topic",
    "WebSocketException",
    "__version__",
    "basic_auth",
    "broadcast",
    "connect",
    "kernels",
    "route",
    "run",
    "serve",
    "unix_connect",
    "unix_serve",
    "worker_id",
]
